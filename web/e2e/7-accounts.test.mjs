/** Who gets in, and how people become contacts. */
import assert from 'node:assert/strict';
import { launchChromium } from './harness/chromium.mjs';
import { claim } from './harness/claims.mjs';
import { Person } from './harness/person.mjs';
import { startServer } from './harness/server.mjs';

claim(
  'the first to open the set-up link is the operator, others come by invitation, and contacts are made by name',
  async (stage) => {
    const server = stage.keep(await startServer({ flags: ['--registration', 'invite'] }));
    const [setUp] = await server.prints(/https?:\/\/\S+\/#\/setup\/\S+/);
    const olga = stage.keep(await Person.at(stage.keep(await launchChromium()), server, 'olga'));
    const paul = stage.keep(await Person.at(stage.keep(await launchChromium()), server, 'paul'));
    let invitation = '';

    await stage.part('the set-up link makes one operator, and only one', async () => {
      await olga.page.goto(setUp);
      await olga.page.reload();
      await olga.screenshot('g-set-up');
      await olga.signUp();
      await paul.page.goto(setUp);
      await paul.page.reload();
      const complaint = await paul.failsToSignUp(paul.name);
      stage.say(`a second use of the set-up link: “${complaint}”`);
      assert.match(complaint, /used|already|operator/i);
    });

    await stage.part('nobody signs up without an invitation', async () => {
      await paul.page.goto(`${server.url}/`);
      await paul.page.reload();
      await paul.page.click('[data-testid="signup-tab"]');
      await paul.page.see('[data-testid="by-invitation"]');
      await paul.screenshot('h-by-invitation');
    });

    await stage.part('an invitation lets one person in', async () => {
      invitation = await olga.invites();
      await olga.screenshot('i-settings-of-the-operator');
      assert.match(invitation, /#\/join\/\S+$/);
      await paul.page.goto(new URL(invitation, server.url).href);
      await paul.page.reload();
    });

    await stage.part('names that are taken, too long, reserved or confusable get a sentence that says so', async () => {
      const look = olga.name.replace('o', 'о'); // a Cyrillic o
      const tries = [
        [olga.name, /taken/i],
        ['a'.repeat(64), /long|characters/i],
        ['admin', /reserved|taken|can.t|not/i],
        [look, /look|letter|alphabet|script|confus|character/i],
      ];
      for (const [name, expected] of tries) {
        const complaint = await paul.failsToSignUp(name);
        stage.say(`${name}: “${complaint}”`);
        assert.match(complaint, expected);
      }
      await paul.signUp();
    });

    await stage.part('a wrong password and an unknown name get the same answer', async () => {
      await paul.signsOut();
      const wrong = await paul.failsToSignIn(paul.name, 'not the pass phrase');
      const unknown = await paul.failsToSignIn('nobody_of_this_name', 'not the pass phrase');
      stage.say(`“${wrong}”`);
      assert.equal(wrong, unknown);
      await paul.signIn();
    });

    await stage.part('one asks by name, the other accepts, and both have a contact', async () => {
      await olga.addsContact(paul);
      await paul.goes('home');
      await paul.page.see('[data-testid="request-row"]');
      await paul.screenshot('j-contact-request');
      await paul.acceptsContact(olga);
      await paul.seesContact(olga);
      await olga.goes('home');
      await olga.seesContact(paul);
      await olga.screenshot('k-contacts');
      await olga.page.colours('dark');
      await olga.screenshot('k-contacts-dark');
      await olga.page.resize(390, 844);
      await olga.screenshot('k-contacts-phone-dark');
    });
  },
  { timeout: 120_000 },
);
