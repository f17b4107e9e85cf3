/** Reads the SDK's room into what the screens show. */
import { ConnectionQuality, Track, type LocalAudioTrack, type LocalVideoTrack, type Participant as SdkParticipant, type Room } from "livekit-client";
import type { Participant, RoomView, VideoSource } from "../call/room";

interface Own {
  microphone: LocalAudioTrack | null;
  camera: LocalVideoTrack | null;
}

export function participantsOf(room: Room | null, own: Own, view: RoomView): Participant[] {
  const self: Participant = {
    identity: room?.localParticipant.identity ?? "",
    name: room?.localParticipant.name ?? "",
    self: true,
    speaking: (room?.localParticipant.isSpeaking ?? false) && view.microphone.on,
    microphone: view.microphone.on,
    camera: own.camera && !own.camera.isMuted ? sourceOf(own.camera) : null,
    screen: room ? videoOf(room.localParticipant, Track.Source.ScreenShare) : null,
    quality: room ? qualityOf(room.localParticipant) : "unknown",
  };
  const others = [...(room?.remoteParticipants.values() ?? [])];
  others.sort((a, b) => (a.joinedAt?.getTime() ?? 0) - (b.joinedAt?.getTime() ?? 0) || a.identity.localeCompare(b.identity));
  return [self, ...others.map(remote)];
}

function remote(participant: SdkParticipant): Participant {
  return {
    identity: participant.identity,
    name: participant.name ?? "",
    self: false,
    speaking: participant.isSpeaking,
    microphone: participant.isMicrophoneEnabled,
    camera: videoOf(participant, Track.Source.Camera),
    screen: videoOf(participant, Track.Source.ScreenShare),
    quality: qualityOf(participant),
  };
}

function videoOf(participant: SdkParticipant, source: Track.Source): VideoSource | null {
  const publication = participant.getTrackPublication(source);
  const track = publication?.track;
  if (!track || track.kind !== Track.Kind.Video || publication.isMuted) return null;
  return sourceOf(track);
}

const sources = new WeakMap<Track, VideoSource>();

function sourceOf(track: Track): VideoSource {
  let source = sources.get(track);
  if (!source) {
    source = {
      id: track.sid ?? crypto.randomUUID(),
      attach: (element) => void track.attach(element),
      detach: (element) => void track.detach(element),
    };
    sources.set(track, source);
  }
  return source;
}

function qualityOf(participant: SdkParticipant): Participant["quality"] {
  switch (participant.connectionQuality) {
    case ConnectionQuality.Excellent:
      return "good";
    case ConnectionQuality.Good:
      return "fair";
    case ConnectionQuality.Poor:
      return "poor";
    case ConnectionQuality.Lost:
      return "lost";
    default:
      return "unknown";
  }
}
