/** A call's Room on livekit-client. The only file that imports the SDK at run time; it's loaded when a call begins. */
import {
  ConnectionState,
  createLocalAudioTrack,
  createLocalTracks,
  createLocalVideoTrack,
  DisconnectReason,
  LocalAudioTrack,
  LocalVideoTrack,
  Room as SdkRoom,
  RoomEvent,
  Track,
  TrackEvent,
  VideoPresets,
  VideoQuality,
  type LocalTrack,
  type RemoteTrack,
  type RoomOptions,
} from "livekit-client";
import type { Join, Media } from "../wire/contract";
import type { Store } from "../store";
import type { Preferences } from "../people/preferences";
import { emptyRoom, off, type CloseReason, type DeviceKind, type Room, type RoomView, type Source } from "../call/room";
import type { MediaSample, Medium } from "../call/measured";
import { problemOf } from "./devices";
import { watchLevel } from "./level";
import { sampleOf } from "./stats";
import { participantsOf } from "./view";

/** What makes the view change; speaking and quality come several times a second, so they coalesce. */
const changes = [
  RoomEvent.ParticipantConnected,
  RoomEvent.ParticipantDisconnected,
  RoomEvent.ParticipantNameChanged,
  RoomEvent.TrackSubscribed,
  RoomEvent.TrackUnsubscribed,
  RoomEvent.TrackPublished,
  RoomEvent.TrackUnpublished,
  RoomEvent.TrackMuted,
  RoomEvent.TrackUnmuted,
  RoomEvent.LocalTrackPublished,
  RoomEvent.LocalTrackUnpublished,
  RoomEvent.ActiveSpeakersChanged,
  RoomEvent.ConnectionQualityChanged,
  RoomEvent.AudioPlaybackStatusChanged,
  RoomEvent.ConnectionStateChanged,
] as const;

const qualities = { low: VideoQuality.LOW, medium: VideoQuality.MEDIUM, high: VideoQuality.HIGH };

export function openRoom(preferences: Store<Preferences>): Room {
  return new LivekitRoom(preferences);
}

class LivekitRoom implements Room {
  view: RoomView = emptyRoom;
  onChange: ((view: RoomView) => void) | null = null;
  readonly #preferences: Store<Preferences>;
  #room: SdkRoom | null = null;
  #microphone: LocalAudioTrack | null = null;
  #camera: LocalVideoTrack | null = null;
  #capturing: Promise<void> = Promise.resolve();
  #dirty = false;
  #left = false;
  /** Elements that play the others' sound; kept out of the layout. */
  readonly #speakers = document.createElement("div");

  constructor(preferences: Store<Preferences>) {
    this.#preferences = preferences;
    this.#speakers.hidden = true;
    document.body.append(this.#speakers);
  }

  capture(media: Media): Promise<void> {
    this.#capturing = this.#capture(media);
    return this.#capturing;
  }

  async #capture(media: Media): Promise<void> {
    this.#source("microphone", { busy: true });
    if (media === "video") this.#source("camera", { busy: true });
    try {
      // One question for both, where the browser asks.
      const tracks = await createLocalTracks({ audio: this.#audioOptions(), video: media === "video" ? this.#videoOptions() : false });
      for (const track of tracks) {
        if (track instanceof LocalAudioTrack) this.#takeMicrophone(track);
        else if (track instanceof LocalVideoTrack) this.#takeCamera(track);
      }
    } catch {
      // One of the two is missing or refused: find out which, and go on with the other.
      await Promise.all([this.#openMicrophone(), media === "video" ? this.#openCamera() : undefined]);
    }
    if (this.#left) this.#stop();
  }

  async connect(join: Join): Promise<void> {
    const before = this.#room;
    this.#room = null;
    await before?.disconnect(false);
    const room = new SdkRoom(this.#roomOptions());
    this.#room = room;
    this.#left = false;
    let connecting = true;
    for (const event of changes) room.on(event, () => this.#changed());
    room.on(RoomEvent.TrackSubscribed, (track) => this.#play(track));
    room.on(RoomEvent.TrackUnsubscribed, (track) => this.#silence(track));
    room.on(RoomEvent.LocalTrackUnpublished, (publication) => {
      if (publication.source === Track.Source.ScreenShare) this.#source("screen", off);
    });
    room.on(RoomEvent.Disconnected, (reason) => {
      if (this.#room !== room || connecting || this.#left) return; // while connecting, the rejection tells
      this.#room = null;
      window.__anytime.room = null;
      this.#speakers.replaceChildren();
      this.#set({ link: "closed", closed: closeReason(reason), screen: off });
    });
    this.#set({ link: "connecting", closed: null });
    try {
      await room.connect(join.url, join.token, { autoSubscribe: true });
    } catch (error) {
      if (this.#room === room) this.#room = null;
      throw error;
    } finally {
      connecting = false;
    }
    if (this.#left || this.#room !== room) {
      await room.disconnect(false);
      return;
    }
    window.__anytime.room = room;
    window.__anytime.setQuality = (identity, quality) => {
      for (const publication of room.remoteParticipants.get(identity)?.videoTrackPublications.values() ?? []) {
        publication.setVideoQuality(qualities[quality]);
      }
    };
    this.#changed();
    void this.#publishCaptured(room);
  }

  async publish(source: Source, on: boolean): Promise<void> {
    if (this.view[source].busy || this.view[source].on === on) return;
    this.#source(source, { busy: true });
    try {
      if (source === "microphone") await this.#switchMicrophone(on);
      else if (source === "camera") await this.#switchCamera(on);
      else await this.#switchScreen(on);
    } catch (error) {
      // Closing the browser's window chooser is no failure.
      const cancelled = source === "screen" && problemOf(error) === "denied";
      this.#source(source, { busy: false, on: false, problem: cancelled ? null : problemOf(error) });
    }
  }

  async useDevice(kind: DeviceKind, id: string): Promise<void> {
    if (kind === "audioinput") {
      if (this.#microphone) await this.#microphone.setDeviceId({ exact: id });
      else await this.publish("microphone", true);
    } else if (kind === "videoinput") {
      if (this.#camera) await this.#camera.setDeviceId({ exact: id });
    } else {
      await this.#room?.switchActiveDevice("audiooutput", id);
    }
    this.#changed();
  }

  watchMicrophone(onLevel: (level: number) => void): () => void {
    const track = this.#microphone?.mediaStreamTrack;
    return track ? watchLevel(new MediaStream([track]), onLevel) : () => {};
  }

  async sample(): Promise<MediaSample | null> {
    const room = this.#room;
    if (!room || room.state !== ConnectionState.Connected) return null;
    const tracks = [room.localParticipant, ...room.remoteParticipants.values()].flatMap((participant) =>
      [...participant.trackPublications.values()].flatMap(({ source, track }) => {
        const medium = mediumOf(source);
        return track && medium ? [{ identity: participant === room.localParticipant ? null : participant.identity, medium, track }] : [];
      }),
    );
    const reports = await Promise.all(
      tracks.map(async ({ identity, medium, track }) => ({ identity, medium, report: await track.getRTCStatsReport().catch(() => undefined) })),
    );
    return sampleOf(reports, Date.now());
  }

  async resumeAudio(): Promise<void> {
    await this.#room?.startAudio();
    this.#changed();
  }

  async leave(): Promise<void> {
    this.#left = true;
    const room = this.#room;
    this.#room = null;
    window.__anytime.room = null;
    this.#stop();
    this.#speakers.remove();
    await room?.disconnect();
  }

  // Capture

  async #openMicrophone(): Promise<void> {
    try {
      this.#takeMicrophone(await createLocalAudioTrack(this.#audioOptions()));
    } catch (error) {
      this.#source("microphone", { on: false, busy: false, problem: problemOf(error) });
    }
  }

  async #openCamera(): Promise<void> {
    try {
      this.#takeCamera(await createLocalVideoTrack(this.#videoOptions()));
    } catch (error) {
      this.#source("camera", { on: false, busy: false, problem: problemOf(error) });
    }
  }

  #takeMicrophone(track: LocalAudioTrack): void {
    this.#microphone = track;
    this.#source("microphone", { on: true, busy: false, problem: null });
  }

  #takeCamera(track: LocalVideoTrack): void {
    this.#camera = track;
    track.on(TrackEvent.Restarted, () => this.#changed());
    this.#source("camera", { on: true, busy: false, problem: null });
  }

  #stop(): void {
    this.#microphone?.stop();
    this.#camera?.stop();
    this.#microphone = null;
    this.#camera = null;
  }

  // Publishing

  async #publishCaptured(room: SdkRoom): Promise<void> {
    await this.#capturing;
    await Promise.all([this.#announce(room, this.#microphone), this.#announce(room, this.#camera)]);
  }

  async #announce(room: SdkRoom, track: LocalTrack | null): Promise<void> {
    if (!track || this.#room !== room) return;
    const source = track === this.#microphone ? Track.Source.Microphone : Track.Source.Camera;
    if (room.localParticipant.getTrackPublication(source)) return;
    try {
      await room.localParticipant.publishTrack(track, { source });
    } catch (error) {
      if (this.#room !== room) return;
      const kind = track === this.#microphone ? "microphone" : "camera";
      console.warn(`anytime: ${kind} could not be published`, error);
      this.#source(kind, { on: false, busy: false, problem: "failed" });
    }
  }

  async #switchMicrophone(on: boolean): Promise<void> {
    if (!this.#microphone) {
      if (on) await this.#openMicrophone();
      if (this.#microphone && this.#room) await this.#announce(this.#room, this.#microphone);
      return;
    }
    await (on ? this.#microphone.unmute() : this.#microphone.mute());
    this.#source("microphone", { on, busy: false, problem: null });
  }

  async #switchCamera(on: boolean): Promise<void> {
    if (!this.#camera) {
      if (on) await this.#openCamera();
      if (this.#camera && this.#room) await this.#announce(this.#room, this.#camera);
      return;
    }
    // Muting lets go of the camera: its light goes out.
    await (on ? this.#camera.unmute() : this.#camera.mute());
    this.#source("camera", { on, busy: false, problem: null });
  }

  async #switchScreen(on: boolean): Promise<void> {
    if (!this.#room) throw new Error("not connected");
    const me = this.#room.localParticipant;
    if (on) {
      await me.setScreenShareEnabled(true, { audio: true, contentHint: "detail", selfBrowserSurface: "exclude" });
    } else {
      for (const source of [Track.Source.ScreenShare, Track.Source.ScreenShareAudio]) {
        const track = me.getTrackPublication(source)?.track;
        if (track) await me.unpublishTrack(track, true);
      }
    }
    this.#source("screen", { on, busy: false, problem: null });
  }

  // The others' sound

  #play(track: RemoteTrack): void {
    if (track.kind === Track.Kind.Audio) this.#speakers.append(track.attach());
  }

  #silence(track: RemoteTrack): void {
    for (const element of track.detach()) if (element.parentNode === this.#speakers) element.remove();
  }

  // The view

  #source(source: Source, change: Partial<RoomView[Source]>): void {
    this.#set({ [source]: { ...this.view[source], ...change } });
  }

  #set(change: Partial<RoomView>): void {
    this.view = { ...this.view, ...change };
    this.#changed();
  }

  #changed(): void {
    if (this.#dirty) return;
    this.#dirty = true;
    queueMicrotask(() => {
      this.#dirty = false;
      const room = this.#room;
      this.view = {
        ...this.view,
        ...(room ? linkOf(room, this.view) : {}),
        participants: participantsOf(room, { microphone: this.#microphone, camera: this.#camera }, this.view),
        audioBlocked: room !== null && room.state === ConnectionState.Connected && !room.canPlaybackAudio,
      };
      this.onChange?.(this.view);
    });
  }

  // Options

  #roomOptions(): RoomOptions {
    return {
      // Layers follow the size on the screen, in real pixels; layers nobody watches aren't sent.
      adaptiveStream: { pixelDensity: "screen" },
      dynacast: true,
      disconnectOnPageLeave: true,
      // The server speaks the dual-connection protocol: asking for the other one first costs two round trips per call.
      singlePeerConnection: new URLSearchParams(location.search).get("pc") === "single",
      // The tracks are ours: they outlive a room that is entered again.
      stopLocalTrackOnUnpublish: false,
      audioCaptureDefaults: this.#audioOptions(),
      videoCaptureDefaults: this.#videoOptions(),
      audioOutput: this.#preferences.value.speaker ? { deviceId: this.#preferences.value.speaker } : {},
      publishDefaults: {
        simulcast: true,
        dtx: !this.#preferences.value.originalSound,
        red: true,
        stopMicTrackOnMute: false,
        screenShareSimulcastLayers: [],
      },
    };
  }

  #audioOptions() {
    const { microphone, originalSound } = this.#preferences.value;
    return {
      ...(microphone ? { deviceId: { ideal: microphone } } : {}),
      echoCancellation: !originalSound,
      noiseSuppression: !originalSound,
      autoGainControl: !originalSound,
    };
  }

  #videoOptions() {
    const { camera } = this.#preferences.value;
    return { ...(camera ? { deviceId: { ideal: camera } } : { facingMode: "user" as const }), resolution: VideoPresets.h720.resolution };
  }
}

function mediumOf(source: Track.Source): Medium | null {
  switch (source) {
    case Track.Source.Microphone:
      return "microphone";
    case Track.Source.Camera:
      return "camera";
    case Track.Source.ScreenShare:
      return "screen";
    default:
      return null;
  }
}

function linkOf(room: SdkRoom, view: RoomView): Pick<RoomView, "link"> {
  switch (room.state) {
    case ConnectionState.Connected:
      return { link: "connected" };
    case ConnectionState.Reconnecting:
    case ConnectionState.SignalReconnecting:
      return { link: "reconnecting" };
    case ConnectionState.Connecting:
      return { link: "connecting" };
    default:
      return { link: view.link };
  }
}

function closeReason(reason: DisconnectReason | undefined): CloseReason {
  switch (reason) {
    case DisconnectReason.DUPLICATE_IDENTITY:
      return "replaced";
    case DisconnectReason.PARTICIPANT_REMOVED:
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return "removed";
    default:
      return "network";
  }
}
