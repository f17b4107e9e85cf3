/**
 * A participant with one of LiveKit's SDKs, in a page (browser-agent.mjs) or in a process of
 * its own (node-agent.mjs): the same operations, and what a test waits for.
 */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { setTimeout as elapse } from 'node:timers/promises';
import { AccessToken } from 'livekit-server-sdk';
import { hueOf, instrument, toneOf } from '../instrument.mjs';

/** Three layers need a camera at least 960 pixels wide. */
const CAMERA = { width: 960, height: 540, fps: 10 };

/** How long a client waits for something that takes a moment, in ms. */
export const PATIENCE = 15_000;

const IDS = 10;

/** What the pictures of a person's screen say. */
export const screenOf = (id) => ({ id: 100 + id, hue: hueOf(100 + id) });

const selfOf = (id, more = {}) => ({
  id,
  tone: toneOf(id),
  hue: hueOf(id),
  tones: Array.from({ length: IDS }, (_, i) => toneOf(i + 1)),
  screen: screenOf(id),
  ...CAMERA,
  ...more,
});

/** A token for a room, signed with the server's key by livekit-server-sdk. */
export async function tokenFor(server, room, identity, grant = {}) {
  const { apiKey, apiSecret } = server.keys;
  const token = new AccessToken(apiKey, apiSecret, { identity, ttl: '10m' });
  token.addGrant({ roomJoin: true, room, canUpdateOwnMetadata: true, ...grant });
  return token.toJwt();
}

/** What was seen last, without the long texts in it. */
const brief = (answer) => JSON.stringify(answer, (_, value) => (typeof value === 'string' && value.length > 200 ? `${value.slice(0, 50)}…` : value)).slice(-4000);

class Client {
  name;
  id;
  /** In the room it joined last. */
  identity = '';

  /** @param {object} options of the agent's join */
  async joins(server, room, { url = server.signal, grant, ...options } = {}) {
    this.identity = this.name;
    await this.do('join', url, await tokenFor(server, room, this.identity, grant), options);
  }

  view() {
    return this.do('view');
  }

  now() {
    return this.do('now');
  }

  /** Waits until what the room looks like from here satisfies `so`; that view. */
  async until(what, so, patience = PATIENCE) {
    return this.poll(what, () => this.view(), so, patience);
  }

  /** Asks until the answer satisfies `so`; that answer. */
  async poll(what, ask, so, patience = PATIENCE, every = 50) {
    const end = Date.now() + patience;
    for (;;) {
      const answer = await ask();
      if (so(answer)) return answer;
      if (Date.now() > end) assert.fail(`${this.name}: not within ${patience} ms: ${what}; last was ${brief(answer)}`);
      await elapse(every);
    }
  }

  /** Waits until frames of somebody's camera or screen are decoded here, and nobody else's. */
  async sees(other, source = 'camera', { frames = 10, patience = PATIENCE, width = () => true } = {}) {
    await this.do('look', other.identity, source);
    return this.seesOn(other, source, { frames, patience, width, since: await this.now() });
  }

  /** As sees, of what is looked at already, since a time of now(). */
  async seesOn(other, source, { frames = 10, patience = PATIENCE, width = () => true, since }) {
    const id = source === 'camera' ? other.id : screenOf(other.id).id;
    const seen = await this.poll(
      `${frames} frames of ${other.name}'s ${source}`,
      () => this.do('seen', other.identity, source, since),
      ({ ids, sizes }) => (ids[id] ?? 0) >= frames && width(Number(sizes.at(-1).split('x')[0])),
      patience,
      100,
    );
    const others = Object.keys(seen.ids).filter((one) => Number(one) !== id && one !== '-1');
    assert.deepEqual(others, [], `${this.name} of ${other.name}'s ${source}: frames of others arrived`);
    // The first pictures are small, and those of a new layer blurred for a moment.
    assert.ok(seen.unreadable <= Math.max(5, seen.decoded * 0.2), `${this.name}: ${seen.unreadable} of ${seen.decoded} frames could not be read`);
    return seen;
  }

  /** Waits until somebody's tone is heard here, for at least so many tenths of a second. */
  async hears(other, { samples = 8, patience = PATIENCE } = {}) {
    await this.do('look', other.identity, 'microphone');
    return this.hearsOn(other, { samples, patience, since: await this.now() });
  }

  async hearsOn(other, { samples = 8, patience = PATIENCE, since }) {
    const tone = String(toneOf(other.id));
    const heard = await this.poll(
      `${tone} Hz of ${other.name}`,
      () => this.do('heard', other.identity, 'microphone', since),
      ({ tones }) => (tones[tone] ?? 0) >= samples,
      patience,
      400,
    );
    assert.equal(heard.tones[String(toneOf(this.id))] ?? 0, 0, `${this.name} heard their own tone`);
    return heard;
  }

  /** Waits for a second in which nothing of somebody's tone is heard: what was on its way may come before. */
  hearsNothing(other) {
    const tone = String(toneOf(other.id));
    return this.#quiet(`without the tone of ${other.name}`, async (since) => (await this.do('heard', other.identity, 'microphone', since)).tones[tone] ?? 0);
  }

  /** Waits for a second in which no frame of somebody arrives. */
  seesNothing(other, source = 'camera') {
    return this.#quiet(`without a frame of ${other.name}'s ${source}`, async (since) => (await this.do('seen', other.identity, source, since)).decoded);
  }

  async #quiet(what, count, patience = 8000) {
    const end = Date.now() + patience;
    for (;;) {
      const since = await this.now();
      await elapse(1000);
      const there = await count(since);
      if (there === 0) return;
      if (Date.now() > end) assert.fail(`${this.name}: no second ${what} within ${patience} ms: the last had ${there}`);
    }
  }
}

/** livekit-client in a page of a browser. */
export class PageClient extends Client {
  page;

  /**
   * @param {object} browser from launchChromium or launchFirefox
   * @param {{id: number, recorder?: boolean, camera?: object}} options recorder: as person.mjs
   */
  static async at(browser, url, name, { id, recorder, camera } = {}) {
    const client = new PageClient();
    Object.assign(client, { name, id, browser });
    client.page = await browser.page(instrument, selfOf(id, { recorder: recorder ?? false, ...camera }));
    await client.page.goto(url);
    await client.page.until(() => window.sdk !== undefined);
    await client.page.click('#begin'); // sound needs that somebody did something
    return client;
  }

  do(operation, ...args) {
    return this.page.evaluate(([name, values]) => window.sdk[name](...values), [operation, args]);
  }

  stats() {
    return this.page.evaluate(() => window.__e2e.stats());
  }
}

/** @livekit/rtc-node in a process of its own, in a network namespace when asked for. */
export class NodeClient extends Client {
  #child;
  #waiting = new Map();
  #operations = 0;
  /** What the process and the SDK in it printed. */
  log = '';

  static async at(name, { id, namespace, camera } = {}) {
    const client = new NodeClient();
    Object.assign(client, { name, id });
    const agent = fileURLToPath(new URL('node-agent.mjs', import.meta.url));
    const inside = namespace ? { execPath: 'ip', execArgv: ['netns', 'exec', namespace, process.execPath] } : {};
    const child = fork(agent, [JSON.stringify(selfOf(id, camera))], { ...inside, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    client.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (client.log += bytes));
    const kill = () => child.kill('SIGKILL');
    process.once('exit', kill);
    child.once('exit', (code, signal) => {
      process.off('exit', kill);
      for (const { reject } of client.#waiting.values()) reject(new Error(`${name}'s process ended with ${signal ?? code}:\n${client.log.slice(-4000)}`));
      client.#waiting.clear();
    });
    child.on('message', ([number, error, value]) => {
      const { resolve, reject } = client.#waiting.get(number);
      client.#waiting.delete(number);
      if (error) reject(new Error(`${name}: ${error}`));
      else resolve(value);
    });
    await client.do('now');
    return client;
  }

  do(operation, ...args) {
    const number = ++this.#operations;
    return new Promise((resolve, reject) => {
      if (!this.#child.connected) return reject(new Error(`${this.name}'s process is gone:\n${this.log.slice(-4000)}`));
      this.#waiting.set(number, { resolve, reject });
      return this.#child.send([number, operation, args]);
    });
  }

  /** Ends the SDK, and the process; that it ends by itself is part of the test. */
  async close() {
    if (!this.#child.connected) return;
    const ended = new Promise((resolve) => this.#child.once('exit', (code, signal) => resolve(signal ?? code)));
    const late = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
    await this.do('end').catch(() => {});
    const code = await ended;
    clearTimeout(late);
    assert.equal(code, 0, `${this.name}'s process ended with ${code}:\n${this.log.slice(-4000)}`);
  }
}
