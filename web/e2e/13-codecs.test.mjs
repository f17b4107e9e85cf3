/**
 * Codecs and layers between livekit-client in three Chromiums: what is published as VP9, AV1, H.264 or VP8
 * is decoded as that and switched between its sizes; who takes VP8 alone gets a second codec for as
 * long as it is there; what nobody watches isn't encoded; sound with RED, in stereo and with DTX.
 *
 * livekit-client sends VP9 and AV1 as layers of one stream (SVC) here: it sends them as simulcast only when it is
 * asked to and the server says a version above 1.13.6, and ours says 1.8.0.
 */
import assert from 'node:assert/strict';
import { launchChromium } from './harness/chromium.mjs';
import { callGoesOn, claim, undisturbed } from './harness/claims.mjs';
import { PageClient } from './harness/sdk/client.mjs';
import { switches } from './harness/sdk/features.mjs';
import { servePages } from './harness/sdk/pages.mjs';
import { startServer } from './harness/server.mjs';

/** The longest that a picture may stand still when its size changes, in ms. */
const FREEZE = 500;
/** How soon a layer that was stopped is seen again, in ms. */
const RESUME = 2000;

const videos = [
  { name: 'VP8, simulcast', mime: 'video/VP8', options: { videoCodec: 'vp8' }, encodings: 3 },
  { name: 'H.264, simulcast', mime: 'video/H264', options: { videoCodec: 'h264' }, encodings: 3 },
  { name: 'VP9, L3T3_KEY', mime: 'video/VP9', options: { videoCodec: 'vp9' }, encodings: 1, mode: 'L3T3_KEY' },
  { name: 'VP9, L3T3', mime: 'video/VP9', options: { videoCodec: 'vp9', scalabilityMode: 'L3T3' }, encodings: 1, mode: 'L3T3' },
  { name: 'AV1, L3T3_KEY', mime: 'video/AV1', options: { videoCodec: 'av1' }, encodings: 1, mode: 'L3T3_KEY' },
];

/** Waits until somebody's picture comes in this codec, and is decoded. */
async function gets(client, other, source, mime) {
  const ask = () => client.do('received', other.identity, source);
  const before = await client.poll(`${source} as ${mime}`, ask, (got) => got?.mime === mime);
  await client.poll(`more ${source} as ${mime}`, ask, (got) => got?.mime === mime && got.frames >= before.frames + 5);
}

/**
 * Waits until somebody's sound comes in RED, as was agreed. Statistics name what is in it, Opus; but nearly every packet
 * brings sound once more that was there already.
 */
async function getsRED(client, other) {
  await client.until('a microphone', (view) => view.others[other.identity]?.tracks.microphone?.subscribed);
  assert.equal((await other.do('agreed', 'microphone'))[0][0], 'audio/red');
  const much = (got) => got?.packets >= 30 && got.discarded >= got.packets * 0.7;
  await client.poll('redundant sound', () => client.do('received', other.identity, 'microphone'), much);
}

/** How many frames each encoding of which `which` is true sends in a second. */
async function sends(client, which) {
  const before = await client.do('sent', 'camera');
  await callGoesOn(1);
  const after = await client.do('sent', 'camera');
  const same = (a) => (b) => a.mime === b.mime && a.rid === b.rid;
  return after.filter(which).map((now) => now.frames - (before.find(same(now))?.frames ?? 0));
}

/** Waits until none of those encodings has sent a frame in a second, and at least one is known. */
async function stops(client, what, which) {
  await client.poll(`${what} is encoded no more`, () => sends(client, which), (frames) => frames.length > 0 && frames.every((n) => n === 0));
}

/** What `stop` has stopped is seen within RESUME once it is asked for. */
async function comesAgain(stage, viewer, what, stop, ask) {
  await undisturbed(stage, async () => {
    await stop();
    const since = await viewer.now();
    await ask(since);
    const took = Math.round((await viewer.now()) - since);
    stage.say(`${what} is seen again after ${took} ms`);
    return () => assert.ok(took <= RESUME, `${what} was seen again after ${took} ms only`);
  });
}

/** The cells of a mode: {name, tries, once}; once: of one mode alone. */
function cells({ stage, publisher, viewer, old, meet, join }) {
  const camera = (options) => publisher.do('publish', 'camera', options);
  return [
    ...videos.map(({ name, mime, options, encodings, mode }) => ({
      name,
      async tries() {
        await meet();
        await camera({ backupCodec: false, ...options });
        await viewer.sees(publisher, 'camera', { frames: 3, width: (width) => width > 640 });
        await gets(viewer, publisher, 'camera', mime);
        const sent = await publisher.do('sent', 'camera');
        assert.equal(sent.length, encodings);
        for (const one of sent) assert.equal(one.mime, mime);
        if (mode) assert.equal(sent[0].scalabilityMode, mode);
        await undisturbed(stage, async () => {
          const dimensions = (width, height) => () => viewer.do('dimensions', publisher.identity, 'camera', width, height);
          const seen = [];
          for (const quality of ['low', 'high']) seen.push(await switches(stage, viewer, publisher, quality));
          seen.push(await switches(stage, viewer, publisher, 'medium', dimensions(480, 270)));
          seen.push(await switches(stage, viewer, publisher, 'high', dimensions(960, 540)));
          return () => {
            for (const { longestDecodeGap: gap, sizes } of seen) assert.ok(gap <= FREEZE, `the picture stood still for ${gap} ms (${sizes.join(' → ')})`);
          };
        });
        await gets(viewer, publisher, 'camera', mime);
      },
    })),
    {
      name: 'a shared screen in VP9, L1T3, at fewer pictures a second',
      async tries() {
        await meet();
        await publisher.do('publish', 'screen_share', { videoCodec: 'vp9', backupCodec: false });
        await viewer.sees(publisher, 'screen_share', { frames: 5 });
        await gets(viewer, publisher, 'screen_share', 'video/VP9');
        const [sent] = await publisher.do('sent', 'screen_share');
        assert.equal(sent.scalabilityMode, 'L1T3');
        await viewer.do('fps', publisher.identity, 'screen_share', 5);
        await viewer.poll(
          'half of the pictures',
          async () => {
            const since = await viewer.now();
            await callGoesOn(1);
            return viewer.do('seen', publisher.identity, 'screen_share', since);
          },
          ({ decoded }) => decoded >= 3 && decoded <= 7,
        );
      },
    },
    {
      name: 'a backup codec, for as long as somebody needs it',
      async tries() {
        await meet({ dynacast: true });
        await camera({ videoCodec: 'av1', backupCodec: { codec: 'vp8' }, backupCodecPolicy: 1 }); // SIMULCAST: each their best
        await viewer.sees(publisher, 'camera', { frames: 3 });
        await gets(viewer, publisher, 'camera', 'video/AV1');
        assert.deepEqual((await publisher.do('sent', 'camera')).filter(({ mime }) => mime !== 'video/AV1'), [], 'VP8 is sent already');
        await join(old);
        await old.sees(publisher, 'camera', { frames: 5 });
        await gets(old, publisher, 'camera', 'video/VP8');
        await gets(viewer, publisher, 'camera', 'video/AV1');
        await old.do('leave');
        await stops(publisher, 'VP8', ({ mime }) => mime === 'video/VP8');
        await gets(viewer, publisher, 'camera', 'video/AV1');
      },
    },
    {
      name: 'one codec for all where all have one: back and forth',
      once: true, // that is decided above the peer connections
      async tries() {
        await meet({ dynacast: true });
        await camera({ videoCodec: 'vp9', backupCodec: { codec: 'vp8' } });
        await viewer.sees(publisher, 'camera', { frames: 3 });
        await gets(viewer, publisher, 'camera', 'video/VP9');
        await join(old);
        await old.sees(publisher, 'camera', { frames: 5 });
        for (const one of [old, viewer]) await gets(one, publisher, 'camera', 'video/VP8');
        await stops(publisher, 'VP9', ({ mime }) => mime === 'video/VP9');
        await old.do('leave');
        await gets(viewer, publisher, 'camera', 'video/VP9');
        await stops(publisher, 'VP8', ({ mime }) => mime === 'video/VP8');
        await viewer.sees(publisher, 'camera', { frames: 5 });
      },
    },
    {
      name: 'what nobody watches is not encoded (dynacast)',
      async tries() {
        await meet({ dynacast: true });
        await camera({ videoCodec: 'vp8' });
        await viewer.sees(publisher, 'camera', { frames: 3, width: (width) => width > 640 });
        const lower = async () => {
          await switches(stage, viewer, publisher, 'low');
          await stops(publisher, 'an upper layer', ({ rid }) => rid !== 'q');
          assert.ok((await sends(publisher, ({ rid }) => rid === 'q'))[0] > 0, 'the lowest layer stopped as well');
        };
        await comesAgain(stage, viewer, 'the upper layer', lower, () => switches(stage, viewer, publisher, 'high'));
        const lookAway = async () => {
          await viewer.do('subscribe', publisher.identity, 'camera', false);
          await stops(publisher, 'the camera', () => true);
        };
        await comesAgain(stage, viewer, 'the camera', lookAway, async (since) => {
          await viewer.do('subscribe', publisher.identity, 'camera', true);
          await viewer.seesOn(publisher, 'camera', { since, frames: 1 });
        });
      },
    },
    {
      name: 'music: stereo, RED, no DTX',
      async tries() {
        await meet();
        const tones = [700, 1500];
        await publisher.do('publishSound', tones, { forceStereo: true, red: true, dtx: false });
        await getsRED(viewer, publisher);
        const near = (heard) => heard.every((frequency, side) => Math.abs(frequency - tones[side]) < 25);
        await viewer.poll(`${tones} Hz on either side`, () => viewer.do('sides', publisher.identity), near);
        await publisher.do('quiet');
        const rate = await packetRate(viewer, publisher);
        stage.say(`${rate} packets a second of silence`);
        assert.ok(rate > 35, `only ${rate} packets a second of silence, without DTX`);
      },
    },
    {
      name: 'speech: RED and DTX',
      async tries() {
        await meet();
        await publisher.do('publishSound', [700], { red: true, dtx: true });
        await getsRED(viewer, publisher);
        const near = ([left, right]) => Math.abs(left - 700) < 25 && Math.abs(right - 700) < 25;
        await viewer.poll('700 Hz', () => viewer.do('sides', publisher.identity), near);
        await publisher.do('quiet');
        const few = await viewer.poll('silence takes few packets', () => packetRate(viewer, publisher), (rate) => rate < 12);
        stage.say(`${few} packets a second of silence`);
      },
    },
  ];
}

/** How many packets of somebody's microphone arrive in a second. */
async function packetRate(viewer, other) {
  const count = async () => (await viewer.do('received', other.identity, 'microphone')).packets;
  const before = await count();
  await callGoesOn(1);
  return (await count()) - before;
}

/** One cell alone, by a part of its name, such as E2E_CELL=AV1; all by default. */
const only = process.env.E2E_CELL ?? '';

claim(
  'every codec is decoded, switched and stopped as asked, with one peer connection and with two',
  async (stage) => {
    const server = stage.keep(await startServer());
    const pages = stage.keep(await servePages());
    const at = async (name, id) => stage.keep(await PageClient.at(stage.keep(await launchChromium()), pages.url, name, { id }));
    const [publisher, viewer, old] = await Promise.all([at('publisher', 1), at('viewer', 2), at('old', 3)]);
    await old.do('receivesOnly', ['video/VP8']);

    for (const [mode, single] of [['single', true], ['dual', false]]) {
      let rooms = 0;
      let room = '';
      const join = (one) => one.joins(server, room, { single });
      const meet = async ({ dynacast } = {}) => {
        room = `codecs ${mode} ${++rooms}`;
        for (const one of [publisher, viewer, old]) await one.do('leave');
        await Promise.all([publisher.joins(server, room, { single, dynacast }), join(viewer)]);
      };
      for (const { name, tries, once } of cells({ stage, publisher, viewer, old, meet, join })) {
        if (name.includes(only) && (single || !once)) await stage.cell(`Chromium ${mode}: ${name}`, tries);
      }
    }
  },
  { timeout: 300_000 },
);
