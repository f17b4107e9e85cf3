/** The calls that were, by day. */
import { useEffect, useState } from "react";
import type { Call, Person } from "../../wire/contract";
import { handleOf, nameOf, outcomeInWords } from "../../call/words";
import { byDay, dayInWords, dayOf, timeInWords } from "../days";
import { note } from "../announce";
import { startCall } from "../commands";
import { useApp, useNow, useStore } from "../hooks";
import { go } from "../router";
import { Avatar } from "../components/Avatar";
import { Button, Empty, IconButton, Problem } from "../components/controls";
import { PaneHead } from "../components/PaneHead";
import { Icon, type IconName } from "../components/Icon";

export function HistoryPane() {
  const { history } = useApp();
  const { calls, next, loading, loaded, error } = useStore(history.state);
  const [missed, setMissed] = useState(false);
  const now = useNow(60_000);
  useEffect(() => {
    void history.load();
  }, [history]);
  const over = calls.filter((c) => c.state === "ended" && (!missed || isMissed(c)));
  return (
    <section className="pane history-pane" aria-labelledby="history-title">
      <PaneHead id="history-title" title="Recents">
        <div className="segments" role="group" aria-label="Which calls">
          <button type="button" className="segment-button" aria-pressed={!missed} onClick={() => setMissed(false)}>
            All
          </button>
          <button type="button" className="segment-button" aria-pressed={missed} onClick={() => setMissed(true)}>
            Missed
          </button>
        </div>
      </PaneHead>
      <div className="pane-scroll" tabIndex={0} role="group" aria-label="Calls">
        {error && <Problem>{error}</Problem>}
        {loaded && over.length === 0 && (
          <Empty icon="recents" title={missed ? "No missed calls" : "No calls yet"}>
            <p>{missed ? "You were there every time." : "Calls you make and get are listed here, with how they went."}</p>
          </Empty>
        )}
        {byDay(over).map(({ day, calls: list }) => (
          <section className="list" key={day} aria-label={dayInWords(day, now)}>
            <h2>{dayInWords(day, now)}</h2>
            <ul className="rows">
              {list.map((c) => (
                <CallRow key={c.id} call={c} />
              ))}
            </ul>
          </section>
        ))}
        {next && (
          <Button tone="quiet" className="wide" busy={loading} onClick={() => void history.more()}>
            Earlier calls
          </Button>
        )}
      </div>
    </section>
  );
}

export function isMissed(call: Call): boolean {
  return call.direction === "incoming" && (call.outcome === "missed" || call.outcome === "timed_out" || call.outcome === "cancelled");
}

/** Whom the call was with. */
export function othersOf(call: Call): Person[] {
  const others = call.people.map((m) => m.person).filter((p) => p.relation !== "self");
  if (call.direction === "outgoing") return others.length > 0 ? others : [call.caller];
  return [call.caller, ...others.filter((p) => p.id !== call.caller.id)];
}

/** `plain`: on the person's own page, without their name. `dated`: outside the list by days. */
export function CallRow({ call, plain = false, dated = false, testid = "history-row" }: { call: Call; plain?: boolean; dated?: boolean; testid?: string }) {
  const others = othersOf(call);
  const now = useNow(60_000);
  const first = others[0] ?? call.caller;
  const missed = isMissed(call);
  const icon: IconName = missed ? "missed" : call.direction === "outgoing" ? "outgoing" : "incoming";
  const title = others.length > 2 ? `${nameOf(first)} and ${others.length - 1} others` : others.map(nameOf).join(", ");
  const again = async (): Promise<void> => {
    const problem = await startCall(others.map((p) => p.name), call.media);
    if (problem) note(problem, true);
  };
  const direction = call.direction === "outgoing" ? "Outgoing" : "Incoming";
  return (
    <li
      className="row call-row"
      data-testid={testid}
      data-outcome={call.outcome}
      data-direction={call.direction}
      data-name={first.name}
      data-missed={missed || undefined}
    >
      <a
        className="row-main"
        href={`#/person/${encodeURIComponent(first.name)}`}
        onClick={(e) => {
          e.preventDefault();
          go(`#/person/${encodeURIComponent(first.name)}`);
        }}
      >
        {!plain && <Avatar name={first.name} displayName={first.displayName} />}
        <span className="row-text">
          <span className="row-title">{plain ? outcomeInWords(call) : title}</span>
          <span className="row-sub">
            <span className="call-direction">
              <Icon name={icon} size={16} />
              <span className="visually-hidden">{direction} {call.media === "video" ? "video" : "voice"} call. </span>
            </span>
            <span className="row-note">
              {plain ? direction : outcomeInWords(call)}
              {!plain && others.length === 1 && handleOf(first) && ` · ${handleOf(first)}`}
            </span>
          </span>
        </span>
        <time className="row-time" dateTime={call.createdAt}>
          {plain || (dated && dayOf(call.createdAt) !== dayOf(now))
            ? dayInWords(dayOf(call.createdAt), now, true)
            : timeInWords(call.createdAt)}
        </time>
      </a>
      <div className="row-actions">
        <IconButton
          label={`Call ${title} again${call.media === "video" ? ", with video" : ""}`}
          icon={call.media === "video" ? "camera" : "phone"}
          onClick={() => void again()}
          data-testid="call-again"
        />
      </div>
    </li>
  );
}
