/**
 * The events socket: one WebSocket to /v1/events that stays.
 * Connect → snapshot → events; lost → wait (doubling, with jitter) → connect again with the last cursor.
 * The server pings every 20 s; silence of 45 s counts as a lost connection.
 */
import { Store, systemClock, type Clock } from "../store";
import type { ServerEvent } from "./contract";

export type Connection = "connecting" | "online" | "offline";

/** The part of WebSocket that is used here. */
export interface Socket {
  onopen: ((event: Event) => unknown) | null;
  onmessage: ((event: MessageEvent) => unknown) | null;
  onclose: ((event: CloseEvent) => unknown) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface EventsOptions {
  /** Opens a socket to a path such as `/v1/events?cursor=…`. */
  open: (path: string) => Socket;
  onEvent: (event: ServerEvent) => void;
  clock?: Clock;
  /** 0 to 1, for the jitter. */
  random?: () => number;
}

const firstDelay = 400;
const longestDelay = 15_000;
const silence = 45_000;
const openTimeout = 10_000;

export class Events {
  readonly connection = new Store<Connection>("offline");
  readonly #options: EventsOptions;
  readonly #clock: Clock;
  #socket: Socket | null = null;
  #cursor = "";
  #failures = 0;
  #wanted = false;
  #cancelTimer: () => void = () => {};

  constructor(options: EventsOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  start(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#failures = 0;
    this.#connect();
  }

  /** Closes for good, until the next start; the cursor is forgotten, because the next session may be another's. */
  stop(): void {
    this.#wanted = false;
    this.#cursor = "";
    this.#drop();
    this.connection.set("offline");
  }

  /** Tries at once instead of waiting: the device has just come back online, or the page is shown again. */
  hurry(): void {
    if (!this.#wanted || this.#socket) return;
    this.#failures = 0;
    this.#cancelTimer();
    this.#connect();
  }

  #connect(): void {
    this.connection.set("connecting");
    let socket: Socket;
    try {
      socket = this.#options.open(this.#cursor ? `/v1/events?cursor=${encodeURIComponent(this.#cursor)}` : "/v1/events");
    } catch {
      this.#retry();
      return;
    }
    this.#socket = socket;
    this.#expect(openTimeout);
    socket.onopen = () => this.#expect(silence);
    socket.onmessage = (message) => {
      if (this.#socket !== socket) return;
      this.#expect(silence);
      const event = parse(message.data);
      if (event) this.#receive(socket, event);
    };
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#drop();
      this.#retry();
    };
  }

  #receive(socket: Socket, event: ServerEvent): void {
    if (event.cursor) this.#cursor = event.cursor;
    if (event.type === "ping") {
      socket.send(JSON.stringify({ type: "pong" }));
      return;
    }
    if (event.type === "snapshot") {
      this.#failures = 0;
      this.connection.set("online");
    }
    this.#options.onEvent(event);
  }

  #expect(within: number): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.after(within, () => {
      this.#drop();
      this.#retry();
    });
  }

  #retry(): void {
    if (!this.#wanted) return;
    this.connection.set("offline");
    const longest = Math.min(longestDelay, firstDelay * 2 ** this.#failures);
    this.#failures++;
    const jitter = (this.#options.random ?? Math.random)();
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.after(longest * (0.5 + jitter / 2), () => this.#connect());
  }

  #drop(): void {
    this.#cancelTimer();
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

const known = new Set(["snapshot", "call", "contacts", "account", "signed_out", "ping"]);

/** Events of kinds that this version doesn't know are skipped: a newer server may send them. */
function parse(data: unknown): ServerEvent | null {
  if (typeof data !== "string") return null;
  try {
    const value: unknown = JSON.parse(data);
    if (typeof value !== "object" || value === null || !("type" in value)) return null;
    return typeof value.type === "string" && known.has(value.type) ? (value as ServerEvent) : null;
  } catch {
    return null;
  }
}
