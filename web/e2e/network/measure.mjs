/**
 * What a call's notes say, as figures: pure functions over what agent.mjs and lab.mjs noted. Times are ms since 1970 unless
 * a name says otherwise. The definitions are those of the simulated links (sfu/bwe/goals_test.go).
 */

export const median = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted.length % 2 ? sorted[sorted.length >> 1] : (sorted[sorted.length / 2 - 1] + sorted[sorted.length / 2]) / 2;
};

/** Bytes that had been sent at a time, between notes as a line. */
function sentBy(notes, at) {
  const after = notes.findIndex((note) => note.at >= at);
  if (after <= 0) return (after === 0 ? notes[0] : notes.at(-1)).bytes;
  const [a, b] = [notes[after - 1], notes[after]];
  return a.bytes + ((b.bytes - a.bytes) * (at - a.at)) / (b.at - a.at);
}

/** The mean rate from one time to another, in bit/s. */
export const rateOf = (notes, from, to) => ((sentBy(notes, to) - sentBy(notes, from)) * 8) / ((to - from) / 1000);

/**
 * How long after `from` the sent rate first is at most `limit` bit/s in a window of 500 ms, and for how long it is above in
 * the span after that: {after, above}, in seconds; when it never fits, `after` is the span, and `above` counts from `from`.
 */
export function fits(notes, from, limit, span = 20_000) {
  const window = 500;
  const end = Math.min(from + span, notes.at(-1).at - window);
  let at = from;
  while (at < end && rateOf(notes, at, at + window) > limit) at += 10;
  const fitted = at < end;
  const start = fitted ? at : from;
  let above = 0;
  for (let t = start; t < Math.min(start + span, notes.at(-1).at - window); t += window) if (rateOf(notes, t, t + window) > limit) above += window / 1000;
  return { after: (fitted ? at - from : span) / 1000, above };
}

/** The queueing delay at each note, in ms. */
export const waits = (notes) => notes.map(({ at, backlog, rate }) => ({ at, wait: (backlog * 8000) / rate }));

/** How long after `from` the queueing delay is below `limit` ms and stays there for two seconds, in seconds. */
export function settles(notes, from, limit = 100) {
  let last = from;
  for (const { at, wait } of waits(notes)) {
    if (at < from || wait <= limit) continue;
    if (at - last > 2000) break;
    last = at;
  }
  return (last - from) / 1000;
}

/** The longest time without a new frame from one time to another, the edges included, in ms. */
export function longestFreeze(decoded, from, to) {
  const moments = [from, ...decoded.map(({ at }) => at).filter((at) => at > from && at < to), to];
  return Math.max(...moments.slice(1).map((at, i) => at - moments[i]));
}

/** A frame that comes later than this after it was made, beyond the way, is of no use to a talk. */
export const IN_TIME = 500;

/**
 * Of the frames made from one time to another, the share decoded in time: {made, shown, share, late}. `way` is the delay of
 * the link in ms; `late` counts those decoded too late.
 */
export function inTime(made, decoded, from, to, way = 0) {
  const arrival = new Map(decoded.map(({ counter, at }) => [counter, at]));
  const due = made.filter(({ at }) => at >= from && at < to);
  let [shown, late] = [0, 0];
  for (const { counter, at } of due) {
    const arrived = arrival.get(counter);
    if (arrived === undefined || arrived < at) continue;
    if (arrived - at - way <= IN_TIME) shown++;
    else late++;
  }
  return { made: due.length, shown, late, share: due.length > 0 ? shown / due.length : 0 };
}

/** How long after `from` frames of a width come, and nothing less for two seconds, in seconds; null when they never do. */
export function widthReturns(decoded, from, width) {
  for (const [i, { at, width: got }] of decoded.entries()) {
    if (at < from || got < width) continue;
    const next = decoded.slice(i).filter((frame) => frame.at <= at + 2000);
    if (next.every((frame) => frame.width >= width) && decoded.at(-1).at >= at + 2000) return (at - from) / 1000;
  }
  return null;
}

/** How long frames of each width were on the screen, in seconds, by width. */
export function timeByWidth(decoded, from, to) {
  const spans = {};
  const there = decoded.filter(({ at }) => at >= from && at < to);
  for (const [i, { at, width }] of there.entries()) spans[width] = (spans[width] ?? 0) + ((there[i + 1]?.at ?? to) - at) / 1000;
  return spans;
}

/** How often the width changed. */
export const switches = (decoded, from, to) => decoded.filter(({ at }) => at >= from && at < to).filter(({ width }, i, all) => i > 0 && width !== all[i - 1].width).length;

/**
 * How much later the beep is heard than its flash is seen, one value per pair, in ms. A flash begins with its first bright
 * frame.
 */
export function lipSync(decoded, beeps) {
  const flashes = decoded.filter(({ flash }, i) => flash && i > 0 && !decoded[i - 1].flash);
  const offsets = [];
  for (const { at } of flashes) {
    const nearest = beeps.map((beep) => beep.at - at).sort((a, b) => Math.abs(a) - Math.abs(b))[0];
    if (nearest !== undefined && Math.abs(nearest) < 450) offsets.push(nearest);
  }
  return offsets;
}
