/** Calls that do not come to pass, each with its outcome on both screens and in both histories. */
import assert from 'node:assert/strict';
import { launchChromium } from './harness/chromium.mjs';
import { claim, historiesAgree } from './harness/claims.mjs';
import { Person } from './harness/person.mjs';
import { startServer } from './harness/server.mjs';

/** How long a call rings, in seconds. */
const RING = 45;

claim(
  'declined, cancelled, answered elsewhere, unanswered and busy: both sides and both histories say so',
  async (stage) => {
    const server = stage.keep(await startServer());
    const arrives = async (name) => {
      const person = stage.keep(await Person.at(stage.keep(await launchChromium()), server, name));
      await person.signUp();
      return person;
    };
    const alice = await arrives('alice');
    const bob = await arrives('bob');

    // This one rings while the others are tried, because it takes its time.
    await alice.calls(bob);
    const rang = Date.now();
    await bob.rings(alice);
    await bob.screenshot('a-ringing-on-and-on');
    const unanswered = alice.ended((RING + 15) * 1000).then((outcome) => ({ outcome, took: (Date.now() - rang) / 1000 }));
    unanswered.catch(() => {}); // awaited below

    const carol = await arrives('carol');
    const dave = await arrives('dave');

    await stage.part('declined', async () => {
      await carol.calls(dave, 'audio');
      await dave.rings(carol);
      await dave.screenshot('b-ringing-for-audio');
      await dave.declines();
      assert.equal(await carol.ended(), 'declined');
      await carol.screenshot('c-declined');
      await dave.stopsRinging();
      await historiesAgree(stage, carol, dave, { outcome: 'declined', atMost: 0 });
    });

    await stage.part('cancelled', async () => {
      await carol.goes('home');
      await carol.calls(dave, 'audio');
      await dave.rings(carol);
      await carol.cancels();
      await dave.stopsRinging();
      await historiesAgree(stage, carol, dave, { outcome: 'cancelled', calleeOutcome: 'missed', atMost: 0 });
    });

    const elsewhere = stage.keep(await dave.also(stage.keep(await launchChromium())));
    await stage.part('answered elsewhere: the second device stops ringing', async () => {
      await carol.goes('home');
      await carol.calls(dave, 'audio');
      await dave.rings(carol);
      await elsewhere.rings(carol);
      await elsewhere.accepts();
      await dave.stopsRinging();
      await elsewhere.inCall();
      await carol.inCall();
      assert.equal(await dave.page.visible('[data-testid="call-screen"]'), false, 'the device that did not answer is in the call');
    });

    await stage.part(`unanswered for ${RING} s`, async () => {
      const { outcome, took } = await unanswered;
      assert.equal(outcome, 'timed_out');
      stage.say(`it rang for ${took.toFixed(1)} s`);
      assert.ok(took >= RING - 1 && took < RING + 5, `it rang for ${took} s`);
      await bob.stopsRinging();
      await historiesAgree(stage, alice, bob, { outcome: 'timed_out', calleeOutcome: 'missed', atMost: 0 });
      await bob.screenshot('d-missed-call');
    });

    await stage.part('busy: who is in a call and wants no second one is busy, and else hears of it', async () => {
      await elsewhere.wantsCallWaiting(false);
      await alice.goes('home');
      await alice.calls(dave, 'audio');
      assert.equal(await alice.ended(), 'busy');
      await alice.screenshot('e-busy');
      assert.equal(await elsewhere.page.visible('[data-testid="call-screen"][data-state="active"]'), true, 'the call that was on has ended');
      await elsewhere.wantsCallWaiting(true);
      await alice.goes('home');
      await alice.calls(dave, 'audio');
      await elsewhere.rings(alice);
      await elsewhere.screenshot('f-call-waiting');
      await elsewhere.declines();
      assert.equal(await alice.ended(), 'declined');
    });

    await stage.part('the call that was answered elsewhere ends for all, and all histories say so', async () => {
      await carol.hangsUp();
      await carol.ended();
      await elsewhere.ended();
      const [made] = (await carol.history()).calls;
      assert.equal(made.outcome, 'answered');
      for (const device of [dave, elsewhere]) {
        const got = (await device.history()).calls.find(({ id }) => id === made.id);
        assert.equal(got?.outcome, 'answered');
        assert.equal(got.answeredOnThisDevice, device === elsewhere);
        assert.equal(got.lengthSeconds, made.lengthSeconds);
      }
    });
  },
  { timeout: 180_000 },
);
