/** Somebody calls: full screen on a phone and a watch, a card elsewhere; a slimmer one while another call goes on. */
import { useState } from "react";
import type { Call, Media } from "../../wire/contract";
import { handleOf, nameOf } from "../../call/words";
import { useApp, useStore } from "../hooks";
import { go } from "../router";
import { Avatar } from "../components/Avatar";
import { Dialog } from "../components/Dialog";
import { Icon, type IconName } from "../components/Icon";

export function Incoming({ call }: { call: Call }) {
  const { calls, people } = useApp();
  const contacts = useStore(people.contacts);
  const inCall = useStore(calls.current) !== null;
  const [answered, setAnswered] = useState(false);
  const { caller } = call;
  const known = contacts.contacts.some((p) => p.id === caller.id) || caller.relation === "contact";
  const group = call.people.filter((m) => m.person.id !== caller.id && m.person.relation !== "self");
  const what = call.media === "video" ? "video call" : "voice call";
  const accept = (media: Media): void => {
    setAnswered(true);
    void calls.accept(call.id, media);
    go(`#/call/${call.id}`);
  };
  return (
    <Dialog label={`${nameOf(caller)} calls you`} className="incoming" onClose={null} testid="incoming" closeOnBackdrop={false}>
      <div className="incoming-inner" data-waiting={inCall || undefined} data-call={call.id}>
        <p className="incoming-what">
          <Icon name={call.media === "video" ? "camera" : "phone"} size={18} /> Incoming {what}
        </p>
        <div className="pulse" data-on>
          <Avatar name={caller.name} displayName={caller.displayName} size="xl" />
        </div>
        <div className="incoming-who">
          <h2 className="incoming-name" data-testid="incoming-name">
            {nameOf(caller)}
          </h2>
          {handleOf(caller) && <p className="incoming-handle">{handleOf(caller)}</p>}
          {!known && (
            <p className="badge stranger" data-testid="incoming-stranger">
              Not in your contacts
            </p>
          )}
          {group.length > 0 && <p className="incoming-group">with {group.map((m) => nameOf(m.person)).join(", ")}</p>}
        </div>
        {inCall && <p className="incoming-hint">Answering ends the call you’re in.</p>}
        <div className="incoming-actions">
          <Choice icon="hangUp" tone="stop" text="Decline" testid="decline" disabled={answered} onClick={() => void calls.decline(call.id)} />
          {inCall && (
            <Choice icon="recents" tone="plain" text="Busy" testid="decline-busy" disabled={answered} onClick={() => void calls.decline(call.id, "busy")} />
          )}
          {call.media === "video" && (
            <Choice icon="phone" tone="plain" text="Voice only" testid="accept-audio" disabled={answered} onClick={() => accept("audio")} />
          )}
          <Choice
            icon={call.media === "video" ? "camera" : "phone"}
            tone="go"
            text={inCall ? "End & accept" : "Accept"}
            testid="accept"
            disabled={answered}
            onClick={() => accept(call.media)}
          />
        </div>
      </div>
    </Dialog>
  );
}

function Choice({ icon, tone, text, testid, disabled, onClick }: { icon: IconName; tone: string; text: string; testid: string; disabled: boolean; onClick: () => void }) {
  return (
    <button type="button" className="choice-button" data-tone={tone} data-testid={testid} aria-label={text} disabled={disabled} onClick={onClick}>
      <span className="choice-icon">
        <Icon name={icon} size={28} />
      </span>
      <span className="choice-text">{text}</span>
    </button>
  );
}
