import { useState, type SubmitEvent } from "react";
import type { CallSession } from "../../call/session";
import { nameOf } from "../../call/words";
import { normalName } from "../../people/contacts";
import { note } from "../announce";
import { useAction, useApp, useStore } from "../hooks";
import { Button, IconButton, Problem } from "../components/controls";
import { Dialog } from "../components/Dialog";
import { PersonRow } from "../components/PersonRow";

export function AddPeople({ session, onClose }: { session: CallSession; onClose: () => void }) {
  const { people } = useApp();
  const { contacts } = useStore(people.contacts);
  const { call } = useStore(session.state);
  const [text, setText] = useState("");
  const name = normalName(text);
  const there = new Set(call?.people.filter((m) => ["joined", "ringing", "reconnecting"].includes(m.state)).map((m) => m.person.id));
  const matches = contacts.filter((p) => !there.has(p.id) && (name === "" || p.name.includes(name) || p.displayName.toLowerCase().includes(name)));
  const add = useAction(async (who: string) => {
    await people.find(who); // a name that nobody has gets a sentence that says so
    await session.addPeople([who]);
    note(`@${who} is being called`);
    onClose();
  });
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (name) void add.run(name);
  };
  return (
    <Dialog label="Add people" className="sheet" onClose={onClose} testid="add-people">
      <header className="dialog-head">
        <h2>Add people</h2>
        <IconButton label="Close" icon="close" onClick={onClose} />
      </header>
      <form className="inline-form" onSubmit={submit}>
        <div className="field">
          <label htmlFor="add-name">Name</label>
          <div className="field-box">
            <span className="field-prefix" aria-hidden="true">
              @
            </span>
            <input
              id="add-name"
              data-autofocus
              value={text}
              onChange={(e) => setText(e.target.value)}
              autoComplete="off"
              autoCapitalize="none"
              spellCheck={false}
              data-testid="add-person-name"
            />
          </div>
        </div>
        <Button type="submit" tone="primary" busy={add.busy} disabled={name === ""} data-testid="add-person-submit">
          Call
        </Button>
      </form>
      {add.error && <Problem testid="add-person-error">{add.error}</Problem>}
      {matches.length > 0 && (
        <ul className="rows add-list">
          {matches.slice(0, 30).map((p) => (
            <PersonRow
              key={p.id}
              person={p}
              testid="add-row"
              link={false}
              actions={
                <Button icon="addPerson" disabled={add.busy} onClick={() => void add.run(p.name)} aria-label={`Add ${nameOf(p)}`}>
                  Add
                </Button>
              }
            />
          ))}
        </ul>
      )}
    </Dialog>
  );
}
