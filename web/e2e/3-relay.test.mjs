/** Calls through our TURN relay alone: over UDP, over TCP and over TLS, in one room. */
import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { issue } from './harness/authority.mjs';
import { launchChromium } from './harness/chromium.mjs';
import { claim, connected, everyoneSeesAndHears } from './harness/claims.mjs';
import { Person } from './harness/person.mjs';
import { startServer } from './harness/server.mjs';

claim(
  'three people who may use nothing but the relay, over UDP, TCP and TLS, see and hear each other',
  async (stage) => {
    const addresses = Object.values(networkInterfaces()).flatMap((all) => all.map(({ address }) => address));
    const certificate = stage.keep(issue('localhost', ...addresses.filter((address) => !address.startsWith('fe80:'))));
    const server = stage.keep(await startServer({ certificate }));
    const people = [];
    for (const protocol of ['udp', 'tcp', 'tls']) {
      const browser = stage.keep(await launchChromium({ trust: certificate.authority }));
      const person = stage.keep(await Person.at(browser, server, `over_${protocol}`, { query: `?relay=${protocol}` }));
      await person.signUp();
      people.push({ protocol, person });
    }
    const [first, second, third] = people.map(({ person }) => person);
    await first.calls(second);
    await second.rings(first);
    await second.accepts();
    await first.inCall();
    await first.adds(third);
    await third.rings(first);
    await third.accepts();
    await third.inCall();
    await everyoneSeesAndHears(stage, [first, second, third]);

    for (const { person, protocol } of people) {
      for (const { local, remote } of await connected(person)) {
        stage.say(`${person.name}: ${local.type} over ${local.relayProtocol} (${local.url ?? 'no url'}) to ${remote.address}:${remote.port}`);
        assert.equal(local.type, 'relay');
        assert.equal(local.relayProtocol, protocol);
        assert.equal(remote.port, server.ports.udp);
      }
    }
    await first.hangsUp();
    await first.ended();
  },
  { timeout: 150_000 },
);
