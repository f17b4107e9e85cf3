/**
 * The URL options ?relay=1 and ?relay=udp|tcp|tls make every connection of this page go through TURN, and through TURN
 * servers of one transport only. For tests of the relay and for finding out what a network lets through.
 */
export type Relay = "any" | "udp" | "tcp" | "tls";

export function relayOption(search: string): Relay | null {
  const value = new URLSearchParams(search).get("relay");
  switch (value) {
    case "1":
    case "any":
      return "any";
    case "udp":
    case "tcp":
    case "tls":
      return value;
    default:
      return null;
  }
}

/** RFC 7065: turn:host[:port][?transport=udp|tcp]; without a transport, turn: is UDP and turns: is TLS over TCP. */
export function transportOf(url: string): Exclude<Relay, "any"> | null {
  const match = /^(turns?):[^?]*(?:\?transport=(\w+))?$/i.exec(url);
  if (!match) return null;
  if (match[1]?.toLowerCase() === "turns") return "tls";
  return match[2]?.toLowerCase() === "tcp" ? "tcp" : "udp";
}

export function relayOnly(config: RTCConfiguration | undefined, relay: Relay): RTCConfiguration {
  const iceServers: RTCIceServer[] = [];
  for (const server of config?.iceServers ?? []) {
    const urls = (Array.isArray(server.urls) ? server.urls : [server.urls]).filter((url) => {
      const transport = transportOf(url);
      return transport !== null && (relay === "any" || transport === relay);
    });
    if (urls.length > 0) iceServers.push({ ...server, urls });
  }
  return { ...config, iceServers, iceTransportPolicy: "relay" };
}

/** Wraps the page's RTCPeerConnection, because the SDK takes its ICE servers from the server's join response. */
export function forceRelay(relay: Relay, scope: { RTCPeerConnection: typeof RTCPeerConnection } = window): void {
  const Native = scope.RTCPeerConnection;
  scope.RTCPeerConnection = class extends Native {
    constructor(config?: RTCConfiguration) {
      super(relayOnly(config, relay));
    }

    override setConfiguration(config?: RTCConfiguration): void {
      super.setConfiguration(relayOnly(config, relay));
    }
  };
}
