/** Joins what the server knows of a call's people with who is in the room. Pure. */
import type { Call, MemberState, Person } from "../../wire/contract";
import type { CallState } from "../../call/machine";
import type { Participant } from "../../call/room";

export interface Shown {
  participant: Participant;
  name: string;
  displayName: string;
  /** The member's state where it isn't plainly "joined". */
  state: MemberState | null;
}

export interface Pending {
  person: Person;
  state: MemberState;
}

export function personOf(call: Call | null, identity: string): Person | undefined {
  if (!call) return undefined;
  const id = identity.split(":", 1)[0];
  return call.people.find((m) => m.person.id === id)?.person ?? (call.caller.id === id ? call.caller : undefined);
}

/** Everybody in the room, ourselves first. */
export function inRoom(call: Call | null, participants: readonly Participant[], me: { name: string; displayName: string }): Shown[] {
  return participants.map((participant) => {
    if (participant.self) return { participant, ...me, state: null };
    const id = participant.identity.split(":", 1)[0];
    const member = call?.people.find((m) => m.person.id === id);
    const person = personOf(call, participant.identity);
    return {
      participant,
      name: person?.name ?? participant.name,
      displayName: person?.displayName ?? participant.name,
      state: member && member.state !== "joined" ? member.state : null,
    };
  });
}

/** People of the call who are not in the room (yet): ringing, reconnecting, connecting. */
export function pending(call: Call | null, participants: readonly Participant[], myId: string): Pending[] {
  const present = new Set(participants.map((p) => p.identity.split(":", 1)[0]));
  return (call?.people ?? [])
    .filter((m) => m.person.id !== myId && !present.has(m.person.id))
    .filter((m) => m.state === "ringing" || m.state === "joined" || m.state === "reconnecting")
    .map((m) => ({ person: m.person, state: m.state }));
}

/** Those whom the call is with, for its title. */
export function others(state: CallState, myId: string): Person[] {
  const { call } = state;
  if (!call) return state.names.map((name) => ({ id: "", name, displayName: "", relation: "none" }));
  const list = call.people.map((m) => m.person).filter((p) => p.id !== myId);
  if (call.caller.id !== myId && !list.some((p) => p.id === call.caller.id)) list.unshift(call.caller);
  const active = list.filter((p) => {
    const s = call.people.find((m) => m.person.id === p.id)?.state;
    return s === undefined || s === "ringing" || s === "joined" || s === "reconnecting";
  });
  return active.length > 0 ? active : list;
}
