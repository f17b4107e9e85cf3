/** JSON over HTTP with errors made for people. No DOM: `fetch` is passed in. */

/** The server's answer to a request that it refused, or the failure to reach it (status 0). */
export class ApiError extends Error {
  /** HTTP status; 0 when no answer came. */
  readonly status: number;
  /** Stable word for programs, such as `name_taken`; "" when the server gave none. */
  readonly code: string;
  /** Seconds to wait before the next try, from Retry-After; 0 when the server said nothing. */
  readonly retryAfter: number;

  constructor(status: number, code: string, detail: string, retryAfter = 0) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  get unreachable(): boolean {
    return this.status === 0;
  }
}

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;

export interface RequestOptions {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  body?: unknown;
  signal?: AbortSignal;
  /** Milliseconds; 15 s unless set. */
  timeout?: number;
  /** Lets the request outlive the page (hang-up on close). */
  keepalive?: boolean;
}

const unreachable = "The server can’t be reached. Check your connection and try again.";

/** RFC 9457 problem document, with `code` of our own and huma's list of field errors. */
interface Problem {
  title?: unknown;
  detail?: unknown;
  code?: unknown;
  errors?: unknown;
}

export class Http {
  readonly #fetch: Fetch;
  readonly #base: string;

  constructor(fetch: Fetch, base = "") {
    this.#fetch = fetch;
    this.#base = base;
  }

  async request<T>(path: string, options: RequestOptions = {}): Promise<T> {
    const { method = "GET", body, timeout = 15_000 } = options;
    const signals = [AbortSignal.timeout(timeout)];
    if (options.signal) signals.push(options.signal);
    let response: Response;
    let text: string;
    try {
      response = await this.#fetch(this.#base + path, {
        method,
        headers: {
          Accept: "application/json, application/problem+json",
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        credentials: "same-origin",
        cache: "no-store",
        signal: AbortSignal.any(signals),
        ...(options.keepalive ? { keepalive: true } : {}),
      });
      text = await response.text();
    } catch (cause) {
      if (options.signal?.aborted) throw cause;
      throw new ApiError(0, "unreachable", unreachable);
    }
    if (!response.ok) throw problem(response, text);
    if (text === "") return undefined as T;
    try {
      return JSON.parse(text) as T;
    } catch {
      throw new ApiError(response.status, "not_json", "The server answered with something that isn’t ours. Is a proxy in between?");
    }
  }
}

function problem(response: Response, text: string): ApiError {
  const retryAfter = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  let parsed: Problem = {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) parsed = value;
  } catch {
    // Not a problem document: the status has to do.
  }
  const code = typeof parsed.code === "string" ? parsed.code : "";
  let detail = typeof parsed.detail === "string" ? parsed.detail : "";
  if (detail === "validation failed" || detail === "") detail = firstFieldError(parsed.errors) || detail;
  return new ApiError(response.status, code, detail || inWords(response.status), Number.isFinite(retryAfter) ? retryAfter : 0);
}

function firstFieldError(errors: unknown): string {
  if (!Array.isArray(errors)) return "";
  const first: unknown = errors[0];
  if (typeof first !== "object" || first === null || !("message" in first)) return "";
  return typeof first.message === "string" ? first.message : "";
}

function inWords(status: number): string {
  switch (status) {
    case 401:
      return "You’re signed out. Sign in again.";
    case 403:
      return "You may not do this.";
    case 404:
      return "There is nothing here by that name.";
    case 413:
      return "That’s too large.";
    case 429:
      return "Too many tries. Wait a moment, then try again.";
    default:
      return status >= 500
        ? "The server had a problem. Try again in a moment."
        : `The server refused this (${status}).`;
  }
}
