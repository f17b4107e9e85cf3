/** The main job, from signing up to hanging up: a first call by name, and a third person. */
import assert from 'node:assert/strict';
import { launchChromium } from './harness/chromium.mjs';
import { assertHeard, assertSeen, callGoesOn, claim, connected, everyoneSeesAndHears, historiesAgree, undisturbed, WATCH } from './harness/claims.mjs';
import { Guest, prepareRoomClient, receiveWithPion } from './harness/guest.mjs';
import { Person } from './harness/person.mjs';
import { startServer } from './harness/server.mjs';

claim(
  'two people sign up, one calls the other by name, and they see and hear each other; a third joins',
  async (stage) => {
    const server = stage.keep(await startServer());
    const alice = stage.keep(await Person.at(stage.keep(await launchChromium()), server, 'alice'));
    const bob = stage.keep(await Person.at(stage.keep(await launchChromium()), server, 'bob'));
    const began = { call: 0 };

    await stage.part('both sign up; one calls the other by name; the other rings and accepts', async () => {
      await alice.page.see('[data-testid="signup-tab"]');
      await alice.screenshot('1-welcome');
      await alice.signUp();
      await bob.signUp();
      await alice.screenshot('2-home');
      await alice.calls(bob);
      await bob.rings(alice);
      await alice.screenshot('3-calling');
      await bob.screenshot('4-ringing');
      await bob.accepts();
      await alice.inCall();
      await bob.inCall();
      began.call = Date.now();
    });

    await stage.part(`for ${WATCH} s each gets ≥ 95 % of the other's frames, no freeze over 500 ms, the right tone, never their own`, async () => {
      await everyoneSeesAndHears(stage, [alice, bob]);
      await alice.screenshot('5-call-of-two');
      await bob.page.colours('dark');
      await bob.screenshot('5-call-of-two-dark');
      await bob.page.colours('light');
    });

    await stage.part("the SFU's port is the only remote candidate, and media are protected by AEAD_AES_128_GCM", async () => {
      for (const person of [alice, bob]) onlyTheServer(stage, person, await connected(person), server.ports);
    });

    await stage.part('a mute is seen, and heard as silence, by the other', async () => {
      await alice.togglesMicrophone();
      await bob.seesMuted(alice, true);
      await callGoesOn(0.5); // what was on its way when the microphone closed
      const from = await bob.now();
      await callGoesOn(1.5);
      const { samples, tones } = await bob.heard(alice, from);
      assert.equal(tones.silence, samples, `after the mute ${bob.name} heard ${JSON.stringify(tones)}`);
      await alice.togglesMicrophone();
      await bob.seesMuted(alice, false);
    });

    const carol = stage.keep(await Person.at(stage.keep(await launchChromium()), server, 'carol'));
    await stage.part('a third person, added by name, sees the others within 1 s of joining', async () => {
      await carol.signUp();
      let again = false;
      await undisturbed(stage, async () => {
        if (again) {
          await carol.hangsUp();
          await carol.ended();
          await alice.page.gone(alice.tile(carol));
        }
        again = true;
        await alice.adds(carol);
        await carol.rings(alice);
        await carol.willSee([alice, bob]);
        await carol.accepts();
        await carol.inCall();
        const judged = [];
        for (const other of [alice, bob]) {
          const { afterConnected, afterTrack, afterAccept } = await carol.firstFrameOf(other);
          stage.say(
            `${carol.name} of ${other.name}: first frame ${afterConnected} ms after the room connected, ` +
              `${afterTrack} ms after the first video subscription, ${afterAccept} ms after pressing accept`,
          );
          judged.push([afterConnected, afterTrack]);
        }
        return () => {
          for (const [afterConnected, afterTrack] of judged) {
            assert.ok(afterConnected <= 1000, `${afterConnected} ms from the connected room to the first frame`);
            assert.ok(afterTrack <= 1000, `${afterTrack} ms from the subscription to the first frame`);
          }
        };
      });
    });

    await stage.part('with three, everyone sees and hears everyone', async () => {
      await everyoneSeesAndHears(stage, [alice, bob, carol]);
      await carol.screenshot('6-call-of-three');
      await carol.page.resize(390, 844);
      await carol.screenshot('6-call-of-three-phone');
      await carol.page.resize(1024, 700);
    });

    await stage.part("the layer that a subscriber gets is switched three times without a freeze", async () => {
      await switchesLayers(stage, bob, alice);
    });

    await stage.part('one leaves, and the others go on', async () => {
      await carol.hangsUp();
      await carol.ended();
      await alice.page.gone(alice.tile(carol));
      await everyoneSeesAndHears(stage, [alice, bob], 2);
    });

    await stage.part("a client on Pion joins the same room and receives the browsers' media", async () => {
      await prepareRoomClient();
      const app = await Guest.at(server, 'app');
      const { call, join } = await app.answers(await app.rings(() => alice.adds(app)));
      for (const line of await receiveWithPion(join, 4)) stage.say(line);
      await app.hangsUp(call);
    });

    await stage.part('one hangs up, and the histories agree', async () => {
      await alice.hangsUp();
      await alice.ended();
      await alice.screenshot('8-call-ended');
      await bob.ended();
      const length = (Date.now() - began.call) / 1000;
      await historiesAgree(stage, alice, bob, { outcome: 'answered', atLeast: Math.floor(length) - 5, atMost: Math.ceil(length) + 1 });
      await alice.screenshot('9-history');
    });

    await stage.part('a restart keeps accounts, sessions and history', async () => {
      const before = await alice.history();
      assert.equal(await server.stop(), 0, 'the server did not end by itself');
      await server.start();
      await alice.comesBack();
      assert.deepEqual(await alice.history(), before);
      await bob.comesBack();
      await bob.goes('history');
      await bob.page.see('[data-testid="history-row"]');
      await alice.goes('home');
      await alice.calls(bob, 'audio');
      await bob.rings(alice);
      await bob.declines();
      assert.equal(await alice.ended(), 'declined');
    });
  },
  { timeout: 480_000 },
);

/** Every remote candidate is one of the server's media ports, and UDP carries the media. */
function onlyTheServer(stage, person, connections, ports) {
  for (const { remote, remoteCandidates, srtpCipher, dtlsCipher } of connections) {
    const found = [...new Set(remoteCandidates.map(({ address, port, protocol }) => `${address || '(hidden)'}:${port}/${protocol}`))];
    stage.say(`${person.name}: ${remote.address}:${remote.port}/${remote.protocol} of ${found.join(' ')}; ${srtpCipher}, ${dtlsCipher}`);
    for (const candidate of remoteCandidates) {
      const expected = candidate.protocol === 'tcp' ? ports.tcp : ports.udp;
      assert.equal(candidate.port, expected, `a remote candidate that is not the server's: ${JSON.stringify(candidate)}`);
    }
    assert.equal(remote.port, ports.udp);
    assert.equal(srtpCipher, 'SRTP_AEAD_AES_128_GCM'.replace(/^SRTP_/, srtpCipher.startsWith('SRTP_') ? 'SRTP_' : ''), `media are protected by ${srtpCipher}`);
  }
}

/** Low, high, low: each time the picture that arrives changes its size, and none stands still. */
async function switchesLayers(stage, viewer, other) {
  await viewer.attends(other);
  await viewer.seesFirstFrame(other);
  await undisturbed(stage, async () => {
    const began = await viewer.now();
    const widths = [];
    for (const quality of ['low', 'high', 'low']) {
      const from = await viewer.now();
      await viewer.wants(other, quality);
      await viewer.seesWidth(other, quality === 'low' ? { below: 640 } : { from: 640 }, 10_000);
      stage.say(`${quality} after ${Math.round((await viewer.now()) - from)} ms`);
      await callGoesOn(2);
      widths.push(Number((await viewer.seen(other, from)).sizes.at(-1).split('x')[0]));
    }
    const [seen, heard] = [await viewer.seen(other, began), await viewer.heard(other, began)];
    return () => {
      assert.ok(widths[0] < widths[1] && widths[2] < widths[1], `widths were ${widths}`);
      assertSeen(stage, viewer, other, seen);
      assertHeard(stage, viewer, other, heard);
    };
  });
}
