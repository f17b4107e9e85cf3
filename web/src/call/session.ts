/** Carries one call: feeds the machine with what happens and does what it asks for. */
import { ApiError } from "../wire/http";
import type { Api } from "../wire/api";
import type { Call, Join, Media } from "../wire/contract";
import { Store, type Clock } from "../store";
import * as machine from "./machine";
import { QualityWatch, WeakWatch } from "./quality";
import { emptyRoom, type DeviceKind, type Room, type RoomView, type Source } from "./room";

export type CallApi = Pick<Api, "placeCall" | "answer" | "cancel" | "hangUp" | "rejoin" | "call" | "addToCall" | "callQuality">;

export interface SessionOptions {
  api: CallApi;
  /** The media code is large, so it's loaded when the first call begins. */
  openRoom: () => Promise<Room>;
  clock: Clock;
  /** It has ended; again when the server's word on how replaces our own. */
  onEnding: (session: CallSession) => void;
}

const hangUpTries = 5;

export class CallSession {
  /** Stays the same from the first click to the last word; the server's id comes later. */
  readonly clientId: string;
  readonly state: Store<machine.CallState>;
  readonly room = new Store<RoomView>(emptyRoom);
  /** How good the call is, measured while somebody looks. */
  readonly quality: QualityWatch;
  readonly #weak: WeakWatch;
  readonly #options: SessionOptions;
  #room: Promise<Room> | null = null;
  #left = false;
  #cancelRingTimer: () => void = () => {};
  #cancelRejoin: () => void = () => {};

  private constructor(state: machine.CallState, options: SessionOptions) {
    this.state = new Store(state);
    this.#options = options;
    this.clientId = crypto.randomUUID();
    this.#weak = new WeakWatch(options.clock);
    this.quality = new QualityWatch({ sample: async () => (await this.#opened()).sample(), server: () => options.api.callQuality(this.id ?? "") }, options.clock);
  }

  static place(names: readonly string[], media: Media, options: SessionOptions): CallSession {
    const session = new CallSession(machine.outgoing(names, media), options);
    void session.#capture(media);
    void session.#request(() => options.api.placeCall([...names], media, session.clientId), "placed");
    return session;
  }

  static answer(call: Call, media: Media, options: SessionOptions): CallSession {
    const session = new CallSession(machine.incoming(call, media), options);
    void session.#capture(media);
    void session.#request(() => options.api.answer(call.id, media), "answered");
    return session;
  }

  static resume(call: Call, options: SessionOptions): CallSession {
    const session = new CallSession(machine.resumed(call), options);
    void session.#capture(call.media);
    session.#perform({ do: "rejoin", id: call.id, after: 0 });
    return session;
  }

  get id(): string | null {
    return this.state.value.call?.id ?? null;
  }

  /** The identity whose connection has been weak for a while. */
  get weak(): Store<string | null> {
    return this.#weak.weak;
  }

  get over(): boolean {
    return this.state.value.phase === "ended";
  }

  /** The server's word on this call. */
  heard(call: Call): void {
    this.#step({ type: "server", call });
  }

  hangUp(): void {
    this.#step({ type: "hangUp" });
  }

  /** Asks the server how the call stands, because news may have been missed. */
  async refresh(): Promise<void> {
    const id = this.id;
    if (!id) return;
    try {
      this.heard(await this.#options.api.call(id));
    } catch {
      // The events socket or the room will tell.
    }
  }

  async addPeople(names: string[]): Promise<void> {
    if (!this.id) return;
    this.heard((await this.#options.api.addToCall(this.id, names)).call);
  }

  async publish(source: Source, on: boolean): Promise<void> {
    await (await this.#opened()).publish(source, on);
  }

  async useDevice(kind: DeviceKind, id: string): Promise<void> {
    await (await this.#opened()).useDevice(kind, id);
  }

  /** How loud our microphone is, 0 to 1, until the returned function is called. */
  readonly watchMicrophone = (onLevel: (level: number) => void): (() => void) => {
    let stop: () => void = () => {};
    let stopped = false;
    void this.#opened().then((room) => {
      if (!stopped) stop = room.watchMicrophone(onLevel);
    });
    return () => {
      stopped = true;
      stop();
    };
  };

  async resumeAudio(): Promise<void> {
    await (await this.#opened()).resumeAudio();
  }

  #opened(): Promise<Room> {
    this.#room ??= this.#options.openRoom().then((room) => {
      room.onChange = (view) => this.#roomChanged(view);
      return room;
    });
    return this.#room;
  }

  async #capture(media: Media): Promise<void> {
    try {
      const room = await this.#opened();
      if (!this.#left) await room.capture(media);
      if (this.#left) await room.leave();
    } catch {
      this.#room = null; // the media code couldn't be loaded: the next use tries again
    }
  }

  #roomChanged(view: RoomView): void {
    const before = this.room.value;
    if (this.#left) return;
    this.room.set(view);
    this.#weak.heard(view.participants);
    if (view.link !== before.link && view.link !== "connecting") {
      this.#step({ type: "link", link: view.link, closed: view.closed });
    }
  }

  async #request(send: () => Promise<{ call: Call; join: Join }>, type: "placed" | "answered"): Promise<void> {
    try {
      const { call, join } = await send();
      this.#step({ type, call, join });
    } catch (error) {
      this.#step({ type: "refused", error: refusal(error) });
    }
  }

  #step(input: machine.Input): void {
    const before = this.state.value;
    const [next, effects] = machine.step(before, input, this.#options.clock.now());
    this.state.set(next);
    if (next.phase !== before.phase) this.#phaseChanged(next.phase);
    for (const effect of effects) this.#perform(effect);
    if (next.ending !== before.ending) this.#options.onEnding(this);
  }

  #phaseChanged(phase: machine.Phase): void {
    this.#cancelRingTimer();
    if (phase === "ringing") {
      this.#cancelRingTimer = this.#options.clock.after(machine.ringAtMost, () => this.#step({ type: "ringTimeout" }));
    }
    if (phase === "ended") {
      this.#cancelRejoin();
      this.#weak.stop();
    }
  }

  #perform(effect: machine.Effect): void {
    const { api, clock } = this.#options;
    switch (effect.do) {
      case "connect":
        void this.#connect(effect.join);
        return;
      case "leave":
        this.#left = true;
        void this.#room?.then((room) => room.leave()).catch(() => {});
        return;
      case "cancel":
        void this.#insist(() => api.cancel(effect.id));
        return;
      case "hangUp":
        void this.#insist(() => api.hangUp(effect.id));
        return;
      case "refresh":
        void this.refresh();
        return;
      case "rejoin":
        this.#cancelRejoin();
        this.#cancelRejoin = clock.after(effect.after, () => void this.#rejoin(effect.id));
        return;
    }
  }

  async #connect(join: Join): Promise<void> {
    try {
      const room = await this.#opened();
      if (this.#left) return;
      await room.connect(join);
    } catch {
      if (!this.#left) this.#step({ type: "connectFailed" });
    }
  }

  async #rejoin(id: string): Promise<void> {
    try {
      const { call, join } = await this.#options.api.rejoin(id);
      this.#step({ type: "rejoined", call, join });
    } catch (error) {
      this.#step({ type: "rejoinRefused", error: refusal(error) });
    }
  }

  /** Tells the server that we're gone; without that, the others would wait for us. */
  async #insist(tell: () => Promise<{ call: Call }>): Promise<void> {
    for (let attempt = 0; attempt < hangUpTries; attempt++) {
      try {
        const { call } = await tell();
        this.#step({ type: "server", call });
        return;
      } catch (error) {
        const { status } = refusal(error);
        if (status !== 0 && status !== 429 && status < 500) return; // over already
        await new Promise<void>((resolve) => this.#options.clock.after(1000 * 2 ** attempt, resolve));
      }
    }
  }
}

function refusal(error: unknown): machine.Refusal {
  if (error instanceof ApiError) return { status: error.status, code: error.code, detail: error.message };
  return { status: 0, code: "failed", detail: error instanceof Error ? error.message : String(error) };
}
