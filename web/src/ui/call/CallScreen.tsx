/** The call that this device is in: ringing out, connecting, talking, coming back. */
import { useCallback, useEffect, useMemo, useState } from "react";
import type { Account } from "../../wire/contract";
import type { CallSession } from "../../call/session";
import type { Phase } from "../../call/machine";
import type { DeviceProblem, RoomView } from "../../call/room";
import { clock, connectionInWords, handleOf, nameOf } from "../../call/words";
import { useNow, useStore } from "../hooks";
import { go } from "../router";
import { problemInWords } from "../problems";
import { Avatar } from "../components/Avatar";
import { IconButton } from "../components/controls";
import { Icon } from "../components/Icon";
import { Signal } from "../components/Signal";
import { AddPeople } from "./AddPeople";
import { CallDevices } from "./CallDevices";
import { Controls, type Panel } from "./Controls";
import { inRoom, others, pending, type Shown } from "./people";
import { Stage } from "./Stage";
import { Video } from "./Tile";
import { useFirstTouch, useIdle } from "./idle";
import { useShortcuts } from "./shortcuts";
import { WhyBad } from "./WhyBad";

const shownAs: Record<Phase, "ringing" | "connecting" | "active" | "reconnecting"> = {
  placing: "ringing",
  ringing: "ringing",
  answering: "connecting",
  connecting: "connecting",
  active: "active",
  reconnecting: "reconnecting",
  ended: "active",
};

export function CallScreen({ session, me }: { session: CallSession; me: Account }) {
  const state = useStore(session.state);
  const view = useStore(session.room);
  const [panel, setPanel] = useState<Panel>(null);
  const phase = shownAs[state.phase];
  const ringing = phase === "ringing";
  const with_ = others(state, me.id);
  const people = useMemo(() => inRoom(state.call, view.participants, me), [state.call, view.participants, me]);
  const waiting = useMemo(() => pending(state.call, view.participants, me.id), [state.call, view.participants, me.id]);
  const watching = people.some((p) => !p.participant.self && (p.participant.camera ?? p.participant.screen));
  const idle = useIdle(3500, phase === "active" && watching && panel === null);
  const firstTouch = useFirstTouch(idle);
  const openQuality = useCallback(() => setPanel("quality"), []);
  const minimise = useCallback(() => go("#/"), []);
  useShortcuts(session, view, setPanel, panel === null ? minimise : null);
  const title = titleOf(with_.map(nameOf));
  return (
    <section className="call" data-testid="call-screen" data-state={phase} data-media={state.media} data-idle={idle || undefined} {...firstTouch} aria-label={`Call with ${title}`}>
      <header className="call-head">
        <IconButton label="Back to the app; the call goes on" icon="down" tone="quiet" className="call-minimise" onClick={minimise} data-testid="minimise" />
        <div className="call-title">
          <span className="call-name">{title}</span>
          <Status session={session} phase={state.phase} />
        </div>
        <Speaker people={people} />
        {view.link === "connected" && <Connection people={people} onOpen={openQuality} open={panel === "quality"} />}
      </header>
      {ringing || people.length + waiting.length === 0 ? (
        <Ringing people={with_} view={view} phase={state.phase} />
      ) : (
        <Stage people={people} waiting={waiting} onQuality={openQuality} />
      )}
      <div className="call-notices">
        {phase === "reconnecting" && <Reconnecting />}
        {view.audioBlocked && (
          <button type="button" className="call-notice action" data-testid="click-to-hear" onClick={() => void session.resumeAudio()}>
            <Icon name="speaker" size={20} /> Click to hear the others
          </button>
        )}
        <Weak session={session} people={people} shown={phase === "active" && panel !== "quality"} onOpen={openQuality} />
        <DeviceProblems view={view} />
      </div>
      <Controls session={session} view={view} panel={panel} onPanel={setPanel} ringing={ringing} connected={view.link === "connected"} />
      {panel === "devices" && <CallDevices session={session} view={view} onClose={() => setPanel(null)} />}
      {panel === "quality" && <WhyBad session={session} people={people} onClose={() => setPanel(null)} />}
      {panel === "add" && <AddPeople session={session} onClose={() => setPanel(null)} />}
    </section>
  );
}

function titleOf(names: readonly string[]): string {
  if (names.length <= 2) return names.join(" and ");
  return `${names[0] ?? ""} and ${names.length - 1} others`;
}

function Status({ session, phase }: { session: CallSession; phase: Phase }) {
  const { activeSince, call } = useStore(session.state);
  const now = useNow(1000, activeSince !== null);
  const ringingNow = call?.people.some((m) => m.state === "ringing") ?? false;
  let text: string;
  switch (phase) {
    case "placing":
      text = "Calling…";
      break;
    case "ringing":
      text = ringingNow || !call ? "Ringing…" : "Waiting…";
      break;
    case "answering":
    case "connecting":
      text = "Connecting…";
      break;
    case "reconnecting":
      text = "Reconnecting…";
      break;
    case "active":
      text = clock((now - (activeSince ?? now)) / 1000);
      break;
    case "ended":
      text = "Call ended";
  }
  return (
    <span className="call-status" data-testid="call-status">
      {text}
    </span>
  );
}

/** Who speaks, in words, where there's no room for a grid: on a watch. */
function Speaker({ people }: { people: ReturnType<typeof inRoom> }) {
  const others = people.filter((p) => !p.participant.self);
  const speaker = others.length > 1 ? others.find((p) => p.participant.speaking) : undefined;
  return <span className="call-speaker">{speaker ? nameOf(speaker) : ""}</span>;
}

function Ringing({ people, view, phase }: { people: ReturnType<typeof others>; view: RoomView; phase: Phase }) {
  const camera = view.participants.find((p) => p.self)?.camera ?? null;
  const first = people[0];
  return (
    <div className="ringing" data-preview={camera !== null || undefined}>
      {camera && (
        <div className="ringing-preview">
          <Video source={camera} mirrored label="Your camera" />
        </div>
      )}
      <div className="ringing-who">
        <div className="pulse" data-on={phase === "ringing" || undefined}>
          {people.slice(0, 3).map((p) => (
            <Avatar key={p.name} name={p.name} displayName={p.displayName} size="xl" />
          ))}
        </div>
        <p className="ringing-name">{titleOf(people.map(nameOf))}</p>
        {people.length === 1 && first && <p className="ringing-handle">{handleOf(first)}</p>}
      </div>
    </div>
  );
}

function Reconnecting() {
  return (
    <p className="call-notice late" role="status">
      <span className="spinner" aria-hidden="true" /> Your connection dropped. Coming back by itself: no need to hang up.
    </p>
  );
}

const ranks = ["unknown", "good", "fair", "poor", "lost"] as const;

/** The worst connection of the call, and the way to what is known of all of them. */
function Connection({ people, onOpen, open }: { people: readonly Shown[]; onOpen: () => void; open: boolean }) {
  const worst = ranks[Math.max(0, ...people.map((p) => ranks.indexOf(p.participant.quality)))] ?? "unknown";
  return (
    <button type="button" className="icon-button call-quality" data-testid="call-quality" data-quality={worst} aria-expanded={open} aria-label={`${connectionInWords(worst)}. Show why`} title={`${connectionInWords(worst)} (Q)`} onClick={onOpen}>
      <Signal quality={worst} size={22} />
    </button>
  );
}

/** Offers to look when a connection has been weak for a while. */
function Weak({ session, people, shown, onOpen }: { session: CallSession; people: readonly Shown[]; shown: boolean; onOpen: () => void }) {
  const weak = useStore(session.weak);
  const [dismissed, setDismissed] = useState<string | null>(null);
  const who = people.find((p) => p.participant.identity === weak);
  if (!shown || !who || dismissed === weak) return null;
  const open = (): void => {
    setDismissed(weak);
    onOpen();
  };
  return (
    <p className="call-notice" role="status" data-testid="weak-connection">
      <Signal quality={who.participant.quality === "lost" ? "lost" : "poor"} size={20} />
      <span>{who.participant.self ? "Your connection is weak" : `${nameOf(who)}’s connection is weak`}</span>
      <button type="button" className="link" data-testid="weak-why" onClick={open}>
        Why?
      </button>
      <IconButton label="Dismiss" icon="close" size={16} onClick={() => setDismissed(weak)} />
    </p>
  );
}

function DeviceProblems({ view }: { view: RoomView }) {
  const [dismissed, setDismissed] = useState<readonly string[]>([]);
  const { microphone, camera, screen } = view;
  const same = microphone.problem !== null && microphone.problem === camera.problem;
  const problems: readonly (readonly ["microphone" | "camera" | "both" | "screen", DeviceProblem | null])[] = same
    ? [["both", microphone.problem], ["screen", screen.problem]]
    : [["microphone", microphone.problem], ["camera", camera.problem], ["screen", screen.problem]];
  const keys = problems.map(([source, problem]) => `${source}:${problem ?? ""}`).join();
  useEffect(() => setDismissed([]), [keys]);
  return problems.map(([source, problem]) => {
    if (!problem || dismissed.includes(source)) return null;
    return (
      <p key={source} className="call-notice" role="alert" data-testid={`problem-${source}`}>
        <Icon name={source === "camera" || source === "screen" ? "cameraOff" : "micOff"} size={20} />
        <span>{problemInWords(source, problem)}</span>
        <IconButton label="Dismiss" icon="close" size={16} onClick={() => setDismissed([...dismissed, source])} />
      </p>
    );
  });
}
