/** What the server sends and takes under /v1, as its OpenAPI document (/v1/openapi.json) describes it. Times are RFC 3339, UTC. */

export type Registration = "open" | "invite" | "closed";

export interface Server {
  name: string;
  registration: Registration;
  /** Whether somebody has opened the set-up link yet. */
  operator: boolean;
}

export type CallsFrom = "everyone" | "contacts";

export interface Account {
  id: string;
  name: string;
  displayName: string;
  operator: boolean;
  callWaiting: boolean;
  callsFrom: CallsFrom;
}

export interface Device {
  id: string;
  name: string;
  kind: string;
}

export interface Session {
  account: Account;
  device: Device;
}

export type Relation = "self" | "none" | "requested" | "incoming" | "contact" | "blocked";

export interface Person {
  id: string;
  name: string;
  displayName: string;
  relation: Relation;
}

export interface Contacts {
  contacts: Person[];
  incoming: Person[];
  requested: Person[];
  blocked: Person[];
}

export type Media = "audio" | "video";

export type CallState = "ringing" | "active" | "ended";

export type Outcome =
  | "answered"
  | "declined"
  | "busy"
  | "cancelled"
  | "timed_out"
  | "missed"
  | "failed"
  | "ended";

export type MemberState =
  | "ringing"
  | "joined"
  | "declined"
  | "busy"
  | "timed_out"
  | "left"
  | "cancelled"
  | "missed"
  | "failed"
  /** Joined, but the network was lost; it has 30 s to come back. */
  | "reconnecting";

export interface Member {
  person: Person;
  state: MemberState;
  /** `account:device`, the room's participant identity, once that device has joined. */
  identity?: string;
}

export interface Call {
  id: string;
  media: Media;
  state: CallState;
  /** Grows with every change: an older one than we have is stale news. */
  version: number;
  createdAt: string;
  answeredAt?: string;
  endedAt?: string;
  lengthSeconds: number;
  direction: "outgoing" | "incoming";
  /** As this account sees it. */
  outcome?: Outcome;
  /** It rings while this account is in another call. */
  waiting: boolean;
  caller: Person;
  people: Member[];
  answeredOnThisDevice: boolean;
  myState?: MemberState;
}

/** Where and how to enter a call's room. The token lives two minutes at most. */
export interface Join {
  url: string;
  token: string;
  expiresAt: string;
}

export interface CallJoin {
  call: Call;
  join: Join;
}

export type QualityWord = "excellent" | "good" | "poor" | "lost" | "unknown";

/** One direction of a connection over the last seconds. */
export interface LinkQuality {
  /** Share of packets lost, 0 to 1, before repair. */
  loss?: number;
  jitterMs: number;
  bitrateBps: number;
  estimateBps?: number;
  path?: "udp" | "tcp" | "relay";
}

/** A track of somebody else's on its way to us. */
export interface TrackQuality {
  id: string;
  source: "camera" | "microphone" | "screen_share" | "screen_share_audio" | "unknown";
  muted: boolean;
  paused: boolean;
  /** 0 low, 1 medium, 2 high, -1 nothing. */
  layer: number;
  wanted: number;
  why?: "muted" | "disabled" | "no_media" | "starting" | "not_sent" | "bandwidth";
  width?: number;
  height?: number;
  loss?: number;
  jitterMs: number;
  bitrateBps: number;
  fps: number;
  freezes: number;
  frozenMs: number;
}

/** What the server measured of the call that this device is in. Figures of 0 are unknown, but for counts. */
export interface CallQuality {
  me: { quality: QualityWord; rttMs: number; up: LinkQuality; down: LinkQuality };
  others: { identity: string; quality: QualityWord; rttMs: number; up: LinkQuality; tracks: TrackQuality[] }[];
}

export interface CallPage {
  calls: Call[];
  next?: string;
}

export interface Invitation {
  link: string;
  secret: string;
  expiresAt: string;
}

/** Frames of the events socket. */
export type ServerEvent =
  | { type: "snapshot"; cursor?: string; data: Snapshot }
  | { type: "call"; cursor?: string; data: Call }
  | { type: "contacts"; cursor?: string; data: Contacts }
  | { type: "account"; cursor?: string; data: Account }
  | { type: "signed_out"; cursor?: string; data?: unknown }
  | { type: "ping"; cursor?: string; data?: unknown };

export interface Snapshot {
  session: Session;
  contacts: Contacts;
  calls: Call[];
}
