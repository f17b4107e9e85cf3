/** Routes live in the URL's fragment: the server knows one page only, and secrets in a fragment never reach it or a log. */
import { Store } from "../store";

export type Route =
  | { page: "home" }
  | { page: "person"; name: string }
  | { page: "history" }
  | { page: "settings" }
  | { page: "welcome" }
  | { page: "join"; secret: string }
  | { page: "setup"; secret: string }
  | { page: "call"; id: string };

export function parse(hash: string): Route {
  const [page = "", ...rest] = hash.replace(/^#?\/?/, "").split("/");
  const argument = decode(rest.join("/"));
  switch (page) {
    case "history":
    case "settings":
    case "welcome":
      return { page };
    case "person":
      return argument ? { page, name: argument } : { page: "home" };
    case "join":
    case "setup":
      return argument ? { page, secret: argument } : { page: "welcome" };
    case "call":
      return argument ? { page, id: argument } : { page: "home" };
    default:
      return { page: "home" };
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const route = new Store<Route>({ page: "home" });

export function go(hash: string, replace = false): void {
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  route.set(parse(hash));
}

export function startRouter(): void {
  const read = (): void => route.set(parse(location.hash));
  addEventListener("hashchange", read);
  addEventListener("popstate", read);
  read();
}
