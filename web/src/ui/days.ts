/** Dates as people say them. */
import type { Call } from "../wire/contract";

/** The local calendar day of a moment, as YYYY-MM-DD. */
export function dayOf(moment: string | number): string {
  const d = new Date(moment);
  const two = (n: number): string => String(n).padStart(2, "0");
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
}

export function byDay(calls: readonly Call[]): { day: string; calls: Call[] }[] {
  const days: { day: string; calls: Call[] }[] = [];
  for (const call of calls) {
    const day = dayOf(call.createdAt);
    const last = days.at(-1);
    if (last?.day === day) last.calls.push(call);
    else days.push({ day, calls: [call] });
  }
  return days;
}

export function dayInWords(day: string, now: number, short = false): string {
  if (day === dayOf(now)) return "Today";
  const date = new Date(`${day}T12:00:00`);
  const noon = new Date(`${dayOf(now)}T12:00:00`);
  const ago = Math.round((noon.getTime() - date.getTime()) / 86_400_000);
  if (ago === 1) return "Yesterday";
  if (ago > 1 && ago < 7) return new Intl.DateTimeFormat(undefined, { weekday: short ? "short" : "long" }).format(date);
  const sameYear = date.getFullYear() === noon.getFullYear();
  return new Intl.DateTimeFormat(undefined, {
    day: "numeric",
    month: short ? "short" : "long",
    ...(short ? {} : { weekday: "long" }),
    ...(sameYear ? {} : { year: "numeric" }),
  }).format(date);
}

export function timeInWords(moment: string): string {
  return new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" }).format(new Date(moment));
}
