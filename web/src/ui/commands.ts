/** What screens do in more than one place. */
import type { App } from "../app";
import type { Media } from "../wire/contract";
import { go } from "./router";

let bound: App | null = null;

/** Called once, when the page is put together. */
export function bind(app: App): void {
  bound = app;
}

/** Calls people; the answer is a sentence when that can't begin. Later trouble shows in the call itself. */
export async function startCall(names: readonly string[], media: Media): Promise<string> {
  const app = bound;
  if (!app) return "";
  if (app.calls.current.value) return "You’re in a call already. Hang up first, or add people to it.";
  const me = app.account.me?.name;
  if (me !== undefined && names.includes(me)) return "That’s you. Type the name of somebody else.";
  // A name that nobody has is found out here, before a whole call screen opens for it.
  try {
    await Promise.all(names.map((name) => app.people.find(name)));
  } catch (error) {
    if (error instanceof Error && "status" in error && error.status === 404) {
      return `Nobody here is called @${names.join(", @")}. Check the spelling.`;
    }
    if (error instanceof Error) return error.message;
  }
  if (!app.calls.place(names, media)) return "You’re in a call already.";
  return "";
}

export function openCall(): void {
  const id = bound?.calls.current.value?.id;
  go(id ? `#/call/${id}` : "#/call/new");
}
