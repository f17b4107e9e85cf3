/** One person: call, add, remove, block, and the calls with them. */
import { useEffect, useState } from "react";
import type { Media, Person } from "../../wire/contract";
import { handleOf, nameOf } from "../../call/words";
import { note } from "../announce";
import { startCall } from "../commands";
import { useAction, useApp, useStore } from "../hooks";
import { Avatar } from "../components/Avatar";
import { Button, Empty, Problem } from "../components/controls";
import { Dialog } from "../components/Dialog";
import { Icon } from "../components/Icon";
import { CallRow } from "./History";

export function PersonPane({ name }: { name: string }) {
  const { people } = useApp();
  const contacts = useStore(people.contacts);
  const [fetched, setFetched] = useState<Person | null>(null);
  const [error, setError] = useState("");
  const known = [...contacts.contacts, ...contacts.incoming, ...contacts.requested, ...contacts.blocked].find((p) => p.name === name);
  const person = known ?? (fetched?.name === name ? { ...fetched, relation: fetched.relation === "self" ? fetched.relation : ("none" as const) } : null);
  const missing = known === undefined;
  useEffect(() => {
    if (!missing) return;
    let current = true;
    setError("");
    people.find(name).then(
      (p) => current && setFetched(p),
      (e: unknown) => current && setError(e instanceof Error ? e.message : String(e)),
    );
    return () => {
      current = false;
    };
  }, [people, name, missing]);
  return (
    <section className="pane person-pane" aria-label={person ? nameOf(person) : `@${name}`}>
      <a className="back" href="#/">
        <Icon name="back" size={20} /> People
      </a>
      {person ? <Card person={person} /> : error ? <Empty icon="people" title={`@${name}`}><p>{error}</p></Empty> : <p className="looking" role="status"><span className="spinner" aria-hidden="true" /> Looking for @{name}</p>}
    </section>
  );
}

function Card({ person }: { person: Person }) {
  const { calls, people } = useApp();
  const busy = useStore(calls.current) !== null;
  const [asking, setAsking] = useState<"remove" | "block" | null>(null);
  const call = async (media: Media): Promise<void> => {
    const problem = await startCall([person.name], media);
    if (problem) note(problem, true);
  };
  const act = useAction(async (what: "add" | "accept" | "remove" | "block" | "unblock") => {
    if (what === "add") await people.add(person.name);
    else if (what === "accept") await people.accept(person);
    else if (what === "remove") await people.remove(person);
    else await people.block(person, what === "block");
    setAsking(null);
  });
  const { relation } = person;
  return (
    <div className="person">
      <Avatar name={person.name} displayName={person.displayName} size="xl" />
      <h1>{nameOf(person)}</h1>
      <p className="person-name">{handleOf(person)}</p>
      {relation !== "self" && relation !== "blocked" && (
        <div className="person-call">
          <Button tone="primary" icon="camera" disabled={busy} onClick={() => void call("video")} data-testid="person-video">
            Video call
          </Button>
          <Button tone="plain" icon="phone" disabled={busy} onClick={() => void call("audio")} data-testid="person-audio">
            Voice call
          </Button>
        </div>
      )}
      <Relation person={person} busy={act.busy} act={(what) => void act.run(what)} ask={setAsking} />
      {act.error && !asking && <Problem>{act.error}</Problem>}
      <Together person={person} />
      {asking && (
        <Dialog label={asking === "block" ? `Block ${nameOf(person)}?` : `Remove ${nameOf(person)}?`} className="sheet" onClose={() => setAsking(null)}>
          <h2>{asking === "block" ? `Block ${nameOf(person)}?` : `Remove ${nameOf(person)}?`}</h2>
          <p>
            {asking === "block"
              ? "They can’t reach you any more, and aren’t told. You can take it back at any time."
              : "You leave each other’s contacts. You can ask again later."}
          </p>
          {act.error && <Problem>{act.error}</Problem>}
          <div className="dialog-actions">
            <Button onClick={() => setAsking(null)}>Keep</Button>
            <Button tone="stop" busy={act.busy} onClick={() => void act.run(asking)} data-testid="confirm">
              {asking === "block" ? "Block" : "Remove"}
            </Button>
          </div>
        </Dialog>
      )}
    </div>
  );
}

function Relation({ person, busy, act, ask }: { person: Person; busy: boolean; act: (what: "add" | "accept" | "remove" | "unblock") => void; ask: (what: "remove" | "block") => void }) {
  switch (person.relation) {
    case "self":
      return <p className="person-note">This is you.</p>;
    case "blocked":
      return (
        <div className="person-relation">
          <p className="person-note">You blocked this person. They can’t reach you.</p>
          <Button icon="check" busy={busy} onClick={() => act("unblock")}>
            Unblock
          </Button>
        </div>
      );
    case "none":
      return (
        <div className="person-relation">
          <Button icon="addPerson" busy={busy} onClick={() => act("add")} data-testid="person-add">
            Add to contacts
          </Button>
          <Button tone="quiet" icon="block" onClick={() => ask("block")}>
            Block
          </Button>
        </div>
      );
    case "incoming":
      return (
        <div className="person-relation">
          <p className="person-note">Would like to be in touch with you.</p>
          <Button tone="primary" icon="check" busy={busy} onClick={() => act("accept")}>
            Accept
          </Button>
          <Button tone="quiet" icon="close" onClick={() => act("remove")}>
            Decline
          </Button>
          <Button tone="quiet" icon="block" onClick={() => ask("block")}>
            Block
          </Button>
        </div>
      );
    case "requested":
      return (
        <div className="person-relation">
          <p className="person-note">You asked; no answer yet. You can call already.</p>
          <Button tone="quiet" icon="close" busy={busy} onClick={() => act("remove")}>
            Withdraw
          </Button>
        </div>
      );
    case "contact":
      return (
        <div className="person-relation">
          <Button tone="quiet" icon="remove" onClick={() => ask("remove")}>
            Remove from contacts
          </Button>
          <Button tone="quiet" icon="block" onClick={() => ask("block")}>
            Block
          </Button>
        </div>
      );
  }
}

function Together({ person }: { person: Person }) {
  const { history } = useApp();
  const { calls, loaded } = useStore(history.state);
  const theirs = calls.filter((c) => c.people.some((m) => m.person.id === person.id)).slice(0, 8);
  if (!loaded || theirs.length === 0) return null;
  return (
    <section className="list together" aria-label="Calls together">
      <h2>Calls together</h2>
      <ul className="rows">
        {theirs.map((c) => (
          <CallRow key={c.id} call={c} plain testid="together-row" />
        ))}
      </ul>
    </section>
  );
}
