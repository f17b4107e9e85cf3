/** How the last call ended, for a while. */
import { useEffect, useState } from "react";
import type { EndedNote } from "../../call/calls";
import { endingInWords } from "../../call/words";
import { startCall } from "../commands";
import { note as say } from "../announce";
import { useApp } from "../hooks";
import { Button, IconButton } from "../components/controls";
import { Icon, type IconName } from "../components/Icon";

const shownFor = 12_000;

export function Ended({ note }: { note: EndedNote }) {
  const { calls } = useApp();
  const [held, setHeld] = useState(false);
  const stays = note.outcome === "missed";
  useEffect(() => {
    if (held || stays) return;
    const timer = setTimeout(() => calls.dismiss(), shownFor);
    return () => clearTimeout(timer);
  }, [calls, held, stays, note.key]);
  const again = async (): Promise<void> => {
    const problem = await startCall(note.names, note.media);
    if (problem) say(problem, true);
  };
  const bad = note.outcome === "failed" || note.outcome === "missed";
  const icon: IconName = note.outcome === "missed" ? "missed" : note.outcome === "failed" ? "alert" : "hangUp";
  const canCall = note.outcome !== "moved" && note.outcome !== "elsewhere" && note.names.length > 0;
  return (
    <div
      className="ended"
      data-testid="call-ended"
      data-outcome={note.outcome}
      data-bad={bad || undefined}
      role="status"
      onPointerEnter={() => setHeld(true)}
      onPointerLeave={() => setHeld(false)}
      onFocus={() => setHeld(true)}
      onBlur={() => setHeld(false)}
    >
      <span className="ended-icon">
        <Icon name={icon} size={22} />
      </span>
      <div className="ended-text">
        <p className="ended-title">{endingInWords(note.outcome, note.direction, note.title, note.lengthSeconds)}</p>
        <p className="ended-sub">{note.detail || note.title}</p>
      </div>
      {canCall && (
        <Button tone="plain" icon={note.media === "video" ? "camera" : "phone"} onClick={() => void again()} data-testid="call-back">
          {note.outcome === "missed" ? "Call back" : "Call again"}
        </Button>
      )}
      <IconButton label="Dismiss" icon="close" size={18} onClick={() => calls.dismiss()} />
    </div>
  );
}
