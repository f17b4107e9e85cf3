/** What a call needs of a media room. src/media drives a real one, tests a scripted one. */
import type { Join, Media } from "../wire/contract";
import type { MediaSample } from "./measured";

export type LinkState = "idle" | "connecting" | "connected" | "reconnecting" | "closed";

/** Why a room closed without our asking. */
export type CloseReason =
  /** Another connection of the same device took its place: another tab. */
  | "replaced"
  /** The server removed us, or the room is gone. */
  | "removed"
  /** The network, and all tries to repair the connection, failed. */
  | "network";

/** Something that can be shown in a <video>. The same track always has the same object. */
export interface VideoSource {
  readonly id: string;
  attach(element: HTMLVideoElement): void;
  detach(element: HTMLVideoElement): void;
}

export interface Participant {
  /** `account:device`. */
  identity: string;
  name: string;
  self: boolean;
  speaking: boolean;
  microphone: boolean;
  camera: VideoSource | null;
  screen: VideoSource | null;
  /** The network between this person and the server, in a word; "unknown" until the server tells. */
  quality: "good" | "fair" | "poor" | "lost" | "unknown";
}

export type Source = "microphone" | "camera" | "screen";

/** Why a device isn't available, in the words of getUserMedia's errors. */
export type DeviceProblem = "denied" | "missing" | "in-use" | "insecure" | "failed";

export interface SourceView {
  on: boolean;
  /** A change is under way. */
  busy: boolean;
  problem: DeviceProblem | null;
}

export interface RoomView {
  link: LinkState;
  closed: CloseReason | null;
  /** Ourselves first, then the others in the order in which they came. */
  participants: Participant[];
  microphone: SourceView;
  camera: SourceView;
  screen: SourceView;
  /** The browser refuses to play sound until the page is clicked. */
  audioBlocked: boolean;
}

export type DeviceKind = "audioinput" | "audiooutput" | "videoinput";

export interface Room {
  readonly view: RoomView;
  /** Called after every change of `view`, never while one of the methods below is still on the stack. */
  onChange: ((view: RoomView) => void) | null;
  /** Opens microphone and camera; before `connect` as well, for the preview. Problems are in `view`, it never rejects. */
  capture(media: Media): Promise<void>;
  /** Enters the room; again after it was closed. Rejects when the room can't be reached. */
  connect(join: Join): Promise<void>;
  publish(source: Source, on: boolean): Promise<void>;
  useDevice(kind: DeviceKind, id: string): Promise<void>;
  /** Calls back with the microphone's level, 0 to 1, until the returned function is called. */
  watchMicrophone(onLevel: (level: number) => void): () => void;
  /** The browser's counters of what is sent and received; null while nothing is connected. */
  sample(): Promise<MediaSample | null>;
  /** Plays blocked sound; call it from a click. */
  resumeAudio(): Promise<void>;
  /** Leaves and lets go of all devices. */
  leave(): Promise<void>;
}

export const off: SourceView = { on: false, busy: false, problem: null };

export const emptyRoom: RoomView = {
  link: "idle",
  closed: null,
  participants: [],
  microphone: off,
  camera: off,
  screen: off,
  audioBlocked: false,
};
