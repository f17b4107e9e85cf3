/**
 * The SDKs of servers and bots, as they come from npm: @livekit/rtc-node, with the Rust SDK
 * in it, does the same list of features as livekit-client; livekit-server-sdk calls every
 * method of the room service and verifies webhooks.
 */
import assert from 'node:assert/strict';
import { DataPacket_Kind, RoomServiceClient, TrackSource, WebhookReceiver } from 'livekit-server-sdk';
import { launchChromium } from './harness/chromium.mjs';
import { callGoesOn, claim } from './harness/claims.mjs';
import { receiveHooks } from './harness/hooks.mjs';
import { startProxy } from './harness/proxy.mjs';
import { NodeClient, PageClient } from './harness/sdk/client.mjs';
import { features, meet } from './harness/sdk/features.mjs';
import { servePages } from './harness/sdk/pages.mjs';
import { startServer } from './harness/server.mjs';

claim(
  'rtc-node does everything it can in a room',
  async (stage) => {
    const server = stage.keep(await startServer());
    const pages = stage.keep(await servePages());
    const proxy = stage.keep(await startProxy(server.ports.listen));
    const { apiKey, apiSecret } = server.keys;
    const api = new RoomServiceClient(`http://127.0.0.1:${server.ports.listen}`, apiKey, apiSecret);
    const chromium = stage.keep(await PageClient.at(stage.keep(await launchChromium()), pages.url, 'chromium', { id: 1 }));
    const node = stage.keep(await NodeClient.at('far-node', { id: 2 }));
    const runs = [
      { name: 'rtc-node single', id: 3, options: {}, far: chromium }, // as it comes
      { name: 'rtc-node dual', id: 4, options: { single: false }, far: node },
    ];

    for (const { name, id, options, far } of runs) {
      const near = stage.keep(await NodeClient.at(name.replace(' ', '-'), { id }));
      const scene = { stage, server, proxy, api, room: `features of ${name}`, near, far, options };
      await stage.part(`${name}: both join and publish`, () => meet(scene));
      for (const { name: feature, tries } of features) await stage.cell(`${name}: ${feature}`, () => tries(scene));
      await stage.part(`${name}: leaves`, async () => {
        await near.do('leave');
        await far.until('it is gone', (view) => !view.others[near.identity]);
        await far.do('leave');
        await near.close();
      });
    }
  },
  { timeout: 300_000 },
);

claim(
  'livekit-server-sdk calls every method of the room service, and verifies the webhooks that follow',
  async (stage) => {
    const hooks = stage.keep(await receiveHooks());
    const server = stage.keep(await startServer({ flags: ['--webhook', hooks.url, '--webhook-allow-private'] }));
    const { apiKey, apiSecret } = server.keys;
    const url = `http://127.0.0.1:${server.ports.listen}`;
    const api = new RoomServiceClient(url, apiKey, apiSecret);
    const ann = stage.keep(await NodeClient.at('ann', { id: 5 }));
    const bob = stage.keep(await NodeClient.at('bob', { id: 6 }));
    const room = 'office';
    const refused = (code) => (error) => error.code === code || assert.fail(`not ${code}: ${error.code} ${error.message}`);

    await stage.part('createRoom, listRooms', async () => {
      const made = await api.createRoom({ name: room, metadata: 'made', emptyTimeout: 60, departureTimeout: 7, maxParticipants: 5 });
      assert.match(made.sid, /^RM_/);
      assert.deepEqual([made.name, made.metadata, made.emptyTimeout, made.departureTimeout, made.maxParticipants], [room, 'made', 60, 7, 5]);
      await api.createRoom({ name: 'other' });
      assert.deepEqual((await api.listRooms()).map(({ name }) => name).sort(), [room, 'other'].sort());
      assert.deepEqual((await api.listRooms([room])).map(({ sid }) => sid), [made.sid]);
    });

    await stage.part('listParticipants, getParticipant', async () => {
      for (const client of [ann, bob]) await client.joins(server, room);
      const [sid] = [await ann.do('publish', 'camera'), await ann.do('publish', 'microphone')];
      await bob.sees(ann);
      assert.deepEqual((await api.listParticipants(room)).map(({ identity }) => identity).sort(), ['ann', 'bob']);
      const { tracks, permission } = await api.getParticipant(room, 'ann');
      assert.deepEqual(tracks.map(({ source }) => source).sort(), [TrackSource.CAMERA, TrackSource.MICROPHONE].sort());
      assert.ok(tracks.some((track) => track.sid === sid) && permission.canPublish);
      await assert.rejects(() => api.getParticipant(room, 'nobody'), refused('not_found'));
      const stranger = new RoomServiceClient(url, apiKey, 'another secret of more than 32 characters');
      await assert.rejects(() => stranger.listParticipants(room), refused('unauthenticated'));
    });

    await stage.part('updateRoomMetadata', async () => {
      assert.equal((await api.updateRoomMetadata(room, 'changed')).metadata, 'changed');
      for (const client of [ann, bob]) await client.until('the metadata', (view) => view.room.metadata === 'changed');
    });

    await stage.part('updateParticipant', async () => {
      const said = { name: 'Ann', metadata: 'of ann', attributes: { a: 'b' } };
      const info = await api.updateParticipant(room, 'ann', said);
      assert.deepEqual([info.name, info.metadata, info.attributes], [said.name, said.metadata, said.attributes]);
      await bob.until('what it says', ({ others: { ann: seen } }) => seen.name === 'Ann' && seen.metadata === 'of ann' && seen.attributes.a === 'b');
    });

    await stage.part('mutePublishedTrack', async () => {
      const { sid } = (await ann.view()).me.tracks.microphone;
      await bob.hears(ann);
      assert.equal((await api.mutePublishedTrack(room, 'ann', sid, true)).muted, true);
      await bob.until('the mute', ({ others }) => others.ann.tracks.microphone.muted);
      await bob.hearsNothing(ann);
      await assert.rejects(() => api.mutePublishedTrack(room, 'ann', sid, false), refused('failed_precondition'));
    });

    await stage.part('updateSubscriptions', async () => {
      const { sid } = (await ann.view()).me.tracks.camera;
      await api.updateSubscriptions(room, 'bob', [sid], false);
      await bob.seesNothing(ann);
      await api.updateSubscriptions(room, 'bob', [sid], true);
      await bob.sees(ann);
    });

    await stage.part('sendData', async () => {
      const bytes = (text) => new TextEncoder().encode(text);
      await api.sendData(room, bytes('for bob'), DataPacket_Kind.RELIABLE, { destinationIdentities: ['bob'], topic: 's' });
      await api.sendData(room, bytes('for all'), DataPacket_Kind.LOSSY, { topic: 's' });
      const arrived = (client) => client.until('for all', ({ data }) => data.some(({ text }) => text === 'for all'));
      const of = ({ data }) => data.map(({ from, topic, text, reliable }) => [from, topic, text, reliable]).sort();
      assert.deepEqual(of(await arrived(ann)), [[null, 's', 'for all', false]]);
      await bob.until('both', ({ data }) => data.length === 2);
      assert.deepEqual(of(await bob.view()), [[null, 's', 'for all', false], [null, 's', 'for bob', true]]);
    });

    await stage.part('removeParticipant', async () => {
      await api.removeParticipant(room, 'bob');
      await bob.until('the end', ({ state }) => state === 'disconnected');
      await ann.until('bob is gone', ({ others }) => !others.bob);
      await assert.rejects(() => api.removeParticipant(room, 'bob'), refused('not_found'));
    });

    await stage.part('deleteRoom', async () => {
      await api.deleteRoom(room);
      await ann.until('the end', ({ state }) => state === 'disconnected');
      assert.deepEqual((await api.listRooms()).map(({ name }) => name), ['other']);
    });

    await stage.part('webhooks are verified by WebhookReceiver', async () => {
      const receiver = new WebhookReceiver(apiKey, apiSecret);
      const end = Date.now() + 10_000;
      const last = () => hooks.deliveries.some(({ body }) => body.includes('room_finished'));
      while (!last() && Date.now() < end) await callGoesOn(0.05);
      const events = [];
      for (const { body, authorization, type } of hooks.deliveries) {
        assert.match(type, /^application\/webhook\+json/);
        events.push(await receiver.receive(body, authorization));
      }
      const of = events.filter((event) => event.room.name === room).map(({ event, participant, track }) => [event, participant?.identity ?? '', track ? TrackSource[track.source] : ''].join(' ').trim());
      for (const line of of) stage.say(line);
      assert.equal(of[0], 'room_started');
      assert.equal(of.at(-1), 'room_finished');
      const expected = ['participant_joined ann', 'participant_joined bob', 'participant_left ann', 'participant_left bob'];
      expected.push('track_published ann CAMERA', 'track_published ann MICROPHONE', 'track_unpublished ann CAMERA', 'track_unpublished ann MICROPHONE');
      assert.deepEqual(of.slice(1, -1).sort(), expected.sort());
      const { body, authorization } = hooks.deliveries[0];
      await assert.rejects(() => receiver.receive(body.replace('{', '{ '), authorization), /checksum/);
      await assert.rejects(() => new WebhookReceiver(apiKey, 'another secret of more than 32 characters').receive(body, authorization));
    });

    await stage.part('forwardParticipant', async () => {
      for (const [client, where] of [[ann, 'here'], [bob, 'there']]) {
        await client.do('leave');
        await client.joins(server, where);
      }
      await ann.do('publish', 'camera');
      await api.forwardParticipant('here', 'ann', 'there');
      await bob.sees(ann);
      assert.deepEqual((await api.listParticipants('here')).map(({ identity }) => identity), ['ann']);
    });

    await stage.part('moveParticipant', async () => {
      await bob.do('leave');
      await bob.joins(server, 'elsewhere'); // where ann isn't shown yet
      await api.moveParticipant('here', 'ann', 'elsewhere');
      await ann.until('the other room', (view) => view.room.name === 'elsewhere' && view.others.bob);
      await bob.sees(ann);
      assert.deepEqual((await api.listParticipants('elsewhere')).map(({ identity }) => identity).sort(), ['ann', 'bob']);
    });
  },
  { timeout: 120_000 },
);
