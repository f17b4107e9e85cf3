/** Watches how good a call is: what is measured while somebody looks, and whose connection has been weak for a while. */
import type { CallQuality } from "../wire/contract";
import { Store, type Clock } from "../store";
import type { MediaSample } from "./measured";
import type { Participant } from "./room";

/** How often is measured, and over how long figures are taken, in ms. */
export const measureEvery = 2000;
const measureOver = 10_000;

export interface Watched {
  /** "loading" until there are two samples; "failed" when neither the browser nor the server tells anything. */
  phase: "loading" | "ready" | "failed";
  samples: readonly [MediaSample, MediaSample] | null;
  answers: readonly [CallQuality, CallQuality] | null;
  /** The server doesn't answer: the figures are the browser's alone. */
  serverMissing: boolean;
}

export interface QualitySources {
  /** null: there is no connection to measure. */
  sample: () => Promise<MediaSample | null>;
  server: () => Promise<CallQuality>;
}

const loading: Watched = { phase: "loading", samples: null, answers: null, serverMissing: false };

export class QualityWatch {
  readonly state = new Store<Watched>(loading);
  readonly #sources: QualitySources;
  readonly #clock: Clock;
  #samples: MediaSample[] = [];
  #answers: { at: number; answer: CallQuality }[] = [];
  #running = 0;
  #cancel: () => void = () => {};

  constructor(sources: QualitySources, clock: Clock) {
    this.#sources = sources;
    this.#clock = clock;
  }

  /** Measures until the returned function is called; again from the beginning when it was stopped before. */
  readonly start = (): (() => void) => {
    const run = ++this.#running;
    this.#cancel();
    this.#samples = [];
    this.#answers = [];
    this.state.set(loading);
    void this.#measure(run);
    return () => {
      if (this.#running !== run) return;
      this.#running++;
      this.#cancel();
    };
  };

  async #measure(run: number): Promise<void> {
    const [sample, answer] = await Promise.allSettled([this.#sources.sample(), this.#sources.server()]);
    if (run !== this.#running) return;
    const now = this.#clock.now();
    if (sample.status === "fulfilled" && sample.value) this.#samples.push(sample.value);
    if (answer.status === "fulfilled") this.#answers.push({ at: now, answer: answer.value });
    this.#samples = this.#samples.filter((s) => now - s.at <= measureOver);
    this.#answers = this.#answers.filter((a) => now - a.at <= measureOver);
    this.#show(answer.status === "rejected", sample.status === "rejected" || sample.value === null);
    this.#cancel = this.#clock.after(measureEvery, () => void this.#measure(run));
  }

  #show(serverMissing: boolean, browserMissing: boolean): void {
    const samples = ends(this.#samples);
    const answers = ends(this.#answers);
    const first = this.#answers[0];
    // The server measures by itself: its first answer says something already, once the browser has nothing to add.
    const alone = browserMissing && first ? ([first.answer, first.answer] as const) : null;
    const told = answers ? ([answers[0].answer, answers[1].answer] as const) : samples && first ? ([first.answer, first.answer] as const) : alone;
    if (samples || told) this.state.set({ phase: "ready", samples, answers: told, serverMissing });
    else this.state.set({ ...loading, phase: serverMissing && browserMissing ? "failed" : "loading", serverMissing });
  }
}

/** The oldest and the newest of a list of two or more. */
function ends<T>(list: readonly T[]): readonly [T, T] | null {
  const [first] = list;
  const last = list.at(-1);
  return first !== undefined && last !== undefined && list.length > 1 ? [first, last] : null;
}

/** For how long a connection must be weak before it's said, and well again before that is taken back, in ms. */
export const weakFor = 5000;

/** Says whose connection has been weak for a while: ours before anybody else's. */
export class WeakWatch {
  /** An identity. */
  readonly weak = new Store<string | null>(null);
  readonly #clock: Clock;
  #seen: string | null = null;
  #cancel: () => void = () => {};

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  heard(participants: readonly Pick<Participant, "identity" | "self" | "quality">[]): void {
    const bad = participants.filter((p) => p.quality === "poor" || p.quality === "lost");
    const seen = (bad.find((p) => p.self) ?? bad[0])?.identity ?? null;
    if (seen === this.#seen) return;
    this.#seen = seen;
    this.#cancel();
    if (seen !== this.weak.value) this.#cancel = this.#clock.after(weakFor, () => this.weak.set(seen));
  }

  stop(): void {
    this.#cancel();
  }
}
