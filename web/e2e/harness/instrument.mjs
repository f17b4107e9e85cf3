/**
 * What runs inside a page under test, before the app does: a camera and a microphone that
 * say who they belong to, readers that tell whose picture and whose tone arrives, and a
 * list of the page's peer connections.
 *
 *   source:  tick → picture (person id, frame counter, CRC as black and white blocks; the
 *            person's colour below) → canvas track;  oscillator → audio track
 *   reader:  tile's <video> → its track's decoded frames → blocks → {id, counter, size, time}
 *                           → requestVideoFrameCallback → times at which a frame was presented
 *            remote audio track → AnalyserNode → strongest frequency
 *
 * The function is sent to the browser as text, so it refers to nothing outside itself.
 * `window.__e2e` is what it leaves there.
 */

/** The picture that every person's camera makes. 640×360 at 10 frames per second is
 * enough for two simulcast layers, and little enough for three browsers on two cores. */
export const CAMERA = { width: 640, height: 360, fps: 10 };

/** Each person's own tone, in Hz: far apart, and within the band of every Opus mode. */
export const toneOf = (id) => 440 + 260 * id;

/** Each person's own colour, as a hue in degrees. */
export const hueOf = (id) => (id * 77) % 360;

/**
 * @param {{id: number, tone: number, hue: number, tones: number[], width: number, height: number, fps: number, recorder?: boolean, screen?: {id: number, hue: number}}} self
 *   screen: what the pictures of a shared screen say; without it the browser asks for a real one
 */
export function instrument(self) {
  if (window.__e2e) return;

  // --- The code in the picture -------------------------------------------------------
  // 32 bits in 4 rows of 8 blocks over the upper half: id (8), counter (16), CRC-8 (8).
  // Blocks of 80×45 pixels stay legible when a layer is a quarter as wide.
  const COLUMNS = 8;
  const ROWS = 4;

  // CRC-8 (polynomial 0x07). It starts from 0xff, so that neither a black nor a white
  // picture passes for a frame.
  function crc8(bytes) {
    let crc = 0xff;
    for (const byte of bytes) {
      crc ^= byte;
      for (let i = 0; i < 8; i++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : (crc << 1) & 0xff;
    }
    return crc;
  }

  const bytesOf = (id, counter) => {
    const head = [id, counter >> 8, counter & 0xff];
    return [...head, crc8(head)];
  };

  const half = self.height / 2;

  /** What moves in the lower half, as a face would: without it the encoder has nothing to do. */
  const movers = (counter) =>
    [0, 1, 2, 3, 4].map((i) => ({
      x: Math.max(0, (counter * (5 + 3 * i)) % (self.width - 80)),
      y: Math.floor(half + (i * half) / 5),
      width: 80,
      height: Math.floor(half / 7),
    }));

  /** The picture of `who`, the person or what is on their screen, as colours on a canvas. */
  function draw(who, context, counter) {
    const { width } = self;
    context.fillStyle = `hsl(${who.hue} 80% 50%)`;
    context.fillRect(0, half, width, half);
    context.fillStyle = `hsl(${who.hue} 80% 40%)`;
    for (const mover of movers(counter)) context.fillRect(mover.x, mover.y, mover.width, mover.height);
    bytesOf(who.id, counter).forEach((byte, row) => {
      for (let column = 0; column < COLUMNS; column++) {
        context.fillStyle = byte & (0x80 >> column) ? '#fff' : '#000';
        context.fillRect((column * width) / COLUMNS, (row * half) / ROWS, width / COLUMNS, half / ROWS);
      }
    });
  }

  /** hsl(hue 80% 50%) as red, green and blue. */
  const colourOfHue = (hue) =>
    [0, 8, 4].map((n) => {
      const k = (n + hue / 30) % 12;
      return 255 * (0.5 - 0.4 * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
    });

  /** The same as planes, which a busy machine makes in no time. */
  function fill(who, picture, counter) {
    const { width, height } = self;
    const [y, u, v] = toYUV(colourOfHue(who.hue));
    const area = width * height;
    picture.fill(y, area / 2, area);
    for (const mover of movers(counter)) {
      for (let row = mover.y; row < mover.y + mover.height; row++) picture.fill(y - 20, row * width + mover.x, row * width + mover.x + mover.width);
    }
    bytesOf(who.id, counter).forEach((byte, band) => {
      for (let row = Math.round((band * half) / ROWS); row < Math.round(((band + 1) * half) / ROWS); row++) {
        for (let column = 0; column < COLUMNS; column++) {
          const from = row * width + (column * width) / COLUMNS;
          picture.fill(byte & (0x80 >> column) ? 235 : 16, from, from + width / COLUMNS);
        }
      }
    });
    picture.fill(128, area, area + area / 8).fill(u, area + area / 8, area + area / 4);
    picture.fill(128, area + area / 4, area + (area * 3) / 8).fill(v, area + (area * 3) / 8);
  }

  /**
   * Makes sense of a picture: `brightness(x, y)` and `colour(x, y)` tell what is at a place
   * given as shares of the width and the height. Null when the blocks make no sense.
   */
  function decipher(brightness, colour) {
    const bytes = [];
    for (let row = 0; row < ROWS; row++) {
      let byte = 0;
      for (let column = 0; column < COLUMNS; column++) {
        byte = (byte << 1) | (brightness((column + 0.5) / COLUMNS, (row + 0.5) / ROWS / 2) > 127 ? 1 : 0);
      }
      bytes.push(byte);
    }
    if (crc8(bytes.slice(0, 3)) !== bytes[3]) return null;
    const mean = [0, 0, 0];
    for (let n = 0; n < 8; n++) colour((n + 0.5) / 8, 0.75).forEach((value, i) => (mean[i] += value / 8));
    return { id: bytes[0], counter: (bytes[1] << 8) | bytes[2], hue: hueOfColour(mean) };
  }

  // A small picture is enough to read from: 10×~5.6 pixels per block.
  const scratch = { width: 80, height: 45, context: null };

  /** Reads a picture as it is painted: a <video>, or a VideoFrame of any format. */
  function read(picture) {
    if (!scratch.context) {
      const canvas = document.createElement('canvas');
      canvas.width = scratch.width;
      canvas.height = scratch.height;
      scratch.context = canvas.getContext('2d', { willReadFrequently: true, alpha: false });
    }
    const { width, height, context } = scratch;
    context.drawImage(picture, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    const at = (x, y) => {
      const i = (Math.floor(y * height) * width + Math.floor(x * width)) * 4;
      return [data[i], data[i + 1], data[i + 2]];
    };
    return decipher((x, y) => at(x, y).reduce((sum, value) => sum + value / 3, 0), at);
  }

  let planes = new Uint8Array(0);

  /** Reads a decoded frame from its planes, which costs a hundredth of painting it. */
  async function readFrame(frame) {
    if (frame.format !== 'I420') return read(frame);
    if (planes.length < frame.allocationSize()) planes = new Uint8Array(frame.allocationSize());
    const [y, u, v] = await frame.copyTo(planes);
    const { width, height } = frame.visibleRect;
    const at = (plane, across, down, x0, y0) => planes[plane.offset + Math.floor(y0 * down) * plane.stride + Math.floor(x0 * across)];
    return decipher(
      (x0, y0) => at(y, width, height, x0, y0),
      (x0, y0) => toRGB(at(y, width, height, x0, y0), at(u, width >> 1, height >> 1, x0, y0), at(v, width >> 1, height >> 1, x0, y0)),
    );
  }

  // ITU-R BT.601, limited range: what video of this size is in.
  const toRGB = (y, u, v) =>
    [1.164 * (y - 16) + 1.596 * (v - 128), 1.164 * (y - 16) - 0.392 * (u - 128) - 0.813 * (v - 128), 1.164 * (y - 16) + 2.017 * (u - 128)].map((value) =>
      Math.min(255, Math.max(0, value)),
    );
  const toYUV = ([r, g, b]) => [0.257 * r + 0.504 * g + 0.098 * b + 16, -0.148 * r - 0.291 * g + 0.439 * b + 128, 0.439 * r - 0.368 * g - 0.071 * b + 128].map(Math.round);

  function hueOfColour([r, g, b]) {
    const max = Math.max(r, g, b);
    const span = max - Math.min(r, g, b);
    if (span < 40) return -1; // grey: no colour to speak of
    const sixth = max === r ? (g - b) / span : max === g ? 2 + (b - r) / span : 4 + (r - g) / span;
    return Math.round((sixth * 60 + 360) % 360);
  }

  // --- The camera and the microphone -------------------------------------------------
  const source = { counter: 0, since: 0, tracks: [], context: null };

  function startCamera() {
    source.since = performance.now();
    let due = source.since;
    // A frame is counted when it is made; a tick that comes late makes one frame, not two.
    const tick = () => {
      source.tracks = source.tracks.filter((track) => track.readyState === 'live');
      if (source.tracks.length > 0) {
        source.counter = (source.counter + 1) & 0xffff;
        for (const track of source.tracks) track.emit(source.counter);
      }
      const now = performance.now();
      due = Math.max(due + 1000 / self.fps, now);
      setTimeout(tick, due - now);
    };
    tick();
  }

  /** A track of the camera, or of the screen; its emit(counter) sends one frame. */
  function cameraTrack(who = self) {
    const track = window.MediaStreamTrackGenerator ? writtenTrack(who) : capturedTrack(who);
    source.tracks.push(track);
    if (!source.since) startCamera();
    return track;
  }

  // Each frame that is written is one frame of the track, however busy the machine: a
  // captured canvas is sampled when the page is painted, and may skip some.
  function writtenTrack(who) {
    const { width: codedWidth, height: codedHeight } = self;
    const track = new window.MediaStreamTrackGenerator({ kind: 'video' });
    const writer = track.writable.getWriter();
    const picture = new Uint8Array((codedWidth * codedHeight * 3) / 2);
    track.emit = (counter) => {
      fill(who, picture, counter);
      const frame = new VideoFrame(picture, { format: 'I420', codedWidth, codedHeight, timestamp: Math.round(performance.now() * 1000) });
      writer.write(frame).catch(() => frame.close());
    };
    return track;
  }

  function capturedTrack(who) {
    const canvas = document.createElement('canvas');
    canvas.width = self.width;
    canvas.height = self.height;
    const context = canvas.getContext('2d', { alpha: false });
    const stream = canvas.captureStream(0);
    const [track] = stream.getVideoTracks();
    track.emit = (counter) => {
      draw(who, context, counter);
      // Firefox has requestFrame on the stream still, as the specification once had it.
      if (track.requestFrame) track.requestFrame();
      else stream.requestFrame();
    };
    track.applyConstraints = async () => {}; // a camera takes them; Firefox's canvas refuses any
    return track;
  }

  const plainSound = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

  function microphoneTrack() {
    source.context ??= new AudioContext();
    const { context } = source;
    void context.resume();
    const out = context.createMediaStreamDestination();
    const tone = context.createOscillator();
    const volume = context.createGain();
    tone.frequency.value = self.tone;
    volume.gain.value = 0.3;
    tone.connect(volume).connect(out);
    tone.start();
    return out.stream.getAudioTracks()[0];
  }

  if (navigator.mediaDevices) {
    const native = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted = {}) => {
      if (!wanted.audio && !wanted.video) throw new TypeError('neither audio nor video was asked for');
      const stream = new MediaStream();
      if (wanted.audio) {
        // With `recorder` the browser's own fake microphone makes the tone (see firefox.mjs).
        stream.addTrack(self.recorder ? (await native({ audio: plainSound })).getAudioTracks()[0] : microphoneTrack());
      }
      if (wanted.video) stream.addTrack(cameraTrack());
      return stream;
    };
    if (self.screen) navigator.mediaDevices.getDisplayMedia = async () => new MediaStream([cameraTrack(self.screen)]);
  }

  // --- What a person sees ------------------------------------------------------------
  const watches = new Map();

  /**
   * Follows the <video> under `selector`, whichever element and track that is at the
   * time. Which frames arrived is read from the track's decoded frames, because a busy
   * machine doesn't paint each of them; when the picture moved, from what was presented.
   */
  function watch(key, selector) {
    watches.get(key)?.stop();
    const note = {
      began: performance.now(),
      frames: [], // decoded: {at, id, counter, hue, width, height}; id -1 for one that can't be read
      presented: [], // times
      stop: () => {
        stopped = true;
        clearInterval(timer);
        reader?.cancel();
      },
    };
    let stopped = false;
    let video = null;
    let track = null;
    let reader = null;

    const add = (code, at, width, height) => note.frames.push({ at, ...(code ?? { id: -1, counter: -1, hue: -1 }), width, height });
    const present = (element) => {
      element.requestVideoFrameCallback((at, { width, height }) => {
        if (stopped || element !== video) return;
        note.presented.push(at);
        if (!window.MediaStreamTrackProcessor) add(read(element), at, width, height);
        present(element);
      });
    };
    const decode = async (from) => {
      for (;;) {
        const { value: frame, done } = await from.read();
        if (done) return;
        const at = performance.now();
        add(await readFrame(frame), at, frame.displayWidth, frame.displayHeight);
        frame.close();
      }
    };
    const follow = () => {
      const element = document.querySelector(selector);
      if (element !== video) {
        video = element;
        if (video) present(video);
      }
      const now = video?.srcObject?.getVideoTracks()[0] ?? null;
      if (now === track || !window.MediaStreamTrackProcessor) return;
      track = now;
      void reader?.cancel();
      reader = track && new window.MediaStreamTrackProcessor({ track, maxBufferSize: 30 }).readable.getReader();
      if (reader) decode(reader).catch(() => {});
    };
    const timer = setInterval(follow, 20);
    follow();
    watches.set(key, note);
  }

  /** The longest of the times between moments in a row, in ms. */
  const longestOf = (moments) => Math.round(Math.max(...moments.slice(1).map((at, i) => at - moments[i])));

  /** What was noted since `from` (ms, this page's clock), as what a test asserts about. */
  function seen(key, from = 0) {
    const note = watches.get(key);
    if (!note) return null;
    const began = Math.max(note.began, from);
    const until = performance.now();
    const frames = note.frames.filter((frame) => frame.at >= began);
    const readable = frames.filter((frame) => frame.id >= 0);
    const ids = {};
    for (const { id } of frames) ids[id] = (ids[id] ?? 0) + 1;
    const sizes = frames.map(({ width, height }) => `${width}x${height}`).filter((size, i, all) => size !== all[i - 1]);
    const counters = new Set(readable.map(({ counter }) => counter));
    // Counted from the last frame before, so that frames lost at the beginning count too.
    const before = note.frames.findLast((frame) => frame.at < began && frame.id >= 0);
    const [first, last] = [readable[0], readable.at(-1)];
    const made = first ? last.counter - (before?.counter ?? first.counter - 1) : 0;
    const hues = readable.map(({ hue }) => hue).sort((a, b) => a - b);
    const presented = note.presented.filter((at) => at >= began);
    return {
      seconds: (until - began) / 1000,
      ids,
      sizes,
      /** Frames that arrived, and how many of them can't be read. */
      decoded: frames.length,
      unreadable: frames.length - readable.length,
      presented: presented.length,
      /** Frames that the source made up to the last that arrived, and how many of them did. */
      made,
      distinct: counters.size,
      share: made > 0 ? counters.size / made : 0,
      madePerSecond: readable.length > 1 ? (last.counter - first.counter) / ((last.at - first.at) / 1000) : 0,
      /** The longest time without a new picture on the screen, the edges of the watch included. */
      longestGap: longestOf([began, ...presented, until]),
      longestDecodeGap: longestOf([began, ...frames.map(({ at }) => at), until]),
      hue: hues.length > 0 ? hues[hues.length >> 1] : -1,
      firstAt: first?.at ?? null,
    };
  }

  // --- What a person hears -----------------------------------------------------------
  const ears = new Map();
  const EVERY = 100; // ms between two samples of what is heard

  const nearestTone = (frequency) => String(self.tones.find((tone) => Math.abs(tone - frequency) < 40) ?? 'other');

  /** Notes, ten times a second, which of the known tones is the strongest in `track()`. */
  function listen(key, track) {
    ears.get(key)?.stop();
    ears.set(key, self.recorder ? listenByRecorder(track) : listenByAnalyser(track));
  }

  /** What was heard since `from` (ms, this page's clock): samples per tone. */
  async function heard(key, from = 0) {
    const note = ears.get(key);
    if (!note) return null;
    const samples = (await note.samples()).filter(({ at }) => at >= from);
    const tones = {};
    for (const { tone } of samples) tones[tone] = (tones[tone] ?? 0) + 1;
    return { samples: samples.length, tones };
  }

  function listenByAnalyser(track) {
    source.context ??= new AudioContext();
    const { context } = source;
    void context.resume();
    const analyser = context.createAnalyser();
    analyser.fftSize = 4096;
    analyser.smoothingTimeConstant = 0;
    const levels = new Float32Array(analyser.frequencyBinCount);
    const samples = [];
    let current = null;
    let input = null;
    const timer = setInterval(() => {
      const now = track();
      if (now !== current) {
        input?.disconnect();
        current = now;
        input = now ? context.createMediaStreamSource(new MediaStream([now])) : null;
        input?.connect(analyser);
        return;
      }
      if (!now) return;
      analyser.getFloatFrequencyData(levels);
      let peak = 0;
      for (let i = 1; i < levels.length; i++) if (levels[i] > levels[peak]) peak = i;
      const tone = levels[peak] < -60 ? 'silence' : nearestTone((peak * context.sampleRate) / analyser.fftSize);
      samples.push({ at: performance.now(), tone });
    }, EVERY);
    return { samples: () => samples, stop: () => clearInterval(timer) };
  }

  // Firefox starts no AudioContext on a machine without a sound card. It records and
  // decodes there, though, so the same samples come out of recordings, each of which ends
  // when somebody asks.
  function listenByRecorder(track) {
    const samples = [];
    let recording = null;
    const timer = setInterval(() => {
      const found = track();
      if (found && !recording) recording = record(found);
    }, EVERY / 2);
    const take = async () => {
      const ended = recording;
      recording = null; // the next begins by itself
      if (ended) samples.push(...(await ended()));
      return samples;
    };
    return { samples: take, stop: () => clearInterval(timer) };
  }

  /** Records from now on; returns what ends it and gives its samples. */
  function record(track) {
    const recorder = new MediaRecorder(new MediaStream([track]));
    const parts = [];
    let began = performance.now();
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstart = () => (began = performance.now());
    recorder.start();
    return async () => {
      const stopped = new Promise((resolve) => (recorder.onstop = resolve));
      recorder.stop();
      await stopped;
      const rate = 48_000;
      const offline = new OfflineAudioContext(1, rate, rate);
      const sound = (await offline.decodeAudioData(await new Blob(parts).arrayBuffer())).getChannelData(0);
      const length = (rate * EVERY) / 1000;
      const samples = [];
      for (let start = 0; start + length <= sound.length; start += length) {
        const slice = sound.subarray(start, start + length);
        const powers = self.tones.map((tone) => power(slice, tone / rate));
        const total = slice.reduce((sum, value) => sum + value * value, 0) / length;
        const best = powers.indexOf(Math.max(...powers));
        // The tone has to be most of the sound, or it is another one.
        const tone = total < 1e-6 ? 'silence' : powers[best] > total / 2 ? String(self.tones[best]) : 'other';
        samples.push({ at: began + (start * 1000) / rate, tone });
      }
      return samples;
    };
  }

  /** The mean power of a sine of `cycles` per sample within the sound (Goertzel's algorithm). */
  function power(sound, cycles) {
    const turn = 2 * Math.cos(2 * Math.PI * cycles);
    let [last, before] = [0, 0];
    for (let i = 0; i < sound.length; i++) {
      const next = sound[i] + turn * last - before;
      before = last;
      last = next;
    }
    return (2 * (last * last + before * before - turn * last * before)) / sound.length ** 2;
  }

  // --- The peer connections ----------------------------------------------------------
  const connections = [];
  /** What happened to them, and when by this page's clock. */
  const timeline = [];
  const happened = (what) => timeline.push({ what, at: performance.now() });
  const Native = window.RTCPeerConnection;
  if (Native) {
    window.RTCPeerConnection = class RTCPeerConnection extends Native {
      constructor(...args) {
        super(...args);
        connections.push(this);
        happened('created');
        this.addEventListener('connectionstatechange', () => happened(this.connectionState));
        this.addEventListener('track', ({ track }) => happened(`${track.kind} track`));
      }
    };
  }

  const addressOf = (c) =>
    c && {
      address: c.address ?? c.ip ?? '',
      port: c.port,
      type: c.candidateType,
      protocol: c.protocol,
      relayProtocol: c.relayProtocol,
      url: c.url,
    };

  /** Every open peer connection: its selected path, all candidates, keys and video. */
  async function stats() {
    const all = [];
    for (const connection of connections) {
      if (connection.connectionState === 'closed') continue;
      const report = [...(await connection.getStats()).values()];
      const byId = new Map(report.map((entry) => [entry.id, entry]));
      const transport = report.find((entry) => entry.type === 'transport');
      const pair =
        byId.get(transport?.selectedCandidatePairId) ??
        report.find((entry) => entry.type === 'candidate-pair' && (entry.selected || (entry.nominated && entry.state === 'succeeded')));
      all.push({
        state: connection.connectionState,
        local: addressOf(byId.get(pair?.localCandidateId)),
        remote: addressOf(byId.get(pair?.remoteCandidateId)),
        localCandidates: report.filter((entry) => entry.type === 'local-candidate').map(addressOf),
        remoteCandidates: report.filter((entry) => entry.type === 'remote-candidate').map(addressOf),
        srtpCipher: transport?.srtpCipher,
        dtlsCipher: transport?.dtlsCipher,
        dtlsVersion: transport?.tlsVersion,
        roundTrip: pair?.currentRoundTripTime,
        outbound: report
          .filter((entry) => entry.type === 'outbound-rtp' && entry.kind === 'video')
          .map(({ rid, active, frameWidth, frameHeight, framesPerSecond, framesEncoded, qualityLimitationReason, nackCount, pliCount, firCount }) => ({
            rid, active, frameWidth, frameHeight, framesPerSecond, framesEncoded, qualityLimitationReason, nackCount, pliCount, firCount,
          })),
        inbound: report
          .filter((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video')
          .map(({ frameWidth, frameHeight, framesDecoded, framesDropped, framesReceived, keyFramesDecoded, freezeCount, totalFreezesDuration, packetsReceived, packetsLost, nackCount, pliCount, jitterBufferDelay, jitterBufferEmittedCount }) => ({
            frameWidth, frameHeight, framesDecoded, framesDropped, framesReceived, keyFramesDecoded, freezeCount, totalFreezesDuration, packetsReceived, packetsLost, nackCount, pliCount, jitterBufferDelay, jitterBufferEmittedCount,
          })),
        heard: report
          .filter((entry) => entry.type === 'inbound-rtp' && entry.kind === 'audio')
          .map(({ trackIdentifier, packetsReceived, packetsLost, totalSamplesReceived, concealedSamples, silentConcealedSamples, concealmentEvents, totalAudioEnergy }) => ({
            track: trackIdentifier, packetsReceived, packetsLost, totalSamplesReceived, concealedSamples, silentConcealedSamples, concealmentEvents, totalAudioEnergy,
          })),
      });
    }
    return all;
  }

  window.__e2e = {
    self,
    source: () => ({ counter: source.counter, seconds: (performance.now() - source.since) / 1000, tracks: source.tracks.length }),
    watch,
    seen,
    listen,
    heard,
    timeline,
    stats,
    read,
  };
}
