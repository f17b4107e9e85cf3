/** What several tests need: people, calls, a scripted room and a promise that is settled by hand. */
import { emptyRoom, off, type CloseReason, type LinkState, type Participant, type Room, type RoomView } from "./call/room";
import type { Call, Join, Person } from "./wire/contract";

export function person(name: string, relation: Person["relation"] = "contact"): Person {
  return { id: `ac_${name}`, name, displayName: name.slice(0, 1).toUpperCase() + name.slice(1), relation };
}

export const join: Join = { url: "ws://server", token: "token", expiresAt: "2026-11-20T12:02:00Z" };

/** A call that this device ("ana") places to ben, with changes. */
export function outgoingCall(change: Partial<Call> = {}): Call {
  return {
    id: "ca_1",
    media: "video",
    state: "ringing",
    version: 1,
    createdAt: "2026-11-20T12:00:00Z",
    lengthSeconds: 0,
    direction: "outgoing",
    waiting: false,
    caller: person("ana", "self"),
    people: [
      { person: person("ana", "self"), state: "joined", identity: "ac_ana:dv_1" },
      { person: person("ben"), state: "ringing" },
    ],
    answeredOnThisDevice: true,
    myState: "joined",
    ...change,
  };
}

/** A call that rings here. */
export function incomingCall(change: Partial<Call> = {}): Call {
  return outgoingCall({
    id: "ca_2",
    direction: "incoming",
    caller: person("ben"),
    people: [
      { person: person("ben"), state: "joined", identity: "ac_ben:dv_9" },
      { person: person("ana", "self"), state: "ringing" },
    ],
    answeredOnThisDevice: false,
    myState: "ringing",
    ...change,
  });
}

export interface Deferred<T> {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
}

export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

export function participant(identity: string, change: Partial<Participant> = {}): Participant {
  return { identity, name: identity, self: false, speaking: false, microphone: true, camera: null, screen: null, quality: "good", ...change };
}

export class FakeRoom implements Room {
  view: RoomView = emptyRoom;
  onChange: ((view: RoomView) => void) | null = null;
  readonly log: string[] = [];
  /** What the next connect does: by default it succeeds. */
  connecting: (() => Promise<void>) | null = null;

  link(link: LinkState, closed: CloseReason | null = null, participants: Participant[] = []): void {
    this.view = { ...this.view, link, closed, participants };
    this.onChange?.(this.view);
  }

  capture(media: "audio" | "video"): Promise<void> {
    this.log.push(`capture ${media}`);
    this.view = { ...this.view, microphone: { ...off, on: true } };
    return Promise.resolve();
  }

  async connect(): Promise<void> {
    this.log.push("connect");
    await this.connecting?.();
    await Promise.resolve();
    this.link("connected");
  }

  publish(source: "microphone" | "camera" | "screen", on: boolean): Promise<void> {
    this.log.push(`${source} ${on ? "on" : "off"}`);
    this.view = { ...this.view, [source]: { ...off, on } };
    this.onChange?.(this.view);
    return Promise.resolve();
  }

  leave(): Promise<void> {
    this.log.push("leave");
    return Promise.resolve();
  }

  sample = () => Promise.resolve(null);
  useDevice = () => Promise.resolve();
  resumeAudio = () => Promise.resolve();
  watchMicrophone = () => () => {};
}
