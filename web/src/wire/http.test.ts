import { describe, expect, it } from "vitest";
import { Api } from "./api";
import { ApiError, Http, type Fetch } from "./http";

const answers = (body: string, init: ResponseInit = {}): Fetch => () => Promise.resolve(new Response(body, init));

async function failure(fetch: Fetch): Promise<ApiError> {
  try {
    await new Http(fetch).request("/v1/x");
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

describe("a request", () => {
  it("returns the answer's JSON, and nothing for 204", async () => {
    expect(await new Http(answers('{"a":1}')).request("/v1/x")).toEqual({ a: 1 });
    expect(await new Http(() => Promise.resolve(new Response(null, { status: 204 }))).request("/v1/x")).toBeUndefined();
  });

  it("sends JSON, the session's cookie and no cached answer", async () => {
    let seen: RequestInit | undefined;
    const http = new Http((_, init) => {
      seen = init;
      return Promise.resolve(new Response("{}"));
    });
    await http.request("/v1/x", { method: "POST", body: { name: "ana" } });
    expect(seen).toMatchObject({ method: "POST", body: '{"name":"ana"}', credentials: "same-origin", cache: "no-store" });
    expect(new Headers(seen?.headers).get("Content-Type")).toBe("application/json");
  });

  it("reads problem documents", async () => {
    const body = JSON.stringify({ status: 409, title: "Conflict", detail: "This name is taken.", code: "name_taken" });
    const error = await failure(answers(body, { status: 409 }));
    expect(error).toMatchObject({ status: 409, code: "name_taken", message: "This name is taken.", retryAfter: 0 });
  });

  it("takes the first field's error where the document says no more", async () => {
    const body = JSON.stringify({ detail: "validation failed", errors: [{ message: "expected length >= 8", location: "body.password" }] });
    expect((await failure(answers(body, { status: 422 }))).message).toBe("expected length >= 8");
  });

  it("tells how long to wait", async () => {
    const error = await failure(answers("", { status: 429, headers: { "Retry-After": "7" } }));
    expect(error.retryAfter).toBe(7);
    expect(error.message).toMatch(/Wait a moment/);
  });

  it.each([
    ["<html>502 Bad Gateway</html>", 502, /server had a problem/],
    ["null", 403, /may not/],
    ['{"detail":7,"code":[]}', 404, /nothing here/],
    ["", 418, /418/],
  ])("has a sentence for the answer %j", async (body, status, sentence) => {
    const error = await failure(answers(body, { status }));
    expect(error.message).toMatch(sentence);
    expect(error.code).toBe("");
  });

  it("says that the server can't be reached", async () => {
    const error = await failure(() => Promise.reject(new TypeError("Failed to fetch")));
    expect(error).toMatchObject({ status: 0, unreachable: true });
  });

  it("says when something else answers in the server's place", async () => {
    expect(await failure(answers("<html>Log in to the hotel's network</html>"))).toMatchObject({ code: "not_json" });
  });

  it("that its caller aborted rejects with that", async () => {
    const abort = new AbortController();
    const http = new Http((_, init) => new Promise((_, reject) => init?.signal?.addEventListener("abort", () => reject(new DOMException("", "AbortError")))));
    const pending = http.request("/v1/x", { signal: abort.signal });
    abort.abort();
    await expect(pending).rejects.toHaveProperty("name", "AbortError");
  });
});

describe("the routes", () => {
  it("escape what people type", async () => {
    const paths: string[] = [];
    const api = new Api(
      new Http((path) => {
        paths.push(path);
        return Promise.resolve(new Response("{}"));
      }),
    );
    await api.person("../session?x#y");
    await api.call("a/b");
    await api.calls("a&limit=1000");
    expect(paths).toEqual(["/v1/people/..%2Fsession%3Fx%23y", "/v1/calls/a%2Fb", "/v1/calls?limit=30&before=a%26limit%3D1000"]);
  });
});
