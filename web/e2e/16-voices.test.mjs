/** A browser that listens to a room of 60 open microphones hears those who speak, and no repair of what is held back. */
import assert from 'node:assert/strict';
import { launchChromium } from './harness/chromium.mjs';
import { callGoesOn, claim, undisturbed } from './harness/claims.mjs';
import { crowd, prepareRoomClient } from './harness/guest.mjs';
import { PageClient, tokenFor } from './harness/sdk/client.mjs';
import { servePages } from './harness/sdk/pages.mjs';
import { startServer } from './harness/server.mjs';

const MICROPHONES = 60;
const TALKERS = 12; // of signaling/client's TestBrowserCrowd
const SECONDS = Number(process.env.E2E_SECONDS ?? 40);

const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);

/** Of the tracks of `after`, what was counted since `before`. */
const since = (before, after) => {
  const then = new Map(before.map((one) => [one.track, one]));
  return after.map((one) => Object.fromEntries(Object.entries(one).map(([key, value]) => [key, typeof value === 'number' ? value - (then.get(one.track)?.[key] ?? 0) : value])));
};

claim(
  `in a room of ${MICROPHONES} open microphones the speakers are heard, and less than 1 % of it is concealment`,
  async (stage) => {
    await prepareRoomClient();
    const server = stage.keep(await startServer());
    const pages = stage.keep(await servePages());
    const listener = stage.keep(await PageClient.at(stage.keep(await launchChromium()), pages.url, 'listener', { id: 1 }));
    const heard = async () => (await listener.stats()).flatMap((connection) => connection.heard ?? []);
    let room = 0;
    let gone = Promise.resolve(); // awaited outside the measurement: a crowd that has ended would count as other programs
    await undisturbed(stage, async () => {
      await gone;
      const name = `voices ${++room}`;
      await listener.joins(server, name);
      const tokens = await Promise.all(Array.from({ length: MICROPHONES }, (_, i) => tokenFor(server, name, `mic ${i}`, { canSubscribe: false })));
      gone = crowd(server.signal, tokens, SECONDS + 15);
      await listener.until(
        'all microphones',
        ({ others }) => Object.values(others).filter(({ tracks }) => tracks.microphone?.subscribed).length === MICROPHONES,
        60_000,
      );
      const ids = await listener.do('microphones');
      const before = await heard();
      await callGoesOn(SECONDS);
      const tracks = since(before, await heard());
      await listener.do('leave');

      const packetsOf = (i) => tracks.find(({ track }) => track === ids[`mic ${i}`])?.packetsReceived ?? 0;
      const packets = sum(tracks, (one) => one.packetsReceived);
      const concealed = sum(tracks, (one) => one.concealedSamples - one.silentConcealedSamples);
      const received = packets * 960; // samples that packets brought
      const played = sum(tracks, (one) => one.totalSamplesReceived);
      const arrived = Array.from({ length: MICROPHONES }, (_, i) => packetsOf(i));
      const spoke = arrived.slice(0, TALKERS).filter((n) => n > 50).length;
      const hummed = sum(arrived.slice(TALKERS), (n) => n);
      const rate = packets / SECONDS;
      const percent = (share) => `${(100 * share).toFixed(3)} %`;
      stage.say(`${rate.toFixed(0)} packets/s arrive of ${MICROPHONES} microphones; ${spoke} speakers heard, ${hummed} packets of the others; ${sum(tracks, (one) => one.packetsLost)} lost`);
      stage.say(
        `concealment that isn't silence: ${percent(concealed / played)} of all that was played, ${percent(concealed / received)} of what was received; ` +
          `${sum(tracks, (one) => one.concealmentEvents)} events`,
      );
      return () => {
        assert.ok(rate < 3 * 50 * 1.1, 'more than the loudest three arrive');
        assert.ok(rate > 40, 'less than one voice arrives');
        assert.ok(spoke >= Math.min(TALKERS, Math.floor(SECONDS / 3) - 1), `only ${spoke} speakers are heard`);
        assert.ok(hummed < packets * 0.05, 'others are heard');
        assert.ok(played > 0 && concealed / played < 0.01, 'too much is concealed');
        // Where a pause doesn't begin with an empty frame it is 4 %.
        assert.ok(concealed / received < 0.02, 'too much is concealed of what was received');
      };
    });
    await gone;
  },
  { timeout: 400_000 },
);
