/** People: call anybody by name, answer requests, reach contacts. */
import { useEffect, useRef, useState, type SubmitEvent } from "react";
import type { Account, Media, Person } from "../../wire/contract";
import { nameOf } from "../../call/words";
import { normalName } from "../../people/contacts";
import { note } from "../announce";
import { startCall } from "../commands";
import { useAction, useApp, useStore } from "../hooks";
import { Button, Empty, IconButton, Problem } from "../components/controls";
import { Icon } from "../components/Icon";
import { PaneHead } from "../components/PaneHead";
import { PersonRow } from "../components/PersonRow";

export function PeoplePane({ me, selected }: { me: Account; selected: string | null }) {
  const { people } = useApp();
  const { contacts, incoming, requested } = useStore(people.contacts);
  const loaded = useStore(people.loaded);
  const [text, setText] = useState("");
  const name = normalName(text);
  const matches = contacts.filter((p) => name === "" || p.name.includes(name) || p.displayName.toLowerCase().includes(name));
  return (
    <section className="pane people-pane" aria-labelledby="people-title">
      <PaneHead id="people-title" title="People" />
      <CallBox text={text} onText={setText} />
      <div className="pane-scroll">
        <Found hidden={matches.some((p) => p.name === name)} onDone={() => setText("")} />
        {incoming.length > 0 && (
          <List title="Would like to be in touch" count={incoming.length}>
            {incoming.map((p) => (
              <Request key={p.id} person={p} />
            ))}
          </List>
        )}
        {loaded && contacts.length === 0 && name === "" && incoming.length === 0 ? (
          <FirstSteps me={me} />
        ) : (
          <>
            {matches.length > 0 && (
              <List title="Contacts" count={matches.length}>
                {matches.map((p) => (
                  <PersonRow
                    key={p.id}
                    person={p}
                    testid="contact-row"
                    selected={p.name === selected}
                    actions={<CallButtons person={p} />}
                  />
                ))}
              </List>
            )}
          </>
        )}
        {!loaded && <Skeleton />}
        {contacts.length > 0 && name === "" && <NotifyHint />}
        {requested.length > 0 && name === "" && (
          <List title="Asked" count={requested.length}>
            {requested.map((p) => (
              <PersonRow
                key={p.id}
                person={p}
                testid="requested-row"
                selected={p.name === selected}
                note="hasn’t answered yet"
                actions={<CallButtons person={p} />}
              />
            ))}
          </List>
        )}
      </div>
    </section>
  );
}

function CallBox({ text, onText }: { text: string; onText: (text: string) => void }) {
  const { people, calls } = useApp();
  const lookup = useStore(people.lookup);
  const busy = useStore(calls.current) !== null;
  const [error, setError] = useState("");
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    people.type(text);
    setError("");
  }, [people, text]);
  const call = async (media: Media): Promise<void> => {
    const name = normalName(text);
    if (name === "") {
      setError("Type the name of the person you want to call.");
      input.current?.focus();
      return;
    }
    setError("");
    const problem = await startCall([name], media);
    if (problem) setError(problem);
    else onText("");
  };
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    void call("video");
  };
  const problem = error || (lookup.state === "missing" && lookup.name === normalName(text) ? lookup.detail : "");
  return (
    <form className="call-box" onSubmit={submit} role="search" aria-label="Call by name">
      <div className="call-box-field" data-invalid={problem ? true : undefined}>
        <span className="call-box-at" aria-hidden="true">
          @
        </span>
        <input
          ref={input}
          value={text}
          onChange={(e) => onText(e.target.value)}
          placeholder="Call by name"
          aria-label="Name of the person to call"
          aria-describedby={problem ? "call-error" : undefined}
          autoComplete="off"
          autoCapitalize="none"
          autoCorrect="off"
          spellCheck={false}
          enterKeyHint="go"
          maxLength={64}
          data-testid="call-name"
        />
        {text && <IconButton className="call-box-clear" label="Clear" icon="close" size={18} onClick={() => onText("")} />}
        <IconButton label="Voice call" icon="phone" tone="soft" disabled={busy} onClick={() => void call("audio")} data-testid="call-audio" />
        <IconButton label="Video call" icon="camera" tone="soft" disabled={busy} onClick={() => void call("video")} data-testid="call-video" />
      </div>
      {problem && (
        <p id="call-error" className="call-box-error" role="alert" data-testid="call-error">
          {problem}
        </p>
      )}
    </form>
  );
}

/** Whom the typed name belongs to, where that's not a contact in the list below. */
function Found({ hidden, onDone }: { hidden: boolean; onDone: () => void }) {
  const { people } = useApp();
  const lookup = useStore(people.lookup);
  const add = useAction(async (person: Person) => {
    const added = await people.add(person.name);
    note(added.relation === "contact" ? `${nameOf(added)} is a contact now` : `${nameOf(added)} will be asked`);
    onDone();
  });
  if (hidden) return null;
  if (lookup.state === "looking") {
    return (
      <p className="looking" role="status">
        <span className="spinner" aria-hidden="true" /> Looking for @{lookup.name}
      </p>
    );
  }
  if (lookup.state !== "found") return null;
  const { person } = lookup;
  return (
    <>
      <ul className="rows found">
        <PersonRow
          person={person}
          testid="found-row"
          note={relationInWords[person.relation]}
          actions={
            person.relation === "none" ? (
              <Button icon="addPerson" busy={add.busy} onClick={() => void add.run(person)} data-testid="contact-add">
                Add
              </Button>
            ) : person.relation === "self" ? null : (
              <CallButtons person={person} />
            )
          }
        />
      </ul>
      {add.error && <Problem>{add.error}</Problem>}
    </>
  );
}

const relationInWords: Record<Person["relation"], string> = {
  self: "that’s you",
  none: "not in your contacts",
  requested: "asked, hasn’t answered yet",
  incoming: "would like to be in touch",
  contact: "contact",
  blocked: "blocked",
};

export function CallButtons({ person }: { person: Person }) {
  const { calls } = useApp();
  const busy = useStore(calls.current) !== null;
  const call = async (media: Media): Promise<void> => {
    const problem = await startCall([person.name], media);
    if (problem) note(problem, true);
  };
  return (
    <>
      <IconButton label={`Voice call with ${nameOf(person)}`} icon="phone" disabled={busy} onClick={() => void call("audio")} data-testid="contact-audio" />
      <IconButton label={`Video call with ${nameOf(person)}`} icon="camera" disabled={busy} onClick={() => void call("video")} data-testid="contact-video" className="only-roomy" />
    </>
  );
}

function Request({ person }: { person: Person }) {
  const { people } = useApp();
  const accept = useAction(async () => {
    await people.accept(person);
    note(`${nameOf(person)} is a contact now`);
  });
  const decline = useAction(() => people.remove(person));
  const error = accept.error || decline.error;
  return (
    <>
      <PersonRow
        person={person}
        testid="request-row"
        actions={
          <>
            <IconButton label={`Decline ${nameOf(person)}`} icon="close" disabled={decline.busy} onClick={() => void decline.run()} data-testid="contact-decline" />
            <Button tone="primary" busy={accept.busy} onClick={() => void accept.run()} data-testid="contact-accept" aria-label={`Accept ${nameOf(person)}`}>
              Accept
            </Button>
          </>
        }
      />
      {error && <Problem>{error}</Problem>}
    </>
  );
}

function List({ title, count, children }: { title: string; count: number; children: React.ReactNode }) {
  return (
    <section className="list" aria-label={title}>
      <h2>
        {title} <span className="count">{count}</span>
      </h2>
      <ul className="rows">{children}</ul>
    </section>
  );
}

/** Offers notifications once, where somebody might miss a call without them. */
function NotifyHint() {
  const { preferences } = useApp();
  const { notifyHintDone } = useStore(preferences);
  const [permission, setPermission] = useState(typeof Notification === "undefined" ? "denied" : Notification.permission);
  if (notifyHintDone || permission !== "default") return null;
  const done = (): void => preferences.update((p) => ({ ...p, notifyHintDone: true }));
  const turnOn = async (): Promise<void> => {
    setPermission(await Notification.requestPermission());
    done();
  };
  return (
    <div className="notify-hint" data-testid="notify-hint">
      <Icon name="bell" size={22} />
      <p>Be told of calls while this page is hidden.</p>
      <Button onClick={() => void turnOn()}>Turn on</Button>
      <IconButton label="Not now" icon="close" size={16} onClick={done} />
    </div>
  );
}

function FirstSteps({ me }: { me: Account }) {
  return (
    <Empty icon="people" title="Nobody here yet">
      <p>
        Tell people your name, <b>@{me.name}</b>: they can call you by it right away.
      </p>
      <p>
        Or type theirs above. Whoever you add waits here, one tap from a call.
      </p>
      {me.operator && (
        <a className="button" data-tone="plain" href="#/settings">
          <Icon name="link" size={20} />
          <span>Invite somebody</span>
        </a>
      )}
    </Empty>
  );
}

function Skeleton() {
  return (
    <ul className="rows" aria-hidden="true">
      {[0, 1, 2, 3].map((i) => (
        <li key={i} className="row skeleton">
          <span className="row-main">
            <span className="avatar" data-size="m" />
            <span className="row-text">
              <span className="bone" />
              <span className="bone short" />
            </span>
          </span>
        </li>
      ))}
    </ul>
  );
}
