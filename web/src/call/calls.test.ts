import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Call } from "../wire/contract";
import { deferred, FakeRoom, incomingCall, join, outgoingCall, person } from "../testing";
import { Calls, type CallsOptions } from "./calls";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const settle = () => vi.advanceTimersByTimeAsync(0);

function stage(api: Partial<CallsOptions["api"]> = {}) {
  const log: string[] = [];
  const rooms: FakeRoom[] = [];
  const over = (call: Call): Promise<{ call: Call }> => Promise.resolve({ call });
  const calls = new Calls({
    api: {
      placeCall: () => Promise.resolve({ call: outgoingCall(), join }),
      answer: (id, media) => {
        log.push(`answer ${id} ${media}`);
        return Promise.resolve({ call: incomingCall({ id, version: 2, state: "active", myState: "joined", answeredOnThisDevice: true }), join });
      },
      cancel: (id) => {
        log.push(`cancel ${id}`);
        return over(outgoingCall({ id, version: 9, state: "ended", outcome: "cancelled" }));
      },
      hangUp: (id) => {
        log.push(`hangUp ${id}`);
        return over(outgoingCall({ id, version: 9, state: "ended", outcome: "answered", lengthSeconds: 65 }));
      },
      decline: (id, reason) => {
        log.push(`decline ${id} ${reason}`);
        return over(incomingCall({ id, version: 9, state: "ended", outcome: "declined", myState: "declined" }));
      },
      rejoin: () => Promise.resolve({ call: outgoingCall({ state: "active", version: 3 }), join }),
      call: (id) => Promise.resolve(outgoingCall({ id, version: 9, state: "ended", outcome: "answered", lengthSeconds: 5 })),
      addToCall: () => Promise.reject(new Error("unused")),
      callQuality: () => Promise.reject(new Error("unused")),
      ...api,
    },
    openRoom: () => {
      const room = new FakeRoom();
      rooms.push(room);
      return Promise.resolve(room);
    },
  });
  return { calls, log, rooms };
}

describe("ringing", () => {
  it("begins and ends with the server's word", () => {
    const { calls } = stage();
    calls.heard(incomingCall());
    expect(calls.ringing.value.map((c) => c.id)).toEqual(["ca_2"]);
    calls.heard(incomingCall({ version: 2, state: "ended", myState: "missed", outcome: "missed" }));
    expect(calls.ringing.value).toEqual([]);
    expect(calls.ended.value).toMatchObject({ outcome: "missed", title: "Ben", names: ["ben"] });
    expect(vi.getTimerCount()).toBe(0);
  });

  it("says when another device has answered", () => {
    const { calls } = stage();
    calls.heard(incomingCall());
    calls.heard(incomingCall({ version: 2, state: "active", myState: "joined" }));
    expect(calls.ringing.value).toEqual([]);
    expect(calls.ended.value?.outcome).toBe("elsewhere");
    expect(calls.orphan.value).toBeNull();
  });

  it("of a group goes on while others talk already", () => {
    const { calls } = stage();
    calls.heard(incomingCall({ people: [{ person: person("ben"), state: "joined" }, { person: person("cleo"), state: "joined" }, { person: person("ana", "self"), state: "ringing" }] }));
    expect(calls.ringing.value).toHaveLength(1);
  });

  it("ends after a minute if the end never reaches us", async () => {
    const { calls } = stage();
    calls.heard(incomingCall());
    await vi.advanceTimersByTimeAsync(60_000);
    expect(calls.ringing.value).toEqual([]);
  });

  it("that a snapshot doesn't name has ended", () => {
    const { calls } = stage();
    calls.heard(incomingCall());
    calls.snapshot([], "ac_ana");
    expect(calls.ringing.value).toEqual([]);
  });

  it("declined stops at once, and late news doesn't begin it anew", async () => {
    const request = deferred<{ call: Call }>();
    const { calls } = stage({ decline: () => request.promise });
    calls.heard(incomingCall());
    const declining = calls.decline("ca_2");
    expect(calls.ringing.value).toEqual([]);
    calls.heard(incomingCall({ version: 2 }));
    expect(calls.ringing.value).toEqual([]);
    request.resolve({ call: incomingCall({ version: 3, state: "ended", myState: "declined", outcome: "declined" }) });
    await declining;
    expect(calls.ended.value).toBeNull();
    // Invited again into the same call, it rings again.
    calls.heard(incomingCall({ version: 4 }));
    expect(calls.ringing.value).toHaveLength(1);
  });

  it("passes on that one is busy", async () => {
    const { calls, log } = stage();
    calls.heard(incomingCall());
    await calls.decline("ca_2", "busy");
    expect(log).toEqual(["decline ca_2 busy"]);
  });
});

describe("being in a call", () => {
  it("is possible in one at a time", async () => {
    const { calls } = stage();
    expect(calls.place(["ben"], "video")).not.toBeNull();
    await settle();
    expect(calls.place(["cleo"], "video")).toBeNull();
  });

  it("answered, ends the ring and becomes the present call", async () => {
    const { calls, log } = stage();
    calls.heard(incomingCall());
    await calls.accept("ca_2", "audio");
    await settle();
    expect(log).toEqual(["answer ca_2 audio"]);
    expect(calls.current.value?.state.value.phase).toBe("active");
    expect(calls.ringing.value).toEqual([]);
  });

  it("answering a second call ends the first, and waits until the server has let go of it", async () => {
    const request = deferred<{ call: Call }>();
    const { calls, log } = stage({
      hangUp: (id) => {
        log.push(`hangUp ${id}`);
        return request.promise;
      },
    });
    calls.place(["cleo"], "video");
    await settle();
    calls.heard(outgoingCall({ version: 2, state: "active" }));
    calls.heard(incomingCall({ waiting: true }));
    const accepting = calls.accept("ca_2", "video");
    await settle();
    expect(log).toEqual(["hangUp ca_1"]);
    request.resolve({ call: outgoingCall({ version: 9, state: "ended", outcome: "answered" }) });
    await accepting;
    await settle();
    expect(log).toEqual(["hangUp ca_1", "answer ca_2 video"]);
    expect(calls.current.value?.id).toBe("ca_2");
    expect(calls.ended.value).toBeNull();
  });

  it("answers all the same when the server doesn't say that it has let go", async () => {
    const { calls, log } = stage({ hangUp: () => new Promise(() => {}) });
    calls.place(["cleo"], "video");
    await settle();
    calls.heard(incomingCall());
    void calls.accept("ca_2", "video");
    await vi.advanceTimersByTimeAsync(2100);
    expect(log).toContain("answer ca_2 video");
  });

  it("ends with a note that takes the server's length", async () => {
    const { calls, rooms } = stage();
    calls.snapshot([], "ac_ana");
    calls.place(["ben"], "video");
    await settle();
    calls.heard(outgoingCall({ version: 2, state: "active" }));
    calls.hangUp();
    expect(calls.current.value).toBeNull();
    await settle();
    expect(calls.ended.value).toMatchObject({ outcome: "answered", lengthSeconds: 65, title: "Ben", names: ["ben"] });
    expect(rooms[0]?.log.at(-1)).toBe("leave");
  });

  it("asks how it stands when a snapshot doesn't name it", async () => {
    const { calls } = stage();
    calls.place(["ben"], "video");
    await settle();
    calls.snapshot([], "ac_ana");
    await settle();
    expect(calls.current.value).toBeNull();
    expect(calls.ended.value).toMatchObject({ outcome: "answered", lengthSeconds: 5 });
  });

  it("after a reload is offered, and taken over on demand", async () => {
    const { calls, rooms } = stage();
    const mine = outgoingCall({ state: "active", version: 3 });
    calls.snapshot([mine], "ac_ana");
    expect(calls.orphan.value?.id).toBe("ca_1");
    calls.resume(mine);
    await vi.advanceTimersByTimeAsync(1);
    expect(calls.orphan.value).toBeNull();
    expect(calls.current.value?.state.value.phase).toBe("active");
    expect(rooms[0]?.log).toEqual(["capture video", "connect"]);
  });

  it("of another device of ours is not offered", () => {
    const { calls } = stage();
    calls.snapshot([outgoingCall({ state: "active", answeredOnThisDevice: false })], "ac_ana");
    expect(calls.orphan.value).toBeNull();
  });

  it("ends when we sign out", async () => {
    const { calls, log } = stage();
    calls.place(["ben"], "video");
    calls.heard(incomingCall());
    await settle();
    calls.reset();
    await settle();
    expect(calls.current.value).toBeNull();
    expect(calls.ringing.value).toEqual([]);
    expect(log).toEqual(["cancel ca_1"]);
  });
});
