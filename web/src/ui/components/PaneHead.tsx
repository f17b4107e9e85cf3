/** The head of a main page: its title, something of its own, and who one is. */
import type { ReactNode } from "react";
import { useApp, useStore } from "../hooks";
import { Avatar } from "./Avatar";

export function PaneHead({ id, title, children }: { id: string; title: string; children?: ReactNode }) {
  const { account } = useApp();
  const state = useStore(account.state);
  const me = state.phase === "in" ? state.session.account : null;
  return (
    <header className="pane-head">
      <h1 id={id}>{title}</h1>
      {children}
      {me && (
        <a className="me" href="#/settings" title="Your account">
          <span className="me-text">
            <span className="visually-hidden">You are </span>
            <span data-testid="me-name">@{me.name}</span>
          </span>
          <Avatar name={me.name} displayName={me.displayName} size="s" />
        </a>
      )}
    </header>
  );
}
