/** Calls from networks as people have them: behind NAT, and where only HTTPS gets out. */
import assert from 'node:assert/strict';
import { issue } from './harness/authority.mjs';
import { launchChromium } from './harness/chromium.mjs';
import { claim, connected, everyoneSeesAndHears, historiesAgree } from './harness/claims.mjs';
import { exitCodeIn, makeLab, mayMakeNamespaces } from './harness/lab.mjs';
import { Person } from './harness/person.mjs';
import { startServer } from './harness/server.mjs';

const host = 'anytime.test';
const skip = mayMakeNamespaces ? false : 'needs root, to make network namespaces';

/** Two people behind routers of their own, in a call with each other. */
async function callAcross(stage, lab) {
  const certificate = stage.keep(issue(host));
  const server = stage.keep(await startServer({ namespace: lab.server, host, certificate }));
  const people = [];
  for (const [i, name] of ['dora', 'emil'].entries()) {
    const browser = stage.keep(await launchChromium({ namespace: lab.client(i + 1), trust: certificate.authority }));
    people.push(stage.keep(await Person.at(browser, server, name)));
  }
  const [caller, callee] = people;
  await caller.signUp();
  await callee.signUp();
  await caller.calls(callee);
  await callee.rings(caller);
  await callee.accepts();
  await caller.inCall(30_000);
  await callee.inCall(30_000);
  await everyoneSeesAndHears(stage, people);
  return { server, caller, callee };
}

claim(
  'two people behind NAT see and hear each other, without a relay',
  async (stage) => {
    const lab = stage.keep(makeLab({ host }));
    assert.notEqual(exitCodeIn(lab.server, 'ip', 'route', 'get', '10.90.1.2'), 0, "the server has a way to a client's own address: no NAT was needed");
    const { server, caller, callee } = await callAcross(stage, lab);
    for (const [i, person] of [caller, callee].entries()) {
      for (const { local, remote } of await connected(person)) {
        stage.say(`${person.name}: from ${local.address || '(hidden)'} ${local.type} to ${remote.address}:${remote.port}/${remote.protocol}`);
        assert.ok(['prflx', 'srflx'].includes(local.type), `a ${local.type} candidate was selected`);
        assert.equal(local.address, lab.natAddress(i + 1), 'the server sees another address than the NAT');
        assert.equal(`${remote.address}:${remote.port}/${remote.protocol}`, `${lab.serverAddress}:${server.ports.udp}/udp`);
      }
    }
    assert.ok(lab.forwarded() > 1000, `the routers sent only ${lab.forwarded()} packets`);
    await caller.hangsUp();
    await callee.ended();
    await historiesAgree(stage, caller, callee, { outcome: 'answered', atLeast: 1 });
  },
  { skip },
);

claim(
  'two people whose networks let out nothing but TCP to port 443 see and hear each other, through TURN over TLS',
  async (stage) => {
    const lab = stage.keep(makeLab({ host, only443: true }));
    const { server, caller, callee } = await callAcross(stage, lab);
    for (const port of [server.ports.listen, server.ports.tcp, server.ports.turnTLS]) {
      const reach = `timeout 1 bash -c '</dev/tcp/${lab.serverAddress}/${port}'`;
      assert.notEqual(exitCodeIn(lab.client(1), 'bash', '-c', reach), 0, `port ${port} can be reached`);
    }
    assert.equal(exitCodeIn(lab.client(1), 'bash', '-c', `timeout 5 bash -c '</dev/tcp/${lab.serverAddress}/443'`), 0, 'port 443 cannot be reached');
    for (const person of [caller, callee]) {
      for (const { local, remote } of await connected(person)) {
        stage.say(`${person.name}: ${local.type} over ${local.relayProtocol} (${local.url}) to ${remote.address}:${remote.port}`);
        assert.equal(local.type, 'relay');
        assert.equal(local.relayProtocol, 'tls');
        assert.match(local.url ?? '', /^turns:anytime\.test:443\b/);
        assert.equal(remote.port, server.ports.udp);
      }
    }
    assert.ok(lab.dropped() > 0, 'the routers had nothing to drop: was it tried at all?');
    await callee.hangsUp();
    await caller.ended();
    await historiesAgree(stage, caller, callee, { outcome: 'answered', atLeast: 1 });
  },
  { skip },
);
