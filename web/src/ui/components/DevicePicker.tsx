/** Camera, microphone and speaker: which one, and whether it works. */
import { useEffect, useId, useRef } from "react";
import { canChooseSpeaker } from "../../media/devices";
import type { DeviceKind } from "../../call/room";
import type { Preferences } from "../../people/preferences";
import { useApp, useStore } from "../hooks";

const kinds: readonly { kind: DeviceKind; key: "camera" | "microphone" | "speaker"; label: string; testid: string; none: string }[] = [
  { kind: "videoinput", key: "camera", label: "Camera", testid: "device-camera", none: "No camera found" },
  { kind: "audioinput", key: "microphone", label: "Microphone", testid: "device-mic", none: "No microphone found" },
  { kind: "audiooutput", key: "speaker", label: "Speaker", testid: "device-speaker", none: "The system’s speaker" },
];

export function DevicePicker({ onChoose, meter }: { onChoose?: (kind: DeviceKind, id: string) => void; meter?: React.ReactNode }) {
  const { devices, preferences } = useApp();
  const list = useStore(devices.list);
  const chosen = useStore(preferences);
  const base = useId();
  useEffect(() => devices.watch(), [devices]);
  return (
    <div className="stack">
      {kinds.map(({ kind, key, label, testid, none }) => {
        const found = list.filter((d) => d.kind === kind);
        const usable = kind === "audiooutput" ? canChooseSpeaker() && found.length > 0 : found.length > 0;
        const value = found.some((d) => d.id === chosen[key]) ? chosen[key] : (found[0]?.id ?? "");
        return (
          <div className="field" key={kind}>
            <label htmlFor={`${base}-${key}`}>{label}</label>
            <div className="field-box select-box">
              <select
                id={`${base}-${key}`}
                data-testid={testid}
                disabled={!usable}
                value={value}
                onChange={(e) => {
                  const id = e.target.value;
                  preferences.update((p): Preferences => ({ ...p, [key]: id }));
                  onChoose?.(kind, id);
                }}
              >
                {usable ? (
                  found.map((d, i) => (
                    <option key={d.id} value={d.id}>
                      {d.label || `${label} ${i + 1}`}
                    </option>
                  ))
                ) : (
                  <option value="">{none}</option>
                )}
              </select>
            </div>
            {kind === "audioinput" && meter}
          </div>
        );
      })}
    </div>
  );
}

/** A level meter. `watch` calls back with 0 to 1 until what it returned is called. */
export function Meter({ watch, label }: { watch: (onLevel: (level: number) => void) => () => void; label: string }) {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(
    () =>
      watch((level) => {
        ref.current?.style.setProperty("--level", level.toFixed(3));
        ref.current?.setAttribute("aria-valuenow", String(Math.round(level * 100)));
      }),
    [watch],
  );
  return <div className="meter" ref={ref} role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={0} />;
}
