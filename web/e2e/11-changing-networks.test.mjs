/**
 * Networks that change during a call, for each SDK behind a router of its own: the address
 * becomes another, and UDP is refused from one moment to the next. The call goes on, in the
 * same session, with its peer connections kept.
 */
import assert from 'node:assert/strict';
import { bridgeOutOf } from './harness/bridge.mjs';
import { launchChromium } from './harness/chromium.mjs';
import { claim } from './harness/claims.mjs';
import { launchFirefox } from './harness/firefox.mjs';
import { toneOf } from './harness/instrument.mjs';
import { makeLab, mayMakeNamespaces } from './harness/lab.mjs';
import { NodeClient, PageClient } from './harness/sdk/client.mjs';
import { servePages } from './harness/sdk/pages.mjs';
import { startServer } from './harness/server.mjs';

const skip = mayMakeNamespaces ? false : 'needs root, to make network namespaces';

/** Six at once on one machine: small pictures. */
const camera = { width: 320, height: 180, fps: 10 };

const PAGE = 8080; // where the bare page is, in each client's namespace
const FAR = 6; // the observer's place, whose network stays as it is
const room = 'moving';
const patience = 45_000;

const kinds = [
  { name: 'Chromium single', options: { single: true }, browser: launchChromium },
  { name: 'Chromium dual', options: { single: false }, browser: launchChromium },
  { name: 'Firefox', options: {}, browser: (o) => launchFirefox({ ...o, extra: { 'media.navigator.audio.fake_frequency': toneOf(3) } }), recorder: true },
  { name: 'rtc-node single', options: {} },
  { name: 'rtc-node dual', options: { single: false } },
]
  .map((kind, i) => ({ ...kind, n: i + 1 }))
  .filter(({ name }) => !process.env.E2E_CLIENT || name.startsWith(process.env.E2E_CLIENT));

claim(
  'a call goes on when the address changes, and when UDP is refused',
  async (stage) => {
    const lab = stage.keep(makeLab({ clients: FAR }));
    const server = stage.keep(await startServer({ namespace: lab.server }));
    const pages = stage.keep(await servePages());
    const page = async (n, name, browser, more) => {
      stage.keep(await bridgeOutOf(lab.client(n), PAGE, pages.socket));
      return stage.keep(await PageClient.at(stage.keep(await browser({ namespace: lab.client(n) })), `http://localhost:${PAGE}/`, name, { id: n, camera, ...more }));
    };
    const far = await page(FAR, 'far', launchChromium);
    const clients = [];
    for (const { name, n, browser, recorder, options } of kinds) {
      const near = browser
        ? await page(n, name, browser, { recorder })
        : stage.keep(await NodeClient.at(name, { id: n, namespace: lab.client(n), camera }));
      clients.push({ name, n, near, options });
    }
    await far.joins(server, room);
    await far.do('publish', 'camera');
    for (const { near, options } of clients) {
      await near.joins(server, room, options);
      for (const source of ['camera', 'microphone']) await near.do('publish', source);
    }
    const everybodySees = () => Promise.all(clients.flatMap(({ near }) => [near.sees(far, 'camera', { patience }), far.sees(near, 'camera', { patience })]));
    await everybodySees();
    const sids = new Map();
    for (const { near } of clients) sids.set(near, (await near.view()).me.sid);

    /** Does something to each client's network, and says how long it was without frames, and without being seen. */
    const heals = async (title, clients, happens, so) => {
      const since = { far: await far.now() };
      for (const { name, near } of clients) since[name] = await near.now();
      for (const { n } of clients) happens(n);
      // All go on at the same time, and each is judged for itself.
      const outcomes = await Promise.allSettled(
        clients.map(async ({ name, near }) => {
          const paths = await healthy(near, so);
          const [there, here] = [await near.now(), await far.now()];
          await near.seesOn(far, 'camera', { since: there, patience });
          await far.seesOn(near, 'camera', { since: here, patience });
          const [sees, isSeen] = [await near.do('seen', far.identity, 'camera', since[name]), await far.do('seen', near.identity, 'camera', since.far)];
          const { events } = await near.view();
          const began = events.findLast(({ what, at }) => /Reconnecting$/.test(what) && at >= since[name])?.at;
          const restarted = began && (await near.do('seen', far.identity, 'camera', began)).firstAt - began;
          return { paths, sees: sees.longestDecodeGap, isSeen: isSeen.longestDecodeGap, restarted };
        }),
      );
      for (const [i, { name, near }] of clients.entries()) {
        await stage.cell(`${name}: ${title}`, async () => {
          if (outcomes[i].status === 'rejected') throw outcomes[i].reason;
          const { paths, sees, isSeen, restarted } = outcomes[i].value;
          stage.say(`${name}: ${sees} ms without frames, ${isSeen} ms unseen; ${restarted ? `frames ${Math.round(restarted)} ms after the SDK began to reconnect` : 'by itself'}; now over ${paths.map((path) => `${path.type} ${path.protocol} ${path.relayProtocol}`).join(', ')}`);
          assert.equal((await near.view()).me.sid, sids.get(near), 'it is another session');
        });
      }
    };

    // The Rust SDK waits for the old socket to close, which a socket without an address does after a quarter of an hour, and
    // can do nothing more by signaling until then. So it stays out of this.
    const browsers = clients.filter(({ near }) => near instanceof PageClient);
    await heals('ICE restart when the address changes', browsers, (n) => lab.renumber(n), () => true);
    for (const { near } of clients) sids.set(near, (await near.view()).me.sid);
    await heals('ICE restart when UDP is refused', clients, (n) => lab.refuseUDP(n), ({ protocol, relayProtocol }) => protocol === 'tcp' || relayProtocol === 'tcp');
    assert.ok(lab.dropped() > 0, 'the routers had nothing to refuse');
  },
  { skip, timeout: 180_000 },
);

/** Waits until all paths of a client's peer connections are so. */
async function healthy(client, so) {
  const end = Date.now() + patience;
  for (;;) {
    const paths = await client.do('paths');
    if (paths.length > 0 && paths.every(so)) return paths;
    if (Date.now() > end) assert.fail(`${client.name}: after ${patience} ms its paths are ${JSON.stringify(paths)}, it is ${(await client.view()).state}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
