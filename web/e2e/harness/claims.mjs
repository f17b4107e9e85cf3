/** What the tests assert about a call, and the test function that keeps what a failure needs. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as elapse } from 'node:timers/promises';
import { inspect } from 'node:util';
import { artifact } from './files.mjs';
import { CAMERA, hueOf, toneOf } from './instrument.mjs';
import { DISTURBED, watchMachine } from './machine.mjs';

/** How long a call is watched, in seconds. */
export const WATCH = Number(process.env.E2E_SECONDS ?? 30);

/**
 * A test of one claim. `setting` makes what it needs and says how to take it away:
 *   claim('…', async (stage) => { const server = stage.keep(await startServer()); … })
 * What is kept is closed in reverse order. When the test fails, a screenshot and the
 * console of every person and the log of every server go to artifacts/failures.
 */
export function claim(title, body, { timeout = 120_000, skip = false } = {}) {
  test(title, { timeout, skip }, async (t) => {
    const stage = new Stage(t);
    let failure = null;
    try {
      await body(stage);
    } catch (error) {
      failure = error;
      await stage.report(title, error);
    }
    try {
      await stage.clear();
    } catch (error) {
      if (failure) stage.say(`afterwards: ${error.message}`);
      failure ??= error;
    }
    if (failure) throw failure;
  });
}

export class Stage {
  #kept = [];
  #context;

  constructor(context) {
    this.#context = context;
  }

  /** Prints a line beside the test's result. */
  say(line) {
    this.#context?.diagnostic(line);
  }

  /** A step of the claim with a line of its own. What comes after builds on it, so its failure ends the claim. */
  async part(title, body) {
    let failure = null;
    await this.#context.test(title, async (t) => {
      const outer = this.#context;
      this.#context = t;
      try {
        await body();
      } catch (error) {
        failure = error;
        throw error;
      } finally {
        this.#context = outer;
      }
    });
    if (failure) throw new Error(`failed at: ${title}`, { cause: failure });
  }

  /** A step that nothing builds on, such as a cell of a table: the claim goes on after its failure, and fails in the end. */
  async cell(title, body) {
    await this.#context.test(title, async (t) => {
      const outer = this.#context;
      this.#context = t;
      try {
        await body();
      } catch (error) {
        await this.report(title, error);
        throw error;
      } finally {
        this.#context = outer;
      }
    });
  }

  /** Remembers something with close(), stop() or remove(). */
  keep(thing) {
    this.#kept.push(thing);
    return thing;
  }

  async report(title, error) {
    const folder = title.replace(/[^a-z0-9]+/gi, '-').toLowerCase().slice(0, 60);
    let text = `${title}\n\n${inspect(error)}\n`;
    for (const thing of this.#kept) {
      if (typeof thing.log === 'string') text += `\n--- server\n${thing.log.slice(-60_000)}\n`;
      if (!thing.page?.log) continue;
      text += `\n--- ${thing.name} at ${await withoutFail(() => thing.page.url())}\n${thing.page.log.slice(-200).join('\n')}\n`;
      text += `\n${await withoutFail(async () => JSON.stringify(await thing.stats(), null, 1))}\n`;
      await withoutFail(() => thing.page.screenshot(artifact('failures', folder, `${thing.name}.png`)));
    }
    writeFileSync(artifact('failures', folder, 'report.txt'), text);
    this.say(`what was there when it failed: artifacts/failures/${folder}`);
  }

  async clear() {
    const failures = [];
    for (const thing of this.#kept.reverse()) {
      if (thing.browser) continue; // a Person: the browser is kept for itself
      try {
        await (thing.remove ?? thing.close ?? thing.stop).call(thing);
      } catch (error) {
        failures.push(error); // the others are to be taken away all the same
      }
    }
    this.#kept = [];
    if (failures.length > 0) throw failures[0];
  }
}

async function withoutFail(ask) {
  try {
    return await Promise.race([ask(), elapse(5000, '(no answer)', { ref: false })]);
  } catch (error) {
    return `(${error.message})`;
  }
}

/** Lets `seconds` of a call go by. This is the time the claim is about, not a wait for something. */
export const callGoesOn = (seconds = WATCH) => elapse(seconds * 1000);

/**
 * Everyone attends to everyone for a while, and each got the others' pictures and tones,
 * whole and unfrozen, and never their own.
 */
export async function everyoneSeesAndHears(stage, persons, seconds = WATCH) {
  const pairs = persons.flatMap((viewer) => persons.filter((other) => other !== viewer).map((other) => [viewer, other]));
  for (const [viewer, other] of pairs) await viewer.attends(other);
  for (const [viewer, other] of pairs) await viewer.seesFirstFrame(other);
  await undisturbed(stage, async () => {
    const since = new Map();
    for (const viewer of persons) since.set(viewer, await viewer.now());
    await callGoesOn(seconds);
    const judged = [];
    for (const [viewer, other] of pairs) {
      const from = since.get(viewer);
      const [seen, heard] = [await viewer.seen(other, from), await viewer.heard(other, from)];
      judged.push(() => assertSeen(stage, viewer, other, seen), () => assertHeard(stage, viewer, other, heard));
    }
    return () => judged.forEach((judge) => judge());
  });
}

/**
 * Measures, then judges. These machines are shared: a measurement that fails while other
 * programs took the processors says nothing about ours, so it is made again, at most twice.
 * One that fails on a machine left to itself has failed.
 */
export async function undisturbed(stage, measure) {
  for (let tries = 1; ; tries++) {
    const others = watchMachine();
    const judge = await measure();
    const share = others();
    try {
      return judge();
    } catch (error) {
      if (share <= DISTURBED || tries === 3) throw error;
      stage.say(`other programs took ${(share * 100).toFixed(0)} % of the processors: measured again`);
    }
  }
}

export function assertSeen(stage, viewer, other, seen) {
  const what = `${viewer.name} of ${other.name}`;
  const percent = (seen.share * 100).toFixed(1);
  stage.say(
    `${what}: ${seen.distinct} of ${seen.made} frames (${percent} %) in ${seen.seconds.toFixed(1)} s, ` +
      `${seen.madePerSecond.toFixed(1)} made per second; ${seen.presented} presented, longest gap ${seen.longestGap} ms (${seen.longestDecodeGap} ms decoded); ${seen.sizes.join(' → ')}`,
  );
  const own = seen.ids[viewer.id] ?? 0;
  assert.equal(own, 0, `${viewer.name} got ${own} frames of their own picture`);
  const strangers = Object.keys(seen.ids).filter((id) => Number(id) !== other.id && id !== '-1');
  assert.deepEqual(strangers, [], `${what}: frames of others arrived`);
  // A source that stalled would make any share easy to reach.
  assert.ok(seen.madePerSecond >= CAMERA.fps * 0.8, `${other.name}'s camera made only ${seen.madePerSecond.toFixed(1)} frames per second`);
  assert.ok(seen.share >= 0.95, `${what}: only ${percent} % of the frames made arrived`);
  assert.ok(seen.longestGap <= 500, `${what}: the picture stood still for ${seen.longestGap} ms`);
  assert.ok(seen.unreadable <= seen.decoded * 0.02, `${what}: ${seen.unreadable} of ${seen.decoded} frames could not be read`);
  const off = Math.abs(((seen.hue - hueOf(other.id) + 540) % 360) - 180);
  assert.ok(seen.hue >= 0 && off <= 25, `${what}: the colour is ${seen.hue}°, not ${hueOf(other.id)}°`);
}

export function assertHeard(stage, listener, other, heard) {
  const what = `${listener.name} of ${other.name}`;
  const tone = String(toneOf(other.id));
  const right = (heard.tones[tone] ?? 0) / heard.samples;
  stage.say(`${what}: ${tone} Hz in ${(right * 100).toFixed(1)} % of ${heard.samples} samples`);
  assert.ok(heard.samples >= 10, `${what}: only ${heard.samples} samples of sound`);
  assert.ok(right >= 0.95, `${what}: tones heard were ${JSON.stringify(heard.tones)}, expected ${tone}`);
  const own = heard.tones[String(toneOf(listener.id))] ?? 0;
  assert.equal(own, 0, `${listener.name} heard their own tone ${own} times`);
}

/** Two people's histories tell the same call: its id, its length, and each their side of its outcome. */
export async function historiesAgree(stage, caller, callee, { outcome, calleeOutcome = outcome, atLeast = 0, atMost = 600 }) {
  const [made, got] = [await caller.lastCall(), await callee.lastCall()];
  stage.say(`history of ${caller.name}: ${made.direction} ${made.outcome}, ${made.lengthSeconds} s; of ${callee.name}: ${got.direction} ${got.outcome}, ${got.lengthSeconds} s`);
  assert.equal(made.id, got.id, 'the two histories begin with different calls');
  assert.equal(made.state, 'ended');
  assert.equal(made.direction, 'outgoing');
  assert.equal(got.direction, 'incoming');
  assert.equal(made.outcome, outcome, `the caller's row says ${made.outcome}`);
  assert.equal(got.outcome, calleeOutcome, `the callee's row says ${got.outcome}`);
  assert.equal(made.apiOutcome, outcome);
  assert.equal(got.apiOutcome, calleeOutcome);
  assert.equal(made.lengthSeconds, got.lengthSeconds, 'the histories differ about the length');
  assert.ok(made.lengthSeconds >= atLeast && made.lengthSeconds <= atMost, `a length of ${made.lengthSeconds} s; expected ${atLeast} to ${atMost}`);
}

/** All of a person's peer connections that carry something. */
export async function connected(person) {
  const all = (await person.stats()).filter(({ state }) => state === 'connected');
  assert.ok(all.length > 0, `${person.name} has no connected peer connection`);
  return all;
}
