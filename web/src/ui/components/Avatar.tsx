/** A person without a picture: initials on one of eight tints that follows from the name. */

export function initials(displayName: string, name: string): string {
  const words = (displayName || name).trim().split(/[\s._-]+/u).filter(Boolean);
  const first = firstLetter(words[0] ?? "");
  const last = words.length > 1 ? firstLetter(words[words.length - 1] ?? "") : "";
  return (first + last).toLocaleUpperCase() || "?";
}

/** The first letter as people count letters: with its accents, or a whole emoji. */
function firstLetter(word: string): string {
  const [first] = new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(word);
  return first?.segment ?? "";
}

export function tint(name: string): number {
  let hash = 2166136261;
  for (const c of name) hash = Math.imul(hash ^ (c.codePointAt(0) ?? 0), 16777619);
  // The low bits alone mix badly over short names.
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return ((hash ^ (hash >>> 13)) >>> 0) % 8;
}

export function Avatar({ name, displayName, size = "m" }: { name: string; displayName: string; size?: "s" | "m" | "l" | "xl" }) {
  return (
    <span className="avatar" data-size={size} data-tint={tint(name)} aria-hidden="true">
      {initials(displayName, name)}
    </span>
  );
}
