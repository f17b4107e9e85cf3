/**
 * Drives livekit-client in the bare page. `window.sdk` is what a test may ask for; the
 * agent of rtc-node (node-agent.mjs) has the same operations, so that one list of features
 * is tried with either. What goes in and out is JSON.
 *
 *   join → publish, mute, unpublish, describe, send… → view(): who is here, and what arrived
 *   look → seen, heard: pictures and tones, by the page's instrument
 */
import { ExternalE2EEKeyProvider, Room, RoomEvent, RpcError, Track, VideoQuality } from '/livekit-client.mjs';

const CAMERA = { width: 960, height: 540, frameRate: 10 };
const qualities = { low: VideoQuality.LOW, medium: VideoQuality.MEDIUM, high: VideoQuality.HIGH };
const FOURIER = 4096; // samples

/** What was written to the server's signaling, as text: its address, and each message. */
window.sentOverSignal = [];
window.WebSocket = class extends WebSocket {
  constructor(url, ...more) {
    super(url, ...more);
    window.sentOverSignal.push(String(url));
  }
  send(data) {
    window.sentOverSignal.push(new TextDecoder().decode(data));
    super.send(data);
  }
};

let room = null;
/** What happened in this room, and what arrived. */
let got = {};

const happened = (what, detail = '') => got.events.push({ what, detail: String(detail), at: performance.now() });
const me = () => room.localParticipant;
const mine = (source) => {
  const publication = me().getTrackPublication(source);
  if (!publication?.track) throw new Error(`no ${source} is published`);
  return publication;
};
const theirs = (identity, source) => {
  const publication = room.getParticipantByIdentity(identity)?.getTrackPublication(source);
  if (!publication) throw new Error(`${identity} has no ${source}`);
  return publication;
};

async function sha256(bytes) {
  return [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

function randomBytes(size) {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536)); // its limit per call
  return bytes;
}

/** The senders of an own track: one for each codec. */
function sendersOf(source) {
  const { track } = mine(source);
  return [track.sender, ...[...(track.simulcastCodecs?.values() ?? [])].map(({ sender }) => sender)].filter(Boolean);
}

/** The entries of a type in a statistics report, each with the format that its codec has in the description. */
function entries(report, type) {
  const list = report ? [...report.values()].filter((entry) => entry.type === type) : [];
  return list.map((entry) => ({ mime: report.get(entry.codecId)?.mimeType ?? '', ...entry }));
}

/** A sound of one tone in Hz, or of one on the left and one on the right; its volume can be changed. */
function soundOf(tones) {
  const context = new AudioContext();
  const channels = context.createChannelMerger(tones.length);
  const volume = new GainNode(context, { gain: 0.3 });
  const out = new MediaStreamAudioDestinationNode(context, { channelCount: tones.length, channelCountMode: 'explicit' });
  tones.forEach((frequency, side) => {
    const tone = new OscillatorNode(context, { frequency });
    tone.connect(channels, 0, side);
    tone.start();
  });
  channels.connect(volume).connect(out);
  return { track: out.stream.getAudioTracks()[0], volume };
}

/** Of the sound that is published by publishSound. */
let volume = null;

/** Notes what the room tells, and plays what arrives. */
function follow() {
  for (const what of ['Connected', 'SignalReconnecting', 'Reconnecting', 'Reconnected', 'Disconnected', 'EncryptionError', 'Moved']) {
    room.on(RoomEvent[what], (detail) => happened(what, detail));
  }
  room.on(RoomEvent.ParticipantConnected, ({ identity }) => happened('ParticipantConnected', identity));
  room.on(RoomEvent.ParticipantDisconnected, ({ identity }) => happened('ParticipantDisconnected', identity));
  room.on(RoomEvent.TrackSubscriptionFailed, (sid, _, reason) => happened('TrackSubscriptionFailed', `${sid} ${reason}`));
  room.on(RoomEvent.TrackSubscribed, (track, { source }, { identity }) => {
    happened('TrackSubscribed', `${identity} ${source}`);
    const element = track.attach();
    element.dataset.track = `${identity}/${source}`;
    element.dataset.sid = track.sid;
    document.body.append(element);
  });
  room.on(RoomEvent.TrackUnsubscribed, (track, { source }, { identity }) => {
    happened('TrackUnsubscribed', `${identity} ${source}`);
    track.detach();
    // Its successor may have come before.
    for (const element of document.querySelectorAll(`[data-sid="${track.sid}"]`)) element.remove();
  });
  room.on(RoomEvent.DataReceived, (payload, from, kind, topic) => {
    got.data.push({ from: from?.identity ?? null, topic: topic ?? '', text: new TextDecoder().decode(payload), reliable: kind === 0 });
  });
  room.registerTextStreamHandler('words', async (reader, { identity }) => {
    got.texts.push({ from: identity, text: await reader.readAll() });
  });
  room.registerByteStreamHandler('file', async (reader, { identity }) => {
    const bytes = new Uint8Array(await new Blob(await reader.readAll()).arrayBuffer());
    got.files.push({ from: identity, name: reader.info.name, size: bytes.length, sha256: await sha256(bytes) });
  });
  room.registerRpcMethod('echo', async ({ callerIdentity, payload }) => `${callerIdentity}: ${payload}`);
  room.registerRpcMethod('refuse', async () => {
    throw new RpcError(1234, 'not today', 'because');
  });
}

const personOf = (participant) => ({
  sid: participant.sid,
  name: participant.name ?? '',
  metadata: participant.metadata ?? '',
  attributes: { ...participant.attributes },
  tracks: Object.fromEntries(
    [...participant.trackPublications.values()].map(({ source, trackSid, isMuted, isSubscribed, simulcasted, mimeType, isEncrypted }) => [
      source,
      { sid: trackSid, muted: isMuted, subscribed: isSubscribed, simulcasted: simulcasted ?? false, mime: mimeType ?? '', encrypted: isEncrypted },
    ]),
  ),
});

const operations = {
  /**
   * @param {{single?: boolean, key?: string, dynacast?: boolean}} options key: the passphrase of an end-to-end encrypted
   *   room; dynacast: don't encode what nobody watches
   */
  async join(url, token, { single, key, dynacast = false } = {}) {
    got = { events: [], data: [], texts: [], files: [] };
    const options = { dynacast };
    if (single !== undefined) options.singlePeerConnection = single;
    if (key !== undefined) {
      const keyProvider = new ExternalE2EEKeyProvider();
      await keyProvider.setKey(key);
      options.encryption = { keyProvider, worker: new Worker('/e2ee-worker.mjs', { type: 'module' }) };
    }
    room = new Room(options);
    follow();
    if (key !== undefined) await room.setE2EEEnabled(true);
    await room.connect(url, token);
  },

  leave: () => room?.disconnect(),

  /** Lets the peer connections to come receive no video format but these, such as video/VP8, as a lesser browser would. */
  receivesOnly(mimes) {
    const takes = ({ mimeType }) => [...mimes, 'video/rtx'].includes(mimeType);
    const formats = RTCRtpReceiver.getCapabilities('video').codecs.filter(takes);
    for (const describe of ['createOffer', 'createAnswer']) {
      const native = RTCPeerConnection.prototype[describe];
      RTCPeerConnection.prototype[describe] = function (...args) {
        for (const transceiver of this.getTransceivers()) {
          if (transceiver.receiver.track.kind === 'video') transceiver.setCodecPreferences(formats);
        }
        return native.apply(this, args);
      };
    }
  },

  /** Joins anew and leaves: how many ms passed until the room connected, until somebody's video was subscribed, and until its first frame was decoded. */
  async timeJoin(url, token, { single }) {
    const fresh = new Room({ singlePeerConnection: single });
    const began = performance.now();
    const since = () => performance.now() - began;
    try {
      const first = new Promise((resolve, reject) => {
        setTimeout(() => reject(new Error('no frame within 10 s')), 10_000);
        fresh.on(RoomEvent.TrackSubscribed, (track) => {
          if (track.kind !== Track.Kind.Video) return;
          const subscribed = since();
          const reader = new MediaStreamTrackProcessor({ track: track.mediaStreamTrack }).readable.getReader();
          reader.read().then(({ value: frame }) => {
            resolve({ subscribed, frame: since() });
            frame?.close();
            void reader.cancel();
          }, reject);
        });
      });
      await fresh.connect(url, token);
      const connected = since();
      return { connected, ...(await first) };
    } finally {
      await fresh.disconnect();
    }
  },

  /** @param {object} [options] the SDK's own, such as {videoCodec: 'vp9'} */
  async publish(source, options) {
    if (source === Track.Source.Microphone) await me().setMicrophoneEnabled(true, undefined, options);
    else if (source === Track.Source.Camera) await me().setCameraEnabled(true, { resolution: CAMERA }, options);
    else await me().setScreenShareEnabled(true, undefined, options);
    return mine(source).trackSid;
  },

  /** Publishes a tone as the microphone, or two: one on the left, one on the right. */
  async publishSound(tones, options) {
    const sound = soundOf(tones);
    volume = sound.volume;
    const { trackSid } = await me().publishTrack(sound.track, { source: Track.Source.Microphone, ...options });
    return trackSid;
  },

  /** Makes the sound that is published silent. */
  quiet: () => void (volume.gain.value = 0),

  /** Publishes again what the server ended. */
  async republish(source) {
    const there = me().getTrackPublication(source)?.track;
    if (there) await me().unpublishTrack(there, true);
    return operations.publish(source);
  },

  unpublish: (source) => me().unpublishTrack(mine(source).track, true).then(() => null),

  async mute(source, muted) {
    const { track } = mine(source);
    await (muted ? track.mute() : track.unmute());
  },

  async describe({ name, metadata, attributes }) {
    if (name !== undefined) await me().setName(name);
    if (metadata !== undefined) await me().setMetadata(metadata);
    if (attributes !== undefined) await me().setAttributes(attributes);
  },

  /** @param {{reliable: boolean, topic: string, to?: string[]}} options */
  send: (text, { reliable, topic, to }) => me().publishData(new TextEncoder().encode(text), { reliable, topic, destinationIdentities: to }),

  sendText: (text) => me().sendText(text, { topic: 'words' }).then(() => null),

  /** Sends so many random bytes as a byte stream; their hash. */
  async sendFile(name, size) {
    const bytes = randomBytes(size);
    const writer = await me().streamBytes({ name, topic: 'file', totalSize: size });
    await writer.write(bytes);
    await writer.close();
    return sha256(bytes);
  },

  /** Calls a method of somebody: {payload}, or {code, message, data} of the error. */
  async call(destinationIdentity, method, payload) {
    try {
      return { payload: await me().performRpc({ destinationIdentity, method, payload }) };
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      return { code: error.code, message: error.message, data: error.data ?? '' };
    }
  },

  quality: (identity, source, quality) => theirs(identity, source).setVideoQuality(qualities[quality]),
  dimensions: (identity, source, width, height) => theirs(identity, source).setVideoDimensions({ width, height }),
  fps: (identity, source, fps) => theirs(identity, source).setVideoFPS(fps),
  subscribe: (identity, source, wanted) => theirs(identity, source).setSubscribed(wanted),

  /** Every encoding of an own track, in each codec that it is sent in: what it is, and how many frames or packets went out. */
  async sent(source) {
    const reports = await Promise.all(sendersOf(source).map((sender) => sender.getStats()));
    return reports
      .flatMap((report) => entries(report, 'outbound-rtp'))
      .map(({ mime, rid = '', active, scalabilityMode = '', frameWidth = 0, framesEncoded = 0, packetsSent = 0 }) => ({
        mime, rid, active, scalabilityMode, width: frameWidth, frames: framesEncoded, packets: packetsSent,
      }));
  },

  /** The formats that the other side wants an own track in, the best one first. */
  agreed: (source) => sendersOf(source).map((sender) => sender.getParameters().codecs.map(({ mimeType }) => mimeType)),

  /** What comes of somebody's track, null while nothing does. discarded: packets, or blocks of RED, whose sound was there already. */
  async received(identity, source) {
    const report = await theirs(identity, source).track?.receiver?.getStats();
    const [inbound] = entries(report, 'inbound-rtp');
    if (!inbound) return null;
    const { mime, frameWidth = 0, framesDecoded = 0, packetsReceived = 0, packetsDiscarded = 0 } = inbound;
    return { mime, width: frameWidth, frames: framesDecoded, packets: packetsReceived, discarded: packetsDiscarded };
  },

  /** The strongest frequencies, in Hz, on the left and on the right of somebody's microphone. */
  async sides(identity) {
    const context = new AudioContext();
    const input = context.createMediaStreamSource(new MediaStream([theirs(identity, Track.Source.Microphone).track.mediaStreamTrack]));
    const sides = context.createChannelSplitter(2);
    const ears = [0, 1].map((side) => {
      const ear = new AnalyserNode(context, { fftSize: FOURIER, smoothingTimeConstant: 0 });
      sides.connect(ear, side);
      return ear;
    });
    input.connect(sides);
    const levels = new Float32Array(FOURIER / 2);
    await new Promise((resolve) => setTimeout(resolve, (2 * FOURIER * 1000) / context.sampleRate)); // what is listened to
    const heard = ears.map((ear) => {
      ear.getFloatFrequencyData(levels);
      return (levels.indexOf(Math.max(...levels)) * context.sampleRate) / FOURIER;
    });
    await context.close();
    return heard;
  },

  view: () => ({
    state: room.state,
    room: { name: room.name, metadata: room.metadata ?? '' },
    identity: me().identity,
    me: { ...personOf(me()), canPublish: me().permissions?.canPublish ?? null },
    others: Object.fromEntries([...room.remoteParticipants.values()].map((participant) => [participant.identity, personOf(participant)])),
    ...got,
  }),

  /** The ids that getStats has for the microphones that arrive, by identity. */
  microphones: () =>
    Object.fromEntries(
      [...room.remoteParticipants.values()].map((participant) => [
        participant.identity,
        participant.getTrackPublication(Track.Source.Microphone)?.track?.mediaStreamTrack?.id ?? '',
      ]),
    ),

  /** Watches and listens to somebody from now on. */
  look(identity, source) {
    const key = `${identity}/${source}`;
    if (source !== Track.Source.Microphone) return window.__e2e.watch(key, `[data-track="${key}"]`);
    return window.__e2e.listen(key, () => room.getParticipantByIdentity(identity)?.getTrackPublication(source)?.track?.mediaStreamTrack ?? null);
  },

  seen: (identity, source, since) => window.__e2e.seen(`${identity}/${source}`, since),
  heard: (identity, source, since) => window.__e2e.heard(`${identity}/${source}`, since),
  now: () => performance.now(),

  /** The selected paths of the open peer connections: [{protocol, type, port, relayProtocol}]. */
  async paths() {
    const open = (await window.__e2e.stats()).filter(({ state, local }) => state === 'connected' && local);
    return open.map(({ local, remote }) => ({ protocol: local.protocol, type: local.type, relayProtocol: local.relayProtocol ?? '', port: remote?.port ?? 0 }));
  },
};

// The room may hold what is no JSON: what an operation returns is made plain here.
window.sdk = Object.fromEntries(
  Object.entries(operations).map(([name, operation]) => [name, async (...args) => JSON.parse(JSON.stringify((await operation(...args)) ?? null))]),
);
