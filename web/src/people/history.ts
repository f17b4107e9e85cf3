/** The calls that were: newest first, a page at a time. */
import type { Call } from "../wire/contract";
import type { Api } from "../wire/api";
import { Store } from "../store";

export interface HistoryState {
  calls: readonly Call[];
  next: string | null;
  loading: boolean;
  loaded: boolean;
  error: string;
}

const empty: HistoryState = { calls: [], next: null, loading: false, loaded: false, error: "" };

export class History {
  readonly state = new Store<HistoryState>(empty);
  readonly #api: Pick<Api, "calls">;

  constructor(api: Pick<Api, "calls">) {
    this.#api = api;
  }

  reset(): void {
    this.state.set(empty);
  }

  /** Loads the newest page. */
  async load(): Promise<void> {
    await this.#page(null);
  }

  async more(): Promise<void> {
    const { next } = this.state.value;
    if (next) await this.#page(next);
  }

  /** The server's word on one call: shown once the person's part in it is over. */
  heard(call: Call): void {
    this.state.update((s) => {
      if (!s.loaded) return s;
      const at = s.calls.findIndex((c) => c.id === call.id);
      const known = s.calls[at];
      if (known) return known.version > call.version ? s : { ...s, calls: s.calls.with(at, call) };
      return { ...s, calls: merge([call], s.calls) };
    });
  }

  async #page(before: string | null): Promise<void> {
    if (this.state.value.loading) return;
    this.state.update((s) => ({ ...s, loading: true, error: "" }));
    try {
      const page = await this.#api.calls(before ?? undefined);
      this.state.update((s) => ({
        calls: before === null && !s.loaded ? page.calls : merge(s.calls, page.calls),
        next: before === null && s.loaded ? s.next : (page.next ?? null),
        loading: false,
        loaded: true,
        error: "",
      }));
    } catch (error) {
      this.state.update((s) => ({ ...s, loading: false, error: error instanceof Error ? error.message : String(error) }));
    }
  }
}

function merge(a: readonly Call[], b: readonly Call[]): Call[] {
  const byId = new Map<string, Call>();
  for (const call of [...a, ...b]) {
    const had = byId.get(call.id);
    if (!had || had.version <= call.version) byId.set(call.id, call);
  }
  return [...byId.values()].sort((x, y) => Date.parse(y.createdAt) - Date.parse(x.createdAt));
}
