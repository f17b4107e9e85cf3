/**
 * What is known of the connections of a call, from two sources: the browser's own counters, of which two moments are
 * compared, and what the server measured. Pure. Milliseconds, bits per second, shares from 0 to 1; null is unknown.
 */
import type { CallQuality, LinkQuality, TrackQuality } from "../wire/contract";
import type { Participant } from "./room";

/** How packets travel: straight to the server over UDP or TCP, or through a relay that is reached over UDP, TCP or TLS. */
export type Path = "direct" | "tcp" | "relay" | "relay-tcp";

export type Network = "wifi" | "cellular" | "wired" | null;

/** The browser's counters at one moment; they only grow, but for what is called a state. */
export interface MediaSample {
  at: number;
  /** The peer connection that sends, and the one that receives; the same one where there is only one. */
  up: PathSample | null;
  down: PathSample | null;
  sent: SentSample[];
  received: ReceivedSample[];
}

/** A state. */
export interface PathSample {
  path: Path;
  network: Network;
  rttMs: number | null;
  /** What the browser thinks that it can send. */
  availableBps: number | null;
}

export type Medium = "microphone" | "camera" | "screen";

export interface SentSample {
  medium: Medium;
  bytes: number;
  packets: number;
  /** As the server reports it, with round trip and jitter, which are states. */
  lost: number | null;
  rttMs: number | null;
  jitterMs: number | null;
  /** States: of the largest layer that is sent. */
  width: number | null;
  height: number | null;
  fps: number | null;
  /** For how long the processor, or the connection, kept the picture below what it could be. */
  cpuLimitedMs: number;
  bandwidthLimitedMs: number;
}

export interface ReceivedSample {
  identity: string;
  medium: Medium;
  bytes: number;
  packets: number;
  lost: number;
  /** States. */
  jitterMs: number | null;
  width: number | null;
  height: number | null;
  fps: number | null;
  framesReceived: number;
  framesDecoded: number;
  framesDropped: number;
  decodeMs: number;
  freezes: number;
  frozenMs: number;
}

export interface Link {
  loss: number | null;
  jitterMs: number | null;
  bitrateBps: number | null;
  /** What the way is thought to take. */
  availableBps: number | null;
  path: Path | null;
}

export interface Picture {
  width: number | null;
  height: number | null;
  fps: number | null;
  bitrateBps: number | null;
}

export interface Sending extends Picture {
  /** The share of the time in which the processor, or the connection, was the limit. */
  cpuLimited: number;
  bandwidthLimited: number;
}

export interface Receiving extends Picture {
  /** Freezes as seen here, and as the server saw them before it sent the picture on. */
  freezes: number;
  frozenShare: number;
  serverFreezes: number;
  /** The share of pictures that came and were never shown; and of the time that decoding took, 1 for all there is. */
  dropped: number;
  decoding: number;
  paused: boolean;
  /** 0 low, 1 medium, 2 high, -1 nothing. */
  layer: number;
  wanted: number;
  why: NonNullable<TrackQuality["why"]> | "";
}

export interface Other {
  identity: string;
  quality: Participant["quality"];
  /** From them to the server. */
  up: Link;
  /** Between them and the server. */
  rttMs: number | null;
  /** On the whole way from them to us. */
  loss: number | null;
  jitterMs: number | null;
  bitrateBps: number | null;
  camera: Receiving | null;
  screen: Receiving | null;
}

export interface Measured {
  /** How long the browser's counters were watched, which shares of the time are of; 0 without them. */
  seconds: number;
  quality: Participant["quality"];
  rttMs: number | null;
  network: Network;
  up: Link;
  down: Link;
  camera: Sending | null;
  screen: Sending | null;
  others: Other[];
}

/** Below this many packets a share of them means nothing; as on the server. */
const fewPackets = 10;

/** Who is in the room, as the screen knows it. */
export type Seen = Pick<Participant, "identity" | "self" | "quality">;

/** Compares two samples, the older one first, with what the server measured at about the same two moments. Either source may be missing. */
export function measure(
  people: readonly Seen[],
  samples: readonly [MediaSample, MediaSample] | null,
  answers: readonly [CallQuality, CallQuality] | null,
): Measured {
  const before = samples?.[0] ?? null;
  const now = samples?.[1] ?? null;
  const server = answers?.[1] ?? null;
  const seconds = before && now ? Math.max(0, now.at - before.at) / 1000 : 0;
  const sent = pairs(before?.sent ?? [], now?.sent ?? [], (s) => s.medium);
  const received = pairs(before?.received ?? [], now?.received ?? [], (r) => `${r.identity} ${r.medium}`);
  const up = now?.up ?? null;
  const down = now?.down ?? null;
  const lostUp = sum(sent.map(([a, b]) => growth(a.lost ?? 0, b.lost ?? 0)));
  const packetsUp = sum(sent.map(([a, b]) => growth(a.packets, b.packets)));
  const lostDown = sum(received.map(([a, b]) => growth(a.lost, b.lost)));
  const packetsDown = sum(received.map(([a, b]) => growth(a.packets, b.packets)));
  const reported = now?.sent.some((s) => s.lost !== null) ?? false;
  return {
    seconds,
    quality: people.find((p) => p.self)?.quality ?? "unknown",
    rttMs: up?.rttMs ?? down?.rttMs ?? known(server?.me.rttMs),
    network: up?.network ?? down?.network ?? null,
    up: {
      loss: server?.me.up.loss ?? (reported ? share(lostUp, packetsUp) : null),
      jitterMs: known(server?.me.up.jitterMs) ?? largest(now?.sent.filter((s) => s.medium === "microphone").map((s) => s.jitterMs)),
      bitrateBps: rate(sum(sent.map(([a, b]) => growth(a.bytes, b.bytes))), seconds) ?? known(server?.me.up.bitrateBps),
      availableBps: up?.availableBps ?? null,
      path: up?.path ?? pathOf(server?.me.up),
    },
    down: {
      loss: server?.me.down.loss ?? share(lostDown, packetsDown + lostDown),
      jitterMs: known(server?.me.down.jitterMs) ?? largest(now?.received.filter((r) => r.medium === "microphone").map((r) => r.jitterMs)),
      bitrateBps: rate(sum(received.map(([a, b]) => growth(a.bytes, b.bytes))), seconds) ?? known(server?.me.down.bitrateBps),
      availableBps: known(server?.me.down.estimateBps),
      path: down?.path ?? pathOf(server?.me.down),
    },
    camera: sending(sent.find(([, b]) => b.medium === "camera"), seconds),
    screen: sending(sent.find(([, b]) => b.medium === "screen"), seconds),
    others: people.filter((p) => !p.self).map((p) => other(p, received, answers, seconds)),
  };
}

function other(person: Seen, received: readonly (readonly [ReceivedSample, ReceivedSample])[], answers: readonly [CallQuality, CallQuality] | null, seconds: number): Other {
  const mine = received.filter(([, b]) => b.identity === person.identity);
  const then = answers?.[0].others.find((o) => o.identity === person.identity);
  const told = answers?.[1].others.find((o) => o.identity === person.identity);
  const lost = sum(mine.map(([a, b]) => growth(a.lost, b.lost)));
  const packets = sum(mine.map(([a, b]) => growth(a.packets, b.packets)));
  const video = (medium: "camera" | "screen"): Receiving | null => {
    const pair = mine.find(([, b]) => b.medium === medium);
    const source = medium === "camera" ? "camera" : "screen_share";
    return receiving(pair, told?.tracks.find((t) => t.source === source), then?.tracks.find((t) => t.source === source), seconds);
  };
  return {
    identity: person.identity,
    quality: person.quality,
    up: {
      loss: told?.up.loss ?? null,
      jitterMs: known(told?.up.jitterMs),
      bitrateBps: known(told?.up.bitrateBps),
      availableBps: null,
      path: null,
    },
    rttMs: known(told?.rttMs),
    loss: share(lost, packets + lost),
    jitterMs: largest(mine.filter(([, b]) => b.medium === "microphone").map(([, b]) => b.jitterMs)),
    bitrateBps: rate(sum(mine.map(([a, b]) => growth(a.bytes, b.bytes))), seconds),
    camera: video("camera"),
    screen: video("screen"),
  };
}

function sending(pair: readonly [SentSample, SentSample] | undefined, seconds: number): Sending | null {
  if (!pair) return null;
  const [a, b] = pair;
  const part = (ms: number): number => (seconds > 0 ? Math.min(1, ms / 1000 / seconds) : 0);
  return {
    width: b.width,
    height: b.height,
    fps: b.fps,
    bitrateBps: rate(growth(a.bytes, b.bytes), seconds),
    cpuLimited: part(growth(a.cpuLimitedMs, b.cpuLimitedMs)),
    bandwidthLimited: part(growth(a.bandwidthLimitedMs, b.bandwidthLimitedMs)),
  };
}

function receiving(pair: readonly [ReceivedSample, ReceivedSample] | undefined, track: TrackQuality | undefined, before: TrackQuality | undefined, seconds: number): Receiving | null {
  if (track?.muted || (!pair && !track)) return null;
  const [a, b] = pair ?? [null, null];
  const frames = a && b ? growth(a.framesReceived, b.framesReceived) : 0;
  const ms = seconds * 1000;
  return {
    width: b?.width ?? known(track?.width),
    height: b?.height ?? known(track?.height),
    fps: b?.fps ?? known(track?.fps),
    bitrateBps: a && b ? rate(growth(a.bytes, b.bytes), seconds) : known(track?.bitrateBps),
    freezes: a && b ? growth(a.freezes, b.freezes) : 0,
    frozenShare: a && b && ms > 0 ? Math.min(1, growth(a.frozenMs, b.frozenMs) / ms) : 0,
    serverFreezes: track && before && track.id === before.id ? growth(before.freezes, track.freezes) : 0,
    dropped: a && b && frames >= fewPackets ? Math.min(1, growth(a.framesDropped, b.framesDropped) / frames) : 0,
    decoding: a && b && ms > 0 ? growth(a.decodeMs, b.decodeMs) / ms : 0,
    paused: track?.paused ?? false,
    layer: track?.layer ?? -1,
    wanted: track?.wanted ?? -1,
    why: track?.why ?? "",
  };
}

/** What is in both lists. */
function pairs<T>(before: readonly T[], now: readonly T[], key: (item: T) => string): (readonly [T, T])[] {
  const old = new Map(before.map((item) => [key(item), item]));
  return now.flatMap((item) => {
    const then = old.get(key(item));
    return then === undefined ? [] : [[then, item] as const];
  });
}

/** A counter that is lower than before has begun anew. */
const growth = (before: number, now: number): number => Math.max(0, now - before);
const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);
const share = (part: number, all: number): number | null => (all >= fewPackets ? Math.min(1, part / all) : null);
const rate = (bytes: number, seconds: number): number | null => (seconds > 0 ? (bytes * 8) / seconds : null);
/** The server says 0 for what it doesn't know. */
const known = (value: number | undefined): number | null => (value === undefined || value === 0 ? null : value);

function largest(list: readonly (number | null)[] | undefined): number | null {
  const numbers = (list ?? []).filter((n) => n !== null);
  return numbers.length > 0 ? Math.max(...numbers) : null;
}

function pathOf(link: LinkQuality | undefined): Path | null {
  return link?.path === undefined ? null : link.path === "udp" ? "direct" : link.path;
}
