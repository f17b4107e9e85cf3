import { describe, expect, test } from "vitest";
import { bitrate, delayImpairment, diagnose, lossImpairment, percent } from "./diagnosis";
import type { Link, Measured, Other, Receiving, Sending } from "./measured";

const link = (change: Partial<Link> = {}): Link => ({ loss: 0, jitterMs: 4, bitrateBps: 1_500_000, availableBps: null, path: "direct", ...change });
const picture = { width: 1280, height: 720, fps: 30, bitrateBps: 1_400_000 };
const sending = (change: Partial<Sending> = {}): Sending => ({ ...picture, cpuLimited: 0, bandwidthLimited: 0, ...change });
const receiving = (change: Partial<Receiving> = {}): Receiving => ({
  ...picture, freezes: 0, frozenShare: 0, serverFreezes: 0, dropped: 0, decoding: 0.1, paused: false, layer: 2, wanted: 2, why: "", ...change,
});
const anna = (change: Partial<Other> = {}): Other => ({
  identity: "anna", quality: "good", up: link({ path: null }), rttMs: 30, loss: 0, jitterMs: 4, bitrateBps: 1_500_000, camera: receiving(), screen: null, ...change,
});
const call = (change: Partial<Measured> = {}): Measured => ({
  seconds: 10, quality: "good", rttMs: 30, network: null, up: link(), down: link(), camera: sending(), screen: null, others: [anna()], ...change,
});
const names: Record<string, string> = { anna: "Anna", ben: "Ben" };
const say = (m: Measured): string[] => diagnose(m, (id) => names[id] ?? id).map((f) => `${f.what} ${f.advice}`);
const keys = (m: Measured): string[] => diagnose(m, (id) => names[id] ?? id).map((f) => f.key);
const nothing = call({
  rttMs: null, up: link({ loss: null, jitterMs: null, bitrateBps: null, path: null }), down: link({ loss: null, jitterMs: null, bitrateBps: null, path: null }), camera: null, others: [],
});

describe("what costs how much", () => {
  test.each([
    [0, 0],
    [0.03, 10.1],
    [0.1, 27.1],
    [1, 75.9],
    [7, 75.9],
  ])("a loss of %d: %d points", (loss, points) => expect(lossImpairment(loss)).toBeCloseTo(points, 1));
  test.each([
    [0, 0],
    [150, 3.6],
    [220, 10],
    [400, 34.1],
  ])("%d ms: %d points", (ms, points) => expect(delayImpairment(ms)).toBeCloseTo(points, 1));
});

describe("what is wrong, in sentences", () => {
  test.each<[string, Measured, string[]]>([
    ["all is well", call(), []],
    ["nothing is known yet", nothing, []],
    ["nobody else is there", call({ others: [] }), []],
    ["loss that repair makes up for", call({ up: link({ loss: 0.02 }), down: link({ loss: 0.025 }) }), []],
    ["Wi-Fi loses what is sent", call({ network: "wifi", up: link({ loss: 0.08 }) }), ["Your Wi-Fi loses 8 % of what you send. Move closer to the router, or use a cable."]],
    ["a mobile network loses what comes", call({ network: "cellular", down: link({ loss: 0.06 }) }), ["Your mobile network loses 6 % of what is sent to you. Go where reception is better, or use Wi-Fi."]],
    [
      "an unknown network loses both ways",
      call({ up: link({ loss: 0.1 }), down: link({ loss: 0.04 }) }),
      ["Your network loses 10 % of what you send and 4 % of what you receive. If you are on Wi-Fi, move closer to the router or use a cable."],
    ],
    [
      "another's uplink loses",
      call({ others: [anna({ up: link({ loss: 0.09 }) })] }),
      ["Anna’s connection is weak: 9 % of what they send gets lost, so their voice and video come with gaps. It isn’t your network. They could move closer to their router, or use a cable."],
    ],
    ["another has gone", call({ others: [anna({ quality: "lost", up: link({ loss: 0.5 }) })] }), ["Anna has lost the connection. It isn’t your network. They come back by themselves if theirs does within half a minute."]],
    ["another is weak and no figure says why", call({ others: [anna({ quality: "poor" })] }), ["Anna’s connection is weak. It isn’t your network. They could move closer to their router, or use a cable."]],
    ["we were weak and no figure says why", call({ quality: "poor" }), ["Your connection was weak a moment ago. If it happens again, look here while it does."]],
    ["jitter", call({ network: "wifi", down: link({ jitterMs: 70 }) }), ["Your Wi-Fi is uneven: sound and picture come up to 70 ms late. Move closer to the router, or use a cable."]],
    ["another's jitter", call({ others: [anna({ up: link({ jitterMs: 55 }) })] }), ["Anna’s connection is uneven: what they send comes up to 55 ms late. It isn’t your network. They could move closer to their router, or use a cable."]],
    ["the processor can't encode", call({ camera: sending({ cpuLimited: 0.7 }) }), ["Your device is too busy to send a good picture. Close other programs and browser tabs, or turn off effects of your camera."]],
    ["it was busy for a moment", call({ camera: sending({ cpuLimited: 0.3 }) }), []],
    ["it is busy, but was watched only for a moment", call({ seconds: 2, camera: sending({ cpuLimited: 1 }) }), []],
    ["the sender has begun low, as senders do", call({ seconds: 4, up: link({ availableBps: 182_000 }), camera: sending({ bandwidthLimited: 1 }) }), []],
    ["the processor can't decode", call({ others: [anna({ camera: receiving({ dropped: 0.3, freezes: 5 }) })] }), ["Your device is too busy to show the others smoothly. Close other programs and browser tabs, or make this window smaller."]],
    [
      "a slow upload",
      call({ up: link({ availableBps: 210_000 }), camera: sending({ bandwidthLimited: 1 }) }),
      ["Your upload is too slow for a sharp picture: it takes 210 kbit/s. Pause uploads and backups on this network, or turn your camera off: your voice goes first."],
    ],
    [
      "a slow download",
      call({ down: link({ availableBps: 400_000 }), others: [anna({ camera: receiving({ layer: 0, why: "bandwidth" }) })] }),
      ["Your download is too slow for everybody’s video: it takes 400 kbit/s. Pause downloads and streams on this network. Voices are sent first, so they keep coming."],
    ],
    ["the publisher sends nothing larger", call({ others: [anna({ camera: receiving({ layer: 0, why: "not_sent" }) })] }), []],
    [
      "a picture freezes on the way from the server",
      call({ others: [anna({ camera: receiving({ freezes: 3, frozenShare: 0.2 }) })] }),
      ["Video stops now and then on its way from the server to you. Pause downloads and streams on this network, or move closer to the router."],
    ],
    [
      "a picture freezes before the server",
      call({ others: [anna({ camera: receiving({ freezes: 3, frozenShare: 0.2, serverFreezes: 3 }) })] }),
      ["Anna’s video stops before it reaches the server. It isn’t your network. Their upload or their device is too busy."],
    ],
    ["a long way of ours", call({ rttMs: 500 }), ["Your connection is slow: it takes 330 ms until Anna hears you. A VPN or a mobile network can cause this: try without it. Short pauses help not to talk at the same time."]],
    ["a long way of theirs", call({ others: [anna({ rttMs: 500 })] }), ["Anna’s connection is slow: it takes 330 ms until you hear them. It isn’t your network. Short pauses help not to talk at the same time."]],
    ["a way that ITU-T G.114 calls acceptable", call({ rttMs: 150, others: [anna({ rttMs: 120 })] }), []],
    ["a relay", call({ up: link({ path: "relay" }) }), ["The call goes through a relay because the network blocks direct calls. That makes it a little slower. There is nothing that you need to do. On another network the call may go directly."]],
    [
      "TCP",
      call({ down: link({ path: "tcp" }) }),
      ["The call goes over TCP because the network blocks UDP. What gets lost then holds up all that follows. If it stays bad, try another network, or ask who runs this one to let UDP through."],
    ],
  ])("%s", (_, measured, expected) => expect(say(measured)).toEqual(expected));
});

describe("several faults", () => {
  test("the gravest three come first, in order", () => {
    const bad = call({
      up: link({ loss: 0.3, path: "relay" }),
      camera: sending({ cpuLimited: 1 }),
      others: [anna({ up: link({ loss: 0.12 }) }), anna({ identity: "ben", up: link({ loss: 0.2 }) })],
    });
    expect(keys(bad)).toEqual(["loss-up", "loss ben", "loss anna"]);
  });

  test("a relay is mentioned after what is wrong, however little that is", () => {
    expect(keys(call({ up: link({ path: "relay-tcp", loss: 0.03 }) }))).toEqual(["loss-up", "relay-tcp"]);
  });

  test("what loss explains isn't told a second time", () => {
    const lossy = call({
      quality: "poor",
      up: link({ loss: 0.1, jitterMs: 80, availableBps: 200_000 }),
      down: link({ loss: 0.1 }),
      camera: sending({ bandwidthLimited: 1 }),
      others: [anna({ camera: receiving({ freezes: 4, frozenShare: 0.2, dropped: 0.2, why: "bandwidth", layer: 0 }) })],
    });
    expect(keys(lossy)).toEqual(["loss"]);
  });

  test("another's loss isn't taken for ours: their gaps come with it", () => {
    expect(keys(call({ others: [anna({ up: link({ loss: 0.1 }), camera: receiving({ freezes: 4, frozenShare: 0.2, dropped: 0.3, serverFreezes: 1 }) })] }))).toEqual(["loss anna"]);
  });

  test("a fault keeps its key when its figures change", () => {
    const [a] = diagnose(call({ up: link({ loss: 0.08 }) }), String);
    const [b] = diagnose(call({ up: link({ loss: 0.13 }) }), String);
    expect(a?.key).toBe(b?.key);
    expect(a?.what).not.toBe(b?.what);
    expect(b?.weight).toBeGreaterThan(a?.weight ?? Infinity);
  });
});

test("figures in words", () => {
  expect([null, 0, 0.004, 0.083, 1].map(percent)).toEqual(["–", "0 %", "<1 %", "8 %", "100 %"]);
  expect([null, 84_400, 999_499, 999_500, 1_240_000].map(bitrate)).toEqual(["–", "84 kbit/s", "999 kbit/s", "1.0 Mbit/s", "1.2 Mbit/s"]);
});
