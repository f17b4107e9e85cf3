/**
 * Why is my call bad? One of two people loses a tenth of their packets: they are told that it is their own network, and the
 * other that it isn't theirs.
 */
import assert from 'node:assert/strict';
import { issue } from './harness/authority.mjs';
import { launchChromium } from './harness/chromium.mjs';
import { claim } from './harness/claims.mjs';
import { launchFirefox } from './harness/firefox.mjs';
import { toneOf } from './harness/instrument.mjs';
import { exitCodeIn, makeLab, mayMakeNamespaces } from './harness/lab.mjs';
import { Person } from './harness/person.mjs';
import { startServer } from './harness/server.mjs';

const host = 'anytime.test';
const skip = mayMakeNamespaces ? false : 'needs root, to make network namespaces';
const patience = 30_000;

const panel = '[data-testid="why-bad"]';
const notice = '[data-testid="weak-connection"]';
const finding = `${panel} [data-testid="finding"]`;
const text = (selector) => (document.querySelector(selector)?.textContent ?? '').replace(/\s+/g, ' ');

/** Opens the panel with a control of the call. */
async function asksWhy(person, control) {
  await person.page.stir();
  await person.page.click(`[data-testid="${control}"]`);
  await person.page.see(panel);
}

const leaves = (person) => person.page.click(`${panel} [aria-label="Close"]`);

/** What the server tells this person's page of the call: its status and its text. */
const asksServer = (person, id) =>
  person.page.evaluate(async (call) => {
    const answer = await fetch(`/v1/calls/${call ?? window.__anytime.room.name}/quality`); // a call's room has its id
    return { status: answer.status, text: await answer.text() };
  }, id);

/** What the panel finds: whose fault it is, and the words. */
const findingsOf = (person) =>
  person.page.evaluate((selector) => [...document.querySelectorAll(selector)].map((e) => ({ key: e.dataset.key, about: e.dataset.about, text: e.innerText.replace(/\s+/g, ' ') })), finding);

claim(
  'who loses packets is told about their own network, and the other that it is not theirs',
  async (stage) => {
    const lab = stage.keep(makeLab({ host }));
    const certificate = stage.keep(issue(host));
    const server = stage.keep(await startServer({ namespace: lab.server, host, certificate }));
    const people = [];
    for (const [i, name] of ['dora', 'emil'].entries()) {
      const browser = stage.keep(await launchChromium({ namespace: lab.client(i + 1), trust: certificate.authority, dark: i === 1 }));
      people.push(stage.keep(await Person.at(browser, server, name)));
    }
    const [dora, emil] = people;
    await dora.signUp();
    await emil.signUp();
    await dora.calls(emil);
    await emil.rings(dora);
    await emil.accepts();
    for (const person of people) await person.inCall(patience);
    for (const [a, b] of [[dora, emil], [emil, dora]]) {
      await a.attends(b);
      await a.seesFirstFrame(b, patience);
    }

    // On a busy machine packets come late, estimates sink and pictures stop for want of processor time: loss is what this is about.
    const ofNetworks = (list) => list.filter((f) => !/^(cpu|freezes|jitter|delay|weak|bandwidth)/.test(f.key));

    // Before: the networks are well, and the figures say how it is known.
    await asksWhy(dora, 'call-quality');
    await dora.page.until(
      (rows) => rows.every((row) => /\d %/.test(document.querySelector(`${row} [data-label="Loss"]`)?.innerText ?? '')),
      ['figures-up', 'figures-down', 'figures-other'].map((id) => `${panel} [data-testid="${id}"]`),
      patience,
    );
    stage.say(`dora's way up: ${await dora.page.evaluate(text, `${panel} [data-testid="figures-up"]`)}`);
    assert.match(await dora.page.evaluate(text, `${panel} [data-testid="figures-up"]`), /ms.*bit\/s.*×.*direct/);
    assert.deepEqual(ofNetworks(await findingsOf(dora)), [], 'something is wrong before anything is');
    await dora.screenshot('why-fine');
    await leaves(dora);

    // Dora's router drops every tenth packet of media, both ways.
    const router = lab.client(1).replace(/-c1$/, '-r1');
    const drops = (...which) => assert.equal(exitCodeIn(router, 'nft', 'insert', 'rule', 'inet', 'lab', 'forward', 'meta', 'l4proto', 'udp', 'numgen', 'random', 'mod', '10', ...which, 'drop'), 0, 'the router takes no rule');
    drops('0');

    // Emil sees on Dora's tile that her connection is no longer a good one, and asks there.
    await emil.page.see(`${emil.tile(dora)} [data-testid="tile-quality"]`, patience);
    await asksWhy(emil, 'tile-quality');
    await asksWhy(dora, 'call-quality');
    // The figures reach back a few seconds: soon they are of nothing but the loss.
    const aboutATenth = ([selector, count]) => {
      const shares = [...(document.querySelector(selector)?.innerText ?? '').matchAll(/(\d+) %/g)].map((m) => Number(m[1]));
      return shares.length === count && shares.every((share) => share >= 6 && share <= 15);
    };
    await dora.page.until(aboutATenth, [`${finding}[data-key="loss"]`, 2], patience);
    await emil.page.until(aboutATenth, [`${finding}[data-key^="loss "]`, 1], patience);
    const [own, others] = [await findingsOf(dora), await findingsOf(emil)];
    const [ownLoss, doraLoss] = [own.find((f) => f.key === 'loss'), others.find((f) => f.key.startsWith('loss '))];
    stage.say(`dora is told: ${own.map((f) => f.text).join(' | ')}`);
    stage.say(`emil is told: ${others.map((f) => f.text).join(' | ')}`);
    assert.equal(ownLoss.about, 'me');
    assert.match(ownLoss.text, /^Your \S+ loses \d+ % of what you send and \d+ % of what you receive\./);
    assert.ok(ofNetworks(own).every((f) => f.about === 'me'), 'Dora is told about the network of Emil, who has nothing to do with it');
    assert.match(doraLoss.text, /^Dora’s connection is weak: \d+ % of what they send gets lost/);
    assert.match(doraLoss.text, /It isn’t your network\./);
    assert.ok(ofNetworks(others).every((f) => f.about !== 'me'), 'Emil is told about his own network, which is well');
    await dora.screenshot('why-mine');
    await emil.screenshot('why-theirs');

    // What the server tells a browser has no address in it, and a stranger gets none of it.
    const id = await emil.page.evaluate(() => window.__anytime.room.name);
    const answer = await asksServer(emil);
    assert.equal(answer.status, 200);
    assert.doesNotMatch(answer.text, /\d+\.\d+\.\d+\.\d+|::|candidate/, 'it tells an address');
    await leaves(emil);
    await leaves(dora);

    // When it gets much worse and stays so, both are told without asking, and where to look.
    drops('<', '4');
    for (const [person, words] of [[dora, /^Your connection is weak/], [emil, /^Dora’s connection is weak/]]) {
      await person.page.see(notice, patience);
      assert.match(await person.page.text(notice), words);
      await person.page.click('[data-testid="weak-why"]');
      await person.page.see(`${finding}[data-about="${person === dora ? 'me' : await person.page.attribute(person.tile(dora), 'data-identity')}"]`, patience);
      await leaves(person);
    }
    await dora.hangsUp();
    await emil.ended();
    assert.equal((await asksServer(emil, id)).status, 409, 'it goes on after the call');
  },
  { skip, timeout: 180_000 },
);

claim(
  'who goes through a relay is told so, and how it is reached, in Chromium and in Firefox',
  async (stage) => {
    const server = stage.keep(await startServer());
    const id = 3;
    const firefox = stage.keep(await launchFirefox({ extra: { 'media.navigator.audio.fake_frequency': toneOf(id) } }));
    const fiona = stage.keep(await Person.at(firefox, server, 'fiona', { id, query: '?relay=tcp' }));
    const gus = stage.keep(await Person.at(stage.keep(await launchChromium()), server, 'gus', { id: 4, query: '?relay=udp' }));
    await fiona.signUp();
    await gus.signUp();
    await fiona.calls(gus);
    await gus.rings(fiona);
    await gus.accepts();
    for (const [person, key, cell] of [[fiona, 'relay-tcp', /relay, TCP/], [gus, 'relay', /relay(?!,)/]]) {
      await person.inCall(patience);
      await asksWhy(person, 'call-quality');
      await person.page.see(`${finding}[data-key="${key}"]`, patience);
      const up = await person.page.evaluate(text, `${panel} [data-testid="figures-up"]`);
      stage.say(`${person.name}: ${up}`);
      assert.match(up, cell);
      const { me } = JSON.parse((await asksServer(person)).text);
      assert.equal(me.up.path, 'relay', 'the server takes it for a direct way up');
      assert.equal(me.down.path, 'relay', 'the server takes it for a direct way down');
      await leaves(person);
    }
    await gus.hangsUp();
    await fiona.ended();
  },
  { timeout: 150_000 },
);
