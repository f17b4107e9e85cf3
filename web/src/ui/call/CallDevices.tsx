import { useCallback } from "react";
import type { CallSession } from "../../call/session";
import type { DeviceKind, RoomView } from "../../call/room";
import { useAction } from "../hooks";
import { IconButton, Problem } from "../components/controls";
import { DevicePicker, Meter } from "../components/DevicePicker";
import { Dialog } from "../components/Dialog";

export function CallDevices({ session, view, onClose }: { session: CallSession; view: RoomView; onClose: () => void }) {
  const use = useAction((kind: DeviceKind, id: string) => session.useDevice(kind, id));
  const { watchMicrophone } = session;
  const on = view.microphone.on;
  const watch = useCallback((onLevel: (level: number) => void) => (on ? watchMicrophone(onLevel) : () => {}), [on, watchMicrophone]);
  return (
    <Dialog label="Devices" className="sheet" onClose={onClose} testid="devices">
      <header className="dialog-head">
        <h2>Devices</h2>
        <IconButton label="Close" icon="close" onClick={onClose} />
      </header>
      <DevicePicker onChoose={(kind, id) => void use.run(kind, id)} meter={<Meter watch={watch} label="Microphone level" />} />
      {!on && <p className="field-hint">Your microphone is off: the others can’t hear you.</p>}
      {use.error && <Problem>{use.error}</Problem>}
    </Dialog>
  );
}
