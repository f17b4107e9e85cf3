/** Who is signed in. */
import type { Account, CallsFrom, Registration, Server, Session } from "../wire/contract";
import type { Api, SignUp } from "../wire/api";
import { ApiError } from "../wire/http";
import { Store, systemClock, type Clock } from "../store";

export type AccountState =
  | { phase: "starting" }
  | { phase: "unreachable"; detail: string }
  | { phase: "out"; server: Server | null; /** Why, where the person didn't ask for it. */ notice: string }
  | { phase: "in"; session: Session };

type AccountApi = Pick<Api, "server" | "session" | "signUp" | "signIn" | "signOut" | "changeAccount" | "setRegistration">;

export class AccountStore {
  readonly state = new Store<AccountState>({ phase: "starting" });
  readonly server = new Store<Server | null>(null);
  readonly #api: AccountApi;
  readonly #clock: Clock;

  constructor(api: AccountApi, clock: Clock = systemClock) {
    this.#api = api;
    this.#clock = clock;
  }

  get me(): Account | null {
    const { value } = this.state;
    return value.phase === "in" ? value.session.account : null;
  }

  /** Finds out whether somebody is signed in; tries again until the server answers. */
  async start(attempt = 0): Promise<void> {
    void this.loadServer();
    try {
      this.state.set({ phase: "in", session: await this.#api.session() });
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        await this.#signedOut("");
        return;
      }
      const detail = error instanceof Error ? error.message : String(error);
      this.state.set({ phase: "unreachable", detail });
      this.#clock.after(Math.min(15_000, 1000 * 2 ** attempt), () => {
        if (this.state.value.phase === "unreachable") void this.start(attempt + 1);
      });
    }
  }

  /** The events socket was lost: perhaps because the session was. */
  async check(): Promise<void> {
    if (this.state.value.phase !== "in") return;
    try {
      const session = await this.#api.session();
      if (this.state.value.phase === "in") this.state.set({ phase: "in", session });
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) await this.ended();
    }
  }

  async loadServer(): Promise<void> {
    try {
      const server = await this.#api.server();
      this.server.set(server);
      this.state.update((s) => (s.phase === "out" ? { ...s, server } : s));
    } catch {
      // The sign-in form works without: it says so when the server can't be reached.
    }
  }

  async signUp(details: SignUp): Promise<void> {
    this.state.set({ phase: "in", session: await this.#api.signUp(details) });
  }

  async signIn(name: string, password: string, deviceName: string): Promise<void> {
    this.state.set({ phase: "in", session: await this.#api.signIn(name, password, deviceName) });
  }

  async signOut(): Promise<void> {
    try {
      await this.#api.signOut();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
    }
    await this.#signedOut("");
  }

  /** The server ended the session. */
  async ended(): Promise<void> {
    await this.#signedOut("You were signed out of this device.");
  }

  heard(account: Account): void {
    this.state.update((s) => (s.phase === "in" ? { phase: "in", session: { ...s.session, account } } : s));
  }

  joined(session: Session): void {
    if (this.state.value.phase === "in") this.state.set({ phase: "in", session });
  }

  async change(change: { displayName?: string; callWaiting?: boolean; callsFrom?: CallsFrom }): Promise<void> {
    this.heard(await this.#api.changeAccount(change));
  }

  async setRegistration(registration: Registration): Promise<void> {
    await this.#api.setRegistration(registration);
    this.server.update((s) => (s ? { ...s, registration } : s));
  }

  async #signedOut(notice: string): Promise<void> {
    this.state.set({ phase: "out", server: this.server.value, notice });
    await this.loadServer();
  }
}
