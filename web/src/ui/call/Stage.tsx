/** Lays the people of a call out: one big with oneself in a corner, a grid, or a shared screen with a strip of people. */
import { useRef, useState } from "react";
import { handleOf, memberInWords, nameOf } from "../../call/words";
import { useSize } from "../hooks";
import { Avatar } from "../components/Avatar";
import { fit } from "./layout";
import type { Pending, Shown } from "./people";
import { Tile, Video } from "./Tile";

const gap = 10;
/** CSS pixels; as in watch.css. */
const watchWidth = 264;

export function Stage({ people, waiting, onQuality }: { people: readonly Shown[]; waiting: readonly Pending[]; onQuality: () => void }) {
  const ref = useRef<HTMLDivElement>(null);
  const { width, height } = useSize(ref);
  const screens = people.filter((p) => p.participant.screen);
  const self = people.find((p) => p.participant.self);
  const others = people.filter((p) => !p.participant.self);
  const tiles = [...others.map((p) => <PersonTile onQuality={onQuality} key={p.participant.identity} shown={p} />), ...waiting.map((p) => <PendingTile key={p.person.id} pending={p} />)];
  const count = tiles.length;
  const speaking = others.find((p) => p.participant.speaking)?.participant.identity;
  const [featured, setFeatured] = useState(speaking);
  if (speaking !== undefined && speaking !== featured) setFeatured(speaking);

  if (screens.length > 0 && screens[0]) {
    const shown = screens[screens.length - 1] ?? screens[0];
    const { participant } = shown;
    const who = participant.self ? "Your screen" : `${nameOf(shown)}’s screen`;
    return (
      <div className="stage" data-layout="screen" ref={ref}>
        <figure className="screen-tile" data-testid="screen-tile">
          {participant.screen && <Video source={participant.screen} whole label={who} />}
          <figcaption className="tile-label">{who}</figcaption>
        </figure>
        <div className="strip" tabIndex={0} role="group" aria-label="People">
          {tiles}
          {self && <PersonTile onQuality={onQuality} key="self" shown={self} />}
        </div>
      </div>
    );
  }
  if (width > 0 && width < watchWidth && count > 1) {
    // Room for one: whoever speaks, or spoke last.
    const speaker = others.find((p) => p.participant.speaking)?.participant.identity ?? featured ?? others[0]?.participant.identity;
    const shown = others.find((p) => p.participant.identity === speaker) ?? others[0];
    return (
      <div className="stage" data-layout="pair" ref={ref}>
        {shown ? <PersonTile onQuality={onQuality} key={shown.participant.identity} shown={shown} /> : tiles[0]}
      </div>
    );
  }
  if (count <= 1) {
    return (
      <div className="stage" data-layout="pair" ref={ref}>
        {tiles}
        {self && <PersonTile onQuality={onQuality} key="self" shown={self} className={count === 1 ? "corner" : ""} />}
      </div>
    );
  }
  const grid = fit(count + (self ? 1 : 0), width, height, gap);
  const style = { width: grid.width, height: grid.height };
  return (
    <div className="stage" data-layout="grid" ref={ref}>
      {others.map((p) => (
        <PersonTile onQuality={onQuality} key={p.participant.identity} shown={p} style={style} />
      ))}
      {waiting.map((p) => (
        <PendingTile key={p.person.id} pending={p} style={style} />
      ))}
      {self && <PersonTile onQuality={onQuality} key="self" shown={self} style={style} />}
    </div>
  );
}

function PersonTile({ shown, onQuality, style, className }: { shown: Shown; onQuality: () => void; style?: { width: number; height: number }; className?: string }) {
  return (
    <Tile
      participant={shown.participant}
      name={shown.name}
      displayName={shown.displayName}
      onQuality={onQuality}
      {...(shown.state === "reconnecting" ? { note: memberInWords(shown.state) } : {})}
      {...(style ? { style } : {})}
      {...(className ? { className } : {})}
    />
  );
}

function PendingTile({ pending, style }: { pending: Pending; style?: { width: number; height: number } }) {
  const { person, state } = pending;
  return (
    <div className="tile pending" style={style} data-testid="pending-tile" data-name={person.name} data-state={state} role="group" aria-label={nameOf(person)}>
      <Avatar name={person.name} displayName={person.displayName} size="xl" />
      <span className="tile-note">{memberInWords(state) || "Connecting…"}</span>
      <span className="tile-label">
        <span className="tile-name">{nameOf(person)}</span>
        {handleOf(person) && <span className="tile-handle">{handleOf(person)}</span>}
      </span>
    </div>
  );
}
