/** Chooses between the app's faces: starting, unreachable, signed out, signed in. */
import { useEffect } from "react";
import type { App } from "../app";
import { announcement, notes } from "./announce";
import { AppContext, useStore } from "./hooks";
import { route as routeStore } from "./router";
import { Button } from "./components/controls";
import { Icon } from "./components/Icon";
import { Logo } from "./components/Logo";
import { Insecure } from "./screens/Insecure";
import { Welcome } from "./screens/Welcome";
import { Shell } from "./Shell";

export function Root({ app, secure, playTone }: { app: App; secure: boolean; playTone: () => void }) {
  return (
    <AppContext value={app}>
      {secure ? <Face app={app} playTone={playTone} /> : <Insecure />}
      <LiveRegion />
      <Notes />
    </AppContext>
  );
}

function Face({ app, playTone }: { app: App; playTone: () => void }) {
  const state = useStore(app.account.state);
  const route = useStore(routeStore);
  useTheme(app);
  switch (state.phase) {
    case "starting":
      return (
        <main className="splash" aria-busy="true">
          <Logo size={64} />
        </main>
      );
    case "unreachable":
      return (
        <main className="splash">
          <Logo size={64} />
          <h1>The server doesn’t answer</h1>
          <p>{state.detail} This page tries again by itself.</p>
          <Button icon="recents" onClick={() => void app.account.start()}>
            Try now
          </Button>
        </main>
      );
    case "out":
      return <Welcome key={route.page} server={state.server} notice={state.notice} route={route} />;
    case "in":
      return <Shell session={state.session} route={route} playTone={playTone} />;
  }
}

function useTheme(app: App): void {
  const { theme } = useStore(app.preferences);
  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }, [theme]);
}

function LiveRegion() {
  const text = useStore(announcement);
  return (
    <div className="visually-hidden" role="status" aria-live="polite" data-testid="announcer">
      {text}
    </div>
  );
}

function Notes() {
  const list = useStore(notes);
  return (
    <div className="notes" role="status">
      {list.map((n) => (
        <p key={n.id} className="note" data-bad={n.bad || undefined}>
          {n.bad && <Icon name="alert" size={18} />}
          {n.text}
        </p>
      ))}
    </div>
  );
}
