/** The bar under a call. */
import { canShareScreen } from "../../media/devices";
import type { CallSession } from "../../call/session";
import type { RoomView, Source } from "../../call/room";
import { Icon, type IconName } from "../components/Icon";

export type Panel = "devices" | "add" | "quality" | null;

export function Controls({ session, view, panel, onPanel, ringing, connected }: {
  session: CallSession;
  view: RoomView;
  panel: Panel;
  onPanel: (panel: Panel) => void;
  ringing: boolean;
  connected: boolean;
}) {
  const toggle = (source: Source) => (): void => void session.publish(source, !view[source].on);
  return (
    <div className="controls" role="toolbar" aria-label="Call controls">
      <Toggle
        testid="toggle-mic"
        on={view.microphone.on}
        busy={view.microphone.busy}
        problem={view.microphone.problem !== null}
        label={view.microphone.on ? "Mic on: turn it off" : "Mic off: turn it on"}
        text="Mic"
        name="Mic"
        shortcut="M"
        icon={view.microphone.on ? "mic" : "micOff"}
        onClick={toggle("microphone")}
      />
      <Toggle
        testid="toggle-camera"
        on={view.camera.on}
        busy={view.camera.busy}
        problem={view.camera.problem !== null}
        label={view.camera.on ? "Camera on: turn it off" : "Camera off: turn it on"}
        text="Camera"
        name="Camera"
        shortcut="V"
        icon={view.camera.on ? "camera" : "cameraOff"}
        onClick={toggle("camera")}
      />
      {canShareScreen() && (
        <button
          type="button"
          className="control only-roomy"
          data-testid="toggle-screen"
          data-active={view.screen.on || undefined}
          aria-pressed={view.screen.on}
          aria-label={view.screen.on ? "Share is on: stop sharing your screen" : "Share your screen"}
          title={`${view.screen.on ? "Stop sharing" : "Share screen"} (S)`}
          disabled={!connected || ringing || view.screen.busy}
          onClick={toggle("screen")}
        >
          <Icon name="screen" />
          <span className="control-text" aria-hidden="true">
            Share
          </span>
        </button>
      )}
      <button
        type="button"
        className="control only-roomy"
        data-testid="add-person"
        aria-expanded={panel === "add"}
        aria-label="Add people"
        title="Add people (A)"
        disabled={ringing || !connected}
        onClick={() => onPanel(panel === "add" ? null : "add")}
      >
        <Icon name="addPerson" />
        <span className="control-text" aria-hidden="true">
          Add
        </span>
      </button>
      <button
        type="button"
        className="control"
        data-testid="devices-button"
        aria-expanded={panel === "devices"}
        aria-label="Devices"
        title="Camera, microphone, speaker (D)"
        onClick={() => onPanel(panel === "devices" ? null : "devices")}
      >
        <Icon name="settings" />
        <span className="control-text" aria-hidden="true">
          Devices
        </span>
      </button>
      <button
        type="button"
        className="control hang-up"
        data-testid={ringing ? "cancel-call" : "hang-up"}
        aria-label={ringing ? "Cancel the call" : "Hang up"}
        title={ringing ? "Cancel" : "Hang up"}
        onClick={() => session.hangUp()}
      >
        <Icon name="hangUp" size={28} />
        <span className="control-text" aria-hidden="true">
          {ringing ? "Cancel" : "Hang up"}
        </span>
      </button>
    </div>
  );
}

function Toggle({ testid, on, busy, problem, label, text, name, shortcut, icon, onClick }: {
  testid: string;
  on: boolean;
  busy: boolean;
  problem: boolean;
  label: string;
  text: string;
  name: string;
  shortcut: string;
  icon: IconName;
  onClick: () => void;
}) {
  return (
    <button
      type="button"
      className="control"
      data-testid={testid}
      data-off={!on || undefined}
      aria-pressed={on}
      aria-label={name}
      aria-busy={busy || undefined}
      title={`${label} (${shortcut})`}
      onClick={onClick}
    >
      <Icon name={icon} />
      {problem && <span className="control-alert" aria-hidden="true" />}
      <span className="control-text" aria-hidden="true">
        {text}
      </span>
    </button>
  );
}
