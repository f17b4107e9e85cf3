/** The people and calls of the design scenes. Nothing here is part of the app. */
import type { Account, Call, Contacts, Member, Outcome, Person, Server } from "../src/wire/contract";

const person = (name: string, displayName: string, relation: Person["relation"] = "contact"): Person => ({ id: `ac_${name}`, name, displayName, relation });

export const me: Account = { id: "ac_ana", name: "ana", displayName: "Ana Moreau", operator: true, callWaiting: true, callsFrom: "everyone" };
export const self = person("ana", "Ana Moreau", "self");
export const people = {
  ben: person("ben", "Ben Okafor"),
  chloe: person("chloe", "Chloé Lindqvist"),
  dmitri: person("dmitri", "Дмитрий Соколов"),
  emi: person("emi", "えみ 田中"),
  farah: person("farah", "Farah al-Rashid"),
  gus: person("gus.van.der.meer", "Gus van der Meer-Hoogendoorn tot Westerbroek"),
  hana: person("hana", ""),
  ivo: person("ivo", "Ivo Kovač"),
  jo: person("jo", "Jo March"),
  kofi: person("kofi", "Kofi Mensah"),
  lena: person("lena", "Lena Fischer"),
  mia: person("mia", "Mia Rossi"),
  noor: person("noor", "Noor Haddad", "incoming"),
  olu: person("olu", "Olu Adeyemi", "requested"),
  stranger: person("quentin", "Quentin Blake", "none"),
};

export const contacts: Contacts = {
  contacts: [people.ben, people.chloe, people.dmitri, people.emi, people.farah, people.gus, people.hana, people.ivo],
  incoming: [people.noor],
  requested: [people.olu],
  blocked: [],
};

export const nobody: Contacts = { contacts: [], incoming: [], requested: [], blocked: [] };
export const server: Server = { name: "calls.moreau.example", registration: "invite", operator: true };

let count = 0;

export function call(change: Partial<Call> & { with: Person[]; states?: Member["state"][] }): Call {
  const { with: others, states = [], ...rest } = change;
  const incoming = rest.direction === "incoming";
  const caller = incoming ? (others[0] ?? self) : self;
  return {
    id: `ca_${String(++count)}`,
    media: "video",
    state: "ringing",
    version: 1,
    createdAt: new Date().toISOString(),
    lengthSeconds: 0,
    direction: "outgoing",
    waiting: false,
    caller,
    answeredOnThisDevice: !incoming,
    myState: incoming ? "ringing" : "joined",
    people: [
      { person: self, state: incoming ? "ringing" : "joined", identity: "ac_ana:dv_1" },
      ...others.map((p, i): Member => ({ person: p, state: states[i] ?? "ringing", identity: `${p.id}:dv_1` })),
    ],
    ...rest,
  };
}

const at = (hoursAgo: number): string => new Date(Date.now() - hoursAgo * 3_600_000).toISOString();
const past = (who: Person[], hoursAgo: number, direction: Call["direction"], outcome: Outcome, lengthSeconds = 0, media: Call["media"] = "video"): Call =>
  call({ with: who, state: "ended", direction, outcome, lengthSeconds, media, createdAt: at(hoursAgo), myState: "left" });

export const history: Call[] = [
  past([people.ben], 0.4, "outgoing", "answered", 1265),
  past([people.chloe], 2.2, "incoming", "missed", 0, "audio"),
  past([people.farah, people.ivo, people.emi], 5, "outgoing", "answered", 3725),
  past([people.dmitri], 22, "outgoing", "timed_out"),
  past([people.stranger], 26, "incoming", "declined", 0, "audio"),
  past([people.gus], 28, "incoming", "answered", 42, "audio"),
  past([people.hana], 50, "outgoing", "busy"),
  past([people.ben], 75, "outgoing", "cancelled", 0, "audio"),
  past([people.emi], 220, "incoming", "failed"),
];
