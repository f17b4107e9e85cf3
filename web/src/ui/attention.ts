/** Makes a call noticed: title and icon of the tab, a notification while the page is hidden, vibration; and keeps the screen on. */
import type { App } from "../app";
import { nameOf } from "../call/words";
import { announcement } from "./announce";

const quietTitle = "Anytime";

export function watchAttention(app: App): void {
  const { calls } = app;
  let blink: ReturnType<typeof setInterval> | undefined;
  const shown = new Map<string, Notification>();

  calls.ringing.subscribe((ringing) => {
    clearInterval(blink);
    const [first] = ringing;
    setIcon(first ? "/favicon-ringing.svg" : "/favicon.svg");
    for (const [id, notification] of shown) {
      if (ringing.some((c) => c.id === id)) continue;
      notification.close();
      shown.delete(id);
    }
    if (!first) {
      document.title = quietTitle;
      if ("vibrate" in navigator) navigator.vibrate(0);
      return;
    }
    const text = `${nameOf(first.caller)} calls you`;
    let on = true;
    document.title = `☎ ${text}`;
    const quiet = matchMedia("(prefers-reduced-motion: reduce)").matches;
    blink = setInterval(() => {
      on = !on;
      if (!quiet) document.title = on ? `☎ ${text}` : quietTitle;
      if (on && "vibrate" in navigator && navigator.userActivation?.hasBeenActive) navigator.vibrate([400, 200, 400]);
    }, 1200);
    for (const call of ringing) {
      if (shown.has(call.id) || !document.hidden || !app.preferences.value.notifications) continue;
      if (typeof Notification === "undefined" || Notification.permission !== "granted") continue;
      try {
        const notification = new Notification(`${nameOf(call.caller)} calls you`, {
          body: `@${call.caller.name} · ${call.media === "video" ? "Video" : "Voice"} call`,
          icon: "/favicon.svg",
          tag: call.id,
          requireInteraction: true,
        });
        notification.onclick = () => {
          window.focus();
          notification.close();
        };
        shown.set(call.id, notification);
      } catch {
        // Some phones only allow them from a service worker.
      }
    }
  });

  calls.ended.subscribe((note) => {
    if (note?.outcome === "missed") announcement.set(`You missed a call from ${note.title}.`);
  });

  let lock: WakeLockSentinel | null = null;
  const stayAwake = async (): Promise<void> => {
    if (calls.current.value && !document.hidden && !lock) {
      lock = (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
      lock?.addEventListener("release", () => (lock = null));
      if (!calls.current.value) void lock?.release();
    } else if (!calls.current.value && lock) {
      void lock.release();
    }
  };
  calls.current.subscribe(() => void stayAwake());
  document.addEventListener("visibilitychange", () => void stayAwake());
}

function setIcon(href: string): void {
  const link = document.querySelector<HTMLLinkElement>('link[rel="icon"]');
  if (link && link.getAttribute("href") !== href) link.setAttribute("href", href);
}
