/** All calls of this device: at most one that it is in, those that ring, and how the last one ended. */
import type { Call, Media } from "../wire/contract";
import type { Api } from "../wire/api";
import { ApiError } from "../wire/http";
import { Store, systemClock, type Clock } from "../store";
import { ringAtMost, type EndOutcome } from "./machine";
import type { Room } from "./room";
import { nameOf } from "./words";
import { CallSession, type CallApi } from "./session";

/** A note on a call that is over, until it's dismissed. */
export interface EndedNote {
  /** The call's session or, for one that only rang, the call. */
  key: string;
  outcome: EndOutcome;
  direction: "outgoing" | "incoming";
  lengthSeconds: number;
  detail: string;
  media: Media;
  /** Whom it was with: display names, and names to call again. */
  title: string;
  names: readonly string[];
}

export interface CallsOptions {
  api: CallApi & Pick<Api, "decline">;
  openRoom: () => Promise<Room>;
  clock?: Clock;
  /** Fetches the media code ahead of need. */
  preload?: () => void;
}

export class Calls {
  readonly current = new Store<CallSession | null>(null);
  /** Calls that ring here, oldest first. */
  readonly ringing = new Store<readonly Call[]>([]);
  readonly ended = new Store<EndedNote | null>(null);
  /** A call that this device is in, as far as the server knows, without a session: another tab has it, or had it before a reload. */
  readonly orphan = new Store<Call | null>(null);
  readonly #options: Required<Omit<CallsOptions, "preload">> & Pick<CallsOptions, "preload">;
  /** The person's own account, to name the others. */
  #me = "";
  /** The last ended session, which may still hear the server's last word. */
  #last: CallSession | null = null;
  /** Answered or declined here: late news that they ring is old news. */
  readonly #handled = new Set<string>();
  readonly #ringTimers = new Map<string, () => void>();

  constructor(options: CallsOptions) {
    this.#options = { clock: systemClock, ...options };
  }

  place(names: readonly string[], media: Media): CallSession | null {
    if (names.length === 0 || this.current.value) return null;
    return this.#enter(CallSession.place(names, media, this.#session()));
  }

  /** Answers a ringing call; one that goes on is ended first, because a device is in one call at a time. */
  async accept(id: string, media: Media): Promise<void> {
    const call = this.ringing.value.find((c) => c.id === id);
    if (!call) return;
    this.#handled.add(id);
    this.#stopRinging(id);
    const before = this.current.value;
    if (before) {
      before.hangUp();
      await this.#settled(before);
      if (this.current.value) return; // answered twice
    }
    this.#enter(CallSession.answer(call, media, this.#session()));
  }

  async decline(id: string, reason: "busy" | "declined" = "declined"): Promise<void> {
    this.#handled.add(id);
    this.#stopRinging(id);
    try {
      this.heard((await this.#options.api.decline(id, reason)).call);
    } catch (error) {
      // It rings on for the caller until it times out; that the server refused means that it's over already.
      if (error instanceof ApiError && !error.unreachable) return;
    }
  }

  hangUp(): void {
    this.current.value?.hangUp();
  }

  /** Takes a call over into this tab. */
  resume(call: Call): void {
    if (this.current.value) return;
    this.orphan.set(null);
    this.#enter(CallSession.resume(call, this.#session()));
  }

  dismiss(): void {
    this.ended.set(null);
  }

  /** The server's word on one call. */
  heard(call: Call): void {
    const current = this.current.value;
    if (current?.id === call.id) {
      current.heard(call);
    } else if (this.#last?.id === call.id) {
      this.#last.heard(call);
    }
    this.#ring(call);
    this.#adopt(call);
  }

  /** After the events socket was connected (again). */
  snapshot(calls: readonly Call[], me: string): void {
    this.#me = me;
    const ids = new Set(calls.map((c) => c.id));
    for (const call of this.ringing.value) if (!ids.has(call.id)) this.#stopRinging(call.id);
    if (this.orphan.value && !ids.has(this.orphan.value.id)) this.orphan.set(null);
    for (const call of calls) this.heard(call);
    const current = this.current.value;
    if (current?.id && !ids.has(current.id)) void current.refresh();
  }

  /** Signed out: everything ends here and now. */
  reset(): void {
    this.current.value?.hangUp();
    for (const call of this.ringing.value) this.#stopRinging(call.id);
    this.orphan.set(null);
    this.ended.set(null);
  }

  #session() {
    const { api, openRoom, clock } = this.#options;
    return { api, openRoom, clock, onEnding: (session: CallSession) => this.#over(session) };
  }

  #enter(session: CallSession): CallSession {
    this.ended.set(null);
    if (!session.over) this.current.set(session);
    return session;
  }

  #over(session: CallSession): void {
    if (this.current.value === session) {
      this.#last = session;
      this.current.set(null);
    }
    this.#noteEnd(session);
  }

  #noteEnd(session: CallSession): void {
    const { ending, call, direction, media, names } = session.state.value;
    if (!ending || this.current.value) return;
    const had = this.ended.value;
    if (had && had.key !== session.clientId) return;
    const others = call?.people.filter((m) => m.person.id !== this.#me).map((m) => m.person) ?? [];
    const shown = call && direction === "incoming" && others.length === 0 ? [call.caller] : others;
    this.ended.set({
      key: session.clientId,
      ...ending,
      direction,
      media,
      title: shown.length > 0 ? shown.map(nameOf).join(", ") : names.map((n) => `@${n}`).join(", "),
      names: shown.length > 0 ? shown.map((p) => p.name) : names,
    });
  }

  #ring(call: Call): void {
    // Asked back into a group, a person is rung again in the call that they declined or left.
    const rung = call.state === "ringing" && call.direction === "incoming" && call.myState === "ringing";
    if (!rung) this.#handled.delete(call.id);
    const rings = rung && !this.#handled.has(call.id);
    const known = this.ringing.value.find((c) => c.id === call.id);
    if (rings) {
      if (known && known.version > call.version) return;
      if (!known) {
        this.#options.preload?.();
        // Should the end of the ringing never reach us, it doesn't ring for ever.
        this.#ringTimers.set(call.id, this.#options.clock.after(ringAtMost, () => this.#stopRinging(call.id)));
      }
      this.ringing.update((list) => (known ? list.map((c) => (c === known ? call : c)) : [...list, call]));
      return;
    }
    if (!known) return;
    this.#stopRinging(call.id);
    if (this.current.value || this.ended.value) return;
    const elsewhere = (call.myState === "joined" || call.myState === "reconnecting") && !call.answeredOnThisDevice;
    if (elsewhere || call.outcome === "missed") {
      this.ended.set({
        key: call.id,
        outcome: elsewhere ? "elsewhere" : "missed",
        direction: "incoming",
        lengthSeconds: 0,
        detail: "",
        media: call.media,
        title: nameOf(call.caller),
        names: [call.caller.name],
      });
    }
  }

  #adopt(call: Call): void {
    const inIt =
      call.answeredOnThisDevice && call.state !== "ended" && (call.myState === "joined" || call.myState === "reconnecting");
    const ours = this.current.value !== null || this.#last?.id === call.id;
    if (inIt && !ours) this.orphan.set(call);
    else if (this.orphan.value?.id === call.id) this.orphan.set(null);
  }

  #stopRinging(id: string): void {
    this.#ringTimers.get(id)?.();
    this.#ringTimers.delete(id);
    this.ringing.update((list) => list.filter((c) => c.id !== id));
  }

  /** Waits until the server has let go of an ended call, two seconds at most. */
  #settled(session: CallSession): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        cancel();
        unsubscribe();
        resolve();
      };
      const cancel = this.#options.clock.after(2000, done);
      const unsubscribe = session.state.subscribe((state) => {
        if (state.call?.state === "ended") done();
      });
      if (session.state.value.call === null) done();
    });
  }
}
