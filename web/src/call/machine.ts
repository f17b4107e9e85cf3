/**
 * One call, as this device lives through it: input in, next state and effects out. No clock, no network, no DOM.
 *
 *   outgoing: placing → ringing → connecting → active ⇄ reconnecting → ended
 *   incoming: answering → connecting → active ⇄ reconnecting → ended
 *
 * The server decides how a call stands; this machine adds what only the device knows: requests under way, the room's
 * connection, and that hanging up is felt at once. After `ended` it still takes input, because a request that was under
 * way when the person hung up must be undone when its answer comes.
 */
import type { Call, Join, Media, Outcome } from "../wire/contract";
import type { CloseReason, LinkState } from "./room";

export type Phase = "placing" | "ringing" | "answering" | "connecting" | "active" | "reconnecting" | "ended";

/** How it ended, here. `moved`: it goes on in another tab or on another device. `elsewhere`: another device answered first. */
export type EndOutcome = Outcome | "moved" | "elsewhere";

export interface Ending {
  outcome: EndOutcome;
  lengthSeconds: number;
  /** A sentence from the server where one says more than the outcome. */
  detail: string;
}

export interface CallState {
  readonly phase: Phase;
  readonly direction: "outgoing" | "incoming";
  readonly media: Media;
  /** Names dialled, or the caller's. Shown until the server's call is known. */
  readonly names: readonly string[];
  readonly call: Call | null;
  readonly link: LinkState;
  /** When this device first heard and saw the other side, in milliseconds of the clock that `step` is given. */
  readonly activeSince: number | null;
  /** When the connection was lost, same clock; null while it stands. */
  readonly lostSince: number | null;
  readonly rejoins: number;
  readonly ending: Ending | null;
}

export interface Refusal {
  status: number;
  code: string;
  detail: string;
}

export type Input =
  | { type: "placed" | "answered" | "rejoined"; call: Call; join: Join }
  | { type: "refused"; error: Refusal }
  | { type: "server"; call: Call }
  | { type: "link"; link: LinkState; closed: CloseReason | null }
  | { type: "connectFailed" }
  | { type: "rejoinRefused"; error: Refusal }
  | { type: "hangUp" }
  | { type: "ringTimeout" };

export type Effect =
  | { do: "connect"; join: Join }
  | { do: "leave" }
  /** Tells the server, trying again when it can't be reached. */
  | { do: "cancel" | "hangUp"; id: string }
  | { do: "rejoin"; id: string; after: number }
  /** Asks the server how the call stands. */
  | { do: "refresh"; id: string };

export type Step = readonly [CallState, readonly Effect[]];

/** The server keeps a lost person in the call for 30 s (companion: ReconnectWithin). */
export const reconnectWithin = 30_000;
/** The server stops ringing after 45 s; longer silence means that we don't hear it. */
export const ringAtMost = 60_000;

export function outgoing(names: readonly string[], media: Media): CallState {
  return { ...blank, phase: "placing", direction: "outgoing", names, media };
}

export function incoming(call: Call, media: Media): CallState {
  return { ...blank, phase: "answering", direction: "incoming", names: [call.caller.name], media, call };
}

/** A call that this device is in already, after the page was loaded anew. */
export function resumed(call: Call): CallState {
  return { ...blank, phase: "connecting", direction: call.direction, names: [call.caller.name], media: call.media, call };
}

const blank: CallState = {
  phase: "placing",
  direction: "outgoing",
  media: "audio",
  names: [],
  call: null,
  link: "idle",
  activeSince: null,
  lostSince: null,
  rejoins: 0,
  ending: null,
};

export function step(state: CallState, input: Input, now: number): Step {
  if (state.phase === "ended") return afterwards(state, input);
  switch (input.type) {
    case "placed":
    case "answered":
    case "rejoined": {
      const next = settle({ ...state, call: newer(state.call, input.call) }, now);
      if (next.phase === "ended") return [next, [{ do: "leave" }]];
      return [{ ...next, link: "connecting" }, [{ do: "connect", join: input.join }]];
    }
    case "refused":
      return refused(state, input.error);
    case "server": {
      if (state.call && input.call.version < state.call.version) return [state, []];
      if (state.phase === "answering" && input.call.myState === "joined" && !input.call.answeredOnThisDevice) {
        return [end({ ...state, call: input.call }, "elsewhere"), [{ do: "leave" }]];
      }
      const next = settle({ ...state, call: input.call }, now);
      return [next, next.phase === "ended" ? [{ do: "leave" }] : []];
    }
    case "link":
      return linked({ ...state, link: input.link }, input.closed, now);
    case "connectFailed":
      return lost({ ...state, link: "closed" }, now);
    case "rejoinRefused":
      // Unreachable or overloaded: try again while there is time. Anything else means that we're not in the call any more.
      if (input.error.status === 0 || input.error.status === 429 || input.error.status >= 500) return lost(state, now);
      return [state, state.call ? [{ do: "refresh", id: state.call.id }] : []];
    case "hangUp":
      return hungUp(state, now);
    case "ringTimeout":
      if (state.phase !== "ringing" || !state.call) return [state, []];
      return [end(state, "timed_out"), [{ do: "leave" }, { do: "cancel", id: state.call.id }]];
  }
}

function newer(have: Call | null, got: Call): Call {
  return have && have.version > got.version ? have : got;
}

/** Derives the phase from what is known of the call and the room. */
function settle(state: CallState, now: number): CallState {
  const { call } = state;
  if (!call) return state;
  const gone = call.myState !== undefined && call.myState !== "ringing" && call.myState !== "joined" && call.myState !== "reconnecting";
  if (call.state === "ended" || gone) return end(state, call.outcome ?? "ended", call.lengthSeconds);
  // A snapshot that is older than our own answer.
  if (state.phase === "answering" && call.myState === "ringing") return state;
  if (call.state === "ringing" && state.direction === "outgoing") return { ...state, phase: "ringing" };
  if (state.link === "connected") {
    return { ...state, phase: "active", activeSince: state.activeSince ?? now, lostSince: null, rejoins: 0 };
  }
  return { ...state, phase: state.activeSince === null ? "connecting" : "reconnecting" };
}

function linked(state: CallState, closed: CloseReason | null, now: number): Step {
  switch (state.link) {
    case "connected":
      return [settle({ ...state, lostSince: null, rejoins: 0 }, now), []];
    case "reconnecting":
      return [settle({ ...state, lostSince: state.lostSince ?? now }, now), []];
    case "closed":
      if (closed === "replaced") return [end(state, "moved"), [{ do: "leave" }]];
      if (closed === "removed" && state.call) {
        // Blocked, signed out, answered elsewhere, ended: the server knows which. If we're still in it, that leads to a rejoin.
        const [next, effects] = lost(state, now);
        return [next, [{ do: "refresh", id: state.call.id }, ...effects]];
      }
      return lost(state, now);
    default:
      return [state, []];
  }
}

/** The room is closed and we want it back. */
function lost(state: CallState, now: number): Step {
  if (!state.call) return [end(state, "failed"), [{ do: "leave" }]];
  const lostSince = state.lostSince ?? now;
  const after = Math.min(8_000, 500 * 2 ** state.rejoins);
  if (now + after - lostSince > reconnectWithin) {
    return [end(state, "failed"), [{ do: "leave" }, { do: "hangUp", id: state.call.id }]];
  }
  const next = settle({ ...state, link: "closed", lostSince, rejoins: state.rejoins + 1 }, now);
  return [next, [{ do: "rejoin", id: state.call.id, after }]];
}

function refused(state: CallState, error: Refusal): Step {
  const outcome: EndOutcome = error.code === "answered_elsewhere" ? "elsewhere" : error.code === "call_over" ? "missed" : "failed";
  const next = end(state, outcome, 0, outcome === "failed" ? error.detail : "");
  return [next, [{ do: "leave" }]];
}

function hungUp(state: CallState, now: number): Step {
  const id = state.call?.id;
  const effects: Effect[] = [{ do: "leave" }];
  if (state.phase === "placing") return [end(state, "cancelled"), effects]; // undone when the answer comes
  if (state.phase === "ringing") {
    if (id) effects.push({ do: "cancel", id });
    return [end(state, "cancelled"), effects];
  }
  if (id) effects.push({ do: "hangUp", id });
  const length = state.activeSince === null ? 0 : Math.round((now - state.activeSince) / 1000);
  return [end(state, "answered", length), effects];
}

function end(state: CallState, outcome: EndOutcome, lengthSeconds = 0, detail = ""): CallState {
  return { ...state, phase: "ended", link: "closed", ending: { outcome, lengthSeconds, detail } };
}

/** What still matters once the person has hung up. */
function afterwards(state: CallState, input: Input): Step {
  switch (input.type) {
    case "placed":
      if (input.call.state === "ended") return [{ ...state, call: input.call }, []];
      return [{ ...state, call: input.call }, [{ do: input.call.state === "ringing" ? "cancel" : "hangUp", id: input.call.id }]];
    case "answered":
    case "rejoined":
      return [{ ...state, call: input.call }, [{ do: "hangUp", id: input.call.id }]];
    case "server":
      // The server's word on outcome and length replaces our own, unless the call goes on without us.
      if (input.call.state !== "ended" || !state.ending || (state.call && input.call.version < state.call.version)) return [state, []];
      if (state.ending.outcome === "moved" || state.ending.outcome === "elsewhere") return [{ ...state, call: input.call }, []];
      return [
        {
          ...state,
          call: input.call,
          ending: {
            ...state.ending,
            outcome: input.call.outcome ?? state.ending.outcome,
            lengthSeconds: input.call.lengthSeconds || state.ending.lengthSeconds,
          },
        },
        [],
      ];
    default:
      return [state, []];
  }
}
