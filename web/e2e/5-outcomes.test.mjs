/** Calls that do not come to pass, each with its outcome on both screens and in both histories. */
import assert from 'node:assert/strict';
import { launchChromium } from './harness/chromium.mjs';
import { claim, historiesAgree } from './harness/claims.mjs';
import { Person } from './harness/person.mjs';
import { startServer } from './harness/server.mjs';

/** How long this server lets a call ring; the app's own 45 s are a setting. */
const RING = 5;

claim(
  'declined, cancelled, unanswered, answered elsewhere and busy: both sides and both histories say so',
  async (stage) => {
    const server = stage.keep(await startServer({ flags: ['--ring-timeout', `${RING}s`] }));
    const person = async (name) => {
      const one = stage.keep(await Person.at(stage.keep(await launchChromium()), server, name));
      await one.signUp();
      return one;
    };
    const alice = await person('alice');
    const bob = await person('bob');

    await stage.part('declined', async () => {
      await alice.calls(bob, 'audio');
      await bob.rings(alice);
      await bob.screenshot('a-ringing-audio');
      await bob.declines();
      assert.equal(await alice.ended(), 'declined');
      await alice.screenshot('b-declined');
      await bob.stopsRinging();
      await historiesAgree(stage, alice, bob, { outcome: 'declined', atMost: 0 });
    });

    await stage.part('cancelled', async () => {
      await alice.goes('home');
      await alice.calls(bob, 'audio');
      await bob.rings(alice);
      await alice.cancels();
      await bob.stopsRinging();
      await historiesAgree(stage, alice, bob, { outcome: 'cancelled', calleeOutcome: 'missed', atMost: 0 });
    });

    await stage.part(`unanswered for ${RING} s`, async () => {
      await alice.goes('home');
      const began = Date.now();
      await alice.calls(bob, 'video');
      await bob.rings(alice);
      assert.equal(await alice.ended((RING + 10) * 1000), 'timed_out');
      const took = (Date.now() - began) / 1000;
      assert.ok(took >= RING - 0.5 && took < RING + 4, `it rang for ${took} s`);
      await bob.stopsRinging();
      await historiesAgree(stage, alice, bob, { outcome: 'timed_out', calleeOutcome: 'missed', atMost: 0 });
      await bob.screenshot('c-missed-call');
    });

    const elsewhere = stage.keep(await bob.also(stage.keep(await launchChromium())));
    await stage.part('answered elsewhere: the second device stops ringing', async () => {
      await alice.goes('home');
      await alice.calls(bob, 'audio');
      await bob.rings(alice);
      await elsewhere.rings(alice);
      await elsewhere.accepts();
      await bob.stopsRinging();
      await elsewhere.inCall();
      await alice.inCall();
      assert.equal(await bob.page.visible('[data-testid="call-screen"]'), false, 'the device that did not answer is in the call');
    });

    await stage.part('busy: who is in a call and wants no second one is busy', async () => {
      const carol = await person('carol');
      await elsewhere.wantsCallWaiting(false);
      await carol.calls(bob, 'audio');
      assert.equal(await carol.ended(), 'busy');
      await carol.screenshot('d-busy');
      assert.equal(await elsewhere.page.visible('[data-testid="call-screen"][data-state="active"]'), true, 'the call that was on has ended');
      await elsewhere.wantsCallWaiting(true);
      await carol.goes('home');
      await carol.calls(bob, 'audio');
      await elsewhere.rings(carol);
      await elsewhere.screenshot('e-call-waiting');
      await elsewhere.declines();
      assert.equal(await carol.ended(), 'declined');
    });

    await stage.part('the call that was answered elsewhere ends for all', async () => {
      await alice.hangsUp();
      await alice.ended();
      await elsewhere.ended();
      await alice.goes('history');
      await bob.goes('history');
      const [made] = (await alice.history()).calls;
      const got = (await bob.history()).calls.find(({ id }) => id === made.id);
      assert.equal(made.outcome, 'answered');
      assert.equal(got?.outcome, 'answered');
      assert.equal(got?.answeredOnThisDevice, false);
      assert.equal(got?.lengthSeconds, made.lengthSeconds);
    });
  },
  { timeout: 180_000 },
);
