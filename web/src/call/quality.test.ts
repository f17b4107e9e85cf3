import { beforeEach, describe, expect, test, vi } from "vitest";
import type { CallQuality } from "../wire/contract";
import { systemClock } from "../store";
import { participant } from "../testing";
import type { MediaSample } from "./measured";
import { measureEvery, QualityWatch, WeakWatch } from "./quality";

beforeEach(() => {
  vi.useFakeTimers();
  return () => void vi.useRealTimers();
});

const sample = (): MediaSample => ({ at: Date.now(), up: null, down: null, sent: [], received: [] });
const link = { jitterMs: 0, bitrateBps: 0 };
const answer = (rttMs = 20): CallQuality => ({ me: { quality: "good", rttMs, up: link, down: link }, others: [] });

function watch(sources: { sample?: () => Promise<MediaSample | null>; server?: () => Promise<CallQuality> } = {}) {
  const asked = { sample: vi.fn(sources.sample ?? (() => Promise.resolve(sample()))), server: vi.fn(sources.server ?? (() => Promise.resolve(answer()))) };
  return { asked, watch: new QualityWatch(asked, systemClock) };
}

describe("measuring", () => {
  test("begins with loading, is ready with the second sample, and ends when it's stopped", async () => {
    const { watch: w, asked } = watch();
    const stop = w.start();
    await vi.advanceTimersByTimeAsync(0);
    expect(w.state.value.phase).toBe("loading");
    await vi.advanceTimersByTimeAsync(measureEvery);
    expect(w.state.value).toMatchObject({ phase: "ready", serverMissing: false });
    expect(w.state.value.samples?.[1].at).toBe((w.state.value.samples?.[0].at ?? 0) + measureEvery);
    stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked.sample).toHaveBeenCalledTimes(2);
  });

  test("compares with a moment ten seconds ago at most", async () => {
    const { watch: w } = watch();
    const stop = w.start();
    await vi.advanceTimersByTimeAsync(60_000);
    const [a, b] = w.state.value.samples ?? [];
    expect((b?.at ?? 0) - (a?.at ?? 0)).toBe(10_000);
    stop();
  });

  test("goes on without the server, and without the browser's part", async () => {
    const one = watch({ server: () => Promise.reject(new Error("no")) });
    const stopOne = one.watch.start();
    await vi.advanceTimersByTimeAsync(measureEvery);
    expect(one.watch.state.value).toMatchObject({ phase: "ready", answers: null, serverMissing: true });
    const two = watch({ sample: () => Promise.resolve(null) });
    const stopTwo = two.watch.start();
    await vi.advanceTimersByTimeAsync(0);
    expect(two.watch.state.value).toMatchObject({ phase: "ready", samples: null, serverMissing: false });
    stopOne();
    stopTwo();
  });

  test("has failed when neither tells anything, and comes back by itself", async () => {
    let there = false;
    const { watch: w } = watch({ sample: () => Promise.resolve(there ? sample() : null), server: () => (there ? Promise.resolve(answer()) : Promise.reject(new Error("no"))) });
    const stop = w.start();
    await vi.advanceTimersByTimeAsync(0);
    expect(w.state.value.phase).toBe("failed");
    there = true;
    await vi.advanceTimersByTimeAsync(2 * measureEvery);
    expect(w.state.value.phase).toBe("ready");
    stop();
  });

  test("what comes after a stop changes nothing", async () => {
    let resolve: (answer: CallQuality) => void = () => {};
    const { watch: w } = watch({ server: () => new Promise((r) => (resolve = r)) });
    const stop = w.start();
    stop();
    resolve(answer());
    await vi.advanceTimersByTimeAsync(measureEvery);
    expect(w.state.value.phase).toBe("loading");
    const again = w.start();
    resolve(answer());
    await vi.advanceTimersByTimeAsync(0);
    again();
  });
});

describe("a weak connection", () => {
  const people = (mine: "good" | "fair" | "poor" | "lost", bens: "good" | "fair" | "poor" | "lost" = "good") => [
    participant("ana", { self: true, quality: mine }),
    participant("ben", { quality: bens }),
  ];

  test("is said after five seconds, ours before another's, and taken back after five good ones", () => {
    const w = new WeakWatch(systemClock);
    w.heard(people("good", "poor"));
    vi.advanceTimersByTime(4999);
    expect(w.weak.value).toBeNull();
    vi.advanceTimersByTime(1);
    expect(w.weak.value).toBe("ben");
    w.heard(people("poor", "lost"));
    vi.advanceTimersByTime(5000);
    expect(w.weak.value).toBe("ana");
    w.heard(people("good"));
    vi.advanceTimersByTime(4999);
    expect(w.weak.value).toBe("ana");
    vi.advanceTimersByTime(1);
    expect(w.weak.value).toBeNull();
  });

  test("isn't said of a short spell, nor of a fair one, nor after the end", () => {
    const w = new WeakWatch(systemClock);
    w.heard(people("poor"));
    vi.advanceTimersByTime(3000);
    w.heard(people("fair", "fair"));
    vi.advanceTimersByTime(60_000);
    expect(w.weak.value).toBeNull();
    w.heard(people("poor"));
    w.stop();
    vi.advanceTimersByTime(60_000);
    expect(w.weak.value).toBeNull();
  });
});
