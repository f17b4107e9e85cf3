/** The signed-in app: navigation, panes, and whatever a call lays over them. */
import { useEffect } from "react";
import type { Session } from "../wire/contract";
import { clock, nameOf } from "../call/words";
import { announce } from "./announce";
import { openCall } from "./commands";
import { useApp, useMedia, useNow, useStore } from "./hooks";
import { go, type Route } from "./router";
import { CallScreen } from "./call/CallScreen";
import { Ended } from "./call/Ended";
import { Incoming } from "./call/Incoming";
import { others } from "./call/people";
import { Button, Empty } from "./components/controls";
import { Icon, type IconName } from "./components/Icon";
import { Logo } from "./components/Logo";
import { CallRow, HistoryPane } from "./screens/History";
import { PeoplePane } from "./screens/Home";
import { PersonPane } from "./screens/Person";
import { SettingsPane } from "./screens/Settings";
import type { CallSession } from "../call/session";
import type { Account, Call } from "../wire/contract";

export function Shell({ session, route, playTone }: { session: Session; route: Route; playTone: () => void }) {
  const { calls } = useApp();
  const me = session.account;
  const current = useStore(calls.current);
  const ringing = useStore(calls.ringing);
  const ended = useStore(calls.ended);
  const orphan = useStore(calls.orphan);
  const wide = useMedia("(min-width: 60rem)");
  useCallRoute(current, route);
  useEffect(() => {
    // The page was loaded anew in the middle of a call: back into it.
    if (orphan && route.page === "call" && route.id === orphan.id) calls.resume(orphan);
  }, [calls, orphan, route]);
  const page = route.page === "call" || route.page === "welcome" || route.page === "join" || route.page === "setup" ? "home" : route.page;
  const inCallScreen = current !== null && route.page === "call";
  const [incoming] = ringing;
  return (
    <>
      <div className="shell" inert={inCallScreen || undefined}>
        <Nav page={page} />
        <main className="panes" data-page={page}>
          <Offline />
          {current && !inCallScreen && <CallBar session={current} me={me} />}
          {orphan && !current && <OrphanBar call={orphan} />}
          <div className="panes-row">
            {(page === "home" || page === "person") && (
              <>
                {(wide || page === "home") && <PeoplePane me={me} selected={route.page === "person" ? route.name : null} />}
                {route.page === "person" ? <PersonPane key={route.name} name={route.name} /> : wide && <Welcoming />}
              </>
            )}
            {page === "history" && <HistoryPane />}
            {page === "settings" && <SettingsPane me={me} playTone={playTone} />}
          </div>
        </main>
      </div>
      {inCallScreen && <CallScreen session={current} me={me} key={current.clientId} />}
      {ended && !current && <Ended note={ended} key={ended.key} />}
      {incoming && <Incoming call={incoming} key={incoming.id} />}
      <CallAnnouncer />
    </>
  );
}

/** The call has an address of its own: a new call opens it, its end leaves it. */
function useCallRoute(current: CallSession | null, route: Route): void {
  const { calls } = useApp();
  useEffect(() => {
    if (!current) return;
    openCall();
    let known = current.id;
    const stop = current.state.subscribe((state) => {
      const id = state.call?.id ?? null;
      if (id !== known) {
        known = id;
        if (location.hash.startsWith("#/call/") && id) go(`#/call/${id}`, true);
      }
    });
    return stop;
  }, [current]);
  const stray = route.page === "call" && !current;
  useEffect(() => {
    if (!stray) return;
    // A reloaded page hears of its call from the first snapshot; until then the address stays.
    const leave = (): void => {
      if (!calls.current.value && !calls.orphan.value) go("#/", true);
    };
    const timer = setTimeout(leave, 1500);
    return () => clearTimeout(timer);
  }, [calls, stray]);
}

const places: readonly { page: string; href: string; icon: IconName; text: string; testid: string }[] = [
  { page: "home", href: "#/", icon: "people", text: "People", testid: "nav-home" },
  { page: "history", href: "#/history", icon: "recents", text: "Recents", testid: "nav-history" },
  { page: "settings", href: "#/settings", icon: "settings", text: "Settings", testid: "nav-settings" },
];

function Nav({ page }: { page: string }) {
  const { people } = useApp();
  const { incoming } = useStore(people.contacts);
  return (
    <nav className="nav" aria-label="Main">
      <a className="nav-logo" href="#/" aria-label="Anytime, home" tabIndex={-1}>
        <Logo size={38} />
      </a>
      {places.map((p) => (
        <a key={p.page} className="nav-item" href={p.href} aria-current={page === p.page || (page === "person" && p.page === "home") ? "page" : undefined} data-testid={p.testid}>
          <span className="nav-icon">
            <Icon name={p.icon} />
            {p.page === "home" && incoming.length > 0 && (
              <span className="nav-badge">
                {incoming.length}
                <span className="visually-hidden"> requests</span>
              </span>
            )}
          </span>
          <span className="nav-text">{p.text}</span>
        </a>
      ))}
    </nav>
  );
}

function Offline() {
  const { events } = useApp();
  const connection = useStore(events.connection);
  return (
    <div className="offline-slot" role="status">
      {connection !== "online" && (
        <p className="offline" data-testid="offline">
          <Icon name="offline" size={18} /> <span>
            No connection. <span className="offline-more">Calls can’t reach you until it’s back.</span>
          </span>
          <Button tone="quiet" onClick={() => events.hurry()}>
            Try now
          </Button>
        </p>
      )}
    </div>
  );
}

function CallBar({ session, me }: { session: CallSession; me: Account }) {
  const state = useStore(session.state);
  const now = useNow(1000);
  return (
    <div className="call-bar" data-testid="call-bar">
      <button type="button" className="call-bar-main" onClick={openCall}>
        <span className="call-bar-dot" aria-hidden="true" />
        <span className="call-bar-name">{others(state, me.id).map(nameOf).join(", ")}</span>
        <span>{state.activeSince === null ? "Calling…" : clock((now - state.activeSince) / 1000)}</span>
        <span className="call-bar-back">Back to the call</span>
      </button>
      <button type="button" className="call-bar-end" aria-label="Hang up" onClick={() => session.hangUp()}>
        <Icon name="hangUp" size={22} />
      </button>
    </div>
  );
}

function OrphanBar({ call }: { call: Call }) {
  const { calls, api } = useApp();
  return (
    <div className="call-bar" data-testid="call-elsewhere">
      <button type="button" className="call-bar-main" onClick={() => calls.resume(call)}>
        <span className="call-bar-dot" aria-hidden="true" />
        <span className="call-bar-name">You’re in a call with {nameOf(call.caller)}</span>
        <span className="call-bar-back">Continue here</span>
      </button>
      <button type="button" className="call-bar-end" aria-label="Leave that call" onClick={() => void api.hangUp(call.id).catch(() => {})}>
        <Icon name="hangUp" size={22} />
      </button>
    </div>
  );
}

/** The wide pane before anybody is chosen. */
function Welcoming() {
  const { history } = useApp();
  const { calls } = useStore(history.state);
  const recent = calls.filter((c) => c.state === "ended").slice(0, 7);
  return (
    <section className="pane blank-pane" aria-label="Start">
      {recent.length > 0 ? (
        <div className="list recent">
          <h2>Recent calls</h2>
          <ul className="rows">
            {recent.map((c) => (
              <CallRow key={c.id} call={c} testid="recent-row" dated />
            ))}
          </ul>
          <a className="button" data-tone="quiet" href="#/history">
            <span>All calls</span>
          </a>
        </div>
      ) : (
        <Empty icon="phone" title="Call anybody here by name">
          <p>Type a name on the left, and press one of the two buttons. That’s all.</p>
        </Empty>
      )}
    </section>
  );
}

/** Says aloud what a call does, for those who don't see it. */
function CallAnnouncer() {
  const { calls } = useApp();
  useEffect(() => {
    let ringing = new Set<string>();
    let stopSession: () => void = () => {};
    const stops = [
      calls.ringing.subscribe((list) => {
        for (const call of list) if (!ringing.has(call.id)) announce(`${nameOf(call.caller)} calls you.`);
        ringing = new Set(list.map((c) => c.id));
      }),
      calls.current.subscribe((session) => {
        stopSession();
        if (!session) return;
        let phase = session.state.value.phase;
        let names = new Map<string, string>();
        const stopState = session.state.subscribe((state) => {
          if (state.phase === phase) return;
          if (state.phase === "ringing") announce("Ringing.");
          if (state.phase === "active") announce(phase === "reconnecting" ? "Connected again." : "Connected.");
          if (state.phase === "reconnecting") announce("Connection lost. Reconnecting.");
          phase = state.phase;
        });
        const stopRoom = session.room.subscribe((view) => {
          const now = new Map(view.participants.filter((p) => !p.self).map((p) => [p.identity, p.name]));
          if (view.link === "connected") {
            for (const [id, name] of now) if (!names.has(id)) announce(`${name} joined.`);
            for (const [id, name] of names) if (!now.has(id)) announce(`${name} left.`);
          }
          names = now;
        });
        stopSession = () => {
          stopState();
          stopRoom();
        };
      }),
    ];
    return () => {
      stopSession();
      for (const stop of stops) stop();
    };
  }, [calls]);
  return null;
}
