import { describe, expect, it } from "vitest";
import { clock, endingInWords, length, outcomeInWords } from "../call/words";
import { soundOf } from "../call/sounding";
import * as machine from "../call/machine";
import { relayOnly, relayOption, transportOf } from "../media/relay";
import { loudness } from "../media/level";
import { incomingCall, join, outgoingCall, participant, person } from "../testing";
import { fit, narrowest, pictureFit, widest } from "./call/layout";
import { inRoom, others, pending } from "./call/people";
import { initials } from "./components/Avatar";
import { byDay, dayInWords, dayOf } from "./days";
import { problemInWords } from "./problems";
import { parse } from "./router";

describe("the grid", () => {
  const stages: [number, number][] = [[1358, 700], [390, 640], [820, 980], [2500, 1200], [192, 100], [640, 160]];

  it("fits 1 to 49 tiles into stages of every shape, overlapping nothing and leaving no row empty", () => {
    for (const [width, height] of stages) {
      for (let n = 1; n <= 49; n++) {
        const g = fit(n, width, height, 10);
        const what = `${n} in ${width}×${height}: ${JSON.stringify(g)}`;
        expect(g.columns * g.rows, what).toBeGreaterThanOrEqual(n);
        expect(g.columns * (g.rows - 1), what).toBeLessThan(n);
        if (g.width === 0) continue; // more people than a watch has pixels for
        expect(g.columns * g.width + (g.columns - 1) * 10, what).toBeLessThanOrEqual(width);
        expect(g.rows * g.height + (g.rows - 1) * 10, what).toBeLessThanOrEqual(height);
        if (g.height > 20) {
          expect(g.width / g.height, what).toBeLessThanOrEqual(widest + 0.1);
          expect(g.width / g.height, what).toBeGreaterThanOrEqual(narrowest(width, height) - 0.1);
        }
      }
    }
  });

  it("is what people expect", () => {
    expect(fit(4, 1358, 700, 10)).toMatchObject({ columns: 2, rows: 2 });
    expect(fit(3, 390, 640, 10)).toMatchObject({ columns: 1, rows: 3 });
    expect(fit(9, 1358, 700, 10)).toMatchObject({ columns: 3, rows: 3 });
    expect(fit(12, 390, 640, 10)).toMatchObject({ columns: 3, rows: 4 });
    expect(fit(3, 2500, 700, 10)).toMatchObject({ columns: 3, rows: 1 });
  });

  it("fills a tile with the picture unless too much of it would be lost", () => {
    expect(pictureFit(16 / 9, 4 / 3)).toBe("fill");
    expect(pictureFit(16 / 9, 3 / 4)).toBe("fill");
    expect(pictureFit(16 / 9, 390 / 844)).toBe("partly");
    expect(pictureFit(9 / 16, 1358 / 700)).toBe("whole");
    expect(pictureFit(Number.NaN, 1)).toBe("fill");
  });
});

describe("who is in a call", () => {
  const call = outgoingCall({
    state: "active",
    people: [
      { person: person("ana", "self"), state: "joined" },
      { person: person("ben"), state: "reconnecting", identity: "ac_ben:dv_9" },
      { person: person("cleo"), state: "ringing" },
      { person: person("dan"), state: "declined" },
      { person: person("eva"), state: "left" },
    ],
  });
  const me = { name: "ana", displayName: "Ana" };

  it("joins the room's participants with the server's people", () => {
    const shown = inRoom(call, [participant("ac_ana:dv_1", { self: true }), participant("ac_ben:dv_9"), participant("ac_zoe:dv_3", { name: "Zoe" })], me);
    expect(shown.map((s) => [s.name, s.displayName, s.state])).toEqual([
      ["ana", "Ana", null],
      ["ben", "Ben", "reconnecting"],
      ["Zoe", "Zoe", null],
    ]);
  });

  it("waits for those who ring or are on their way", () => {
    expect(pending(call, [participant("ac_ben:dv_9")], "ac_ana").map((p) => p.person.name)).toEqual(["cleo"]);
    expect(pending(call, [], "ac_ana").map((p) => p.person.name)).toEqual(["ben", "cleo"]);
  });

  it("is titled by those who are still there", () => {
    const [state] = machine.step(machine.outgoing(["ben"], "video"), { type: "placed", call, join }, 0);
    expect(others(state, "ac_ana").map((p) => p.name)).toEqual(["ben", "cleo"]);
    expect(others(machine.outgoing(["ben"], "video"), "ac_ana").map((p) => p.name)).toEqual(["ben"]);
    expect(others(machine.incoming(incomingCall(), "video"), "ac_ana").map((p) => p.name)).toEqual(["ben"]);
  });
});

describe("sounds", () => {
  it("ring, or knock in a call, or ring back", () => {
    const [ringing] = machine.step(machine.outgoing(["ben"], "video"), { type: "placed", call: outgoingCall(), join }, 0);
    expect(soundOf(null, [])).toBeNull();
    expect(soundOf(null, [incomingCall()])).toBe("ring");
    expect(soundOf(ringing, [incomingCall()])).toBe("knock");
    expect(soundOf(ringing, [])).toBe("ringback");
    expect(soundOf(machine.outgoing(["ben"], "video"), [])).toBeNull();
  });

  it("are measured from silence to loud", () => {
    expect(loudness(new Float32Array(512))).toBe(0);
    expect(loudness(new Float32Array(512).fill(1))).toBe(1);
    expect(loudness(new Float32Array(512).fill(0.03))).toBeCloseTo(0.55, 1);
  });
});

describe("words", () => {
  it("for lengths", () => {
    expect([0, 8, 60, 65, 3600, 3725].map(length)).toEqual(["0 s", "8 s", "1 min", "1 min 5 s", "1 h", "1 h 2 min"]);
    expect([0, 65, 3725, -3].map(clock)).toEqual(["0:00", "1:05", "1:02:05", "0:00"]);
  });

  it("for every outcome, from both sides", () => {
    for (const outcome of ["answered", "declined", "busy", "cancelled", "timed_out", "missed", "failed", "ended"] as const) {
      for (const direction of ["incoming", "outgoing"] as const) {
        expect(outcomeInWords(outgoingCall({ outcome, direction }))).toMatch(/^\p{Lu}|^\d/u);
        expect(endingInWords(outcome, direction, "Ben", 0)).toMatch(/^\p{Lu}/u);
      }
    }
    expect(outcomeInWords(outgoingCall({ outcome: "timed_out" }))).toBe("No answer");
    expect(endingInWords("answered", "outgoing", "Ben", 65)).toBe("Call ended · 1 min 5 s");
  });

  it("for days", () => {
    const now = new Date(2026, 10, 20, 0, 30).getTime();
    const at = (days: number, hour = 12) => dayOf(new Date(2026, 10, 20 - days, hour).getTime());
    expect(dayInWords(at(0), now)).toBe("Today");
    expect(dayInWords(at(1, 23), now)).toBe("Yesterday");
    expect(dayInWords(at(3), now)).toBe(new Intl.DateTimeFormat(undefined, { weekday: "long" }).format(new Date(2026, 10, 17)));
    expect(dayInWords(dayOf(new Date(2025, 1, 3).getTime()), now)).toContain("2025");
    const calls = [0, 0, 1, 3].map((d, i) => outgoingCall({ id: String(i), createdAt: new Date(2026, 10, 20 - d, 12).toISOString() }));
    expect(byDay(calls).map((d) => d.calls.length)).toEqual([2, 1, 1]);
  });

  it("for every problem with a device, saying what to do", () => {
    for (const source of ["microphone", "camera", "screen"] as const) {
      for (const problem of ["denied", "missing", "in-use", "insecure", "failed"] as const) {
        expect(problemInWords(source, problem, "Firefox").split(" ").length).toBeGreaterThan(6);
      }
    }
  });

  it("for people without a picture", () => {
    expect([initials("Ana Moreau", "ana"), initials("", "ben"), initials("えみ 田中", "emi"), initials("👩‍🚀 Zoë", "z"), initials("", "")]).toEqual(["AM", "B", "え田", "👩‍🚀Z", "?"]);
  });
});

describe("addresses", () => {
  it("of pages", () => {
    expect(parse("")).toEqual({ page: "home" });
    expect(parse("#/history")).toEqual({ page: "history" });
    expect(parse("#/join/s3cr3t")).toEqual({ page: "join", secret: "s3cr3t" });
    expect(parse("#/person/%D0%B4%2Fx")).toEqual({ page: "person", name: "д/x" });
    expect(parse("#/person/%E0%A4%A")).toEqual({ page: "person", name: "%E0%A4%A" });
    expect(parse("#/call/ca_1")).toEqual({ page: "call", id: "ca_1" });
    expect(parse("#/<script>")).toEqual({ page: "home" });
    expect(parse("#/join/")).toEqual({ page: "welcome" });
  });

  it("of relays", () => {
    expect([relayOption("?relay=1"), relayOption("?relay=tls"), relayOption("?relay=x"), relayOption("")]).toEqual(["any", "tls", null, null]);
    expect(["turn:h:3478", "turn:h:3478?transport=udp", "turn:[::1]:3478?transport=tcp", "turns:h:5349?transport=tcp", "turns:h", "stun:h:3478", "nonsense"].map(transportOf)).toEqual(["udp", "udp", "tcp", "tls", "tls", null, null]);
  });

  it("keep only the relays asked for", () => {
    const config = { iceServers: [{ urls: ["turn:h:1?transport=udp", "turn:h:1?transport=tcp"], username: "u", credential: "c" }, { urls: "turns:h:2?transport=tcp" }, { urls: "stun:h:1" }] };
    expect(relayOnly(config, "tcp")).toEqual({ iceTransportPolicy: "relay", iceServers: [{ urls: ["turn:h:1?transport=tcp"], username: "u", credential: "c" }] });
    expect(relayOnly(config, "any").iceServers).toHaveLength(2);
    expect(relayOnly(undefined, "udp")).toEqual({ iceTransportPolicy: "relay", iceServers: [] });
  });
});
