/**
 * A call over bad links: a server, one publisher and some viewers, each a Chromium in a namespace of the lab. The browsers
 * stay; the call is made anew for each measurement, on one server or another.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as elapse } from 'node:timers/promises';
import { bridgeOutOf } from '../harness/bridge.mjs';
import { launchChromium } from '../harness/chromium.mjs';
import { tokenFor } from '../harness/sdk/client.mjs';
import { servePages } from '../harness/sdk/pages.mjs';
import { startServer } from '../harness/server.mjs';
import { clock, makeBadLab } from './lab.mjs';

const PAGE = 8080; // where the page is, in each browser's namespace

/** What is published: the layers of the targets. 15 frames a second are what two shared processors encode in three layers. */
export const SOURCE = { width: 1280, height: 720, fps: 15, layers: [150_000, 500_000, 1_700_000] };

/** Asks until `so`, and fails after so many ms with what the last answer was. */
export async function until(what, ask, so, patience = 30_000) {
  const end = clock() + patience;
  for (;;) {
    const answer = await ask();
    if (so(answer)) return answer;
    if (clock() > end) assert.fail(`not within ${patience} ms: ${what}; last was ${JSON.stringify(answer)?.slice(0, 1000)}`);
    await elapse(200);
  }
}

/** A server that isn't ours, with the same room contract: its binary, in the lab's second place. */
async function startReference(binary, namespace, address) {
  const folder = mkdtempSync(join(tmpdir(), 'anytime-reference-'));
  const keys = { apiKey: 'key', apiSecret: 'a secret of thirty-two characters' };
  writeFileSync(
    join(folder, 'config.yaml'),
    [
      'port: 7880',
      'rtc:',
      '  udp_port: 7882',
      '  tcp_port: 7881',
      '  use_external_ip: false',
      `  node_ip: ${address}`,
      'keys:',
      `  ${keys.apiKey}: ${keys.apiSecret}`,
      'logging:',
      '  level: info',
    ].join('\n'),
  );
  const child = spawn('ip', ['netns', 'exec', namespace, binary, '--config', join(folder, 'config.yaml')], { stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const server = { signal: `ws://${address}:7880`, keys, log: '' };
  const exit = new Promise((resolve) => child.once('exit', resolve));
  const take = (bytes) => (server.log = (server.log + bytes).slice(-1_000_000));
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  server.remove = async () => {
    child.kill('SIGTERM');
    const late = setTimeout(kill, 10_000);
    await exit;
    clearTimeout(late);
    process.off('exit', kill);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await until('the reference starts', () => server.log, (log) => /starting LiveKit server/.test(log) || child.exitCode !== null, 20_000);
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
  } catch (error) {
    await server.remove();
    throw new Error(`the reference did not start: ${error.message}\n${server.log}`);
  }
  return server;
}

/** A page with the agent in it. */
class Party {
  name;
  page;
  browser;

  static async at(name, namespace, socket, kept) {
    const party = new Party();
    party.name = name;
    kept.push(await bridgeOutOf(namespace, PAGE, socket));
    party.browser = await launchChromium({ namespace, viewport: { width: 320, height: 200 } });
    kept.push(party.browser);
    party.page = await party.browser.page(() => {}, null);
    await party.page.goto(`http://localhost:${PAGE}/network`);
    await party.page.until(() => window.sdk !== undefined);
    await party.page.click('#begin'); // sound needs that somebody did something
    return party;
  }

  do(operation, ...args) {
    return this.page.evaluate(([name, values]) => window.sdk[name](...values), [operation, args]);
  }
}

/**
 * A lab with browsers and servers in it.
 * @param {{viewers: number[], reference?: string}} options viewers: how many stand behind each
 *   link; reference: the binary of another server
 */
export async function makeStage({ viewers, reference }) {
  const kept = [];
  const remove = async () => {
    const failures = [];
    for (const thing of kept.splice(0).reverse()) {
      try {
        await (thing.remove ?? thing.close).call(thing);
      } catch (error) {
        failures.push(error); // the others are to be taken away all the same
      }
    }
    if (failures.length > 0) throw failures[0];
  };
  try {
    const lab = await makeBadLab(viewers);
    kept.push(lab);
    const servers = { ours: await startServer({ namespace: lab.server }) };
    kept.push(servers.ours);
    if (reference) {
      servers.reference = await startReference(reference, lab.otherServer, lab.serverAddresses.t);
      kept.push(servers.reference);
    }
    const pages = await servePages();
    kept.push(pages);
    const publisher = await Party.at('publisher', lab.publisher, pages.socket, kept);
    const people = [];
    for (let n = 1; n <= viewers.reduce((a, b) => a + b); n++) people.push(await Party.at(`viewer${n}`, lab.viewer(n), pages.socket, kept));
    return {
      lab,
      servers,
      publisher,
      viewers: people,
      remove,
      /** What our server printed: shown when a test fails. */
      get log() {
        return servers.ours.log;
      },
    };
  } catch (error) {
    await remove().catch(() => {});
    throw error;
  }
}

let calls = 0;

/**
 * Makes a call on a server, waits until every viewer sees the full picture over links that are still good, hands it to
 * `body` and ends it.
 * @param {object} stage of makeStage
 * @param {'ours' | 'reference'} which
 * @param {{capacity?: number, delay?: number, sound?: boolean, viewers?: number[], source?: object}} options
 *   of all links at first; viewers: those who join, counted from 1
 * @param {(call: Call) => Promise<T>} body
 * @returns {Promise<T & {machine: object}>} with what the machine did to the figures
 * @template T
 */
export async function inCall(stage, which, { capacity = 10e6, delay = 30, sound = false, viewers = stage.viewers.map((_, i) => i + 1), source = SOURCE } = {}, body) {
  const server = stage.servers[which];
  const room = `network-${++calls}`;
  const people = viewers.map((n) => stage.viewers[n - 1]);
  const links = stage.lab.links;
  for (const link of links) {
    link.loss(0);
    link.capacity(capacity);
    link.delay(delay);
  }
  const { publisher } = stage;
  try {
    await publisher.do('join', server.signal, await tokenFor(server, room, 'publisher'));
    await publisher.do('publish', { ...source, sound });
    for (const viewer of people) await viewer.do('join', server.signal, await tokenFor(server, room, viewer.name));
    await until('the publisher sends all layers', () => publisher.do('sending'), (layers) => layers.length === source.layers.length && layers.every(({ targetBitrate }, i, all) => targetBitrate >= 0.9 * wanted(source, all[i])), 40_000);
    for (const viewer of people) await fullPicture(viewer, source.width);
    const begun = clock();
    const before = await publisher.do('sending');
    const found = await body({ lab: stage.lab, publisher, people, link: stage.lab.link(1), delay, source, server });
    const layers = await publisher.do('sending');
    const late = Math.max(...links.map((link) => link.lateSince(begun)));
    return { ...found, machine: { ...limited(before, layers, (clock() - begun) / 1000, source), late } };
  } finally {
    for (const party of [publisher, ...people]) await party.do('leave').catch(() => {});
  }
}

/** The bit/s that a layer was published with, told by its width. */
function wanted({ width, layers }, { frameWidth }) {
  const i = layers.length - 1 - Math.round(Math.log2(width / (frameWidth || width)));
  return layers[Math.max(0, i)];
}

/** Waits until frames of the full width come for two seconds. */
export async function fullPicture(viewer, width, patience = 40_000) {
  await until(
    `${viewer.name} sees the full picture`,
    async () => viewer.do('decoded', clock() - 2000),
    (frames) => frames.length >= 20 && frames.every((frame) => frame.width === width),
    patience,
  );
}

/** How far the publisher's encoder was held back, as the browser says, and what each layer had. */
function limited(before, after, seconds, { fps }) {
  const layers = after.map((layer) => {
    const was = before.find(({ rid }) => rid === layer.rid) ?? layer;
    return {
      width: layer.frameWidth,
      kbps: Math.round(((layer.bytesSent - was.bytesSent) * 8) / seconds / 1000),
      fps: (layer.framesEncoded - was.framesEncoded) / seconds,
      keyframes: layer.keyFramesEncoded - was.keyFramesEncoded,
      plis: layer.pliCount - was.pliCount,
      limit: layer.qualityLimitationReason,
    };
  });
  const cpu = Math.max(...after.map((layer) => (layer.qualityLimitationDurations?.cpu ?? 0) - (before.find(({ rid }) => rid === layer.rid)?.qualityLimitationDurations?.cpu ?? 0)));
  return { seconds, cpuLimited: cpu, fps: Math.min(...layers.map((layer) => layer.fps)) / fps, layers };
}
