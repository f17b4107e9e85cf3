/**
 * Why is my call bad? One of two people loses a tenth of their packets: they are told that it is their own network, and the
 * other that it isn't theirs.
 */
import assert from 'node:assert/strict';
import { issue } from './harness/authority.mjs';
import { launchChromium } from './harness/chromium.mjs';
import { claim } from './harness/claims.mjs';
import { exitCodeIn, makeLab, mayMakeNamespaces } from './harness/lab.mjs';
import { Person } from './harness/person.mjs';
import { startServer } from './harness/server.mjs';

const host = 'anytime.test';
const skip = mayMakeNamespaces ? false : 'needs root, to make network namespaces';
const patience = 30_000;

const panel = '[data-testid="why-bad"]';
const finding = `${panel} [data-testid="finding"]`;
const text = (selector) => (document.querySelector(selector)?.textContent ?? '').replace(/\s+/g, ' ');

/** Opens the panel with a control of the call. */
async function asksWhy(person, control) {
  await person.page.stir();
  await person.page.click(`[data-testid="${control}"]`);
  await person.page.see(panel);
}

const leaves = (person) => person.page.click(`${panel} [aria-label="Close"]`);

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

    // Before: all is well, and the figures say how it is known.
    await asksWhy(dora, 'call-quality');
    await dora.page.see(`${panel} [data-testid="why-fine"]`, patience);
    await dora.page.until(
      (rows) => rows.every((row) => /Loss/.test(document.querySelector(row)?.querySelector('[data-label="Loss"]')?.dataset.label ?? '') && /\d %/.test(document.querySelector(row)?.innerText ?? '')),
      ['figures-up', 'figures-down', 'figures-other'].map((id) => `${panel} [data-testid="${id}"]`),
      patience,
    );
    stage.say(`dora's way up: ${await dora.page.evaluate(text, `${panel} [data-testid="figures-up"]`)}`);
    assert.match(await dora.page.evaluate(text, `${panel} [data-testid="figures-up"]`), /ms.*bit\/s.*×.*direct/);
    await dora.screenshot('why-fine');
    await leaves(dora);

    // Dora's router drops every tenth packet of media, both ways.
    const dropped = exitCodeIn(lab.client(1).replace(/-c1$/, '-r1'), 'nft', 'insert', 'rule', 'inet', 'lab', 'forward', 'meta', 'l4proto', 'udp', 'numgen', 'random', 'mod', '10', '0', 'drop');
    assert.equal(dropped, 0, 'the router takes no rule');

    // Emil sees on Dora's tile that her connection is no longer a good one, and asks there.
    await emil.page.see(`${emil.tile(dora)} [data-testid="tile-quality"]`, patience);
    await asksWhy(emil, 'tile-quality');
    await asksWhy(dora, 'call-quality');
    await dora.page.see(`${finding}[data-key="loss"]`, patience);
    await emil.page.see(`${finding}[data-key^="loss "]`, patience);
    const [own, others] = [await findingsOf(dora), await findingsOf(emil)];
    stage.say(`dora is told: ${own.map((f) => f.text).join(' | ')}`);
    stage.say(`emil is told: ${others.map((f) => f.text).join(' | ')}`);
    assert.equal(own[0].about, 'me');
    assert.match(own[0].text, /^Your \S+ loses \d+ % of what you send and \d+ % of what you receive\./);
    assert.ok(own.every((f) => f.about === 'me'), 'Dora is told about Emil, who has nothing to do with it');
    assert.match(others[0].text, /^Dora’s connection is weak: \d+ % of what they send gets lost/);
    assert.match(others[0].text, /It isn’t your network\./);
    assert.ok(others.every((f) => f.about !== 'me'), 'Emil is told about his own network, which is well');
    for (const f of [own[0], others[0]]) {
      const [, share] = /(\d+) %/.exec(f.text);
      assert.ok(Number(share) >= 4 && Number(share) <= 18, `it says ${share} %, and 10 % are dropped`);
    }
    await dora.screenshot('why-mine');
    await emil.screenshot('why-theirs');

    // What the server tells a browser has no address in it, and a stranger gets none of it.
    const answer = await emil.page.evaluate(async () => {
      const id = window.__anytime.room.name; // a call's room has its id
      return { id, text: await (await fetch(`/v1/calls/${id}/quality`)).text() };
    });
    assert.doesNotMatch(answer.text, /\d+\.\d+\.\d+\.\d+|::|candidate/, 'it tells an address');
    await leaves(emil);
    await leaves(dora);
    await dora.hangsUp();
    await emil.ended();
    assert.equal(await emil.page.evaluate(async (id) => (await fetch(`/v1/calls/${id}/quality`)).status, answer.id), 409, 'it goes on after the call');
  },
  { skip },
);
