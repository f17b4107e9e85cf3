/**
 * The app without its looks: makes every part and connects them. What the outside world offers comes in as `Outside`, so
 * that tests and the design scenes run the same app on other ground.
 *
 *   events socket → contacts, calls, account
 *   calls → sounds, history
 *   account (in, out) → events socket starts, stops
 */
import { Api } from "./wire/api";
import { Events, type Socket } from "./wire/events";
import { Http, type Fetch } from "./wire/http";
import type { ServerEvent } from "./wire/contract";
import { AccountStore } from "./people/account";
import { History } from "./people/history";
import { People } from "./people/contacts";
import { openPreferences, type Preferences, type Storage } from "./people/preferences";
import { Calls } from "./call/calls";
import { soundOf } from "./call/sounding";
import type { Room } from "./call/room";
import { Devices } from "./media/devices";
import type { Chime, Loop } from "./media/sounds";
import { systemClock, type Clock, type Store } from "./store";

export interface Outside {
  fetch: Fetch;
  openSocket: (path: string) => Socket;
  openRoom: (preferences: Store<Preferences>) => Promise<Room>;
  preloadRoom: () => void;
  sounds: { loop(name: Loop | null): void; play(name: Chime): void };
  mediaDevices: MediaDevices | undefined;
  storage: Storage | null;
  clock?: Clock;
}

export interface App {
  api: Api;
  events: Events;
  account: AccountStore;
  people: People;
  history: History;
  calls: Calls;
  devices: Devices;
  preferences: Store<Preferences>;
}

export function createApp(outside: Outside): App {
  const clock = outside.clock ?? systemClock;
  const api = new Api(new Http(outside.fetch));
  const preferences = openPreferences(outside.storage);
  const account = new AccountStore(api, clock);
  const people = new People(api, clock);
  const history = new History(api);
  const calls = new Calls({ api, clock, openRoom: () => outside.openRoom(preferences), preload: outside.preloadRoom });
  const devices = new Devices(outside.mediaDevices);
  const events = new Events({ open: outside.openSocket, clock, onEvent: hear });

  function hear(event: ServerEvent): void {
    switch (event.type) {
      case "snapshot":
        account.joined(event.data.session);
        people.heard(event.data.contacts);
        calls.snapshot(event.data.calls ?? [], event.data.session.account.id);
        void history.load();
        return;
      case "call":
        calls.heard(event.data);
        if (event.data.state === "ended") history.heard(event.data);
        return;
      case "contacts":
        people.heard(event.data);
        return;
      case "account":
        account.heard(event.data);
        return;
      case "signed_out":
        void account.ended();
        return;
      case "ping":
        return;
    }
  }

  events.connection.subscribe((connection) => {
    if (connection === "offline") void account.check();
  });

  let signedIn = "";
  account.state.subscribe((state) => {
    const id = state.phase === "in" ? state.session.account.id : "";
    if (id === signedIn) return;
    signedIn = id;
    if (state.phase === "in") {
      const lastName = state.session.account.name;
      preferences.update((p) => (p.lastName === lastName ? p : { ...p, lastName }));
      events.start();
    } else {
      events.stop();
      calls.reset();
      people.reset();
      history.reset();
    }
  });

  connectSounds(calls, preferences, outside.sounds);
  return { api, events, account, people, history, calls, devices, preferences };
}

function connectSounds(calls: Calls, preferences: Store<Preferences>, sounds: Outside["sounds"]): void {
  let unsubscribe = (): void => {};
  let others = new Set<string>();
  const update = (): void => sounds.loop(soundOf(calls.current.value?.state.value ?? null, calls.ringing.value));
  calls.ringing.subscribe(update);
  preferences.subscribe(update);
  calls.current.subscribe((session) => {
    unsubscribe();
    others = new Set();
    update();
    if (!session) return;
    const stops = [
      session.state.subscribe((state) => {
        update();
        if (state.phase === "ended") sounds.play("hangup");
      }),
      session.room.subscribe((view) => {
        if (view.link !== "connected") return;
        const now = new Set(view.participants.filter((p) => !p.self).map((p) => p.identity));
        if ([...now].some((id) => !others.has(id))) sounds.play(others.size === 0 ? "connected" : "join");
        else if ([...others].some((id) => !now.has(id)) && now.size > 0) sounds.play("leave");
        others = now;
      }),
    ];
    unsubscribe = () => stops.forEach((stop) => stop());
  });
}
