/** What to do when a device can't be used, in words that fit this browser. */
import type { DeviceProblem } from "../call/room";

const names = { microphone: "microphone", camera: "camera", both: "microphone and camera", screen: "screen" } as const;

export function problemInWords(source: keyof typeof names, problem: DeviceProblem, userAgent = navigator.userAgent): string {
  const name = names[source];
  switch (problem) {
    case "denied":
      return source === "screen"
        ? "Screen sharing was refused by the browser or the system. Look in the system’s privacy settings under screen recording."
        : `The browser may not use your ${name}. ${whereToAllow(userAgent)}`;
    case "missing":
      return `No ${name} was found. Plug one in, or choose another one under Devices. The call goes on without.`;
    case "in-use":
      return `Another program is using your ${name}. Close it, then turn the ${name} on again.`;
    case "insecure":
      return `Browsers offer ${name}s to pages with https:// only. Open this server at its secure address.`;
    case "failed":
      return `Your ${name} didn’t start. Turn it off and on again, or choose another one under Devices.`;
  }
}

function whereToAllow(userAgent: string): string {
  if (/iPhone|iPad/.test(userAgent)) return "Tap the page settings left of the address, then Website Settings, and allow it there.";
  if (/Android/.test(userAgent)) return "Tap the icon left of the address, then Permissions, and allow it there.";
  if (/Firefox/.test(userAgent)) return "Click the crossed-out icon left of the address and remove the block, then turn it on again.";
  if (/Safari/.test(userAgent) && !/Chrome|Chromium/.test(userAgent)) return "Open Safari’s menu, Settings for this website, and allow it there.";
  return "Click the icon left of the address, allow it there, then turn it on again.";
}
