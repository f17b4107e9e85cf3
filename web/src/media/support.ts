/** `window.__anytime`: a small door for tests and for support. The page itself never reads it. */
import type { Room } from "livekit-client";

export type Quality = "low" | "medium" | "high";

export interface Support {
  /** The room of the present call; null between calls. */
  room: Room | null;
  /** Caps the video layer asked for of one participant; "high" leaves the choice to the size on the screen. */
  setQuality: (identity: string, quality: Quality) => void;
}

declare global {
  interface Window {
    __anytime: Support;
  }
}

export function openSupport(): void {
  window.__anytime = { room: null, setQuality: () => {} };
}
