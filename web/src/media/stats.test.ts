import { expect, test } from "vitest";
import { sampleOf } from "./stats";

const report = (...entries: Record<string, unknown>[]): RTCStatsReport => new Map(entries.map((e) => [String(e.id), e]));

const path = [
  { id: "T", type: "transport", selectedCandidatePairId: "P" },
  { id: "P", type: "candidate-pair", localCandidateId: "L", currentRoundTripTime: 0.042, availableOutgoingBitrate: 900_000 },
  { id: "other", type: "candidate-pair", localCandidateId: "X", nominated: true, state: "succeeded" },
];

test("simulcast layers add up, and the largest that is sent says what the picture is like", () => {
  const sample = sampleOf(
    [
      {
        identity: null,
        medium: "camera",
        report: report(
          ...path,
          { id: "L", type: "local-candidate", candidateType: "host", protocol: "udp", networkType: "wifi" },
          { id: "q", type: "outbound-rtp", bytesSent: 100, headerBytesSent: 10, packetsSent: 5, frameHeight: 180, frameWidth: 320, framesPerSecond: 15, qualityLimitationDurations: { cpu: 1, bandwidth: 0.5 } },
          { id: "h", type: "outbound-rtp", bytesSent: 300, headerBytesSent: 20, packetsSent: 9, frameHeight: 360, frameWidth: 640, framesPerSecond: 30, qualityLimitationDurations: { cpu: 2, bandwidth: 0 } },
          { id: "f", type: "outbound-rtp", active: false, frameHeight: 720, frameWidth: 1280 },
          { id: "r1", type: "remote-inbound-rtp", packetsLost: 2, roundTripTime: 0.05, jitter: 0.004 },
          { id: "r2", type: "remote-inbound-rtp", packetsLost: -1, roundTripTime: 0.03 },
        ),
      },
    ],
    77,
  );
  expect(sample).toEqual({
    at: 77,
    up: { path: "direct", network: "wifi", rttMs: 42, availableBps: 900_000 },
    down: null,
    sent: [{ medium: "camera", bytes: 430, packets: 14, lost: 2, rttMs: 50, jitterMs: 4, width: 640, height: 360, fps: 30, cpuLimitedMs: 2000, bandwidthLimitedMs: 500 }],
    received: [],
  });
});

test.each([
  [{ candidateType: "host", protocol: "udp" }, "direct"],
  [{ candidateType: "prflx", protocol: "udp" }, "direct"],
  [{ candidateType: "host", protocol: "tcp" }, "tcp"],
  [{ candidateType: "relay", protocol: "udp", relayProtocol: "udp" }, "relay"],
  [{ candidateType: "relay", protocol: "udp", relayProtocol: "tcp" }, "relay-tcp"],
  [{ candidateType: "relay", protocol: "udp", relayProtocol: "tls" }, "relay-tcp"],
])("the path of %o is %s", (candidate, expected) => {
  const received = report(...path, { id: "L", type: "local-candidate", ...candidate }, { id: "i", type: "inbound-rtp", packetsReceived: 4, packetsLost: -2, totalDecodeTime: 0.5, jitter: 0.01 });
  const sample = sampleOf([{ identity: "ben", medium: "camera", report: received }], 0);
  expect(sample?.down?.path).toBe(expected);
  expect(sample?.received).toMatchObject([{ identity: "ben", packets: 4, lost: 0, decodeMs: 500, jitterMs: 10, width: null, freezes: 0 }]);
});

test("Firefox names no transport: the selected pair counts", () => {
  const sample = sampleOf(
    [{ identity: "ben", medium: "microphone", report: report({ id: "P", type: "candidate-pair", selected: true, localCandidateId: "L" }, { id: "L", type: "local-candidate", candidateType: "relay", relayProtocol: "udp" }) }],
    0,
  );
  expect(sample?.down).toEqual({ path: "relay", network: null, rttMs: null, availableBps: null });
});

test("no report tells of a connection", () => {
  expect(sampleOf([], 0)).toBeNull();
  expect(sampleOf([{ identity: null, medium: "camera", report: undefined }, { identity: "ben", medium: "camera", report: report({ id: "c", type: "codec" }) }], 0)).toBeNull();
});
