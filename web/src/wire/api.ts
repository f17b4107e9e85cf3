import type { Http } from "./http";
import type {
  Account,
  Call,
  CallJoin,
  CallPage,
  CallQuality,
  CallsFrom,
  Contacts,
  Invitation,
  Media,
  Person,
  Registration,
  Server,
  Session,
} from "./contract";

export interface SignUp {
  name: string;
  password: string;
  displayName?: string;
  invitation?: string;
  setUp?: string;
  deviceName?: string;
}

/** One method per route of the server. Every one rejects with an ApiError. */
export class Api {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  server(): Promise<Server> {
    return this.#http.request("/v1/server");
  }

  session(): Promise<Session> {
    return this.#http.request("/v1/session");
  }

  signUp(details: SignUp): Promise<Session> {
    return this.#post("/v1/accounts", { kind: "browser", ...details });
  }

  signIn(name: string, password: string, deviceName: string): Promise<Session> {
    return this.#post("/v1/sessions", { name, password, deviceName, kind: "browser" });
  }

  signOut(): Promise<void> {
    return this.#http.request("/v1/session", { method: "DELETE" });
  }

  changeAccount(change: { displayName?: string; callWaiting?: boolean; callsFrom?: CallsFrom }): Promise<Account> {
    return this.#http.request("/v1/account", { method: "PATCH", body: change });
  }

  invite(): Promise<Invitation> {
    return this.#post("/v1/invitations", {});
  }

  setRegistration(registration: Registration): Promise<unknown> {
    return this.#http.request("/v1/server/registration", { method: "PUT", body: { registration } });
  }

  person(name: string, signal?: AbortSignal): Promise<Person> {
    return this.#http.request(`/v1/people/${encodeURIComponent(name)}`, signal ? { signal } : {});
  }

  contacts(): Promise<Contacts> {
    return this.#http.request("/v1/contacts");
  }

  addContact(name: string): Promise<Person> {
    return this.#post("/v1/contacts", { name });
  }

  acceptContact(id: string): Promise<Person> {
    return this.#post(`/v1/contacts/${encodeURIComponent(id)}/accept`);
  }

  removeContact(id: string): Promise<void> {
    return this.#http.request(`/v1/contacts/${encodeURIComponent(id)}`, { method: "DELETE" });
  }

  block(id: string, blocked: boolean): Promise<void> {
    return this.#http.request(`/v1/contacts/${encodeURIComponent(id)}/block`, { method: blocked ? "PUT" : "DELETE" });
  }

  placeCall(to: string[], media: Media, clientId: string): Promise<CallJoin> {
    return this.#post("/v1/calls", { to, media, clientId });
  }

  calls(before?: string, limit = 30): Promise<CallPage> {
    const query = new URLSearchParams({ limit: String(limit) });
    if (before) query.set("before", before);
    return this.#http.request(`/v1/calls?${query.toString()}`);
  }

  call(id: string): Promise<Call> {
    return this.#http.request(`/v1/calls/${encodeURIComponent(id)}`);
  }

  answer(id: string, media: Media): Promise<CallJoin> {
    return this.#post(`/v1/calls/${encodeURIComponent(id)}/answer`, { media });
  }

  decline(id: string, reason: "busy" | "declined"): Promise<{ call: Call }> {
    return this.#post(`/v1/calls/${encodeURIComponent(id)}/decline`, { reason });
  }

  cancel(id: string): Promise<{ call: Call }> {
    return this.#post(`/v1/calls/${encodeURIComponent(id)}/cancel`);
  }

  hangUp(id: string): Promise<{ call: Call }> {
    return this.#http.request(`/v1/calls/${encodeURIComponent(id)}/hangup`, { method: "POST", keepalive: true });
  }

  rejoin(id: string): Promise<CallJoin> {
    return this.#post(`/v1/calls/${encodeURIComponent(id)}/join`);
  }

  addToCall(id: string, to: string[]): Promise<{ call: Call }> {
    return this.#post(`/v1/calls/${encodeURIComponent(id)}/invite`, { to });
  }

  callQuality(id: string): Promise<CallQuality> {
    return this.#http.request(`/v1/calls/${encodeURIComponent(id)}/quality`);
  }

  #post<T>(path: string, body?: unknown): Promise<T> {
    return this.#http.request<T>(path, body === undefined ? { method: "POST" } : { method: "POST", body });
  }
}
