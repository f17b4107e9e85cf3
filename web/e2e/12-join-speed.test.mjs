/** How long it takes from joining a room to the first decoded frame of somebody in it. */
import assert from 'node:assert/strict';
import { launchChromium } from './harness/chromium.mjs';
import { callGoesOn, claim, undisturbed } from './harness/claims.mjs';
import { PageClient, tokenFor } from './harness/sdk/client.mjs';
import { servePages } from './harness/sdk/pages.mjs';
import { startServer } from './harness/server.mjs';

const JOINS = 20;
const BOUND = 300; // ms, of the median

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

claim(
  `the first frame is decoded within ${BOUND} ms of joining, in both modes (median of ${JOINS})`,
  async (stage) => {
    const server = stage.keep(await startServer());
    const pages = stage.keep(await servePages());
    const camera = { width: 640, height: 360, fps: 30 };
    const publisher = stage.keep(await PageClient.at(stage.keep(await launchChromium()), pages.url, 'publisher', { id: 1, camera }));
    const viewer = stage.keep(await PageClient.at(stage.keep(await launchChromium()), pages.url, 'viewer', { id: 2 }));
    await publisher.joins(server, 'speed');
    await publisher.do('publish', 'camera');

    for (const [mode, single] of [['single', true], ['dual', false]]) {
      await stage.cell(`Chromium ${mode}`, async () => {
        const join = async () => viewer.do('timeJoin', server.signal, await tokenFor(server, 'speed', 'viewer'), { single });
        await join(); // loads and compiles what the SDK needs
        await undisturbed(stage, async () => {
          const times = [];
          for (let i = 0; i < JOINS; i++) {
            await callGoesOn(0.7); // no keyframe that somebody has just asked for helps, or holds back, the next
            times.push(await join());
          }
          const of = (what) => times.map((time) => time[what]);
          const frames = of('frame').toSorted((a, b) => a - b).map(Math.round);
          stage.say(`${mode}: connected after ${Math.round(median(of('connected')))} ms, subscribed after ${Math.round(median(of('subscribed')))} ms, first frame after ${median(frames)} ms`);
          stage.say(`${mode}: fastest ${frames[0]} ms, nine of ten within ${frames[Math.floor(JOINS * 0.9) - 1]} ms, slowest ${frames.at(-1)} ms`);
          return () => assert.ok(median(frames) <= BOUND, `the median is ${median(frames)} ms`);
        });
      });
    }
  },
  { timeout: 180_000 },
);
