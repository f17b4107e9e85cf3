/** Firefox in one room with Chromium. */
import assert from 'node:assert/strict';
import { launchChromium } from './harness/chromium.mjs';
import { claim, connected, everyoneSeesAndHears, historiesAgree } from './harness/claims.mjs';
import { launchFirefox } from './harness/firefox.mjs';
import { toneOf } from './harness/instrument.mjs';
import { Person } from './harness/person.mjs';
import { startServer } from './harness/server.mjs';

claim(
  'Firefox calls Chromium by name, and they see and hear each other over AEAD_AES_128_GCM',
  async (stage) => {
    const server = stage.keep(await startServer());
    const id = 5;
    const firefox = stage.keep(await launchFirefox({ extra: { 'media.navigator.audio.fake_frequency': toneOf(id) } }));
    const fiona = stage.keep(await Person.at(firefox, server, 'fiona', { id, recorder: true }));
    const gus = stage.keep(await Person.at(stage.keep(await launchChromium()), server, 'gus', { id: 2 }));
    stage.say(`Firefox ${firefox.capabilities.browserVersion}`);
    await fiona.signUp();
    await gus.signUp();
    await fiona.calls(gus);
    await gus.rings(fiona);
    await gus.accepts();
    await fiona.inCall();
    await gus.inCall();
    await everyoneSeesAndHears(stage, [fiona, gus]);
    await fiona.screenshot('f-firefox');
    for (const person of [fiona, gus]) {
      for (const { srtpCipher, dtlsCipher, remote } of await connected(person)) {
        stage.say(`${person === fiona ? 'Firefox' : 'Chromium'}: ${srtpCipher}, ${dtlsCipher}, to port ${remote.port}/${remote.protocol}`);
        assert.match(srtpCipher, /AEAD_AES_128_GCM$/);
        assert.equal(remote.port, server.ports.udp);
      }
    }
    await fiona.hangsUp();
    await gus.ended();
    await historiesAgree(stage, fiona, gus, { outcome: 'answered', atLeast: 1 });
  },
  { timeout: 150_000 },
);
