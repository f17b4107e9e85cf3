/**
 * What runs in the page of a publisher or of a viewer: livekit-client as it comes from npm, a camera whose picture costs an
 * encoder as much as a face and a room do, and readers that note when each frame and each beep arrived.
 *
 *   picture: 32 bits as black and white blocks in the top sixth: counter (16), flash (1), nothing (7), CRC-8 (8);
 *            below them drifting texture
 *
 * All times are ms since 1970 of the machine's clock, so that those of two pages can be compared. What goes in and out of
 * `window.sdk` is JSON.
 */
import { Room, RoomEvent, Track, VideoPreset, VideoQuality } from '/livekit-client.mjs';

const COLUMNS = 16;
const ROWS = 2;
const BAND = 1 / 6;
const RATE = 48_000;
const BEEP = 1000; // Hz
const FLASH_EVERY = 1000; // ms between flashes, each of which lasts a tenth of a second

const clock = () => performance.timeOrigin + performance.now();
const qualities = { low: VideoQuality.LOW, medium: VideoQuality.MEDIUM, high: VideoQuality.HIGH };

let room = null;

// --- The picture ---------------------------------------------------------------------------------

/** CRC-8, polynomial 0x07, from 0xff: neither a black nor a white picture passes. */
function crc8(bytes) {
  let crc = 0xff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : (crc << 1) & 0xff;
  }
  return crc;
}

/** A picture of smooth noise, twice as wide and high as wanted: its detail is what the encoder's bits are spent on. */
function texture(width, height) {
  const [across, down] = [width * 2, height * 2];
  const luma = new Uint8Array(across * down);
  for (const [grain, amplitude] of [[64, 40], [16, 24], [4, 12]]) {
    const columns = across / grain + 2;
    const lattice = Float32Array.from({ length: columns * (down / grain + 2) }, () => (Math.random() * 2 - 1) * amplitude);
    for (let y = 0; y < down; y++) {
      const [row, b] = [Math.floor(y / grain), (y % grain) / grain];
      for (let x = 0; x < across; x++) {
        const [column, a] = [Math.floor(x / grain), (x % grain) / grain];
        const i = row * columns + column;
        luma[y * across + x] += (lattice[i] * (1 - a) + lattice[i + 1] * a) * (1 - b) + (lattice[i + columns] * (1 - a) + lattice[i + columns + 1] * a) * b + 40;
      }
    }
  }
  return { luma, across };
}

/** The camera: a track of frames, each counted when it is made. */
function makeCamera({ width, height, fps }) {
  const track = new MediaStreamTrackGenerator({ kind: 'video' });
  const writer = track.writable.getWriter();
  const picture = new Uint8Array((width * height * 3) / 2).fill(128, width * height);
  const { luma, across } = texture(width, height);
  const band = Math.round(height * BAND);
  const camera = { track, counter: 0, made: [], flashes: false, stop: () => clearTimeout(timer) };

  function paint(counter, flash) {
    const head = [counter >> 8, counter & 0xff, flash ? 0x80 : 0];
    const bits = [...head, crc8(head)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
    for (let row = 0; row < ROWS; row++) {
      const [from, to] = [row, row + 1].map((r) => Math.round((r * band) / ROWS));
      for (let column = 0; column < COLUMNS; column++) {
        const at = from * width + (column * width) / COLUMNS;
        picture.fill(bits[row * COLUMNS + column] === '1' ? 235 : 16, at, at + width / COLUMNS);
      }
      for (let y = from + 1; y < to; y++) picture.copyWithin(y * width, from * width, (from + 1) * width);
    }
    // Five strips, each of which drifts at a speed of its own, as a face before a room does.
    const strip = (height - band) / 5;
    for (let s = 0; s < 5; s++) {
      const dx = Math.round(width / 2 + (width / 2 - 1) * Math.sin(counter * 0.004 * (s + 1)));
      const dy = Math.round(height / 2 + (height / 2 - 1) * Math.sin(counter * 0.003 * (5 - s)));
      for (let y = Math.round(band + s * strip); y < Math.round(band + (s + 1) * strip); y++) {
        const at = (y + dy) * across + dx;
        picture.set(luma.subarray(at, at + width), y * width);
      }
    }
  }

  let due = performance.now();
  let flashed = 0;
  let timer = 0;
  const tick = () => {
    const now = performance.now();
    camera.counter = (camera.counter + 1) & 0xffff;
    camera.made.push({ counter: camera.counter, at: clock() });
    if (camera.flashes && now - flashed >= FLASH_EVERY) {
      flashed = now;
      microphone.beep();
    }
    paint(camera.counter, now - flashed < FLASH_EVERY / 10 && camera.flashes);
    const frame = new VideoFrame(picture, { format: 'I420', codedWidth: width, codedHeight: height, timestamp: Math.round(now * 1000) });
    writer.write(frame).catch(() => frame.close());
    due = Math.max(due + 1000 / fps, performance.now());
    timer = setTimeout(tick, due - performance.now());
  };
  tick();
  return camera;
}

// --- The microphone ------------------------------------------------------------------------------

/** A track of silence; its beep() is a tenth of a second of tone, from the audio thread, which a busy page doesn't hold up. */
function makeMicrophone() {
  const context = new AudioContext({ sampleRate: RATE, latencyHint: 'interactive' });
  void context.resume();
  const [tone, volume, out] = [context.createOscillator(), context.createGain(), context.createMediaStreamDestination()];
  tone.frequency.value = BEEP;
  volume.gain.value = 0.001; // not nothing, which an encoder may leave out
  tone.connect(volume).connect(out);
  tone.start();
  const beep = () => {
    volume.gain.setValueAtTime(0.5, context.currentTime);
    volume.gain.setValueAtTime(0.001, context.currentTime + FLASH_EVERY / 10_000);
  };
  return { track: out.stream.getAudioTracks()[0], beep, stop: () => void context.close() };
}

let camera = null;
let microphone = null;

// --- What arrives --------------------------------------------------------------------------------

let frames = [];
let beeps = [];
let planes = new Uint8Array(0);

/** The bits of a decoded frame: only the band that they stand in is copied. */
async function decipher(frame) {
  const { width, height } = frame.visibleRect;
  const band = Math.round(height * BAND);
  const rect = { x: 0, y: 0, width, height: band + (band % 2) };
  const size = frame.allocationSize({ rect });
  if (planes.length < size) planes = new Uint8Array(size);
  const [luma] = await frame.copyTo(planes, { rect });
  const bytes = [0, 0, 0, 0];
  for (let bit = 0; bit < 32; bit++) {
    const x = Math.floor((((bit % COLUMNS) + 0.5) * width) / COLUMNS);
    const y = Math.floor(((Math.floor(bit / COLUMNS) + 0.5) * band) / ROWS);
    if (planes[luma.offset + y * luma.stride + x] > 127) bytes[bit >> 3] |= 0x80 >> (bit & 7);
  }
  return crc8(bytes.slice(0, 3)) === bytes[3] ? { counter: (bytes[0] << 8) | bytes[1], flash: bytes[2] === 0x80 } : { counter: -1, flash: false };
}

async function readVideo(track) {
  const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 30 }).readable.getReader();
  for (;;) {
    const { value: frame, done } = await reader.read();
    if (done) return;
    const [at, width] = [clock(), frame.displayWidth];
    const { counter, flash } = await decipher(frame);
    frame.close();
    frames.push({ at, counter, flash, width });
  }
}

/**
 * Notes when a beep begins. A page reads its samples when it gets to it; how long the earliest of the last second waited
 * says when each is played.
 */
async function readAudio(track) {
  const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 100 }).readable.getReader();
  let [loud, samples, played] = [false, new Float32Array(0), 0];
  const waited = []; // ms from a buffer's place in the sound to when it was read
  for (;;) {
    const { value: sound, done } = await reader.read();
    if (done) return;
    const at = clock();
    waited.push(at - played);
    if (waited.length > 100) waited.shift();
    if (samples.length < sound.numberOfFrames) samples = new Float32Array(sound.numberOfFrames);
    sound.copyTo(samples, { planeIndex: 0, format: 'f32-planar' });
    const first = samples.subarray(0, sound.numberOfFrames).findIndex((value) => Math.abs(value) > 0.1);
    if (first >= 0 && !loud) beeps.push({ at: played + Math.min(...waited) + (first * 1000) / sound.sampleRate });
    loud = first >= 0;
    played += (sound.numberOfFrames * 1000) / sound.sampleRate;
    sound.close();
  }
}

const mine = () => room.localParticipant.getTrackPublication(Track.Source.Camera).track;

const ofKind = (report, type, kind) => [...report.values()].filter((entry) => entry.type === type && entry.kind === kind);

const operations = {
  async join(url, token, options = {}) {
    room = new Room(options);
    [frames, beeps] = [[], []];
    room.on(RoomEvent.TrackSubscribed, (track) => {
      if (track.kind === Track.Kind.Audio) document.body.append(track.attach());
      (track.kind === Track.Kind.Video ? readVideo : readAudio)(track.mediaStreamTrack).catch((error) => console.error(error));
    });
    await room.connect(url, token);
  },

  async leave() {
    await room?.disconnect();
    for (const source of [camera, microphone]) {
      source?.stop();
      source?.track.stop();
    }
    document.querySelectorAll('audio').forEach((element) => element.remove());
    room = camera = microphone = null;
  },

  /** @param {{width: number, height: number, fps: number, layers: number[], sound?: boolean}} options layers: bit/s, lowest first; each is half as wide as the next */
  async publish({ width, height, fps, layers, sound }) {
    camera = makeCamera({ width, height, fps });
    const lower = layers.slice(0, -1).map((bitrate, i) => {
      const smaller = 2 ** (layers.length - 1 - i);
      return new VideoPreset(width / smaller, height / smaller, bitrate, fps);
    });
    await room.localParticipant.publishTrack(camera.track, {
      source: Track.Source.Camera,
      simulcast: true,
      videoCodec: 'vp8',
      videoEncoding: { maxBitrate: layers.at(-1), maxFramerate: fps },
      videoSimulcastLayers: lower,
    });
    if (!sound) return;
    microphone = makeMicrophone();
    await room.localParticipant.publishTrack(microphone.track, { source: Track.Source.Microphone, dtx: false });
    camera.flashes = true;
  },

  /** The frames made since a time: [{counter, at}]. */
  made: (since) => camera.made.filter(({ at }) => at >= since),

  /** The frames decoded since a time: [{counter, at, flash, width}]; counter -1 for one that can't be read. */
  decoded: (since) => frames.filter(({ at }) => at >= since),

  /** The beeps heard since a time: [{at}], of their first sample. */
  heard: (since) => beeps.filter(({ at }) => at >= since),

  /** Asks for a layer of everybody's video. */
  quality(quality) {
    for (const participant of room.remoteParticipants.values()) {
      for (const publication of participant.videoTrackPublications.values()) publication.setVideoQuality(qualities[quality]);
    }
  },

  /** The published layers, by what getStats says. */
  async sending() {
    const report = await mine().getRTCStatsReport();
    return ofKind(report, 'outbound-rtp', 'video').map(({ rid, active, frameWidth, bytesSent, framesSent, framesEncoded, keyFramesEncoded, targetBitrate, totalEncodeTime, qualityLimitationReason, qualityLimitationDurations, pliCount, firCount, nackCount }) => ({
      rid, active, frameWidth, bytesSent, framesSent, framesEncoded, keyFramesEncoded, targetBitrate, totalEncodeTime, qualityLimitationReason, qualityLimitationDurations, pliCount, firCount, nackCount,
    }));
  },

  /** What arrived, by what getStats says: {video, audio}, null before it is there. */
  async receiving() {
    const found = { video: null, audio: null };
    for (const participant of room.remoteParticipants.values()) {
      for (const { track } of participant.trackPublications.values()) {
        const report = await track?.getRTCStatsReport?.();
        if (!report) continue;
        const [video] = ofKind(report, 'inbound-rtp', 'video');
        const [audio] = ofKind(report, 'inbound-rtp', 'audio');
        if (video) {
          const { bytesReceived, packetsReceived, packetsLost, retransmittedPacketsReceived, framesReceived, framesDecoded, framesDropped, keyFramesDecoded, freezeCount, totalFreezesDuration, nackCount, pliCount, jitterBufferDelay, jitterBufferEmittedCount, totalDecodeTime, frameWidth } = video;
          found.video = { bytesReceived, packetsReceived, packetsLost, retransmittedPacketsReceived, framesReceived, framesDecoded, framesDropped, keyFramesDecoded, freezeCount, totalFreezesDuration, nackCount, pliCount, jitterBufferDelay, jitterBufferEmittedCount, totalDecodeTime, frameWidth };
        }
        if (audio) {
          const { packetsReceived, packetsLost, concealedSamples, totalSamplesReceived } = audio;
          found.audio = { packetsReceived, packetsLost, concealedSamples, totalSamplesReceived };
        }
      }
    }
    return found;
  },
};

// The room may hold what is no JSON: what an operation returns is made plain here.
window.sdk = Object.fromEntries(
  Object.entries(operations).map(([name, operation]) => [name, async (...args) => JSON.parse(JSON.stringify((await operation(...args)) ?? null))]),
);
