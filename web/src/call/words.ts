/** Calls in words. */
import type { Call, Person } from "../wire/contract";
import type { EndOutcome } from "./machine";
import type { Participant } from "./room";

type Named = Pick<Person, "name" | "displayName">;

/** What somebody is called: the display name or, without one of its own, the @name. */
export function nameOf({ name, displayName }: Named): string {
  return displayName && displayName !== name ? displayName : `@${name}`;
}

/** The @name that always stands beside a display name, so that nobody passes for somebody else; "" where it's shown already. */
export function handleOf(person: Named): string {
  const handle = `@${person.name}`;
  return nameOf(person) === handle ? "" : handle;
}

/** How good a connection is. */
export function connectionInWords(quality: Participant["quality"]): string {
  switch (quality) {
    case "good":
      return "Good connection";
    case "fair":
      return "Fair connection";
    case "poor":
      return "Weak connection";
    case "lost":
      return "Lost connection";
    case "unknown":
      return "Connection not measured yet";
  }
}

/** 3725 → "1:02:05"; 65 → "1:05". */
export function clock(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n: number): string => String(n).padStart(2, "0");
  const hours = Math.floor(s / 3600);
  const minutes = Math.floor((s % 3600) / 60);
  return hours > 0 ? `${hours}:${two(minutes)}:${two(s % 60)}` : `${minutes}:${two(s % 60)}`;
}

/** 3725 → "1 h 2 min"; 65 → "1 min 5 s"; 8 → "8 s". */
export function length(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 === 0 ? `${s / 60} min` : `${Math.floor(s / 60)} min ${s % 60} s`;
  const minutes = Math.floor((s % 3600) / 60);
  return minutes === 0 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 3600)} h ${minutes} min`;
}

/** A row of the history, under the name. */
export function outcomeInWords(call: Call): string {
  const out = call.direction === "outgoing";
  switch (call.outcome) {
    case "answered":
      return call.lengthSeconds > 0 ? length(call.lengthSeconds) : out ? "Answered" : "You answered";
    case "declined":
      return out ? "Declined" : "You declined";
    case "busy":
      return out ? "Was busy" : "You were busy";
    case "cancelled":
      return out ? "You cancelled" : "Missed";
    case "timed_out":
      return out ? "No answer" : "Missed";
    case "missed":
      return "Missed";
    case "failed":
      return "Connection failed";
    default:
      return call.lengthSeconds > 0 ? length(call.lengthSeconds) : "Ended";
  }
}

/** The headline after a call. */
export function endingInWords(outcome: EndOutcome, direction: "outgoing" | "incoming", who: string, seconds: number): string {
  switch (outcome) {
    case "declined":
      return direction === "outgoing" ? `${who} declined` : "You declined";
    case "busy":
      return direction === "outgoing" ? `${who} is in another call` : "You were busy";
    case "cancelled":
      return direction === "outgoing" ? "Call cancelled" : `${who} stopped calling`;
    case "timed_out":
      return `${who} didn’t answer`;
    case "missed":
      return `You missed a call from ${who}`;
    case "failed":
      return "The call failed";
    case "moved":
      return "The call goes on in another window";
    case "elsewhere":
      return "Answered on another device";
    default:
      return seconds > 0 ? `Call ended · ${length(seconds)}` : "Call ended";
  }
}

/** Somebody's part in a group call, while it goes on. */
export function memberInWords(state: string): string {
  switch (state) {
    case "ringing":
      return "Ringing…";
    case "declined":
      return "Declined";
    case "busy":
      return "Busy";
    case "timed_out":
    case "missed":
      return "No answer";
    case "reconnecting":
      return "Reconnecting…";
    case "left":
      return "Left";
    case "failed":
      return "Couldn’t connect";
    default:
      return "";
  }
}
