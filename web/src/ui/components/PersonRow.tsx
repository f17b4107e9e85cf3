/** A person in a list: avatar, display name, @name, and what can be done. */
import type { ReactNode } from "react";
import type { Person } from "../../wire/contract";
import { handleOf, nameOf } from "../../call/words";
import { go } from "../router";
import { Avatar } from "./Avatar";

export function PersonRow({ person, testid, selected = false, link = true, note, actions }: {
  person: Person;
  testid: string;
  selected?: boolean;
  link?: boolean;
  note?: string;
  actions: ReactNode;
}) {
  const text = (
    <>
      <Avatar name={person.name} displayName={person.displayName} />
      <span className="row-text">
        <span className="row-title">{nameOf(person)}</span>
        <span className="row-sub">
          {[handleOf(person), note ?? ""].filter(Boolean).join(" · ")}
        </span>
      </span>
    </>
  );
  return (
    <li className="row" data-testid={testid} data-name={person.name} data-selected={selected || undefined}>
      {link ? (
        <a
          className="row-main"
          href={`#/person/${encodeURIComponent(person.name)}`}
          aria-current={selected ? "true" : undefined}
          onClick={(e) => {
            e.preventDefault();
            go(`#/person/${encodeURIComponent(person.name)}`);
          }}
        >
          {text}
        </a>
      ) : (
        <div className="row-main">{text}</div>
      )}
      <div className="row-actions">{actions}</div>
    </li>
  );
}
