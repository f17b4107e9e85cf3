/**
 * livekit-client as it comes from npm, in a bare page: every feature, in Chromium with one
 * peer connection and with two, and in Firefox as it comes. The other side is always a
 * second Chromium, and each cell of the table says what arrived there, and back.
 */
import { RoomServiceClient } from 'livekit-server-sdk';
import { launchChromium } from './harness/chromium.mjs';
import { claim } from './harness/claims.mjs';
import { launchFirefox } from './harness/firefox.mjs';
import { toneOf } from './harness/instrument.mjs';
import { startProxy } from './harness/proxy.mjs';
import { PageClient } from './harness/sdk/client.mjs';
import { features, meet } from './harness/sdk/features.mjs';
import { servePages } from './harness/sdk/pages.mjs';
import { startServer } from './harness/server.mjs';

/** One client of the table, such as E2E_CLIENT=Firefox; all by default. */
const only = process.env.E2E_CLIENT;

const clients = [
  { name: 'Chromium single', id: 2, options: { single: true }, launch: launchChromium },
  { name: 'Chromium dual', id: 3, options: { single: false }, launch: launchChromium },
  {
    name: 'Firefox',
    id: 4,
    options: {},
    launch: () => launchFirefox({ extra: { 'media.navigator.audio.fake_frequency': toneOf(4) } }),
    recorder: true,
  },
].filter(({ name }) => !only || name === only);

claim(
  'livekit-client does everything it can in a room',
  async (stage) => {
    const server = stage.keep(await startServer());
    const pages = stage.keep(await servePages());
    const proxy = stage.keep(await startProxy(server.ports.listen));
    const { apiKey, apiSecret } = server.keys;
    const api = new RoomServiceClient(`http://127.0.0.1:${server.ports.listen}`, apiKey, apiSecret);
    const far = stage.keep(await PageClient.at(stage.keep(await launchChromium()), pages.url, 'far', { id: 1 }));

    for (const { name, id, options, launch, recorder } of clients) {
      const near = stage.keep(await PageClient.at(stage.keep(await launch()), pages.url, name.toLowerCase().replace(' ', '-'), { id, recorder }));
      const scene = { stage, server, proxy, api, room: `features of ${name}`, near, far, options };
      await stage.part(`${name}: both join and publish`, () => meet(scene));
      for (const { name: feature, tries } of features) await stage.cell(`${name}: ${feature}`, () => tries(scene));
      await stage.part(`${name}: leaves`, async () => {
        await near.do('leave');
        await far.until('it is gone', (view) => !view.others[near.identity]);
        await far.do('leave');
        await near.browser.close();
      });
    }
  },
  { timeout: 300_000 },
);
