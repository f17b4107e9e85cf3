/** What this browser remembers. public/theme.js reads `theme` from the same place before the first paint. */
import { Store } from "../store";

export type Theme = "system" | "light" | "dark";

export interface Preferences {
  theme: Theme;
  microphone: string;
  camera: string;
  speaker: string;
  /** Sends the microphone as it is, without the browser's echo, noise and level correction. */
  originalSound: boolean;
  /** Rings and other sounds; calls themselves are always heard. */
  sounds: boolean;
  /** Shows a notification for a call while the page is hidden. */
  notifications: boolean;
  /** The offer to turn notifications on was put away. */
  notifyHintDone: boolean;
  /** Who signed in here last: offered in the form. */
  lastName: string;
}

export const defaults: Preferences = {
  theme: "system",
  microphone: "",
  camera: "",
  speaker: "",
  originalSound: false,
  sounds: true,
  notifications: true,
  notifyHintDone: false,
  lastName: "",
};

export const storageKey = "anytime.preferences";

export interface Storage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

export function openPreferences(storage: Storage | null): Store<Preferences> {
  const store = new Store(read(storage));
  store.subscribe((value) => {
    try {
      storage?.setItem(storageKey, JSON.stringify(value));
    } catch {
      // Full or forbidden: they hold until the page closes.
    }
  });
  return store;
}

function read(storage: Storage | null): Preferences {
  const result: Record<string, unknown> = { ...defaults };
  try {
    const stored: unknown = JSON.parse(storage?.getItem(storageKey) ?? "{}");
    if (typeof stored === "object" && stored !== null) {
      for (const [key, value] of Object.entries(stored)) {
        if (key in result && typeof value === typeof result[key]) result[key] = value;
      }
    }
  } catch {
    // Not ours: begin anew.
  }
  if (result.theme !== "light" && result.theme !== "dark") result.theme = "system";
  return result as unknown as Preferences;
}
