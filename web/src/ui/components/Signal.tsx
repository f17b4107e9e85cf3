/** How good a connection is, as bars: three, two or one of them lit, or a cross when it is lost. */
import type { Participant } from "../../call/room";

const lit: Record<Participant["quality"], number> = { good: 3, fair: 2, poor: 1, lost: 0, unknown: 0 };

export function Signal({ quality, size = 18 }: { quality: Participant["quality"]; size?: number }) {
  return (
    <svg className="signal" data-quality={quality} width={size} height={size} viewBox="0 0 18 18" aria-hidden="true" focusable="false">
      {[0, 1, 2].map((i) => (
        <rect key={i} data-lit={i < lit[quality] || undefined} x={2 + i * 5} y={11 - i * 4} width="3.6" height={5 + i * 4} rx="1.4" />
      ))}
      {quality === "lost" && <path d="m2.5 2.5 5.5 5.5M8 2.5 2.5 8" />}
    </svg>
  );
}
