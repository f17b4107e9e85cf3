import { describe, expect, it } from "vitest";
import { incomingCall, join, outgoingCall } from "../testing";
import * as machine from "./machine";
import type { CallState, Effect, Input, Phase } from "./machine";

/** Applies inputs one second apart and returns the last state, all phases on the way and all effects. */
function run(state: CallState, ...inputs: Input[]): { state: CallState; phases: Phase[]; effects: string[] } {
  const phases: Phase[] = [state.phase];
  const effects: string[] = [];
  let now = 0;
  for (const input of inputs) {
    now += 1000;
    const [next, out] = machine.step(state, input, now);
    state = next;
    if (phases.at(-1) !== state.phase) phases.push(state.phase);
    effects.push(...out.map(text));
  }
  return { state, phases, effects };
}

const text = (e: Effect): string => (e.do === "rejoin" ? `rejoin after ${e.after}` : e.do);
const link = (l: "connected" | "reconnecting" | "closed", closed: "network" | "removed" | "replaced" | null = null): Input => ({ type: "link", link: l, closed });
const connected = link("connected");
const placed: Input = { type: "placed", call: outgoingCall(), join };
const answeredByBen: Input = { type: "server", call: outgoingCall({ version: 2, state: "active" }) };
const dial = () => machine.outgoing(["ben"], "video");
const talking = [placed, connected, answeredByBen];

describe("an outgoing call", () => {
  it("rings in the room, and is active with the first answer", () => {
    const { state, phases, effects } = run(dial(), ...talking);
    expect(phases).toEqual(["placing", "ringing", "active"]);
    expect(effects).toEqual(["connect"]);
    expect(state.activeSince).toBe(3000);
  });

  it("connects once answered, if the room took longer", () => {
    expect(run(dial(), placed, answeredByBen, connected).phases).toEqual(["placing", "ringing", "connecting", "active"]);
  });

  it("is active at once where both called each other (glare)", () => {
    expect(run(dial(), { type: "placed", call: outgoingCall({ state: "active", direction: "incoming" }), join }, connected).phases).toEqual(["placing", "connecting", "active"]);
  });

  it.each([["declined"], ["busy"], ["timed_out"], ["failed"]] as const)("ends with the server's %s", (outcome) => {
    const { state, effects } = run(dial(), placed, connected, { type: "server", call: outgoingCall({ version: 2, state: "ended", outcome }) });
    expect(state.ending?.outcome).toBe(outcome);
    expect(effects).toEqual(["connect", "leave"]);
  });

  it("says why it could not be placed", () => {
    const { state } = run(dial(), { type: "refused", error: { status: 429, code: "slow_down", detail: "Too many calls." } });
    expect(state.ending).toEqual({ outcome: "failed", lengthSeconds: 0, detail: "Too many calls." });
  });

  it("cancels while it rings", () => {
    const { state, effects } = run(dial(), placed, connected, { type: "hangUp" });
    expect(state.ending?.outcome).toBe("cancelled");
    expect(effects).toEqual(["connect", "leave", "cancel"]);
  });

  it("cancelled while being placed, is cancelled on the server when its answer comes", () => {
    expect(run(dial(), { type: "hangUp" }, placed).effects).toEqual(["leave", "cancel"]);
  });

  it("cancelled while being placed but answered meanwhile, is hung up", () => {
    expect(run(dial(), { type: "hangUp" }, { type: "placed", call: outgoingCall({ state: "active" }), join }).effects).toEqual(["leave", "hangUp"]);
  });

  it("doesn't ring for ever when the server's word is lost", () => {
    const { state, effects } = run(dial(), placed, connected, { type: "ringTimeout" });
    expect(state.ending?.outcome).toBe("timed_out");
    expect(effects).toEqual(["connect", "leave", "cancel"]);
  });

  it("ignores a ring timeout once it's active", () => {
    expect(run(dial(), ...talking, { type: "ringTimeout" }).state.phase).toBe("active");
  });

  it("ignores news older than it has", () => {
    expect(run(dial(), ...talking, { type: "server", call: outgoingCall({ version: 1 }) }).state.phase).toBe("active");
  });

  it("keeps a newer call that came before the answer to the request", () => {
    const early: Input = { type: "server", call: outgoingCall({ version: 3, state: "active" }) };
    expect(run(dial(), early, placed, connected).phases).toEqual(["placing", "connecting", "active"]);
  });
});

describe("an incoming call", () => {
  const answering = () => machine.incoming(incomingCall(), "video");
  const mine: Input = { type: "answered", call: incomingCall({ version: 2, state: "active", myState: "joined", answeredOnThisDevice: true }), join };

  it("is answered, connects, and is active", () => {
    const { phases, effects } = run(answering(), mine, connected);
    expect(phases).toEqual(["answering", "connecting", "active"]);
    expect(effects).toEqual(["connect"]);
  });

  it("stays answering while older news says that it rings", () => {
    expect(run(answering(), { type: "server", call: incomingCall() }).state.phase).toBe("answering");
  });

  it.each([
    ["answered_elsewhere", "elsewhere"],
    ["call_over", "missed"],
  ] as const)("refused with %s is %s", (code, outcome) => {
    expect(run(answering(), { type: "refused", error: { status: 409, code, detail: "no" } }).state.ending?.outcome).toBe(outcome);
  });

  it("hears from the events that another device was faster", () => {
    const { state } = run(answering(), { type: "server", call: incomingCall({ version: 2, state: "active", myState: "joined" }) });
    expect(state.ending?.outcome).toBe("elsewhere");
  });

  it("hung up before the answer came, is hung up on the server", () => {
    expect(run(answering(), { type: "hangUp" }, mine).effects).toEqual(["leave", "hangUp", "hangUp"]);
  });
});

describe("hanging up", () => {
  it("is felt at once, with the length that was seen here", () => {
    const { state, effects } = run(dial(), ...talking, { type: "server", call: outgoingCall({ version: 3, state: "active" }) }, { type: "hangUp" });
    expect(state.phase).toBe("ended");
    expect(state.ending).toEqual({ outcome: "answered", lengthSeconds: 2, detail: "" });
    expect(effects.slice(-2)).toEqual(["leave", "hangUp"]);
  });

  it("takes the server's outcome and length afterwards", () => {
    const last: Input = { type: "server", call: outgoingCall({ version: 5, state: "ended", outcome: "answered", lengthSeconds: 61 }) };
    expect(run(dial(), ...talking, { type: "hangUp" }, last).state.ending?.lengthSeconds).toBe(61);
  });

  it("by the other side ends it here", () => {
    const { state, effects } = run(dial(), ...talking, { type: "server", call: outgoingCall({ version: 3, state: "ended", outcome: "answered", lengthSeconds: 9 }) });
    expect(state.ending).toEqual({ outcome: "answered", lengthSeconds: 9, detail: "" });
    expect(effects.at(-1)).toBe("leave");
  });
});

describe("a lost connection", () => {
  it("shows as reconnecting and comes back by itself", () => {
    const { state, phases } = run(dial(), ...talking, link("reconnecting"), connected);
    expect(phases.slice(-3)).toEqual(["active", "reconnecting", "active"]);
    expect(state.activeSince).toBe(3000);
    expect(state.lostSince).toBeNull();
  });

  it("rejoins with a fresh token once the room is closed", () => {
    const rejoined: Input = { type: "rejoined", call: outgoingCall({ version: 3, state: "active" }), join };
    const { phases, effects } = run(dial(), ...talking, link("closed", "network"), rejoined, connected);
    expect(phases.slice(-2)).toEqual(["reconnecting", "active"]);
    expect(effects.slice(1)).toEqual(["rejoin after 500", "connect"]);
  });

  it("tries again while the server can't be reached, ever slower, and gives up after 30 s", () => {
    const unreachable: Input = { type: "rejoinRefused", error: { status: 0, code: "unreachable", detail: "" } };
    let [state] = machine.step(run(dial(), ...talking).state, link("closed", "network"), 10_000);
    const waits: number[] = [];
    let now = 10_500;
    for (let i = 0; i < 20 && state.phase !== "ended"; i++) {
      const [next, effects] = machine.step(state, unreachable, now);
      state = next;
      for (const e of effects) if (e.do === "rejoin") waits.push(e.after);
      now += (waits.at(-1) ?? 0) + 100;
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 8000]);
    expect(state.ending?.outcome).toBe("failed");
    expect(now - 10_000).toBeLessThanOrEqual(machine.reconnectWithin + 8000);
  });

  it("asks the server, when that says that we're not in the call any more", () => {
    const over: Input = { type: "rejoinRefused", error: { status: 409, code: "call_over", detail: "" } };
    const { effects } = run(dial(), ...talking, link("closed", "network"), over);
    expect(effects.at(-1)).toBe("refresh");
  });

  it("removed by the server asks how the call stands before it comes back", () => {
    expect(run(dial(), ...talking, link("closed", "removed")).effects.slice(1)).toEqual(["refresh", "rejoin after 500"]);
  });

  it("yields to another tab of the same device without hanging up", () => {
    const { state, effects } = run(dial(), ...talking, link("closed", "replaced"));
    expect(state.ending?.outcome).toBe("moved");
    expect(effects.slice(1)).toEqual(["leave"]);
  });

  it("of the first connection is tried again too", () => {
    const { phases, effects } = run(dial(), placed, { type: "connectFailed" });
    expect(phases).toEqual(["placing", "ringing"]);
    expect(effects).toEqual(["connect", "rejoin after 500"]);
  });
});

describe("every input in every phase", () => {
  const states: Record<Phase, CallState> = {
    placing: dial(),
    ringing: run(dial(), placed).state,
    answering: machine.incoming(incomingCall(), "audio"),
    connecting: run(dial(), placed, answeredByBen).state,
    active: run(dial(), ...talking).state,
    reconnecting: run(dial(), ...talking, link("reconnecting")).state,
    ended: run(dial(), ...talking, { type: "hangUp" }).state,
  };
  const error = { status: 500, code: "", detail: "" };
  const inputs: Input[] = [
    placed,
    answeredByBen,
    { type: "server", call: outgoingCall({ version: 9, state: "ended", outcome: "answered" }) },
    { type: "answered", call: incomingCall({ version: 9, state: "active", myState: "joined", answeredOnThisDevice: true }), join },
    { type: "rejoined", call: outgoingCall({ version: 9, state: "active" }), join },
    { type: "refused", error },
    { type: "rejoinRefused", error },
    { type: "rejoinRefused", error: { ...error, status: 404 } },
    { type: "connectFailed" },
    connected,
    link("reconnecting"),
    link("closed", "network"),
    link("closed", "removed"),
    link("closed", "replaced"),
    { type: "hangUp" },
    { type: "ringTimeout" },
  ];
  for (const [phase, state] of Object.entries(states)) {
    it(`keeps the rules from ${phase}`, () => {
      expect(state.phase).toBe(phase);
      for (const input of inputs) {
        const [next, effects] = machine.step(state, input, 60_000);
        const what = `${phase} + ${input.type}`;
        expect(next.ending !== null, what).toBe(next.phase === "ended");
        if (next.phase === "ended" && phase !== "ended") expect(effects.map(text), what).toContain("leave");
        if (next.phase === "ended") expect(effects.filter((e) => e.do === "connect" || e.do === "rejoin"), what).toEqual([]);
        if (phase === "ended") expect(next.phase, what).toBe("ended");
        if (next.phase === "active") expect(next.activeSince, what).not.toBeNull();
        expect(effects.filter((e) => e.do === "connect").length, what).toBeLessThanOrEqual(1);
      }
    });
  }
});
