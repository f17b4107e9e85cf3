/** Reads getStats into the figures of a call. The identifiers are those of W3C's "Identifiers for WebRTC's Statistics API". */
import type { MediaSample, Medium, Network, Path, PathSample, ReceivedSample, SentSample } from "../call/measured";

/** One entry of an RTCStatsReport; browsers leave fields out. */
type Entry = Record<string, unknown> & { id: string; type: string };

export interface TrackReport {
  /** Whose track it is; null for our own. */
  identity: string | null;
  medium: Medium;
  report: RTCStatsReport | undefined;
}

/** The tracks' reports as one sample; null when none tells of a connection. */
export function sampleOf(reports: readonly TrackReport[], at: number): MediaSample | null {
  const sample: MediaSample = { at, up: null, down: null, sent: [], received: [] };
  for (const { identity, medium, report } of reports) {
    if (!report) continue;
    const entries = [...report.values()] as Entry[];
    if (identity === null) {
      sample.up ??= pathOf(entries);
      const sent = sentOf(entries, medium);
      if (sent) sample.sent.push(sent);
    } else {
      sample.down ??= pathOf(entries);
      const received = receivedOf(entries, identity, medium);
      if (received) sample.received.push(received);
    }
  }
  return sample.up || sample.down || sample.sent.length + sample.received.length > 0 ? sample : null;
}

function sentOf(entries: readonly Entry[], medium: Medium): SentSample | null {
  const streams = entries.filter((e) => e.type === "outbound-rtp");
  const [first] = streams;
  if (!first) return null;
  const reported = entries.filter((e) => e.type === "remote-inbound-rtp");
  // Of simulcast layers, the largest that is sent says what the picture is like.
  const top = streams.filter((s) => s.active !== false).reduce((a, b) => (number(b.frameHeight) > number(a.frameHeight) ? b : a), first);
  const limited = (why: "cpu" | "bandwidth"): number =>
    Math.max(...streams.map((s) => number((s.qualityLimitationDurations as Record<string, unknown> | undefined)?.[why]) * 1000));
  return {
    medium,
    bytes: total(streams, "bytesSent") + total(streams, "headerBytesSent"),
    packets: total(streams, "packetsSent"),
    lost: reported.length > 0 ? total(reported, "packetsLost") : null,
    rttMs: ms(reported.map((r) => r.roundTripTime)),
    jitterMs: ms(reported.map((r) => r.jitter)),
    width: known(top.frameWidth),
    height: known(top.frameHeight),
    fps: known(top.framesPerSecond),
    cpuLimitedMs: limited("cpu"),
    bandwidthLimitedMs: limited("bandwidth"),
  };
}

function receivedOf(entries: readonly Entry[], identity: string, medium: Medium): ReceivedSample | null {
  const stream = entries.find((e) => e.type === "inbound-rtp");
  if (!stream) return null;
  return {
    identity,
    medium,
    bytes: number(stream.bytesReceived) + number(stream.headerBytesReceived),
    packets: number(stream.packetsReceived),
    lost: Math.max(0, number(stream.packetsLost)),
    jitterMs: ms([stream.jitter]),
    width: known(stream.frameWidth),
    height: known(stream.frameHeight),
    fps: known(stream.framesPerSecond),
    framesReceived: number(stream.framesReceived),
    framesDecoded: number(stream.framesDecoded),
    framesDropped: number(stream.framesDropped),
    decodeMs: number(stream.totalDecodeTime) * 1000,
    freezes: number(stream.freezeCount),
    frozenMs: number(stream.totalFreezesDuration) * 1000,
  };
}

/** How the peer connection behind a report is connected. */
function pathOf(entries: readonly Entry[]): PathSample | null {
  const byId = new Map(entries.map((e) => [e.id, e]));
  const transport = entries.find((e) => e.type === "transport");
  // Firefox has no transport; it marks the pair.
  const pair =
    byId.get(text(transport?.selectedCandidatePairId)) ?? entries.find((e) => e.type === "candidate-pair" && (e.selected === true || (e.nominated === true && e.state === "succeeded")));
  if (!pair) return null;
  const local = byId.get(text(pair.localCandidateId));
  const rtt = known(pair.currentRoundTripTime);
  return {
    path: candidatePath(local),
    network: networkOf(text(local?.networkType)),
    rttMs: rtt === null ? null : rtt * 1000,
    availableBps: known(pair.availableOutgoingBitrate),
  };
}

function candidatePath(local: Entry | undefined): Path {
  const tcp = text(local?.protocol) === "tcp";
  if (text(local?.candidateType) !== "relay") return tcp ? "tcp" : "direct";
  const over = text(local?.relayProtocol);
  return over === "tcp" || over === "tls" ? "relay-tcp" : "relay";
}

/** Chromium's networkType, which says nothing of host candidates whose address it hides. */
function networkOf(type: string): Network {
  switch (type) {
    case "wifi":
    case "cellular":
      return type;
    case "ethernet":
      return "wired";
    default:
      return null;
  }
}

const number = (value: unknown): number => (typeof value === "number" && Number.isFinite(value) ? value : 0);
const known = (value: unknown): number | null => (typeof value === "number" && Number.isFinite(value) && value > 0 ? value : null);
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const total = (list: readonly Entry[], field: string): number => list.reduce((sum, e) => sum + Math.max(0, number(e[field])), 0);

/** The largest of some seconds, in milliseconds. */
function ms(seconds: readonly unknown[]): number | null {
  const list = seconds.map(known).filter((s) => s !== null);
  return list.length > 0 ? Math.max(...list) * 1000 : null;
}
