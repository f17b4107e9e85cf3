/** Cameras, microphones and speakers: which there are, and what went wrong with one. */
import { Store } from "../store";
import type { DeviceKind, DeviceProblem } from "../call/room";

export interface Device {
  kind: DeviceKind;
  id: string;
  /** Empty until the person has allowed access once. */
  label: string;
}

export class Devices {
  readonly list = new Store<readonly Device[]>([]);
  readonly #media: MediaDevices | undefined;
  #watching = false;

  constructor(media: MediaDevices | undefined) {
    this.#media = media;
  }

  /** Keeps the list up to date from now on. */
  watch(): void {
    void this.refresh();
    if (this.#watching) return;
    this.#watching = true;
    this.#media?.addEventListener("devicechange", () => void this.refresh());
  }

  async refresh(): Promise<void> {
    if (!this.#media) return;
    try {
      const found = await this.#media.enumerateDevices();
      this.list.set(
        found
          .filter((d) => d.deviceId !== "" && d.deviceId !== "communications")
          .map((d) => ({ kind: d.kind, id: d.deviceId, label: d.label })),
      );
    } catch {
      this.list.set([]);
    }
  }

  of(kind: DeviceKind): Device[] {
    return this.list.value.filter((d) => d.kind === kind);
  }
}

/** Browsers without setSinkId play where the system says. */
export function canChooseSpeaker(): boolean {
  return "setSinkId" in HTMLMediaElement.prototype;
}

export function canShareScreen(): boolean {
  return typeof navigator.mediaDevices?.getDisplayMedia === "function";
}

/** Names of getUserMedia's errors, W3C Media Capture and Streams 10.2.1. */
export function problemOf(error: unknown): DeviceProblem {
  if (!globalThis.isSecureContext) return "insecure";
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
    case "PermissionDeniedError":
      return "denied";
    case "NotFoundError":
    case "DevicesNotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "TrackStartError":
    case "AbortError":
      return "in-use";
    default:
      return "failed";
  }
}
