/** The icon set: 24 × 24, drawn with one stroke width. Decorative: the control around it has the name. */
import type { ReactNode } from "react";

const handset = (
  <path
    fill="currentColor"
    stroke="none"
    d="M2.6 15.3c0-1 .4-2 1.2-2.6C6 10.8 8.9 9.8 12 9.8s6 1 8.2 2.9c.8.6 1.2 1.6 1.2 2.6v1.3c0 .8-.6 1.4-1.4 1.4h-2.9c-.7 0-1.3-.5-1.4-1.2l-.3-2c-.1-.4-.4-.8-.8-.8a14 14 0 0 0-5.2 0c-.4 0-.7.4-.8.8l-.3 2c-.1.7-.7 1.2-1.4 1.2H4c-.8 0-1.4-.6-1.4-1.4z"
  />
);

const icons = {
  mic: (
    <>
      <rect x="9" y="2.8" width="6" height="11.4" rx="3" />
      <path d="M5.2 11.2a6.8 6.8 0 0 0 13.6 0M12 18v3.2" />
    </>
  ),
  micOff: (
    <>
      <path d="M15 8.6V5.8a3 3 0 0 0-5.7-1.3M9 9.2v2a3 3 0 0 0 4.6 2.5M5.2 11.2a6.8 6.8 0 0 0 10.6 5.6M18.8 11.2c0 .9-.2 1.8-.5 2.6M12 18v3.2M3.5 3.5l17 17" />
    </>
  ),
  camera: (
    <>
      <rect x="2.5" y="6" width="13" height="12" rx="3.2" />
      <path d="m15.5 10.6 4.3-2.7a1.1 1.1 0 0 1 1.7.9v6.4a1.1 1.1 0 0 1-1.7.9l-4.3-2.7" />
    </>
  ),
  cameraOff: (
    <>
      <path d="M9.5 6h2.8a3.2 3.2 0 0 1 3.2 3.2v1.4l4.3-2.7a1.1 1.1 0 0 1 1.7.9v6.4c0 .5-.4 1-.9 1.1M15.5 15.5A3.2 3.2 0 0 1 12.3 18H5.7a3.2 3.2 0 0 1-3.2-3.2V9.2A3.2 3.2 0 0 1 5 6.1M3.5 3.5l17 17" />
    </>
  ),
  phone: <g transform="rotate(-135 12 12.6)">{handset}</g>,
  hangUp: handset,
  screen: (
    <>
      <rect x="2.8" y="4.2" width="18.4" height="12.6" rx="2.6" />
      <path d="M8.5 20.2h7M12 13.6V7.8M9.4 10.2 12 7.6l2.6 2.6" />
    </>
  ),
  addPerson: (
    <>
      <circle cx="10" cy="8" r="3.8" />
      <path d="M3 20c.4-3.6 3.3-5.8 7-5.8 1.4 0 2.7.3 3.8.9M18.4 14.6v6M15.4 17.6h6" />
    </>
  ),
  people: (
    <>
      <circle cx="9" cy="8" r="3.6" />
      <path d="M2.4 19.6c.4-3.4 3.1-5.4 6.6-5.4s6.2 2 6.6 5.4M15.6 4.7a3.6 3.6 0 0 1 0 6.6M18 14.6c2 .7 3.3 2.5 3.6 5" />
    </>
  ),
  recents: (
    <>
      <path d="M4 12a8 8 0 1 0 2.6-5.9" />
      <path d="M4 4.4v3.4c0 .3.3.6.6.6H8M12 7.8V12l2.8 2" />
    </>
  ),
  settings: (
    <>
      <path d="M3.5 7.4h8.3M18 7.4h2.5M3.5 16.6H6M12.2 16.6h8.3" />
      <circle cx="14.9" cy="7.4" r="2.8" />
      <circle cx="9.1" cy="16.6" r="2.8" />
    </>
  ),
  devices: (
    <>
      <circle cx="12" cy="12" r="3" />
      <path d="M12 2.8v2.6M12 18.6v2.6M2.8 12h2.6M18.6 12h2.6M5.5 5.5l1.8 1.8M16.7 16.7l1.8 1.8M5.5 18.5l1.8-1.8M16.7 7.3l1.8-1.8" />
    </>
  ),
  down: <path d="m6 9.2 6 6 6-6" />,
  back: <path d="M19.5 12h-15M10.5 6l-6 6 6 6" />,
  search: (
    <>
      <circle cx="10.8" cy="10.8" r="6.6" />
      <path d="m20.4 20.4-4.9-4.9" />
    </>
  ),
  check: <path d="m4.8 12.6 4.6 4.6L19.2 7" />,
  close: <path d="m6 6 12 12M18 6 6 18" />,
  more: (
    <g fill="currentColor" stroke="none">
      <circle cx="5.2" cy="12" r="1.8" />
      <circle cx="12" cy="12" r="1.8" />
      <circle cx="18.8" cy="12" r="1.8" />
    </g>
  ),
  outgoing: <path d="M6.6 17.4 17.4 6.6M9 6.6h8.4V15" />,
  incoming: <path d="M17.4 6.6 6.6 17.4M15 17.4H6.6V9" />,
  missed: <path d="m4 8 7 7 9-9M4 14V8h6" />,
  alert: (
    <>
      <path d="M10.3 4.4 2.9 17.2A2 2 0 0 0 4.6 20h14.8a2 2 0 0 0 1.7-2.8L13.7 4.4a2 2 0 0 0-3.4 0M12 9.2v4.4" />
      <circle cx="12" cy="16.7" r=".7" fill="currentColor" />
    </>
  ),
  offline: (
    <path d="M3 3l18 18M8.4 15.4a5.4 5.4 0 0 1 6-1.1M5 11.8a10 10 0 0 1 4.4-2.6M2 8.2a14.6 14.6 0 0 1 4.3-2.9M12.8 8.9A10 10 0 0 1 19 11.8M11 4.5a14.7 14.7 0 0 1 11 3.7M12 19h.01" />
  ),
  speaker: (
    <path d="M4 9.4v5.2h3.4l4.6 4V5.4l-4.6 4zM15.4 9a4.2 4.2 0 0 1 0 6M18 6.4a7.9 7.9 0 0 1 0 11.2" />
  ),
  block: (
    <>
      <circle cx="12" cy="12" r="8.6" />
      <path d="m6 6 12 12" />
    </>
  ),
  remove: (
    <>
      <circle cx="10" cy="8" r="3.8" />
      <path d="M3 20c.4-3.6 3.3-5.8 7-5.8 1.4 0 2.7.3 3.8.9M15.4 17.6h6" />
    </>
  ),
  signOut: <path d="M14 4H7a2.6 2.6 0 0 0-2.6 2.6v10.8A2.6 2.6 0 0 0 7 20h7M10 12h10.4M16.6 8l4 4-4 4" />,
  copy: (
    <>
      <rect x="8.6" y="8.6" width="11.6" height="11.6" rx="2.6" />
      <path d="M5.6 15.4A1.8 1.8 0 0 1 3.8 13.6V6.4a2.6 2.6 0 0 1 2.6-2.6h7.2a1.8 1.8 0 0 1 1.8 1.8" />
    </>
  ),
  link: <path d="M9.8 14.2 14.2 9.8M11 6.8l1.6-1.6a4.4 4.4 0 0 1 6.2 6.2L17.2 13M6.8 11l-1.6 1.6a4.4 4.4 0 0 0 6.2 6.2L13 17.2" />,
  eye: (
    <>
      <path d="M2.6 12C4.4 8 7.9 5.6 12 5.6S19.6 8 21.4 12c-1.8 4-5.3 6.4-9.4 6.4S4.4 16 2.6 12" />
      <circle cx="12" cy="12" r="2.8" />
    </>
  ),
  bell: <path d="M6 16.4V10.6a6 6 0 0 1 12 0v5.8l1.6 1.8H4.4zM10 20.8h4" />,
  lock: (
    <>
      <rect x="4.6" y="10.4" width="14.8" height="10" rx="2.6" />
      <path d="M8 10.4V7.6a4 4 0 0 1 8 0v2.8" />
    </>
  ),
  plus: <path d="M12 5v14M5 12h14" />,
} satisfies Record<string, ReactNode>;

export type IconName = keyof typeof icons;

export function Icon({ name, size = 24 }: { name: IconName; size?: number }) {
  return (
    <svg
      className="icon"
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.9"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      {icons[name]}
    </svg>
  );
}
