import { createRoot } from "react-dom/client";
import { createApp } from "./app";
import { Sounds } from "./media/sounds";
import { forceRelay, relayOption } from "./media/relay";
import { openSupport } from "./media/support";
import { watchAttention } from "./ui/attention";
import { bind } from "./ui/commands";
import { startRouter } from "./ui/router";
import { Root } from "./ui/Root";
import "./ui/styles/index.css";

openSupport();
const relay = relayOption(location.search);
if (relay) forceRelay(relay);

const media = () => import("./media/livekit");
const sounds = new Sounds(() => app.preferences.value.sounds);
const app = createApp({
  fetch: (input, init) => fetch(input, init),
  openSocket: (path) => new WebSocket(location.origin.replace(/^http/, "ws") + path),
  openRoom: async (preferences) => (await media()).openRoom(preferences),
  preloadRoom: () => void media().catch(() => {}),
  sounds,
  mediaDevices: navigator.mediaDevices,
  storage: storage(),
});

function storage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null; // forbidden by the browser's settings
  }
}

bind(app);
sounds.unlockOn(document);
startRouter();
watchAttention(app);
addEventListener("online", () => app.events.hurry());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) app.events.hurry();
});
// The media code is loaded in the first quiet moment, so that the first call doesn't wait for it.
app.account.state.subscribe((state) => {
  if (state.phase === "in") setTimeout(() => void media().catch(() => {}), 2000);
});

const root = document.getElementById("root");
if (root) createRoot(root).render(<Root app={app} secure={isSecureContext} playTone={() => sounds.play("connected")} />);
if (isSecureContext) void app.account.start();
