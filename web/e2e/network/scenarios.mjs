/**
 * The scenarios of the targets, each a call with something done to its links. A scenario makes one measurement and returns
 * figures by name; `figures` below says which there are, and what each should be.
 */
import { setTimeout as elapse } from 'node:timers/promises';
import { clock } from './lab.mjs';
import { fullPicture, inCall, until } from './call.mjs';
import { fits, inTime, lipSync, longestFreeze, median, rateOf, settles, switches, timeByWidth, waits, widthReturns } from './measure.mjs';

/** Lets so many seconds of a call go by: this is what is measured, not a wait for something. */
const goesOn = (seconds) => elapse(seconds * 1000);

const percent = (share) => share * 100;

/** What a viewer saw of the publisher from one time to another. */
async function saw(publisher, viewer, from, to, way) {
  const made = await publisher.do('made', from);
  const decoded = await viewer.do('decoded', from);
  const { share, late } = inTime(made, decoded, from, to, way);
  return { share: percent(share), late, freeze: longestFreeze(decoded, from, to), widths: timeByWidth(decoded, from, to), switches: switches(decoded, from, to) };
}

const difference = (after, before) => Object.fromEntries(Object.entries(after ?? {}).map(([name, value]) => [name, typeof value === 'number' ? value - (before?.[name] ?? 0) : value]));

/** 10 % of packets are lost on the way to the viewer, at one or more delays. */
export const loss = ({ delays = [0, 30, 50], seconds = 20 } = {}) => (stage, which) =>
  inCall(stage, which, { viewers: [1] }, async ({ people: [viewer], publisher, link, source }) => {
    const found = {};
    for (const delay of delays) {
      link.delay(delay);
      await fullPicture(viewer, source.width);
      const before = await viewer.do('receiving');
      const from = clock();
      link.loss(10);
      await goesOn(seconds + 1);
      const [to, after] = [clock() - 1000, await viewer.do('receiving')];
      const seen = await saw(publisher, viewer, from, to, delay);
      found[`${2 * delay} share`] = seen.share;
      found[`${2 * delay} freeze`] = seen.freeze;
      found[`${2 * delay} notes`] = { ...seen, lost: link.lost(), received: difference(after.video, before.video) };
      link.loss(0);
    }
    return found;
  });

/** Capacity falls from 3 Mbit/s to 500 kbit/s, and returns. */
export const drop = ({ below = 24, above = 20 } = {}) => (stage, which) =>
  inCall(stage, which, { viewers: [1], capacity: 3e6 }, async ({ people: [viewer], publisher, link, source, delay }) => {
    link.watch();
    await goesOn(2);
    const before = await viewer.do('receiving');
    const from = clock();
    link.capacity(500e3);
    await goesOn(below);
    const back = clock();
    const during = await viewer.do('receiving');
    link.capacity(3e6);
    const returned = await until('full quality is back', async () => widthReturns(await viewer.do('decoded', back), back, source.width), (seconds) => seconds !== null, above * 1000).catch(() => null);
    const notes = link.notes();
    const seen = await saw(publisher, viewer, from, back, delay);
    const fit = fits(notes.filter(({ at }) => at <= back), from, 500e3);
    const waited = waits(notes).filter(({ at }) => at >= from + 5000 && at < back).map(({ wait }) => wait).sort((a, b) => a - b);
    return {
      fits: fit.after,
      above: fit.above,
      settles: settles(notes.filter(({ at }) => at <= back), from),
      'queue then': waited[Math.floor(waited.length * 0.95)] ?? null,
      freeze: seen.freeze,
      returns: returned ?? above,
      notes: {
        ...seen,
        dropped: notes.filter(({ at }) => at <= back).at(-1).drops - notes[0].drops,
        received: difference(during.video, before.video),
        // kbit/s sent and ms queued, each half second from two before the fall
        sent: Array.from({ length: Math.floor((notes.at(-1).at - from) / 500) + 4 }, (_, i) => Math.round(rateOf(notes, from + (i - 4) * 500, from + (i - 3) * 500) / 1000)),
        queued: Array.from({ length: Math.floor((notes.at(-1).at - from) / 500) + 4 }, (_, i) =>
          Math.round(Math.max(0, ...waits(notes).filter(({ at }) => at >= from + (i - 4) * 500 && at < from + (i - 3) * 500).map(({ wait }) => wait))),
        ),
      },
    };
  });

/** Two viewers behind one bottleneck of 1.5 Mbit/s. */
export const share = ({ seconds = 60 } = {}) => (stage, which) =>
  inCall(stage, which, { viewers: [1, 2] }, async ({ people, publisher, link, delay }) => {
    link.capacity(1.5e6);
    await goesOn(10);
    const before = await Promise.all(people.map((viewer) => viewer.do('receiving')));
    const from = clock();
    link.watch();
    await goesOn(seconds + 1);
    const to = clock() - 1000;
    const after = await Promise.all(people.map((viewer) => viewer.do('receiving')));
    const notes = link.notes();
    const received = people.map((_, i) => difference(after[i].video, before[i].video));
    const bytes = received.map(({ bytesReceived }) => bytesReceived);
    const seen = await Promise.all(people.map((viewer) => saw(publisher, viewer, from, to, delay)));
    return {
      'smaller share': percent(Math.min(...bytes) / (bytes[0] + bytes[1])),
      'frames of the worse': Math.min(...seen.map((one) => one.share)),
      freeze: Math.max(...seen.map((one) => one.freeze)),
      notes: { seen, received, used: rateOf(notes, from, to), queued: median(waits(notes).map(({ wait }) => wait)) },
    };
  });

/** A flash and a beep that are published together, after layers were switched. */
export const lips = ({ times = 20, seconds = 10 } = {}) => (stage, which) =>
  inCall(stage, which, { viewers: [1], sound: true }, async ({ people: [viewer], source }) => {
    const offsets = async () => {
      const from = clock();
      await goesOn(seconds);
      return lipSync(await viewer.do('decoded', from), await viewer.do('heard', from));
    };
    const before = await offsets();
    const widths = { low: source.width / 4, high: source.width };
    for (let i = 0; i < times; i++) {
      const quality = i % 2 ? 'high' : 'low';
      await viewer.do('quality', quality);
      await until(`switch ${i + 1} is seen`, () => viewer.do('decoded', clock() - 500), (frames) => frames.at(-1)?.width === widths[quality], 15_000);
    }
    await goesOn(2); // the receiver moves picture and sound together by degrees
    const after = await offsets();
    return {
      offset: Math.abs(median(after)),
      worst: Math.max(...after.map(Math.abs)),
      moved: Math.abs(median(after) - median(before)),
      notes: { before, after },
    };
  });

/** A viewer on a bad link beside one on a good link. */
export const beside = ({ seconds = 20 } = {}) => (stage, which) =>
  inCall(stage, which, { viewers: [1, 3] }, async ({ people: [, good], publisher, lab, delay, source }) => {
    const watch = async () => {
      const before = await good.do('receiving');
      const from = clock();
      await goesOn(seconds + 1);
      const to = clock() - 1000;
      const seen = await saw(publisher, good, from, to, delay);
      return { ...seen, lesser: seconds - (seen.widths[source.width] ?? 0), received: difference((await good.do('receiving')).video, before.video) };
    };
    const alone = await watch();
    lab.link(1).loss(10);
    lab.link(1).capacity(500e3);
    const beside = await watch();
    return {
      share: beside.share,
      'share lost': alone.share - beside.share,
      freeze: beside.freeze,
      lesser: Math.max(0, beside.lesser),
      keyframes: beside.received.keyFramesDecoded - alone.received.keyFramesDecoded,
      notes: { alone, beside },
    };
  });

const least = (target) => ({ target: `≥ ${target}`, meets: (value) => value >= target, better: 1 });
const most = (target) => ({ target: `≤ ${target}`, meets: (value) => value <= target, better: -1 });
const told = (better) => ({ target: '', meets: () => true, better });

/** What medians of a few runs of the same server differ by, on two shared processors, by unit. */
export const noise = { '%': 1.5, ms: 100, s: 0.3 };

/**
 * What is measured, in the order of the table: the scenario, how often, and its figures. `of` such as 4 means that so many of
 * five runs must meet the target; otherwise the median of the runs does. Two servers whose medians are no further apart than
 * the `noise` of their unit are alike.
 */
export const scenarios = [
  {
    name: 'loss',
    title: '10 % loss',
    runs: 5,
    measure: loss(),
    figures: [
      { key: '0 share', title: 'without delay: frames in time', unit: '%', ...least(99) },
      { key: '0 freeze', title: 'without delay: longest freeze', unit: 'ms', ...most(500), of: 4 },
      { key: '60 share', title: '60 ms round trip: frames in time', unit: '%', ...least(99) },
      { key: '60 freeze', title: '60 ms round trip: longest freeze', unit: 'ms', ...most(500), of: 4 },
      { key: '100 share', title: '100 ms round trip: frames in time', unit: '%', ...least(97) },
      { key: '100 freeze', title: '100 ms round trip: longest freeze', unit: 'ms', ...most(500), of: 4 },
    ],
  },
  {
    name: 'drop',
    title: '3 → 0.5 → 3 Mbit/s',
    runs: 3,
    measure: drop(),
    figures: [
      { key: 'fits', title: 'the sent rate fits after', unit: 's', ...most(1.5) },
      { key: 'above', title: 'above the limit in the next 20 s', unit: 's', ...most(2) },
      { key: 'settles', title: 'queue under 100 ms after', unit: 's', ...most(4) },
      { key: 'queue then', title: 'queue after 5 s, 95th percentile', unit: 'ms', ...told(-1), noise: 20 },
      { key: 'freeze', title: 'longest freeze', unit: 'ms', ...most(1500) },
      { key: 'returns', title: 'full quality again after', unit: 's', ...most(8) },
    ],
  },
  {
    name: 'share',
    title: 'two behind 1.5 Mbit/s',
    runs: 2,
    measure: share(),
    figures: [
      { key: 'smaller share', title: 'smaller share', unit: '%', ...least(40) },
      { key: 'frames of the worse', title: 'frames in time, the worse', unit: '%', ...least(95) },
      { key: 'freeze', title: 'longest freeze', unit: 'ms', ...told(-1) },
    ],
  },
  {
    name: 'lips',
    title: '20 layer switches',
    runs: 2,
    measure: lips(),
    figures: [
      { key: 'offset', title: 'flash to beep, median', unit: 'ms', ...most(60), noise: 30 },
      { key: 'worst', title: 'flash to beep, worst', unit: 'ms', ...told(-1), noise: 30 },
      { key: 'moved', title: 'flash to beep, against before the switches', unit: 'ms', ...told(-1), noise: 30 },
    ],
  },
  {
    name: 'beside',
    title: 'good beside bad',
    runs: 2,
    measure: beside(),
    figures: [
      { key: 'share lost', title: 'frames in time, fewer than before', unit: '%', ...most(1) },
      { key: 'freeze', title: 'longest freeze', unit: 'ms', ...most(500) },
      { key: 'lesser', title: 'without the full picture', unit: 's', ...most(0.5) },
    ],
  },
];
