/** What a screen reader says when something happens elsewhere on the page. `Announcer` renders it. */
import { Store } from "../store";

export const announcement = new Store("");

export function announce(text: string): void {
  // The same words twice are said twice only if they change in between.
  announcement.set(announcement.value === text ? `${text}\u00a0` : text);
}

/** Short notes on the screen, for what has no place of its own. */
export interface Note {
  id: number;
  text: string;
  bad: boolean;
}

export const notes = new Store<readonly Note[]>([]);
let next = 1;

export function note(text: string, bad = false): void {
  const id = next++;
  notes.update((list) => [...list.slice(-2), { id, text, bad }]);
  setTimeout(() => notes.update((list) => list.filter((n) => n.id !== id)), bad ? 8000 : 4000);
}
