import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../wire/http";
import type { CallJoin } from "../wire/contract";
import { systemClock } from "../store";
import { deferred, FakeRoom, incomingCall, join, outgoingCall, participant } from "../testing";
import { CallSession, type CallApi } from "./session";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const settle = () => vi.advanceTimersByTimeAsync(0);

function stage(api: Partial<CallApi> = {}) {
  const room = new FakeRoom();
  const log: string[] = [];
  const ok = (name: string, call = outgoingCall({ version: 99, state: "ended", outcome: "answered" })) => () => {
    log.push(name);
    return Promise.resolve({ call });
  };
  const ended = vi.fn();
  const options = {
    api: {
      placeCall: () => Promise.resolve({ call: outgoingCall(), join }),
      answer: () => Promise.resolve({ call: incomingCall({ version: 2, state: "active", myState: "joined", answeredOnThisDevice: true }), join }),
      cancel: ok("cancel"),
      hangUp: ok("hangUp"),
      rejoin: () => {
        log.push("rejoin");
        return Promise.resolve({ call: outgoingCall({ version: 3, state: "active" }), join });
      },
      call: () => {
        log.push("call");
        return Promise.resolve(outgoingCall({ version: 98, state: "ended", outcome: "answered", lengthSeconds: 7 }));
      },
      addToCall: ok("add", outgoingCall({ version: 5, state: "active" })),
      callQuality: () => Promise.reject(new Error("unused")),
      ...api,
    } satisfies CallApi,
    openRoom: () => Promise.resolve(room),
    clock: systemClock,
    onEnding: ended,
  };
  return { room, log, ended, options };
}

describe("a call that is placed", () => {
  it("opens the devices while the request is under way, then enters the room at once", async () => {
    const request = deferred<CallJoin>();
    const { room, options } = stage({ placeCall: () => request.promise });
    const session = CallSession.place(["ben"], "video", options);
    await settle();
    expect(room.log).toEqual(["capture video"]);
    expect(session.state.value.phase).toBe("placing");
    request.resolve({ call: outgoingCall(), join });
    await settle();
    expect(room.log).toEqual(["capture video", "connect"]);
    expect(session.state.value.phase).toBe("ringing");
    session.heard(outgoingCall({ version: 2, state: "active" }));
    expect(session.state.value.phase).toBe("active");
  });

  it("stops ringing by itself a minute later, and cancels", async () => {
    const { log, room, options, ended } = stage();
    const session = CallSession.place(["ben"], "audio", options);
    await settle();
    await vi.advanceTimersByTimeAsync(59_000);
    expect(session.state.value.phase).toBe("ringing");
    await vi.advanceTimersByTimeAsync(2_000);
    expect(session.state.value.ending?.outcome).toBe("answered"); // the server's last word, which this script gives
    expect(log).toEqual(["cancel"]);
    expect(room.log.at(-1)).toBe("leave");
    expect(ended).toHaveBeenCalledTimes(2); // with our word, then with the server's
  });

  it("has no timer left once it was answered", async () => {
    const { options } = stage();
    const session = CallSession.place(["ben"], "audio", options);
    await settle();
    session.heard(outgoingCall({ version: 2, state: "active" }));
    expect(vi.getTimerCount()).toBe(0);
  });

  it("hung up during the request, never enters the room, lets go of the devices and cancels", async () => {
    const request = deferred<CallJoin>();
    const { room, log, options } = stage({ placeCall: () => request.promise });
    const session = CallSession.place(["ben"], "video", options);
    await settle();
    session.hangUp();
    request.resolve({ call: outgoingCall(), join });
    await settle();
    expect(room.log).toEqual(["capture video", "leave"]);
    expect(log).toEqual(["cancel"]);
  });

  it("leaves a room that was still loading when the person hung up", async () => {
    const loading = deferred<FakeRoom>();
    const { room, options } = stage();
    const session = CallSession.place(["ben"], "video", { ...options, openRoom: () => loading.promise });
    session.hangUp();
    loading.resolve(room);
    await settle();
    expect(room.log).toContain("leave");
    expect(room.log).not.toContain("capture video");
    expect(room.log).not.toContain("connect");
  });

  it("ends with a sentence when the server refuses", async () => {
    const { options, ended } = stage({ placeCall: () => Promise.reject(new ApiError(403, "not_allowed", "Ben takes calls from contacts only.")) });
    const session = CallSession.place(["ben"], "video", options);
    await settle();
    expect(session.state.value.ending).toMatchObject({ outcome: "failed", detail: "Ben takes calls from contacts only." });
    expect(ended).toHaveBeenCalledTimes(1);
  });
});

describe("a call that goes on", () => {
  async function talking(api: Partial<CallApi> = {}) {
    const all = stage(api);
    const session = CallSession.place(["ben"], "video", all.options);
    await settle();
    session.heard(outgoingCall({ version: 2, state: "active" }));
    return { ...all, session };
  }

  it("rejoins after the network was lost, half a second later", async () => {
    const { room, log, session } = await talking();
    room.link("reconnecting");
    expect(session.state.value.phase).toBe("reconnecting");
    room.link("closed", "network");
    await vi.advanceTimersByTimeAsync(499);
    expect(log).toEqual([]);
    await vi.advanceTimersByTimeAsync(2);
    expect(log).toEqual(["rejoin"]);
    expect(session.state.value.phase).toBe("active");
  });

  it("gives up within 38 s without a server, tells it when it's back, and stays ended", async () => {
    let reachable = false;
    let told = 0;
    const { room, session, ended } = await talking({
      rejoin: () => Promise.reject(new ApiError(0, "unreachable", "")),
      hangUp: () => {
        if (!reachable) return Promise.reject(new ApiError(0, "unreachable", ""));
        told++;
        return Promise.resolve({ call: outgoingCall({ version: 9, state: "ended", outcome: "failed" }) });
      },
    });
    room.link("closed", "network");
    await vi.advanceTimersByTimeAsync(38_000);
    expect(session.state.value.ending?.outcome).toBe("failed");
    expect(ended).toHaveBeenCalledTimes(1);
    reachable = true;
    await vi.advanceTimersByTimeAsync(20_000);
    expect(told).toBe(1);
  });

  it("ends when the server says that it's over while it was away", async () => {
    const { room, log, session } = await talking({ rejoin: () => Promise.reject(new ApiError(409, "call_over", "over")) });
    room.link("closed", "network");
    await vi.advanceTimersByTimeAsync(600);
    expect(log).toEqual(["call"]);
    expect(session.state.value.ending).toMatchObject({ outcome: "answered", lengthSeconds: 7 });
  });

  it("retries the hang-up until the server hears it", async () => {
    let tries = 0;
    const { session } = await talking({
      hangUp: () => (++tries < 3 ? Promise.reject(new ApiError(503, "", "")) : Promise.resolve({ call: outgoingCall({ version: 9, state: "ended", outcome: "answered", lengthSeconds: 33 }) })),
    });
    session.hangUp();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(tries).toBe(3);
    expect(session.state.value.ending?.lengthSeconds).toBe(33);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("passes on who is there, until it has ended", async () => {
    const { room, session } = await talking();
    room.link("connected", null, [participant("ac_ben:dv_9")]);
    expect(session.room.value.participants).toHaveLength(1);
    session.hangUp();
    room.link("connected", null, []);
    expect(session.room.value.participants).toHaveLength(1);
  });
});

describe("a call that is answered", () => {
  it("opens the devices only then, and enters the room", async () => {
    const { room, options } = stage();
    const session = CallSession.answer(incomingCall(), "audio", options);
    await settle();
    expect(room.log).toEqual(["capture audio", "connect"]);
    expect(session.state.value.phase).toBe("active");
  });

  it("that another device has taken ends quietly", async () => {
    const { room, log, options } = stage({ answer: () => Promise.reject(new ApiError(409, "answered_elsewhere", "")) });
    const session = CallSession.answer(incomingCall(), "audio", options);
    await settle();
    expect(session.state.value.ending?.outcome).toBe("elsewhere");
    expect(room.log.at(-1)).toBe("leave");
    expect(log).toEqual([]);
  });
});
