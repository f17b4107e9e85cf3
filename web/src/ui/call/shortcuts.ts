import { useEffect, useRef } from "react";
import type { CallSession } from "../../call/session";
import type { RoomView } from "../../call/room";
import type { Panel } from "./Controls";

/** M microphone, V camera, S screen, A add people, D devices, Q quality of the connection, Escape back to the app. Not while something is typed. */
export function useShortcuts(session: CallSession, view: RoomView, onPanel: (panel: Panel) => void, onEscape: (() => void) | null): void {
  const latest = useRef({ view, onPanel, onEscape });
  useEffect(() => {
    latest.current = { view, onPanel, onEscape };
  });
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const target = event.target instanceof Element ? event.target : null;
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.defaultPrevented) return;
      if (target?.closest("input, select, textarea, [contenteditable]")) return;
      // A dialog above the call (somebody rings) has its own keys.
      if (target?.closest("dialog") || document.querySelector("dialog[open]")) return;
      const { view, onPanel, onEscape } = latest.current;
      switch (event.key.toLowerCase()) {
        case "m":
          void session.publish("microphone", !view.microphone.on);
          break;
        case "v":
          void session.publish("camera", !view.camera.on);
          break;
        case "s":
          if (view.link === "connected") void session.publish("screen", !view.screen.on);
          break;
        case "a":
          if (view.link === "connected" && session.state.value.phase === "active") onPanel("add");
          break;
        case "d":
          onPanel("devices");
          break;
        case "q":
          onPanel("quality");
          break;
        case "escape":
          onEscape?.();
          break;
        default:
          return;
      }
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [session]);
}
