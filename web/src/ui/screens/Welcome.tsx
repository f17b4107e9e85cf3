/** Signing up and in, also with the operator's set-up link or an invitation. Explains itself on a fresh server. */
import { useState, type SubmitEvent } from "react";
import type { Server } from "../../wire/contract";
import { normalName } from "../../people/contacts";
import { thisDevice } from "../../people/device";
import { useAction, useApp } from "../hooks";
import { go, type Route } from "../router";
import { Button, Field, PasswordField, Problem } from "../components/controls";
import { Icon } from "../components/Icon";
import { Logo, Wordmark } from "../components/Logo";

export function Welcome({ server, notice, route }: { server: Server | null; notice: string; route: Route }) {
  const secret = route.page === "join" || route.page === "setup" ? route.secret : "";
  const { preferences } = useApp();
  const mayJoin = secret !== "" || server === null || server.registration === "open";
  const knownHere = preferences.value.lastName !== "";
  const [tab, setTab] = useState<"up" | "in">(secret !== "" || (!knownHere && (mayJoin || !server.operator)) ? "up" : "in");
  return (
    <div className="welcome">
      <aside className="welcome-brand">
        <Wordmark size={36} />
        <div className="welcome-claim">
          <p className="welcome-slogan">
            Call people
            <br />
            by name.
          </p>
          <p className="welcome-more">No number, no e-mail, nobody in between. Video and voice, on a server of your own.</p>
        </div>
        <Sky />
      </aside>
      <main className="welcome-main">
        <div className="card welcome-card">
          <Heading server={server} route={route} tab={tab} />
          {notice && <Problem>{notice}</Problem>}
          <div className="tabs" role="group" aria-label="Have you been here before?">
            <button type="button" aria-pressed={tab === "up"} data-testid="signup-tab" onClick={() => setTab("up")}>
              I’m new
            </button>
            <button type="button" aria-pressed={tab === "in"} data-testid="signin-tab" onClick={() => setTab("in")}>
              Sign in
            </button>
          </div>
          {tab === "in" ? <SignIn /> : mayJoin ? <SignUp route={route} /> : <ByInvitation server={server} />}
        </div>
        <p className="welcome-server">
          <Icon name="lock" size={16} />
          {server?.name && server.name !== location.host ? `${server.name} · ${location.host}` : location.host}
        </p>
      </main>
    </div>
  );
}

function Heading({ server, route, tab }: { server: Server | null; route: Route; tab: "up" | "in" }) {
  if (route.page === "setup") {
    return (
      <Title title="Set up this server">
        Make your account: it becomes the <b>operator</b>, who decides who else may join.
      </Title>
    );
  }
  if (route.page === "join") return <Title title="You’re invited">Choose a name. People reach you by it, and by nothing else.</Title>;
  if (server && !server.operator && server.registration !== "open") {
    return (
      <Title title="This server is new">
        Open the <b>set-up link</b> that it printed where it was started: whoever opens it becomes its operator.
      </Title>
    );
  }
  if (tab === "up") return <Title title="Choose your name">People reach you by it, and by nothing else.</Title>;
  return <Title title="Welcome back">Sign in with your name and password.</Title>;
}

function Title({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <header className="welcome-title">
      <span className="welcome-logo">
        <Logo size={44} />
      </span>
      <h1>{title}</h1>
      <p>{children}</p>
    </header>
  );
}

function SignUp({ route }: { route: Route }) {
  const { account } = useApp();
  const [name, setName] = useState("");
  const [displayName, setDisplayName] = useState("");
  const [password, setPassword] = useState("");
  const { run, busy, error } = useAction(async () => {
    await account.signUp({
      name: normalName(name),
      password,
      deviceName: thisDevice(),
      ...(displayName.trim() ? { displayName: displayName.trim() } : {}),
      ...(route.page === "join" ? { invitation: route.secret } : {}),
      ...(route.page === "setup" ? { setUp: route.secret } : {}),
    });
    go("#/", true);
  });
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    void run();
  };
  return (
    <form onSubmit={submit} className="stack">
      <Field
        label="Name"
        prefix="@"
        name="username"
        autoComplete="username"
        autoCapitalize="none"
        autoCorrect="off"
        spellCheck={false}
        required
        maxLength={64}
        value={name}
        onChange={(e) => setName(e.target.value)}
        data-testid="signup-name"
        hint="Short and easy to say. It can’t be changed later."
      />
      <Field
        label="Display name (optional)"
        name="name"
        autoComplete="name"
        maxLength={64}
        value={displayName}
        onChange={(e) => setDisplayName(e.target.value)}
        data-testid="signup-display-name"
        hint="Shown beside your @name."
      />
      <PasswordField
        label="Password"
        name="new-password"
        autoComplete="new-password"
        required
        minLength={8}
        maxLength={256}
        value={password}
        onChange={(e) => setPassword(e.target.value)}
        data-testid="signup-password"
        hint="Eight characters at least. Three or four words make a good one."
      />
      {error && <Problem testid="form-error">{error}</Problem>}
      <Button type="submit" tone="primary" className="wide" busy={busy} data-testid="signup-submit">
        {route.page === "setup" ? "Become the operator" : "Create account"}
      </Button>
    </form>
  );
}

function SignIn() {
  const { account, preferences } = useApp();
  const [name, setName] = useState(preferences.value.lastName);
  const [password, setPassword] = useState("");
  const { run, busy, error } = useAction(async () => {
    await account.signIn(normalName(name), password, thisDevice());
    go("#/", true);
  });
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    void run();
  };
  return (
    <form onSubmit={submit} className="stack">
      <Field
        label="Name"
        prefix="@"
        name="username"
        autoComplete="username"
        autoCapitalize="none"
        autoCorrect="off"
        spellCheck={false}
        required
        value={name}
        onChange={(e) => setName(e.target.value)}
        data-testid="signin-name"
      />
      <PasswordField
        label="Password"
        name="password"
        autoComplete="current-password"
        required
        value={password}
        onChange={(e) => setPassword(e.target.value)}
        data-testid="signin-password"
      />
      {error && <Problem testid="form-error">{error}</Problem>}
      <Button type="submit" tone="primary" className="wide" busy={busy} data-testid="signin-submit">
        Sign in
      </Button>
    </form>
  );
}

function ByInvitation({ server }: { server: Server | null }) {
  const fresh = server !== null && !server.operator;
  return (
    <div className="hint-card" data-testid="by-invitation">
      <Icon name="link" size={22} />
      {fresh ? (
        <p>
          The link looks like <code>{location.origin}/#/setup/…</code> and works once. If it scrolled away, start the server again: it prints a new one.
        </p>
      ) : server?.registration === "invite" ? (
        <p>Signing up here is by invitation. Ask somebody who has an account for a link.</p>
      ) : (
        <p>Signing up is closed on this server. Its operator can open it, or send you an invitation.</p>
      )}
    </div>
  );
}

/** Day and night over one horizon. */
function Sky() {
  return (
    <svg className="sky" viewBox="0 0 400 300" preserveAspectRatio="xMidYMax slice" aria-hidden="true">
      <g fill="none" stroke="currentColor" strokeWidth="1.5">
        {[70, 120, 175, 235, 300].map((r) => (
          <circle key={r} cx="200" cy="300" r={r} />
        ))}
      </g>
      <circle cx="200" cy="300" r="46" fill="#ffb02e" />
      <g fill="#fff">
        <circle cx="116" cy="214" r="9" />
        <circle cx="315" cy="168" r="11" fill="#ffd391" />
        <circle cx="60" cy="111" r="7" opacity=".8" />
        <circle cx="258" cy="245" r="6" opacity=".9" />
        <circle cx="352" cy="42" r="6" opacity=".6" />
      </g>
    </svg>
  );
}
