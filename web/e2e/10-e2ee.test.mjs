/** End-to-end encryption: who has the key sees and hears; who has another one, and the server, get nothing. */
import assert from 'node:assert/strict';
import { launchChromium } from './harness/chromium.mjs';
import { callGoesOn, claim } from './harness/claims.mjs';
import { toneOf } from './harness/instrument.mjs';
import { PageClient } from './harness/sdk/client.mjs';
import { servePages } from './harness/sdk/pages.mjs';
import { startServer } from './harness/server.mjs';

claim('two livekit-clients with a shared key see and hear each other; a third, with the wrong key, decodes nothing', async (stage) => {
  const server = stage.keep(await startServer());
  const pages = stage.keep(await servePages());
  const key = 'a passphrase that only two know';
  const clients = [];
  for (const [i, name] of ['ann', 'bob', 'eve'].entries()) {
    clients.push(stage.keep(await PageClient.at(stage.keep(await launchChromium()), pages.url, name, { id: i + 1 })));
  }
  const [ann, bob, eve] = clients;
  for (const client of clients) {
    // With two peer connections nothing that the SDK says is compressed: a key in it would be seen below.
    await client.joins(server, 'secret', { single: false, key: client === eve ? 'another passphrase' : key });
    await client.do('publish', 'microphone');
    await client.do('publish', 'camera');
  }

  await stage.part('those with the key see and hear each other', async () => {
    for (const [one, other] of [[ann, bob], [bob, ann]]) {
      await one.sees(other);
      await one.hears(other);
      const { tracks } = (await one.view()).others[other.identity];
      assert.ok(tracks.camera.encrypted && tracks.microphone.encrypted, 'the tracks are not marked as encrypted');
    }
  });

  await stage.part('data between them arrives', async () => {
    await ann.do('send', 'between us', { reliable: true, topic: 'd' });
    await bob.until('what ann sent', ({ data }) => data.some(({ text }) => text === 'between us'));
  });

  await stage.part('the third gets their packets, and decodes none of their frames', async () => {
    for (const [one, other] of [[eve, ann], [eve, bob], [ann, eve], [bob, eve]]) {
      for (const source of ['camera', 'microphone']) await one.do('look', other.identity, source);
      await one.until('the subscription', (view) => view.others[other.identity]?.tracks.camera?.subscribed);
    }
    const since = new Map();
    for (const client of clients) since.set(client, await client.now());
    await callGoesOn(3);
    for (const [one, other] of [[eve, ann], [eve, bob], [ann, eve], [bob, eve]]) {
      const { decoded } = await one.do('seen', other.identity, 'camera', since.get(one));
      const { tones } = await one.do('heard', other.identity, 'microphone', since.get(one));
      assert.equal(decoded, 0, `${one.name} decoded ${decoded} frames of ${other.name}`);
      assert.equal(tones[String(toneOf(other.id))] ?? 0, 0, `${one.name} heard ${other.name}: ${JSON.stringify(tones)}`);
    }
    const packets = (await eve.stats()).flatMap(({ inbound }) => inbound).reduce((sum, { packetsReceived }) => sum + packetsReceived, 0);
    stage.say(`${eve.name} received ${packets} packets of video`);
    assert.ok(packets > 50, `${eve.name} was sent only ${packets} packets: that it decoded none says nothing`);
    assert.ok(!(await eve.view()).data.some(({ text }) => text.includes('between us')), `${eve.name} read what was sent`);
  });

  await stage.part('the server never got the key', async () => {
    assert.ok(!server.log.includes(key));
    for (const { page } of clients) {
      const sent = await page.evaluate(() => window.sentOverSignal.join(' '));
      assert.ok(sent.length > 1000, 'what went to the server was not recorded');
      assert.ok(!sent.includes(key), 'the key went to the server');
    }
  });
});
