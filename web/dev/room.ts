/** A Room without a network, whose people are painted on canvases. */
import { emptyRoom, off, type Participant, type Room, type RoomView, type VideoSource } from "../src/call/room";
import type { Person } from "../src/wire/contract";
import { self } from "./cast";

const skins = ["#f2c9a5", "#8d5a3b", "#e0a878", "#5c3a28", "#f6d7bd", "#b97a50"];
const walls = [["#dcd6c8", "#b8a98d"], ["#2e4756", "#16262f"], ["#c7d8d0", "#7e9f93"], ["#5a3e52", "#2d1d2a"], ["#e8d7b8", "#cc9f66"], ["#3b4a6b", "#1d2540"]];

/** Somebody before a wall, drawn well enough to judge the layout by. */
export function portrait(seed: number, width = 640, height = 360): VideoSource {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const c = canvas.getContext("2d");
  if (c) {
    const [light = "#ccc", dark = "#999"] = walls[seed % walls.length] ?? [];
    const wall = c.createLinearGradient(0, 0, width, height);
    wall.addColorStop(0, light);
    wall.addColorStop(1, dark);
    c.fillStyle = wall;
    c.fillRect(0, 0, width, height);
    c.fillStyle = "rgb(255 255 255 / 0.14)";
    c.fillRect(width * (0.06 + 0.05 * (seed % 3)), height * 0.08, width * 0.18, height * 0.36);
    const x = width * (0.47 + 0.03 * (seed % 3));
    const r = height * 0.19;
    c.fillStyle = ["#394b8f", "#8f3b46", "#2f6f5c", "#d09b2c", "#4b4b57"][seed % 5] ?? "#444";
    c.beginPath();
    c.ellipse(x, height * 1.06, r * 2.1, height * 0.42, 0, 0, 7);
    c.fill();
    c.fillStyle = skins[seed % skins.length] ?? "#caa";
    c.fillRect(x - r * 0.36, height * 0.52, r * 0.72, r * 0.9);
    c.beginPath();
    c.ellipse(x, height * 0.42, r * 0.8, r, 0, 0, 7);
    c.fill();
    c.fillStyle = ["#2a1c14", "#141414", "#7a4a22", "#b98d4a"][seed % 4] ?? "#222";
    c.beginPath();
    c.ellipse(x, height * 0.33, r * 0.9, r * 0.72, 0, Math.PI, 0);
    c.fill();
  }
  const stream = canvas.captureStream(1);
  return {
    id: `portrait-${String(seed)}`,
    attach: (element) => {
      element.srcObject = stream;
      void element.play().catch(() => {});
    },
    detach: (element) => {
      element.srcObject = null;
    },
  };
}

export function slides(): VideoSource {
  const canvas = document.createElement("canvas");
  canvas.width = 1600;
  canvas.height = 1000;
  const c = canvas.getContext("2d");
  if (c) {
    c.fillStyle = "#fbfaf7";
    c.fillRect(0, 0, 1600, 1000);
    c.fillStyle = "#1d1832";
    c.font = "700 84px sans-serif";
    c.fillText("Harvest plan, spring", 120, 200);
    for (const [i, h] of [300, 420, 380, 520, 610, 560].entries()) {
      c.fillStyle = i === 4 ? "#ffab2e" : "#5240e0";
      c.fillRect(140 + i * 220, 880 - h, 150, h);
    }
  }
  const stream = canvas.captureStream(1);
  return { id: "slides", attach: (e) => void (e.srcObject = stream), detach: (e) => void (e.srcObject = null) };
}

const on = { ...off, on: true };

export function participant(person: Person, i: number, change: Partial<Participant> = {}): Participant {
  return {
    identity: `${person.id}:dv_1`,
    name: person.displayName || person.name,
    self: person.relation === "self",
    speaking: false,
    microphone: true,
    camera: portrait(i),
    screen: null,
    quality: "good",
    ...change,
  };
}

export function roomView(others: Participant[], change: Partial<RoomView> = {}): RoomView {
  const view = { ...emptyRoom, link: "connected" as const, microphone: on, camera: on, ...change };
  return {
    ...view,
    participants: [participant(self, 4, { camera: view.camera.on ? portrait(4, 480, 360) : null, microphone: view.microphone.on }), ...others],
  };
}

/** Goes to `view` once connected; before that there's only the preview. */
export class ScriptedRoom implements Room {
  view: RoomView = emptyRoom;
  onChange: ((view: RoomView) => void) | null = null;
  readonly #connected: RoomView;

  constructor(connected: RoomView) {
    this.#connected = connected;
  }

  show(view: RoomView): void {
    this.view = view;
    queueMicrotask(() => this.onChange?.(this.view));
  }

  capture(): Promise<void> {
    this.show({ ...roomView([], { camera: this.#connected.camera, microphone: this.#connected.microphone }), link: "idle" });
    return Promise.resolve();
  }

  connect(): Promise<void> {
    this.show(this.#connected);
    return Promise.resolve();
  }

  publish(source: "microphone" | "camera" | "screen", wanted: boolean): Promise<void> {
    this.show({ ...this.view, [source]: { ...off, on: wanted } });
    return Promise.resolve();
  }

  watchMicrophone(onLevel: (level: number) => void): () => void {
    onLevel(0.62);
    return () => {};
  }

  sample = () => Promise.resolve(null);
  useDevice = () => Promise.resolve();
  resumeAudio = () => Promise.resolve();
  leave = () => Promise.resolve();
}
