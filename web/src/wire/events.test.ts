import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { ServerEvent } from "./contract";
import { Events, type Socket } from "./events";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

class FakeSocket implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  readonly sent: string[] = [];
  closed = false;
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  send(text: string): void {
    this.sent.push(text);
  }

  close(): void {
    this.closed = true;
  }

  opens(): void {
    this.onopen?.({} as Event);
  }

  says(event: unknown): void {
    this.onmessage?.({ data: typeof event === "string" ? event : JSON.stringify(event) } as MessageEvent);
  }

  drops(): void {
    this.onclose?.({} as CloseEvent);
  }
}

function stage(random = 1) {
  const sockets: FakeSocket[] = [];
  const heard: ServerEvent[] = [];
  const events = new Events({
    open: (path) => {
      const socket = new FakeSocket(path);
      sockets.push(socket);
      return socket;
    },
    onEvent: (e) => heard.push(e),
    random: () => random,
  });
  const last = (): FakeSocket => {
    const socket = sockets.at(-1);
    if (!socket) throw new Error("no socket was opened");
    return socket;
  };
  return { events, sockets, heard, last };
}

const snapshot = { type: "snapshot", cursor: "7", data: { calls: [] } };

describe("the events socket", () => {
  it("is online with its first snapshot", () => {
    const { events, heard, last } = stage();
    events.start();
    expect(events.connection.value).toBe("connecting");
    last().opens();
    expect(events.connection.value).toBe("connecting");
    last().says(snapshot);
    expect(events.connection.value).toBe("online");
    expect(heard.map((e) => e.type)).toEqual(["snapshot"]);
  });

  it("comes back with the last cursor", async () => {
    const { events, sockets, last } = stage();
    events.start();
    last().opens();
    last().says(snapshot);
    last().says({ type: "contacts", cursor: "a b&c", data: {} });
    last().drops();
    expect(events.connection.value).toBe("offline");
    await vi.advanceTimersByTimeAsync(400);
    expect(sockets.map((s) => s.path)).toEqual(["/v1/events", "/v1/events?cursor=a%20b%26c"]);
  });

  it("waits ever longer, to 15 s, until a snapshot comes", async () => {
    const { events, sockets, last } = stage();
    events.start();
    const waits: number[] = [];
    for (let i = 0; i < 8; i++) {
      const before = Date.now();
      const count = sockets.length;
      last().drops();
      while (sockets.length === count) await vi.advanceTimersByTimeAsync(100);
      waits.push(Date.now() - before);
    }
    expect(waits).toEqual([400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]);
    last().says(snapshot);
    last().drops();
    await vi.advanceTimersByTimeAsync(400);
    expect(sockets).toHaveLength(10);
  });

  it("spreads the tries of many by up to half", async () => {
    const { events, sockets, last } = stage(0);
    events.start();
    last().drops();
    await vi.advanceTimersByTimeAsync(200);
    expect(sockets).toHaveLength(2);
  });

  it("answers pings and takes 45 s of silence for a lost connection", async () => {
    const { events, sockets, last } = stage();
    events.start();
    last().opens();
    last().says(snapshot);
    await vi.advanceTimersByTimeAsync(40_000);
    last().says({ type: "ping" });
    expect(last().sent).toEqual(['{"type":"pong"}']);
    await vi.advanceTimersByTimeAsync(44_000);
    expect(sockets).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1_500);
    expect(sockets[0]?.closed).toBe(true);
    expect(sockets).toHaveLength(2);
  });

  it("gives up on a socket that never opens", async () => {
    const { events, sockets } = stage();
    events.start();
    await vi.advanceTimersByTimeAsync(10_400);
    expect(sockets).toHaveLength(2);
  });

  it("hurries when asked, instead of waiting", async () => {
    const { events, sockets, last } = stage();
    events.start();
    last().drops();
    events.hurry();
    expect(sockets).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(9_000);
    expect(sockets).toHaveLength(2);
  });

  it("survives frames that it doesn't understand", () => {
    const { events, heard, last } = stage();
    events.start();
    for (const bad of ["", "{", "null", "[]", '"x"', { type: 7 }, { type: "from_the_future", data: 1 }, {}]) last().says(bad);
    last().onmessage?.({ data: new ArrayBuffer(4) } as MessageEvent);
    expect(heard).toEqual([]);
    last().says(snapshot);
    expect(heard).toHaveLength(1);
  });

  it("stopped, stays closed, forgets its cursor and hears nothing more", async () => {
    const { events, sockets, heard, last } = stage();
    events.start();
    last().says(snapshot);
    const old = last();
    events.stop();
    expect(old.closed).toBe(true);
    old.says(snapshot);
    expect(heard).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sockets).toHaveLength(1);
    events.start();
    expect(last().path).toBe("/v1/events");
  });
});
