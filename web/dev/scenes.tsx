/**
 * Every screen of the app in every state that is hard to reach by hand, on invented people: /dev/scenes.html?scene=NAME.
 * The app is the real one; only what lies outside of it (network, media) is scripted. `npm run screens` photographs them.
 */
import { createRoot } from "react-dom/client";
import { createApp } from "../src/app";
import type { Socket } from "../src/wire/events";
import type { Call, CallQuality, Contacts, Person, Server, Snapshot } from "../src/wire/contract";
import type { RoomView } from "../src/call/room";
import { bind } from "../src/ui/commands";
import { announce } from "../src/ui/announce";
import { go, startRouter } from "../src/ui/router";
import { Root } from "../src/ui/Root";
import "../src/ui/styles/index.css";
import { call, contacts, history, me, nobody, people, self, server } from "./cast";
import { participant, portrait, roomView, ScriptedRoom, slides } from "./room";

interface Scene {
  hash?: string;
  signedOut?: boolean;
  server?: Server;
  contacts?: Contacts;
  history?: Call[];
  ringing?: Call[];
  /** The call that this device places, and what the server says of it. */
  placed?: Call;
  room?: RoomView;
  secure?: boolean;
  unreachable?: boolean;
  offline?: boolean;
  lookup?: Person | null;
  /** What the server measured; absent for none. */
  quality?: CallQuality;
  then?: (app: ReturnType<typeof createApp>) => void;
}

const { ben, chloe, dmitri, emi, farah, gus, hana, ivo, jo, kofi, lena, mia, stranger } = people;
const active = (others: Person[], change: Partial<Call> = {}): Call =>
  call({ with: others, states: others.map(() => "joined" as const), state: "active", version: 2, ...change });
const crowd = [ben, chloe, dmitri, emi, farah, gus, hana, ivo, jo, kofi, lena, mia];
const some = (n: number) => crowd.slice(0, n).map((p, i) => participant(p, i, { speaking: i === 1, microphone: i % 3 !== 2, ...(i === 3 ? { camera: null } : {}) }));
const type = (text: string): void => {
  const input = document.querySelector<HTMLInputElement>('[data-testid="call-name"]');
  if (!input) return;
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value")?.set?.call(input, text);
  input.dispatchEvent(new Event("input", { bubbles: true }));
};
const press = (testid: string): void => document.querySelector<HTMLElement>(`[data-testid="${testid}"]`)?.click();

const why = (): void => void setTimeout(() => press("call-quality"), 300);

function measured(change: { up?: number; ben?: number; path?: "udp" | "tcp" | "relay"; chloe?: boolean }): CallQuality {
  const link = { jitterMs: 6, bitrateBps: 1_380_000, loss: 0.004 };
  const camera = { id: "TR_1", source: "camera" as const, muted: false, paused: false, layer: 2, wanted: 2, width: 1280, height: 720, jitterMs: 5, bitrateBps: 1_300_000, fps: 29.8, freezes: 0, frozenMs: 0 };
  const other = (who: Person, loss: number) => ({ identity: `${who.id}:dv_1`, quality: "good" as const, rttMs: 48, up: { ...link, loss }, tracks: [{ ...camera }] });
  return {
    me: { quality: "good", rttMs: 31, up: { ...link, loss: change.up ?? 0.004, path: change.path ?? "udp" }, down: { ...link, path: change.path ?? "udp" } },
    others: [other(ben, change.ben ?? 0), ...(change.chloe ? [{ ...other(chloe, 0.05), tracks: [{ ...camera, layer: 0, width: 320, height: 180, why: "not_sent" as const, freezes: 3 }] }] : [])],
  };
}

/** Shows at once what takes a while to be shown. */
function speedUp(app: ReturnType<typeof createApp>): void {
  app.calls.current.value?.weak.set(`${ben.id}:dv_1`);
}

const scenes: Record<string, Scene> = {
  "welcome-new": { signedOut: true, server: { ...server, operator: false, registration: "invite" } },
  "welcome-open": { signedOut: true, server: { ...server, registration: "open" } },
  "welcome-signin": { signedOut: true, then: () => press("signin-tab") },
  "welcome-setup": { signedOut: true, hash: "#/setup/abc123", server: { ...server, operator: false } },
  "welcome-join": { signedOut: true, hash: "#/join/abc123" },
  insecure: { secure: false },
  unreachable: { unreachable: true },
  home: {},
  "home-empty": { contacts: nobody, history: [] },
  "home-found": { lookup: stranger, then: () => type("quentin") },
  "home-missing": { lookup: null, then: () => type("nobody-here") },
  "home-offline": { offline: true },
  person: { hash: "#/person/ben" },
  "person-stranger": { hash: "#/person/quentin", lookup: stranger },
  history: { hash: "#/history" },
  "history-empty": { hash: "#/history", history: [] },
  settings: { hash: "#/settings" },
  incoming: { ringing: [call({ with: [ben], direction: "incoming" })] },
  "incoming-stranger": { ringing: [call({ with: [stranger], direction: "incoming", media: "audio" })] },
  "incoming-long": { ringing: [call({ with: [gus, ivo, emi], direction: "incoming" })] },
  "incoming-waiting": { placed: active([ben]), room: roomView(some(1)), ringing: [call({ with: [chloe], direction: "incoming", waiting: true })] },
  ringing: { placed: call({ with: [ben] }), room: roomView([]) },
  "ringing-audio": { placed: call({ with: [dmitri], media: "audio" }), room: roomView([], { camera: { on: false, busy: false, problem: null } }) },
  "ringing-group": { placed: call({ with: [ben, chloe, emi] }), room: roomView([]) },
  "call-2": { placed: active([ben]), room: roomView(some(1)) },
  "call-2-audio": { placed: active([dmitri], { media: "audio" }), room: roomView([participant(dmitri, 2, { camera: null, speaking: true })], { camera: { on: false, busy: false, problem: null } }) },
  "call-2-muted": { placed: active([ben]), room: roomView([participant(ben, 0, { microphone: false, quality: "poor" })], { microphone: { on: false, busy: false, problem: "denied" } }) },
  "call-2-portrait": { placed: active([ben]), room: roomView([{ ...participant(ben, 0), camera: portrait(0, 360, 640) }]) },
  "call-3": { placed: active([ben, chloe]), room: roomView(some(2)) },
  "call-3-ringing": { placed: active([ben, chloe], { people: call({ with: [ben, chloe], states: ["joined", "ringing"] }).people }), room: roomView(some(1)) },
  "call-5": { placed: active(crowd.slice(0, 4)), room: roomView(some(4)) },
  "call-9": { placed: active(crowd.slice(0, 8)), room: roomView(some(8)) },
  "call-13": { placed: active(crowd), room: roomView(some(12)) },
  "call-screen": { placed: active([ben, chloe, emi]), room: roomView(some(3).map((p, i) => (i === 0 ? { ...p, screen: slides() } : p))) },
  "call-blocked-audio": { placed: active([ben]), room: roomView(some(1), { audioBlocked: true }) },
  "call-reconnecting": { placed: active([ben]), room: roomView(some(1)), then: (app) => setTimeout(() => lose(app), 300) },
  "call-devices": { placed: active([ben]), room: roomView(some(1)), then: () => setTimeout(() => press("devices-button"), 300) },
  "call-weak": { placed: active([ben, chloe]), room: roomView([participant(ben, 0, { quality: "poor" }), participant(chloe, 1, { quality: "fair" })]), then: (app) => speedUp(app) },
  "why-fine": { placed: active([ben]), room: roomView(some(1)), quality: measured({}), then: () => why() },
  "why-mine": { placed: active([ben, chloe]), room: roomView(some(2)), quality: measured({ up: 0.08, path: "tcp", chloe: true }), then: () => why() },
  "why-theirs": { placed: active([ben]), room: roomView([participant(ben, 0, { quality: "fair" })]), quality: measured({ ben: 0.12, path: "relay" }), then: () => why() },
  "why-failed": { placed: active([ben]), room: roomView(some(1)), then: () => why() },
  "call-add": { placed: active([ben]), room: roomView(some(1)), then: () => setTimeout(() => press("add-person"), 300) },
  "call-minimised": { placed: active([ben]), room: roomView(some(1)), then: () => setTimeout(() => go("#/"), 300) },
  ended: { placed: active([ben]), room: roomView(some(1)), then: (app) => setTimeout(() => app.calls.current.value?.heard(active([ben], { id: app.calls.current.value.id ?? "", version: 9, state: "ended", outcome: "answered", lengthSeconds: 1265 })), 300) },
  "ended-declined": { placed: call({ with: [chloe] }), room: roomView([]), then: (app) => setTimeout(() => app.calls.current.value?.heard(call({ with: [chloe], id: app.calls.current.value.id ?? "", version: 9, state: "ended", outcome: "declined" })), 300) },
  "ended-missed": { ringing: [call({ with: [chloe], direction: "incoming", id: "ca_missed" })], then: (app) => setTimeout(() => app.calls.heard(call({ with: [chloe], direction: "incoming", id: "ca_missed", version: 5, state: "ended", outcome: "missed", myState: "missed" })), 300) },
};

function lose(app: ReturnType<typeof createApp>): void {
  const session = app.calls.current.value;
  if (!session || !room) return;
  room.show({ ...room.view, link: "reconnecting" });
  announce("Connection lost. Reconnecting.");
}

const query = new URLSearchParams(location.search);
const name = query.get("scene") ?? "home";
const scene: Scene = scenes[name] ?? {};
if (query.has("list")) document.title = Object.keys(scenes).join(" ");
let room: ScriptedRoom | null = null;

const json = (body: unknown, status = 200): Response => new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
const join = { url: "ws://scene", token: "", expiresAt: "" };

function answer(path: string, method: string): Response {
  if (scene.unreachable) throw new TypeError("unreachable");
  if (path === "/v1/session") return scene.signedOut ? json({ detail: "signed out" }, 401) : json({ account: me, device: { id: "dv_1", name: "Chrome on Linux", kind: "browser" } });
  if (path === "/v1/server") return json(scene.server ?? server);
  if (path === "/v1/contacts") return json(scene.contacts ?? contacts);
  if (path.startsWith("/v1/people/")) return scene.lookup ? json(scene.lookup) : json({ detail: "not found" }, 404);
  if (path.startsWith("/v1/calls?")) return json({ calls: scene.history ?? history });
  if (path === "/v1/calls" && method === "POST") return json({ call: scene.placed, join });
  if (path.endsWith("/quality") && scene.quality) return json(scene.quality);
  if (path === "/v1/invitations") return json({ link: "/#/join/7hTq2mXw9RkLsV4nZbYd", secret: "", expiresAt: new Date(Date.now() + 7 * 86_400_000).toISOString() });
  return json({ detail: `The scene has no answer to ${method} ${path}.` }, 500);
}

class ScriptedSocket implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;

  constructor() {
    if (scene.offline) {
      setTimeout(() => this.onclose?.(new CloseEvent("close", { code: 1006 })));
      return;
    }
    const snapshot: Snapshot = {
      session: { account: me, device: { id: "dv_1", name: "Chrome on Linux", kind: "browser" } },
      contacts: scene.contacts ?? contacts,
      calls: scene.ringing ?? [],
    };
    setTimeout(() => {
      this.onopen?.(new Event("open"));
      this.onmessage?.(new MessageEvent("message", { data: JSON.stringify({ type: "snapshot", cursor: "1", data: snapshot }) }));
    });
  }

  send(): void {}
  close(): void {}
}

const devices = [
  { kind: "videoinput", deviceId: "c1", label: "FaceTime HD Camera" },
  { kind: "audioinput", deviceId: "m1", label: "MacBook Pro Microphone" },
  { kind: "audioinput", deviceId: "m2", label: "Jabra Evolve2 65" },
  { kind: "audiooutput", deviceId: "s1", label: "MacBook Pro Speakers" },
];

const app = createApp({
  fetch: (path, init) => Promise.resolve().then(() => answer(path, init?.method ?? "GET")),
  openSocket: () => new ScriptedSocket(),
  openRoom: () => {
    room = new ScriptedRoom(scene.room ?? roomView([]));
    return Promise.resolve(room);
  },
  preloadRoom: () => {},
  sounds: { loop: () => {}, play: () => {} },
  mediaDevices: { enumerateDevices: () => Promise.resolve(devices), addEventListener: () => {} } as unknown as MediaDevices,
  storage: null,
});

bind(app);
const theme = query.get("theme");
if (theme === "light" || theme === "dark") app.preferences.update((p) => ({ ...p, theme }));
window.history.replaceState(null, "", scene.hash ?? "#/");
startRouter();
const root = document.getElementById("root");
if (root) createRoot(root).render(<Root app={app} secure={scene.secure ?? true} playTone={() => {}} />);
void app.account.start().then(() => {
  setTimeout(() => {
    if (scene.placed) app.calls.place(scene.placed.people.filter((m) => m.person.id !== self.id).map((m) => m.person.name), scene.placed.media);
    setTimeout(() => {
      scene.then?.(app);
      setTimeout(() => (document.body.dataset.ready = "true"), 500);
    }, 100);
  }, 30);
});
