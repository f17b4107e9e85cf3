import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../wire/http";
import type { Call, Contacts, Person, Session } from "../wire/contract";
import { outgoingCall, person } from "../testing";
import { AccountStore } from "./account";
import { normalName, People } from "./contacts";
import { deviceName } from "./device";
import { History } from "./history";
import { defaults, openPreferences, storageKey } from "./preferences";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const session: Session = {
  account: { id: "ac_ana", name: "ana", displayName: "Ana", operator: false, callWaiting: true, callsFrom: "everyone" },
  device: { id: "dv_1", name: "Chrome", kind: "browser" },
};
const server = { name: "here", registration: "open" as const, operator: true };
const signedOut = new ApiError(401, "signed_out", "You are not signed in.");
const unreachable = new ApiError(0, "unreachable", "The server can’t be reached.");

describe("the account", () => {
  const api = (change: Partial<ConstructorParameters<typeof AccountStore>[0]> = {}) =>
    new AccountStore({
      server: () => Promise.resolve(server),
      session: () => Promise.resolve(session),
      signUp: () => Promise.resolve(session),
      signIn: () => Promise.resolve(session),
      signOut: () => Promise.resolve(),
      changeAccount: (c) => Promise.resolve({ ...session.account, ...c }),
      setRegistration: () => Promise.resolve(),
      ...change,
    });

  it("starts signed in or out", async () => {
    const inside = api();
    await inside.start();
    expect(inside.me?.name).toBe("ana");
    const outside = api({ session: () => Promise.reject(signedOut) });
    await outside.start();
    expect(outside.state.value).toEqual({ phase: "out", server, notice: "" });
  });

  it("keeps trying while the server can't be reached", async () => {
    let reachable = false;
    const account = api({ session: () => (reachable ? Promise.resolve(session) : Promise.reject(unreachable)) });
    await account.start();
    expect(account.state.value.phase).toBe("unreachable");
    await vi.advanceTimersByTimeAsync(1000);
    reachable = true;
    await vi.advanceTimersByTimeAsync(2000);
    expect(account.state.value.phase).toBe("in");
  });

  it("doesn't sign out because the network is down", async () => {
    let error = unreachable;
    let fail = false;
    const account = api({ session: () => (fail ? Promise.reject(error) : Promise.resolve(session)) });
    await account.start();
    fail = true;
    await account.check();
    expect(account.state.value.phase).toBe("in");
    error = signedOut;
    await account.check();
    expect(account.state.value).toMatchObject({ phase: "out", notice: "You were signed out of this device." });
  });

  it("leaves the form's errors to the form", async () => {
    const account = api({ session: () => Promise.reject(signedOut), signUp: () => Promise.reject(new ApiError(409, "name_taken", "Taken.")) });
    await account.start();
    await expect(account.signUp({ name: "ana", password: "x" })).rejects.toThrow("Taken.");
    expect(account.state.value.phase).toBe("out");
  });
});

describe("looking people up", () => {
  const contacts: Contacts = { contacts: [person("ben")], incoming: [], requested: [], blocked: [] };

  function stage(find: (name: string) => Promise<Person>) {
    const asked: string[] = [];
    const people = new People({
      person: (name) => {
        asked.push(name);
        return find(name);
      },
      contacts: () => Promise.resolve(contacts),
      addContact: (name) => Promise.resolve(person(name, "requested")),
      acceptContact: () => Promise.resolve(person("x")),
      removeContact: () => Promise.resolve(),
      block: () => Promise.resolve(),
    });
    people.heard(contacts);
    return { people, asked };
  }

  it("waits for a pause in the typing", async () => {
    const { people, asked } = stage((name) => Promise.resolve(person(name, "none")));
    for (const text of ["c", "cl", "cle", "cleo"]) {
      people.type(text);
      await vi.advanceTimersByTimeAsync(200);
    }
    expect(asked).toEqual([]);
    expect(people.lookup.value.state).toBe("looking");
    await vi.advanceTimersByTimeAsync(200);
    expect(asked).toEqual(["cleo"]);
    expect(people.lookup.value).toMatchObject({ state: "found", person: { name: "cleo" } });
  });

  it("asks nobody about a contact", () => {
    const { people, asked } = stage(() => Promise.reject(new Error("asked")));
    people.type(" @BEN ");
    expect(people.lookup.value).toMatchObject({ state: "found", person: { name: "ben" } });
    expect(asked).toEqual([]);
  });

  it("says who isn't there, and what else went wrong", async () => {
    let error = new ApiError(404, "not_found", "x");
    const { people } = stage(() => Promise.reject(error));
    people.type("nobody");
    await vi.advanceTimersByTimeAsync(400);
    expect(people.lookup.value).toMatchObject({ state: "missing", detail: "Nobody here is called @nobody. Check the spelling." });
    error = new ApiError(429, "too_many_requests", "Slow down.");
    people.type("nobody2");
    await vi.advanceTimersByTimeAsync(400);
    expect(people.lookup.value).toMatchObject({ state: "missing", detail: "Slow down." });
  });

  it("drops an answer that came after more was typed", async () => {
    let answer: (p: Person) => void = () => {};
    const { people } = stage(() => new Promise((resolve) => (answer = resolve)));
    people.type("cleo");
    await vi.advanceTimersByTimeAsync(400);
    people.type("");
    answer(person("cleo", "none"));
    await vi.advanceTimersByTimeAsync(0);
    expect(people.lookup.value).toEqual({ state: "idle" });
  });

  it("shows a person as a contact once they are", async () => {
    const { people } = stage((name) => Promise.resolve(person(name, "none")));
    people.type("cleo");
    await vi.advanceTimersByTimeAsync(400);
    people.heard({ ...contacts, contacts: [person("ben"), person("cleo")] });
    expect(people.lookup.value).toMatchObject({ person: { relation: "contact" } });
  });

  it("folds what people type around a name", () => {
    expect([" @Ana ", "＠ANA", "@@ana", "a̐na"].map(normalName)).toEqual(["ana", "ana", "ana", "a̐na"]);
  });
});

describe("the history", () => {
  const call = (n: number, change: Partial<Call> = {}): Call =>
    outgoingCall({ id: `ca_${n}`, state: "ended", createdAt: new Date(Date.UTC(2026, 10, 1, 0, n)).toISOString(), ...change });

  it("loads page by page, newest first, and merges what comes meanwhile", async () => {
    const asked: (string | undefined)[] = [];
    const history = new History({
      calls: (before) => {
        asked.push(before);
        return Promise.resolve(before ? { calls: [call(2), call(1)] } : { calls: [call(4), call(3)], next: "c3" });
      },
    });
    history.heard(call(9));
    expect(history.state.value.calls).toEqual([]);
    await history.load();
    history.heard(call(5));
    await history.more();
    await history.more();
    expect(history.state.value.calls.map((c) => c.id)).toEqual(["ca_5", "ca_4", "ca_3", "ca_2", "ca_1"]);
    expect(asked).toEqual([undefined, "c3"]);
  });

  it("keeps its place when the newest page is loaded again", async () => {
    const history = new History({ calls: (before) => Promise.resolve(before ? { calls: [call(1)] } : { calls: [call(2)], next: "c2" }) });
    await history.load();
    await history.more();
    await history.load();
    expect(history.state.value.next).toBeNull();
    expect(history.state.value.calls).toHaveLength(2);
  });

  it("doesn't take older news of a call", async () => {
    const history = new History({ calls: () => Promise.resolve({ calls: [call(1, { version: 5, lengthSeconds: 9 })] }) });
    await history.load();
    history.heard(call(1, { version: 4, lengthSeconds: 0 }));
    expect(history.state.value.calls[0]?.lengthSeconds).toBe(9);
  });

  it("says what went wrong, and can be asked again", async () => {
    let fail = true;
    const history = new History({ calls: () => (fail ? Promise.reject(unreachable) : Promise.resolve({ calls: [call(1)] })) });
    await history.load();
    expect(history.state.value.error).toMatch(/reached/);
    fail = false;
    await history.load();
    expect(history.state.value).toMatchObject({ error: "", loaded: true });
  });
});

describe("preferences", () => {
  it("survive a reload, and anything else in their place", () => {
    const store = new Map<string, string>();
    const storage = { getItem: (k: string) => store.get(k) ?? null, setItem: (k: string, v: string) => void store.set(k, v) };
    openPreferences(storage).update((p) => ({ ...p, theme: "dark", camera: "c1" }));
    expect(openPreferences(storage).value).toEqual({ ...defaults, theme: "dark", camera: "c1" });
    for (const bad of ["", "{", "null", "[]", "7", '{"theme":7,"camera":{},"sounds":"no","__proto__":{"x":1}}', '{"theme":"blue"}']) {
      store.set(storageKey, bad);
      expect(openPreferences(storage).value, bad).toEqual(defaults);
    }
  });

  it("hold without a storage", () => {
    const preferences = openPreferences(null);
    preferences.update((p) => ({ ...p, theme: "light" }));
    expect(preferences.value.theme).toBe("light");
  });
});

describe("a device's name", () => {
  it.each([
    ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36", "Chrome on Linux"],
    ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36 Edg/150.0.0.0", "Edge on Windows"],
    ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Mac"],
    ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1", "Safari on iPhone"],
    ["Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile Safari/537.36", "Chrome on Android"],
    ["something else", "Browser"],
  ])("of %s", (userAgent, name) => {
    expect(deviceName({ userAgent })).toBe(name);
  });
});
