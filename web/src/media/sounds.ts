/**
 * The sounds of the app, made with WebAudio: a ring, a ringback, a second call's knock, joining, leaving, hanging up.
 * A browser plays nothing before the first click or key; until then the ring is silent, and starts once it may.
 */

export type Loop = "ring" | "ringback" | "knock";
export type Chime = "join" | "leave" | "hangup" | "connected";

/** One struck note: when (s), pitch (Hz), loudness (0–1), how long it rings (s). */
type Note = readonly [at: number, pitch: number, gain: number, length: number];

// A pentatonic figure over E: bright enough for a phone's speaker, without an edge when it repeats.
const E4 = 329.63, B4 = 493.88, D5 = 587.33, E5 = 659.25, FS5 = 739.99, A5 = 880, B5 = 987.77, D6 = 1174.66;

const loops: Record<Loop, { period: number; notes: readonly Note[] }> = {
  ring: {
    period: 3.2,
    notes: [
      [0, E5, 0.5, 0.9], [0.16, B5, 0.42, 0.9], [0.32, A5, 0.4, 0.9], [0.48, FS5, 0.4, 1],
      [0.8, E5, 0.5, 0.9], [0.96, B5, 0.42, 0.9], [1.12, D6, 0.4, 1], [1.28, B5, 0.36, 1.4],
      [0, E4, 0.22, 1.4], [0.8, E4, 0.22, 1.8],
    ],
  },
  ringback: {
    period: 3.6,
    notes: [[0, B4, 0.2, 1.1], [0.02, E4, 0.16, 1.2], [0.42, B4, 0.16, 1.3], [0.44, E4, 0.12, 1.3]],
  },
  knock: { period: 4, notes: [[0, A5, 0.18, 0.25], [0.18, A5, 0.18, 0.35]] },
};

const chimes: Record<Chime, readonly Note[]> = {
  join: [[0, E5, 0.22, 0.5], [0.11, B5, 0.2, 0.7]],
  connected: [[0, B4, 0.2, 0.4], [0.1, E5, 0.2, 0.7]],
  leave: [[0, B5, 0.16, 0.4], [0.11, E5, 0.16, 0.6]],
  hangup: [[0, D5, 0.22, 0.3], [0.12, B4, 0.2, 0.35], [0.24, E4, 0.2, 0.6]],
};

export class Sounds {
  #context: AudioContext | null = null;
  #out: GainNode | null = null;
  #loop: { name: Loop; bus: GainNode; timer: ReturnType<typeof setInterval> } | null = null;
  #wanted: Loop | null = null;
  readonly #enabled: () => boolean;

  constructor(enabled: () => boolean) {
    this.#enabled = enabled;
  }

  /** Lets sound begin with the first click or key; returns what takes the listeners away. */
  unlockOn(target: EventTarget): () => void {
    const unlock = (): void => {
      const context = this.#open();
      if (context?.state === "suspended") void context.resume().then(() => this.loop(this.#wanted));
    };
    for (const type of ["pointerdown", "keydown", "touchend"]) target.addEventListener(type, unlock, { passive: true });
    return () => {
      for (const type of ["pointerdown", "keydown", "touchend"]) target.removeEventListener(type, unlock);
    };
  }

  /** Plays one loop until another one, or null, is asked for. */
  loop(name: Loop | null): void {
    this.#wanted = name;
    const want = this.#enabled() ? name : null;
    if (this.#loop?.name === want) return;
    this.#stop();
    if (!want) return;
    const context = this.#open();
    if (!context || context.state === "closed" || !this.#out) return;
    if (context.state === "suspended") void context.resume().catch(() => {});
    const { period, notes } = loops[want];
    const bus = context.createGain();
    bus.connect(this.#out);
    const round = (): void => {
      if (context.state === "running") this.#strike(context, bus, notes);
    };
    round();
    this.#loop = { name: want, bus, timer: setInterval(round, period * 1000) };
  }

  play(name: Chime): void {
    if (!this.#enabled()) return;
    const context = this.#open();
    if (context?.state === "running" && this.#out) this.#strike(context, this.#out, chimes[name]);
  }

  #stop(): void {
    if (!this.#loop || !this.#context) return;
    const { bus, timer } = this.#loop;
    this.#loop = null;
    clearInterval(timer);
    const { currentTime } = this.#context;
    bus.gain.setValueAtTime(1, currentTime);
    bus.gain.linearRampToValueAtTime(0, currentTime + 0.06);
    setTimeout(() => bus.disconnect(), 120);
  }

  #open(): AudioContext | null {
    if (this.#context) return this.#context;
    if (typeof AudioContext === "undefined") return null;
    const context = new AudioContext({ latencyHint: "interactive" });
    const limiter = context.createDynamicsCompressor();
    this.#out = context.createGain();
    this.#out.gain.value = 0.6;
    this.#out.connect(limiter).connect(context.destination);
    this.#context = context;
    return context;
  }

  /** A soft mallet: a sine, its octave and a quiet twelfth, struck fast and ringing out. */
  #strike(context: AudioContext, to: AudioNode, notes: readonly Note[]): void {
    const start = context.currentTime + 0.02;
    for (const [at, pitch, gain, length] of notes) {
      for (const [partial, share, decay] of [[1, 1, 1], [2, 0.22, 0.6], [3, 0.07, 0.35]] as const) {
        const oscillator = context.createOscillator();
        const envelope = context.createGain();
        oscillator.frequency.value = pitch * partial;
        const t = start + at;
        envelope.gain.setValueAtTime(0, t);
        envelope.gain.linearRampToValueAtTime(gain * share, t + 0.006);
        envelope.gain.exponentialRampToValueAtTime(0.0001, t + length * decay);
        oscillator.connect(envelope).connect(to);
        oscillator.start(t);
        oscillator.stop(t + length * decay + 0.02);
      }
    }
  }
}
