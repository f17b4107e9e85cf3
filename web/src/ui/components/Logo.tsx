/** The mark: a speech bubble that is a clock, its hands an A, its centre the sun. The same drawing as public/favicon.svg. */
import { useId } from "react";

export function Logo({ size = 40 }: { size?: number }) {
  const id = useId();
  return (
    <svg width={size} height={size} viewBox="0 0 48 48" role="img" aria-label="Anytime">
      <defs>
        <linearGradient id={id} x1="8" y1="4" x2="40" y2="44" gradientUnits="userSpaceOnUse">
          <stop stopColor="#6f5cff" />
          <stop offset="1" stopColor="#3a29b8" />
        </linearGradient>
      </defs>
      <path
        d="M24 3.5a20 20 0 1 1-9.3 37.7l-7.9 2.5a2 2 0 0 1-2.5-2.5l2.5-7.9A20 20 0 0 1 24 3.5z"
        fill={`url(#${id})`}
      />
      <path d="M15.8 32.3 24 13.2l8.2 19.1" fill="none" stroke="#fff" strokeWidth="4.6" strokeLinecap="round" strokeLinejoin="round" />
      <circle cx="24" cy="27.2" r="3.2" fill="#ffb02e" />
    </svg>
  );
}

export function Wordmark({ size = 30 }: { size?: number }) {
  return (
    <span className="wordmark">
      <Logo size={size} />
      <span aria-hidden="true">Anytime</span>
    </span>
  );
}
