/** What should sound while calls ring. Pure. */
import type { Call } from "../wire/contract";
import type { CallState } from "./machine";

export function soundOf(current: CallState | null, ringing: readonly Call[]): "ring" | "ringback" | "knock" | null {
  if (ringing.length > 0) return current ? "knock" : "ring";
  if (current?.phase === "ringing") return "ringback";
  return null;
}
