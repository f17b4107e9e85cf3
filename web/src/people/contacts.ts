/** The people one knows, and looking up others by their exact name. */
import type { Contacts, Person } from "../wire/contract";
import type { Api } from "../wire/api";
import { ApiError } from "../wire/http";
import { Store, systemClock, type Clock } from "../store";

export const noContacts: Contacts = { contacts: [], incoming: [], requested: [], blocked: [] };

export type Lookup =
  | { state: "idle" }
  | { state: "looking"; name: string }
  | { state: "found"; name: string; person: Person }
  | { state: "missing"; name: string; detail: string };

type ContactsApi = Pick<Api, "person" | "contacts" | "addContact" | "acceptContact" | "removeContact" | "block">;

/** Typing pauses this long before a name is looked up. */
const lookupPause = 350;

export class People {
  readonly contacts = new Store<Contacts>(noContacts);
  readonly loaded = new Store(false);
  readonly lookup = new Store<Lookup>({ state: "idle" });
  readonly #api: ContactsApi;
  readonly #clock: Clock;
  #cancelPause: () => void = () => {};
  #abort: AbortController | null = null;

  constructor(api: ContactsApi, clock: Clock = systemClock) {
    this.#api = api;
    this.#clock = clock;
  }

  heard(contacts: Contacts): void {
    this.contacts.set({
      contacts: byName(contacts.contacts),
      incoming: contacts.incoming ?? [],
      requested: contacts.requested ?? [],
      blocked: byName(contacts.blocked),
    });
    this.loaded.set(true);
    // Whoever was looked up may have just become a contact.
    const { value } = this.lookup;
    if (value.state === "found") {
      const known = this.known(value.person.name);
      if (known) this.lookup.set({ ...value, person: known });
    }
  }

  reset(): void {
    this.contacts.set(noContacts);
    this.loaded.set(false);
    this.type("");
  }

  known(name: string): Person | undefined {
    const { contacts, incoming, requested, blocked } = this.contacts.value;
    return [...contacts, ...incoming, ...requested, ...blocked].find((p) => p.name === name);
  }

  byId(id: string): Person | undefined {
    const { contacts, incoming, requested, blocked } = this.contacts.value;
    return [...contacts, ...incoming, ...requested, ...blocked].find((p) => p.id === id);
  }

  /** What stands in the name box: looked up once the typing pauses. */
  type(text: string): void {
    this.#cancelPause();
    this.#abort?.abort();
    this.#abort = null;
    const name = normalName(text);
    if (name.length < 2) {
      this.lookup.set({ state: "idle" });
      return;
    }
    const known = this.known(name);
    if (known) {
      this.lookup.set({ state: "found", name, person: known });
      return;
    }
    this.lookup.set({ state: "looking", name });
    this.#cancelPause = this.#clock.after(lookupPause, () => void this.#look(name));
  }

  async #look(name: string): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    try {
      const person = await this.#api.person(name, abort.signal);
      if (!abort.signal.aborted) this.lookup.set({ state: "found", name, person });
    } catch (error) {
      if (abort.signal.aborted) return;
      const detail =
        error instanceof ApiError && error.status !== 404 ? error.message : `Nobody here is called @${name}. Check the spelling.`;
      this.lookup.set({ state: "missing", name, detail });
    }
  }

  /** Whoever has exactly this name; rejects with the server's sentence when nobody has. */
  async find(text: string): Promise<Person> {
    const name = normalName(text);
    const { value } = this.lookup;
    if (value.state === "found" && value.name === name) return value.person;
    return this.known(name) ?? (await this.#api.person(name));
  }

  async add(name: string): Promise<Person> {
    const person = await this.#api.addContact(name);
    await this.#changed(person);
    return person;
  }

  async accept(person: Person): Promise<void> {
    await this.#changed(await this.#api.acceptContact(person.id));
  }

  async remove(person: Person): Promise<void> {
    await this.#api.removeContact(person.id);
    await this.#changed({ ...person, relation: "none" });
  }

  async block(person: Person, blocked: boolean): Promise<void> {
    await this.#api.block(person.id, blocked);
    await this.#changed({ ...person, relation: blocked ? "blocked" : "none" });
  }

  /** The events socket tells as well; asking makes it certain, and right when the socket is down. */
  async #changed(person: Person): Promise<void> {
    const { value } = this.lookup;
    if (value.state === "found" && value.person.id === person.id) this.lookup.set({ ...value, person });
    try {
      this.heard(await this.#api.contacts());
    } catch {
      // The next snapshot brings them.
    }
  }
}

function byName(people: readonly Person[] | null | undefined): Person[] {
  const collator = new Intl.Collator(undefined, { sensitivity: "base" });
  return [...(people ?? [])].sort((a, b) => collator.compare(a.displayName || a.name, b.displayName || b.name));
}

/** A name as typed, without the @ and spaces around; the server folds case and the rest of Unicode. */
export function normalName(text: string): string {
  return text.trim().replace(/^[@＠]+/, "").normalize("NFKC").toLowerCase();
}
