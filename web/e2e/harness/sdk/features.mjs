/**
 * What every client can do in a room, as a list: each feature is tried between `near`, the
 * client that is under test, and `far`, and judged by what the other side really gets.
 *
 *   for (const { name, tries } of features) await stage.cell(`${client}: ${name}`, () => tries(scene))
 *
 * A scene: {stage, server, proxy, api, room, near, far, options}. `near` reaches the
 * server's signaling through `proxy`; options are those of its join; api is a
 * RoomServiceClient. A feature leaves both with camera and microphone published.
 */
import assert from 'node:assert/strict';
import { undisturbed } from '../claims.mjs';
import { connectWebSocket } from '../websocket.mjs';
import { PageClient, tokenFor } from './client.mjs';

const MB = 1 << 20;

/** Both ways at once. */
const bothWays = ({ near, far }, ask) => Promise.all([ask(near, far), ask(far, near)]);

const person = (view, other) => view.others[other.identity];
const track = (view, other, source) => person(view, other)?.tracks[source];

/** How wide the layers are of a camera that is 960 pixels wide: scaled by the SDK's presets, or halved as in SVC. */
const wide = { low: (width) => width <= 320, medium: (width) => width > 320 && width <= 640, high: (width) => width > 640 };

/**
 * Asks for a quality of a camera that is looked at, and waits until its layer is shown.
 * @param {() => Promise<void>} ask how, instead of by its name
 */
export async function switches(stage, one, other, quality, ask = () => one.do('quality', other.identity, 'camera', quality)) {
  const since = await one.now();
  await ask();
  const seen = await one.seesOn(other, 'camera', { since, frames: 1, width: wide[quality], patience: 20_000 });
  stage.say(`${one.name} of ${other.name}: ${quality} is ${seen.sizes.at(-1)} after ${Math.round((await one.now()) - since)} ms, longest time without a frame ${seen.longestDecodeGap} ms`);
  return seen;
}

/** Both join a new room, and publish camera and microphone. */
export async function meet({ server, proxy, room, near, far, options }) {
  await Promise.all([
    far.joins(server, room),
    near.joins(server, room, { url: `ws://127.0.0.1:${proxy.port}`, ...options }),
  ]);
  for (const client of [near, far]) await Promise.all([client.do('publish', 'microphone'), client.do('publish', 'camera')]);
}

export const features = [
  {
    name: 'audio',
    tries: (scene) => bothWays(scene, (one, other) => one.hears(other)),
  },
  {
    name: 'video',
    tries: (scene) => bothWays(scene, (one, other) => one.sees(other)),
  },
  {
    name: 'screen share',
    tries: (scene) =>
      bothWays(scene, async (one, other) => {
        await other.do('publish', 'screen_share');
        await one.sees(other, 'screen_share');
        await other.do('unpublish', 'screen_share');
        await one.until('the screen is gone', (view) => !track(view, other, 'screen_share'));
      }),
  },
  {
    name: 'simulcast: three layers, switched',
    tries: (scene) =>
      bothWays(scene, async (one, other) => {
        await one.do('look', other.identity, 'camera');
        for (const quality of ['low', 'high', 'medium', 'high']) await switches(scene.stage, one, other, quality);
      }),
  },
  {
    name: 'data, reliable and lossy',
    tries: (scene) =>
      bothWays(scene, async (one, other) => {
        await one.do('send', 'to somebody else', { reliable: true, topic: 'd', to: ['nobody'] });
        for (let i = 0; i < 20; i++) {
          await one.do('send', `reliable ${i}`, { reliable: true, topic: 'd', to: i % 2 ? [other.identity] : undefined });
          await one.do('send', `lossy ${i}`, { reliable: false, topic: 'd' });
        }
        const arrived = ({ data }, reliable) => data.filter(({ topic, from, ...packet }) => topic === 'd' && from === one.identity && packet.reliable === reliable);
        const view = await other.until('all data', (now) => arrived(now, true).length >= 20 && arrived(now, false).length >= 20);
        const numbered = (kind) => Array.from({ length: 20 }, (_, i) => `${kind} ${i}`);
        assert.deepEqual(arrived(view, true).map(({ text }) => text), numbered('reliable'));
        // Lossy packets have no order; on this machine none is lost.
        assert.deepEqual(arrived(view, false).map(({ text }) => text).sort(), numbered('lossy').sort());
      }),
  },
  {
    name: 'RPC',
    tries: (scene) =>
      bothWays(scene, async (one, other) => {
        assert.deepEqual(await one.do('call', other.identity, 'echo', 'héllo'), { payload: `${one.identity}: héllo` });
        assert.deepEqual(await one.do('call', other.identity, 'refuse', ''), { code: 1234, message: 'not today', data: 'because' });
        assert.equal((await one.do('call', other.identity, 'unheard-of', '')).code, 1400); // UNSUPPORTED_METHOD
      }),
  },
  {
    name: 'text stream',
    tries: (scene) =>
      bothWays(scene, async (one, other) => {
        const text = `Of ${one.name}: ${'ä€😀 '.repeat(5000)}`; // many chunks, cut within letters
        await one.do('sendText', text);
        const { texts } = await other.until('the text', (view) => view.texts.some(({ from }) => from === one.identity));
        assert.equal(texts.find(({ from }) => from === one.identity).text, text);
      }),
  },
  {
    name: 'byte stream of 1 MB',
    tries: (scene) =>
      bothWays(scene, async (one, other) => {
        const sha256 = await one.do('sendFile', 'random.bin', MB);
        const { files } = await other.until('the file', (view) => view.files.some(({ from }) => from === one.identity));
        assert.deepEqual(files.find(({ from }) => from === one.identity), { from: one.identity, name: 'random.bin', size: MB, sha256 });
      }),
  },
  {
    name: 'mute',
    async tries(scene) {
      await bothWays(scene, async (one, other) => {
        await one.sees(other);
        await one.hears(other);
      });
      await bothWays(scene, async (one, other) => {
        for (const source of ['microphone', 'camera']) {
          await other.do('mute', source, true);
          await one.until(`${source} is muted`, (view) => track(view, other, source)?.muted);
        }
        await one.hearsNothing(other);
        await one.seesNothing(other);
        for (const source of ['microphone', 'camera']) {
          await other.do('mute', source, false);
          await one.until(`${source} is open`, (view) => track(view, other, source)?.muted === false);
        }
        const since = await one.now();
        await one.seesOn(other, 'camera', { since });
        await one.hearsOn(other, { since });
      });
    },
  },
  {
    name: 'unpublish and republish',
    tries: (scene) =>
      bothWays(scene, async (one, other) => {
        for (const source of ['microphone', 'camera']) {
          const before = track(await one.view(), other, source).sid;
          await other.do('unpublish', source);
          await one.until(`no ${source}`, (view) => !track(view, other, source));
          const sid = await other.do('publish', source);
          assert.notEqual(sid, before);
          await one.until(`a new ${source}`, (view) => track(view, other, source)?.sid === sid);
        }
        await one.sees(other);
        await one.hears(other);
      }),
  },
  {
    name: 'permission change',
    async tries({ api, room, near, far }) {
      const permission = (canPublish) => ({ permission: { canPublish, canSubscribe: true, canPublishData: true, canUpdateMetadata: true } });
      await api.updateParticipant(room, near.identity, permission(false));
      await far.until('its tracks end', (view) => Object.keys(person(view, near).tracks).length === 0);
      await near.until('it knows', (view) => view.me.canPublish !== true);
      await far.seesNothing(near);
      // The Rust SDK takes no notice of the refusal, and gives up after 10 s.
      if (near instanceof PageClient) await assert.rejects(() => near.do('publish', 'screen_share'), 'it may not publish, and did');
      // It goes on to hear and see.
      const since = await near.now();
      await near.seesOn(far, 'camera', { since });
      await api.updateParticipant(room, near.identity, permission(true));
      await near.until('it knows', (view) => view.me.canPublish !== false);
      for (const source of ['microphone', 'camera']) await near.do('republish', source);
      await far.sees(near);
      await far.hears(near);
    },
  },
  {
    name: 'name, metadata and attributes',
    async tries(scene) {
      const { api, room, near, far } = scene;
      await bothWays(scene, async (one, other) => {
        const said = { name: `New ${one.name}`, metadata: JSON.stringify({ of: one.name }), attributes: { mood: 'good', more: 'ä' } };
        await one.do('describe', said);
        const same = (seen) => seen?.name === said.name && seen.metadata === said.metadata && seen.attributes.mood === 'good' && seen.attributes.more === 'ä';
        await other.until('what it says of itself', (view) => same(person(view, one)));
        await one.until('that it said so', (view) => same(view.me));
        await one.do('describe', { attributes: { more: '' } });
        await other.until('that one is gone', (view) => !person(view, one).attributes.more && person(view, one).attributes.mood === 'good');
      });
      await api.updateParticipant(room, near.identity, { metadata: 'by the server', attributes: { mood: 'server' } });
      await api.updateRoomMetadata(room, 'of the room');
      for (const client of [near, far]) {
        await client.until('what the server set', (view) => {
          const seen = client === near ? view.me : person(view, near);
          return seen.metadata === 'by the server' && seen.attributes.mood === 'server' && view.room.metadata === 'of the room';
        });
      }
    },
  },
  {
    name: 'resume after the socket is cut',
    async tries(scene) {
      const { stage, proxy, near, far } = scene;
      await bothWays(scene, (one, other) => one.sees(other));
      const before = await near.view();
      const reconnects = (view) => view.events.filter(({ what }) => what === 'Reconnected').length;
      await undisturbed(stage, async () => {
        const began = reconnects(await near.view());
        const since = { near: await near.now(), far: await far.now() };
        assert.ok(proxy.cut() > 0, 'there was no connection to cut');
        await near.until('it is back', (view) => reconnects(view) > began && view.state === 'connected');
        const gaps = [];
        for (const [one, other, from] of [[near, far, since.near], [far, near, since.far]]) {
          gaps.push([one.name, (await one.seesOn(other, 'camera', { since: from })).longestDecodeGap]);
        }
        return () => {
          for (const [name, gap] of gaps) {
            stage.say(`${name}: longest time without a frame around the resume ${gap} ms`);
            assert.ok(gap <= 1500, `${name} saw no frame for ${gap} ms, although media had its own way`);
          }
        };
      });
      const [after, others] = [await near.view(), await far.view()];
      assert.equal(after.sid ?? after.me.sid, before.sid ?? before.me.sid, 'it is another session');
      assert.deepEqual(after.me.tracks.camera, before.me.tracks.camera, 'the track is another');
      assert.ok(!others.events.some(({ what, detail }) => what === 'ParticipantDisconnected' && detail === near.identity), `${far.name} saw it leave`);
      await bothWays(scene, async (one, other) => assert.deepEqual(await one.do('call', other.identity, 'echo', 'again'), { payload: `${one.identity}: again` }));
    },
  },
  {
    name: 'full reconnect',
    async tries(scene) {
      const { server, proxy, room, near, far } = scene;
      const before = (await near.view()).me.sid;
      // While it is cut off, somebody else joins by its identity and goes: its session is
      // over, and resuming it is answered by the order to start over.
      proxy.hold();
      proxy.cut();
      await joinsAndGoes(server, room, near.identity);
      proxy.release();
      const patience = 30_000;
      const view = await near.until('it is back as a new session', (now) => now.state === 'connected' && now.me.sid !== before && now.me.tracks.camera?.sid, patience);
      await far.until('its new session', (now) => person(now, near)?.sid === view.me.sid && track(now, near, 'camera')?.subscribed, patience);
      await near.until('the other', (now) => track(now, far, 'camera')?.subscribed, patience);
      await bothWays(scene, async (one, other) => {
        await one.sees(other);
        await one.hears(other);
        assert.deepEqual(await one.do('call', other.identity, 'echo', 'new'), { payload: `${one.identity}: new` });
      });
    },
  },
];

/** Joins by raw WebSocket with somebody's identity, and breaks the connection. */
async function joinsAndGoes(server, room, identity) {
  const token = await tokenFor(server, room, identity);
  await new Promise((resolve, reject) => {
    let socket = null;
    const joined = () => {
      socket?.close();
      resolve();
    };
    connectWebSocket(`${server.signal}/rtc?access_token=${token}&protocol=16&auto_subscribe=0`, { message: joined, closed: reject }).then((open) => (socket = open), reject);
  });
}
