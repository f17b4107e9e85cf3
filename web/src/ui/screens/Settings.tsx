/** Settings: the account, calls, devices, looks, and the server for those who run it. */
import { useEffect, useState, type SubmitEvent } from "react";
import type { Account, Invitation, Registration } from "../../wire/contract";
import type { Preferences } from "../../people/preferences";
import { nameOf } from "../../call/words";
import { note } from "../announce";
import { useAction, useApp, useStore } from "../hooks";
import { Avatar } from "../components/Avatar";
import { Button, Choice, Field, Problem, Switch } from "../components/controls";
import { PaneHead } from "../components/PaneHead";
import { PersonRow } from "../components/PersonRow";
import { DeviceTest } from "./DeviceTest";

export function SettingsPane({ me, playTone }: { me: Account; playTone: () => void }) {
  const { account } = useApp();
  const out = useAction(() => account.signOut());
  const session = useStore(account.state);
  return (
    <section className="pane settings-pane" aria-labelledby="settings-title">
      <PaneHead id="settings-title" title="Settings" />
      <div className="pane-scroll settings">
        <Profile me={me} />
        <CallSettings me={me} />
        <section className="card">
          <h2>Camera and sound</h2>
          <DeviceTest playTone={playTone} />
          <SoundSettings />
        </section>
        <Looks />
        <ServerSettings me={me} />
        <Blocked />
        <section className="card">
          <h2>This device</h2>
          <p className="card-text">{session.phase === "in" ? session.session.device.name || "This browser" : ""}</p>
          {out.error && <Problem>{out.error}</Problem>}
          <Button icon="signOut" busy={out.busy} onClick={() => void out.run()} data-testid="sign-out">
            Sign out
          </Button>
        </section>
      </div>
    </section>
  );
}

function Profile({ me }: { me: Account }) {
  const { account } = useApp();
  const [displayName, setDisplayName] = useState(me.displayName);
  useEffect(() => setDisplayName(me.displayName), [me.displayName]);
  const save = useAction(async () => {
    await account.change({ displayName: displayName.trim() });
    note("Saved");
  });
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    void save.run();
  };
  return (
    <section className="card profile">
      <div className="profile-head">
        <Avatar name={me.name} displayName={displayName} size="l" />
        <div>
          <p className="profile-name">{nameOf({ name: me.name, displayName: displayName.trim() })}</p>
          <p className="row-sub">
            @{me.name}
            {me.operator && <span className="badge">Operator</span>}
          </p>
        </div>
      </div>
      <form onSubmit={submit} className="inline-form">
        <Field
          label="Display name"
          value={displayName}
          maxLength={64}
          autoComplete="name"
          onChange={(e) => setDisplayName(e.target.value)}
          error={save.error}
          data-testid="display-name"
        />
        <Button type="submit" tone="primary" busy={save.busy} disabled={displayName.trim() === me.displayName} data-testid="display-name-save">
          Save
        </Button>
      </form>
    </section>
  );
}

function CallSettings({ me }: { me: Account }) {
  const { account } = useApp();
  const change = useAction(account.change.bind(account));
  return (
    <section className="card">
      <h2>Calls</h2>
      <Choice
        label="Who can ring me"
        value={me.callsFrom}
        options={[
          ["everyone", "Everybody"],
          ["contacts", "Contacts only"],
        ]}
        onChange={(callsFrom) => void change.run({ callsFrom })}
      />
      <Switch
        label="Call waiting"
        hint="While you’re in a call, a second one knocks. Off, its caller hears that you’re busy."
        checked={me.callWaiting}
        onChange={(callWaiting) => void change.run({ callWaiting })}
      />
      {change.error && <Problem>{change.error}</Problem>}
      <Notifications />
    </section>
  );
}

function Notifications() {
  const { preferences } = useApp();
  const { notifications } = useStore(preferences);
  const supported = typeof Notification !== "undefined";
  const [permission, setPermission] = useState(supported ? Notification.permission : "denied");
  if (!supported) return null;
  const change = async (on: boolean): Promise<void> => {
    if (on && Notification.permission === "default") setPermission(await Notification.requestPermission());
    preferences.update((p): Preferences => ({ ...p, notifications: on }));
  };
  return (
    <Switch
      label="Notify me when the page is hidden"
      hint={
        permission === "denied"
          ? "This browser blocks notifications from this page. Allow them beside the address."
          : "A call then shows as a notification of your system."
      }
      checked={notifications && permission === "granted"}
      disabled={permission === "denied"}
      onChange={(on) => void change(on)}
    />
  );
}

function SoundSettings() {
  const { preferences } = useApp();
  const { sounds, originalSound } = useStore(preferences);
  return (
    <>
      <Switch
        label="Ring and other sounds"
        checked={sounds}
        onChange={(on) => preferences.update((p): Preferences => ({ ...p, sounds: on }))}
      />
      <Switch
        label="Original sound"
        hint="Sends your microphone untouched, for music. Use headphones: echo isn’t removed. From the next call on."
        checked={originalSound}
        onChange={(on) => preferences.update((p): Preferences => ({ ...p, originalSound: on }))}
      />
    </>
  );
}

function Looks() {
  const { preferences } = useApp();
  const { theme } = useStore(preferences);
  return (
    <section className="card">
      <h2>Looks</h2>
      <Choice
        label="Theme"
        value={theme}
        options={[
          ["system", "As the system"],
          ["light", "Light"],
          ["dark", "Dark"],
        ]}
        onChange={(value) => preferences.update((p): Preferences => ({ ...p, theme: value }))}
      />
    </section>
  );
}

function ServerSettings({ me }: { me: Account }) {
  const { account } = useApp();
  const server = useStore(account.server);
  const change = useAction(account.setRegistration.bind(account));
  const mayInvite = me.operator || server?.registration === "invite" || server?.registration === "open";
  if (!server || !mayInvite) return null;
  return (
    <section className="card">
      <h2>{me.operator ? "This server" : "Invite people"}</h2>
      {me.operator && (
        <Choice<Registration>
          label="Who can make an account"
          value={server.registration}
          options={[
            ["open", "Everybody"],
            ["invite", "Invited"],
            ["closed", "Nobody"],
          ]}
          onChange={(r) => void change.run(r)}
        />
      )}
      {change.error && <Problem>{change.error}</Problem>}
      <Invite />
    </section>
  );
}

function Invite() {
  const { api } = useApp();
  const [invitation, setInvitation] = useState<Invitation | null>(null);
  const make = useAction(async () => setInvitation(await api.invite()));
  const link = invitation ? new URL(invitation.link, location.origin).href : "";
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(link);
      note("Link copied");
    } catch {
      note("Select the link and copy it by hand.", true);
    }
  };
  return (
    <div className="stack">
      {invitation && (
        <div className="field">
          <label htmlFor="invitation">Invitation for one person</label>
          <div className="field-box">
            <input id="invitation" readOnly value={link} onFocus={(e) => e.target.select()} data-testid="invitation-link" />
            <button type="button" className="field-action" onClick={() => void copy()}>
              Copy
            </button>
          </div>
          <p className="field-hint">
            Works once, until {new Intl.DateTimeFormat(undefined, { dateStyle: "medium" }).format(new Date(invitation.expiresAt))}.
          </p>
        </div>
      )}
      {make.error && <Problem>{make.error}</Problem>}
      <Button icon="link" busy={make.busy} onClick={() => void make.run()} data-testid="invite">
        {invitation ? "Another invitation" : "Make an invitation link"}
      </Button>
    </div>
  );
}

function Blocked() {
  const { people } = useApp();
  const { blocked } = useStore(people.contacts);
  const unblock = useAction(people.block.bind(people));
  if (blocked.length === 0) return null;
  return (
    <section className="card">
      <h2>Blocked</h2>
      <ul className="rows">
        {blocked.map((p) => (
          <PersonRow
            key={p.id}
            person={p}
            testid="blocked-row"
            actions={
              <Button busy={unblock.busy} onClick={() => void unblock.run(p, false)} aria-label={`Unblock ${nameOf(p)}`}>
                Unblock
              </Button>
            }
          />
        ))}
      </ul>
      {unblock.error && <Problem>{unblock.error}</Problem>}
    </section>
  );
}
