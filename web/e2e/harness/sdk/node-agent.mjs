/**
 * Drives @livekit/rtc-node, and the Rust SDK in it, with the operations of browser-agent.mjs,
 * in a process of its own (see client.mjs): messages [id, operation, arguments] come in,
 * [id, null, value] or [id, error] go out.
 *
 * Arguments: the person's id, and the tones to tell apart, as JSON.
 */
import {
  AudioFrame,
  AudioSource,
  AudioStream,
  dispose,
  LocalAudioTrack,
  LocalVideoTrack,
  Room,
  RoomEvent,
  RpcError,
  TrackPublishOptions,
  TrackSource,
  VideoBufferType,
  VideoFrame,
  VideoSource,
  VideoStream,
} from '@livekit/rtc-node';
import { createHash, randomBytes } from 'node:crypto';
import { decipher, nameTone, paint, tone } from './picture.mjs';

const self = JSON.parse(process.argv[2]);
const CAMERA = { width: self.width, height: self.height, fps: self.fps };
const RATE = 48_000;

const sources = { microphone: TrackSource.SOURCE_MICROPHONE, camera: TrackSource.SOURCE_CAMERA, screen_share: TrackSource.SOURCE_SCREENSHARE };
const nameOf = (source) => Object.keys(sources).find((name) => sources[name] === source) ?? 'unknown';
const qualities = { low: 0, medium: 1, high: 2 };
const states = ['disconnected', 'connected', 'reconnecting'];
/** As in getStats of browsers, by the numbers of the Rust SDK's enumerations. */
const candidateTypes = ['host', 'srflx', 'prflx', 'relay'];
const relayProtocols = ['udp', 'tcp', 'tls'];

let room = null;
let got = {};
/** Own tracks by source: {track, publication, stop}. */
const own = new Map();
/** What is watched, by "identity/source": {frames, samples, follow, stop}. */
const watched = new Map();

const happened = (what, detail = '') => got.events.push({ what, detail: String(detail), at: performance.now() });
const me = () => room.localParticipant;
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** What the Rust SDK can do and rtc-node has no method for: its own messages to it. */
const rust = (message, value) => globalThis._ffiClientInstance.request({ message: { case: message, value } });

const theirs = (identity, source) => [...(room.remoteParticipants.get(identity)?.trackPublications.values() ?? [])].find((publication) => nameOf(publication.source) === source);
const mine = (source) => {
  if (!own.has(source)) throw new Error(`no ${source} is published`);
  return own.get(source);
};

function follow() {
  for (const what of ['Reconnecting', 'Reconnected', 'Disconnected', 'EncryptionError', 'Moved']) {
    room.on(RoomEvent[what], (detail) => happened(what, detail));
  }
  room.on(RoomEvent.ParticipantConnected, ({ identity }) => happened('ParticipantConnected', identity));
  room.on(RoomEvent.ParticipantDisconnected, ({ identity }) => happened('ParticipantDisconnected', identity));
  room.on(RoomEvent.TrackSubscriptionFailed, (sid, _, reason) => happened('TrackSubscriptionFailed', `${sid} ${reason}`));
  room.on(RoomEvent.TrackSubscribed, (track, { source }, { identity }) => {
    happened('TrackSubscribed', `${identity} ${nameOf(source)}`);
    watched.get(`${identity}/${nameOf(source)}`)?.follow(track);
  });
  room.on(RoomEvent.TrackUnsubscribed, (_, { source }, { identity }) => happened('TrackUnsubscribed', `${identity} ${nameOf(source)}`));
  room.on(RoomEvent.DataReceived, (payload, from, kind, topic) => {
    got.data.push({ from: from?.identity ?? null, topic: topic ?? '', text: new TextDecoder().decode(payload), reliable: kind === 1 });
  });
  room.registerTextStreamHandler('words', async (reader, { identity }) => {
    got.texts.push({ from: identity, text: await reader.readAll() });
  });
  room.registerByteStreamHandler('file', async (reader, { identity }) => {
    const bytes = Buffer.concat(await reader.readAll());
    got.files.push({ from: identity, name: reader.info.name, size: bytes.length, sha256: sha256(bytes) });
  });
}

const personOf = (participant) => ({
  sid: participant.sid ?? '',
  name: participant.name ?? '',
  metadata: participant.metadata,
  attributes: { ...participant.attributes },
  tracks: Object.fromEntries(
    [...participant.trackPublications.values()].map((publication) => [
      nameOf(publication.source),
      {
        sid: publication.sid,
        muted: publication.muted ?? false,
        subscribed: publication.subscribed ?? false,
        simulcasted: publication.simulcasted ?? false,
        mime: publication.mimeType ?? '',
        encrypted: (publication.encryptionType ?? 0) !== 0,
      },
    ]),
  ),
});

/** A track that shows the person's picture, or that of their screen. */
function videoTrack(name, id) {
  const source = new VideoSource(CAMERA.width, CAMERA.height);
  let counter = 0;
  const timer = setInterval(() => {
    counter = (counter + 1) & 0xffff;
    source.captureFrame(new VideoFrame(paint(CAMERA, id, counter), CAMERA.width, CAMERA.height, VideoBufferType.I420));
  }, 1000 / CAMERA.fps);
  return { track: LocalVideoTrack.createVideoTrack(name, source), stop: () => clearInterval(timer) };
}

/** A track with the person's tone. */
function audioTrack(name) {
  const source = new AudioSource(RATE, 1);
  let sounding = true;
  const sound = async () => {
    const samples = RATE / 50;
    for (let at = 0; sounding; at += samples) await source.captureFrame(new AudioFrame(tone(self.tone, RATE, at, samples), RATE, 1, samples));
  };
  sound().catch((error) => console.error('audio source:', error));
  return { track: LocalAudioTrack.createAudioTrack(name, source), stop: () => (sounding = false) };
}

/** Reads every decoded frame of the tracks that `follow` is given. */
function watchVideo() {
  const note = { began: performance.now(), frames: [], stop: () => {} };
  note.follow = (track) => {
    note.stop();
    const reader = new VideoStream(track).getReader();
    note.stop = () => void reader.cancel();
    const read = async () => {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const frame = value.frame.type === VideoBufferType.I420 ? value.frame : value.frame.convert(VideoBufferType.I420);
        const code = decipher(frame.data, frame.width, frame.height);
        note.frames.push({ at: performance.now(), id: code?.id ?? -1, counter: code?.counter ?? -1, width: frame.width, height: frame.height });
      }
    };
    read().catch((error) => console.error('video stream:', error));
  };
  return note;
}

/** Notes ten times a second which tone is heard in the tracks that `follow` is given. */
function listen() {
  const note = { samples: [], stop: () => {} };
  note.follow = (track) => {
    note.stop();
    const reader = new AudioStream(track, RATE, 1).getReader();
    note.stop = () => void reader.cancel();
    const read = async () => {
      let sound = [];
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        sound.push(...value.data);
        if (sound.length < RATE / 10) continue;
        note.samples.push({ at: performance.now(), tone: nameTone(sound, RATE, self.tones) });
        sound = [];
      }
    };
    read().catch((error) => console.error('audio stream:', error));
  };
  return note;
}

const operations = {
  async join(url, token, { single } = {}) {
    got = { events: [], data: [], texts: [], files: [] };
    room = new Room();
    follow();
    const options = { autoSubscribe: true, dynacast: false };
    if (single !== undefined) options.singlePeerConnection = single; // of the Rust SDK's options
    await room.connect(url, token, options);
    me().registerRpcMethod('echo', async ({ callerIdentity, payload }) => `${callerIdentity}: ${payload}`);
    me().registerRpcMethod('refuse', async () => {
      throw new RpcError(1234, 'not today', 'because');
    });
  },

  async leave() {
    for (const { stop } of own.values()) stop();
    own.clear();
    for (const { stop } of watched.values()) stop();
    watched.clear();
    await room?.disconnect();
    room = null;
  },

  async publish(source) {
    const made = source === 'microphone' ? audioTrack(source) : videoTrack(source, source === 'camera' ? self.id : self.screen.id);
    const options = new TrackPublishOptions({ source: sources[source], simulcast: source === 'camera' });
    try {
      made.publication = await me().publishTrack(made.track, options);
    } catch (error) {
      made.stop();
      throw error;
    }
    own.set(source, made);
    return made.publication.sid;
  },

  /**
   * Publishes again what the server ended. The Rust SDK takes no notice of that end: unless told, it
   * would publish the old track again, too, when it reconnects.
   */
  async republish(source) {
    if (own.has(source)) await operations.unpublish(source);
    return operations.publish(source);
  },

  async unpublish(source) {
    const { publication, stop } = mine(source);
    await me().unpublishTrack(publication.sid);
    stop();
    own.delete(source);
  },

  mute: (source, muted) => void rust('localTrackMute', { trackHandle: mine(source).track.ffi_handle.handle, mute: muted }),

  async describe({ name, metadata, attributes }) {
    if (name !== undefined) await me().updateName(name);
    if (metadata !== undefined) await me().updateMetadata(metadata);
    if (attributes !== undefined) await me().setAttributes(attributes);
  },

  send: (text, { reliable, topic, to }) => me().publishData(new TextEncoder().encode(text), { reliable, topic, destination_identities: to }),

  sendText: (text) => me().sendText(text, { topic: 'words' }).then(() => null),

  async sendFile(name, size) {
    const bytes = randomBytes(size);
    const writer = await me().streamBytes({ name, topic: 'file', totalSize: size });
    await writer.write(new Uint8Array(bytes));
    await writer.close();
    return sha256(bytes);
  },

  async call(destinationIdentity, method, payload) {
    try {
      return { payload: await me().performRpc({ destinationIdentity, method, payload }) };
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      return { code: error.code, message: error.message, data: error.data ?? '' };
    }
  },

  quality: (identity, source, quality) => {
    const publication = theirs(identity, source);
    rust('setRemoteTrackPublicationQuality', { trackPublicationHandle: publication.ffiHandle.handle, quality: qualities[quality] });
  },

  view: () => ({
    state: states[room?.connectionState ?? 0],
    room: { name: room?.name, metadata: room?.metadata ?? '' },
    identity: me()?.identity,
    me: me() ? personOf(me()) : null,
    others: Object.fromEntries([...(room?.remoteParticipants.values() ?? [])].map((participant) => [participant.identity, personOf(participant)])),
    ...got,
  }),

  look(identity, source) {
    const key = `${identity}/${source}`;
    watched.get(key)?.stop();
    const note = source === 'microphone' ? listen() : watchVideo();
    watched.set(key, note);
    const track = theirs(identity, source)?.track;
    if (track) note.follow(track);
  },

  seen(identity, source, since) {
    const note = watched.get(`${identity}/${source}`);
    const began = Math.max(note.began, since);
    const frames = note.frames.filter(({ at }) => at >= began);
    const ids = {};
    for (const { id } of frames) ids[id] = (ids[id] ?? 0) + 1;
    const moments = [began, ...frames.map(({ at }) => at), performance.now()];
    return {
      ids,
      decoded: frames.length,
      unreadable: ids[-1] ?? 0,
      sizes: frames.map(({ width, height }) => `${width}x${height}`).filter((size, i, all) => size !== all[i - 1]),
      longestDecodeGap: Math.round(Math.max(...moments.slice(1).map((at, i) => at - moments[i]))),
      firstAt: frames.find(({ id }) => id >= 0)?.at ?? null,
    };
  },

  heard(identity, source, since) {
    const samples = watched.get(`${identity}/${source}`).samples.filter(({ at }) => at >= since);
    const tones = {};
    for (const { tone: name } of samples) tones[name] = (tones[name] ?? 0) + 1;
    return { samples: samples.length, tones };
  },

  now: () => performance.now(),

  async paths() {
    const { publisherStats, subscriberStats } = await room.getRtcStats();
    const found = [];
    for (const stats of [publisherStats, subscriberStats]) {
      const of = (kind) => stats.map(({ stats: one }) => one).filter((one) => one.case === kind).map(({ value }) => value);
      const byId = (kind, id) => of(kind).find(({ rtc }) => rtc.id === id);
      const transport = of('transport').find(({ transport: { selectedCandidatePairId } }) => selectedCandidatePairId);
      const pair = transport && byId('candidatePair', transport.transport.selectedCandidatePairId);
      if (!pair) continue;
      const local = byId('localCandidate', pair.candidatePair.localCandidateId).candidate;
      const remote = byId('remoteCandidate', pair.candidatePair.remoteCandidateId).candidate;
      found.push({ protocol: local.protocol, type: candidateTypes[local.candidateType], relayProtocol: relayProtocols[local.relayProtocol] ?? '', port: remote.port });
    }
    return found;
  },

  /** Ends the SDK's threads: without it the process doesn't end. */
  async end() {
    console.error('leaving');
    await operations.leave();
    console.error('left');
    await dispose();
    console.error('disposed');
  },
};

process.on('message', async ([id, operation, args]) => {
  try {
    const value = await operations[operation](...args);
    // The SDK's numbers may be of 64 bits, which JSON has not.
    process.send([id, null, JSON.parse(JSON.stringify(value ?? null, (_, one) => (typeof one === 'bigint' ? Number(one) : one)))]);
  } catch (error) {
    process.send([id, error?.stack ?? String(error)]);
  }
  if (operation === 'end') process.disconnect();
});
process.on('disconnect', () => process.exit(0));
