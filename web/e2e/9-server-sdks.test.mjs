/**
 * The SDKs of servers and bots, as they come from npm: @livekit/rtc-node, with the Rust SDK
 * in it, does the same list of features as livekit-client; livekit-server-sdk calls every
 * method of the room service and verifies webhooks.
 */
import { RoomServiceClient } from 'livekit-server-sdk';
import { launchChromium } from './harness/chromium.mjs';
import { claim } from './harness/claims.mjs';
import { startProxy } from './harness/proxy.mjs';
import { NodeClient, PageClient } from './harness/sdk/client.mjs';
import { features, meet } from './harness/sdk/features.mjs';
import { servePages } from './harness/sdk/pages.mjs';
import { startServer } from './harness/server.mjs';

claim(
  'rtc-node does everything it can in a room',
  async (stage) => {
    const server = stage.keep(await startServer());
    const pages = stage.keep(await servePages());
    const proxy = stage.keep(await startProxy(server.ports.listen));
    const { apiKey, apiSecret } = server.keys;
    const api = new RoomServiceClient(`http://127.0.0.1:${server.ports.listen}`, apiKey, apiSecret);
    const chromium = stage.keep(await PageClient.at(stage.keep(await launchChromium()), pages.url, 'chromium', { id: 1 }));
    const node = stage.keep(await NodeClient.at('far-node', { id: 2 }));
    const runs = [
      { name: 'rtc-node single', id: 3, options: {}, far: chromium }, // as it comes
      { name: 'rtc-node dual', id: 4, options: { single: false }, far: node },
    ];

    for (const { name, id, options, far } of runs) {
      const near = stage.keep(await NodeClient.at(name.replace(' ', '-'), { id }));
      const scene = { stage, server, proxy, api, room: `features of ${name}`, near, far, options };
      await stage.part(`${name}: both join and publish`, () => meet(scene));
      for (const { name: feature, tries } of features) await stage.cell(`${name}: ${feature}`, () => tries(scene));
      await stage.part(`${name}: leaves`, async () => {
        await near.do('leave');
        await far.until('it is gone', (view) => !view.others[near.identity]);
        await far.do('leave');
        await near.close();
      });
    }
  },
  { timeout: 300_000 },
);
