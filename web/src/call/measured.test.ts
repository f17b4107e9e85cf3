import { describe, expect, test } from "vitest";
import type { CallQuality, LinkQuality, TrackQuality } from "../wire/contract";
import { measure, type MediaSample, type ReceivedSample, type SentSample } from "./measured";

const people = [
  { identity: "me", self: true, quality: "good" as const },
  { identity: "ben", self: false, quality: "poor" as const },
];
const sent = (change: Partial<SentSample> = {}): SentSample => ({
  medium: "camera", bytes: 0, packets: 0, lost: 0, rttMs: 40, jitterMs: 3, width: 1280, height: 720, fps: 30, cpuLimitedMs: 0, bandwidthLimitedMs: 0, ...change,
});
const got = (change: Partial<ReceivedSample> = {}): ReceivedSample => ({
  identity: "ben", medium: "camera", bytes: 0, packets: 0, lost: 0, jitterMs: 5, width: 640, height: 360, fps: 24,
  framesReceived: 0, framesDecoded: 0, framesDropped: 0, decodeMs: 0, freezes: 0, frozenMs: 0, ...change,
});
const sample = (at: number, change: Partial<MediaSample> = {}): MediaSample => ({
  at, up: { path: "direct", network: "wifi", rttMs: 40, availableBps: 2_000_000 }, down: { path: "relay", network: null, rttMs: 44, availableBps: null }, sent: [], received: [], ...change,
});
const link = (change: Partial<LinkQuality> = {}): LinkQuality => ({ jitterMs: 0, bitrateBps: 0, ...change });
const track = (change: Partial<TrackQuality> = {}): TrackQuality => ({
  id: "TR_1", source: "camera", muted: false, paused: false, layer: 1, wanted: 2, jitterMs: 0, bitrateBps: 300_000, fps: 20, freezes: 0, frozenMs: 0, ...change,
});
const answer = (up: Partial<LinkQuality> = {}, tracks: TrackQuality[] = [], me: Partial<LinkQuality> = {}): CallQuality => ({
  me: { quality: "good", rttMs: 0, up: link(me), down: link(me) },
  others: [{ identity: "ben", quality: "poor", rttMs: 90, up: link(up), tracks }],
});

describe("two samples of the browser", () => {
  const before = sample(0, { sent: [sent({ bytes: 1000, packets: 100, lost: 5 })], received: [got({ bytes: 5000, packets: 1000, lost: 10, decodeMs: 100, freezes: 1 })] });
  const now = sample(2000, {
    sent: [sent({ bytes: 251_000, packets: 300, lost: 25, cpuLimitedMs: 1500, bandwidthLimitedMs: 500 })],
    received: [got({ bytes: 130_000, packets: 1180, lost: 30, framesReceived: 50, framesDropped: 10, decodeMs: 1900, freezes: 3, frozenMs: 600 })],
  });
  const m = measure(people, [before, now], null);

  test("give rates and shares of what was in between", () => {
    expect(m.up).toEqual({ loss: 0.1, jitterMs: null, bitrateBps: 1_000_000, availableBps: 2_000_000, path: "direct" });
    expect(m.down).toMatchObject({ loss: 0.1, bitrateBps: 500_000, path: "relay" });
    expect(m.camera).toMatchObject({ width: 1280, cpuLimited: 0.75, bandwidthLimited: 0.25, bitrateBps: 1_000_000 });
    expect(m).toMatchObject({ seconds: 2, rttMs: 40, network: "wifi", quality: "good", screen: null });
    expect(m.others[0]).toMatchObject({ identity: "ben", quality: "poor", loss: 0.1, up: { loss: null }, rttMs: null });
    expect(m.others[0]?.camera).toMatchObject({ freezes: 2, frozenShare: 0.3, dropped: 0.2, decoding: 0.9, serverFreezes: 0, width: 640, why: "" });
  });

  test("a track that is new, or whose counters began anew, counts for nothing", () => {
    const fresh = measure(people, [sample(0), now], null);
    expect(fresh.camera).toBeNull();
    expect(fresh.up.loss).toBeNull();
    const again = measure(people, [now, sample(4000, { sent: [sent({ bytes: 10, packets: 1, lost: 0 })] })], null);
    expect(again.up).toMatchObject({ loss: null, bitrateBps: 0 });
  });
});

describe("the server's answer", () => {
  test("goes before the browser's reckoning of loss, and is all there is of others", () => {
    const m = measure(people, [sample(0), sample(2000)], [answer(), answer({ loss: 0.08, jitterMs: 12 }, [], { loss: 0.04 })]);
    expect(m.up.loss).toBe(0.04);
    expect(m.others[0]).toMatchObject({ up: { loss: 0.08, jitterMs: 12 }, rttMs: 90 });
  });

  test("stands alone where the browser tells nothing", () => {
    const told = answer({}, [track({ why: "bandwidth" })], { loss: 0.05, path: "udp", estimateBps: 400_000 });
    const m = measure(people, null, [told, told]);
    expect(m).toMatchObject({ rttMs: null, camera: null, up: { loss: 0.05, path: "direct" }, down: { availableBps: 400_000 } });
    expect(m.others[0]?.camera).toMatchObject({ fps: 20, bitrateBps: 300_000, layer: 1, wanted: 2, why: "bandwidth" });
  });

  test("counts its freezes between two answers, of the same track", () => {
    const freezes = (a: TrackQuality, b: TrackQuality) => measure(people, null, [answer({}, [a]), answer({}, [b])]).others[0]?.camera?.serverFreezes;
    expect(freezes(track({ freezes: 2 }), track({ freezes: 5 }))).toBe(3);
    expect(freezes(track({ freezes: 2 }), track({ id: "TR_2", freezes: 5 }))).toBe(0);
  });

  test("says that a camera is off: then no picture is missing", () => {
    expect(measure(people, null, [answer({}, [track({ muted: true })]), answer({}, [track({ muted: true })])]).others[0]?.camera).toBeNull();
  });
});

test("nothing at all", () => {
  const m = measure([], null, null);
  expect(m).toMatchObject({ quality: "unknown", rttMs: null, others: [], up: { loss: null, path: null } });
});
