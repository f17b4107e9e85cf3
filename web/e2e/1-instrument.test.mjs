/**
 * The measuring instruments themselves, on a peer connection from a page to itself: that
 * they tell a good call, and that they can tell a bad one.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { launchChromium } from './harness/chromium.mjs';
import { assertHeard, assertSeen, callGoesOn, claim } from './harness/claims.mjs';
import { CAMERA, hueOf, instrument, toneOf } from './harness/instrument.mjs';

const html = '<!doctype html><button id="go">go</button><div id="tile"><video autoplay playsinline muted></video><audio autoplay></audio></div>';

/** Sends the page's camera and microphone to itself, at a bitrate that hurts. */
function loopBack() {
  document.querySelector('#go').onclick = async () => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    const [near, far] = [new RTCPeerConnection(), new RTCPeerConnection()];
    near.onicecandidate = ({ candidate }) => far.addIceCandidate(candidate);
    far.onicecandidate = ({ candidate }) => near.addIceCandidate(candidate);
    far.ontrack = ({ track }) => {
      document.querySelector(track.kind).srcObject = new MediaStream([track]);
      if (track.kind === 'audio') window.remoteAudio = track;
    };
    for (const track of stream.getTracks()) {
      window[`${track.kind}Sender`] = near.addTransceiver(track, {
        direction: 'sendonly',
        sendEncodings: [track.kind === 'video' ? { maxBitrate: 200_000, scaleResolutionDownBy: 4 } : {}],
      }).sender;
    }
    await near.setLocalDescription();
    await far.setRemoteDescription(near.localDescription);
    await far.setLocalDescription();
    await near.setRemoteDescription(far.localDescription);
  };
}

claim(
  'the instruments read a picture a quarter as wide, and notice a freeze, a silence and a strange picture',
  async (stage) => {
    const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end(html));
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    stage.keep({ close: () => server.close() && server.closeAllConnections() });
    const browser = stage.keep(await launchChromium());
    const other = { id: 3, name: 'other' };
    const viewer = { id: 4, name: 'viewer' };
    const page = await browser.page(instrument, { id: other.id, tone: toneOf(3), hue: hueOf(3), tones: [1, 2, 3, 4].map(toneOf), ...CAMERA });
    await page.goto(`http://localhost:${server.address().port}/`);
    await page.evaluate(loopBack);
    await page.click('#go');
    await page.evaluate(() => {
      window.__e2e.watch('other', '#tile video');
      window.__e2e.listen('other', () => window.remoteAudio);
    });
    await page.until(() => window.__e2e.seen('other').firstAt !== null);
    const now = () => page.evaluate(() => performance.now());
    const seen = (from) => page.evaluate((since) => window.__e2e.seen('other', since), from);
    const heard = (from) => page.evaluate((since) => window.__e2e.heard('other', since), from);
    await callGoesOn(1);

    const good = await now();
    await callGoesOn(3);
    const picture = await seen(good);
    assertSeen(stage, viewer, other, picture);
    assertHeard(stage, viewer, other, await heard(good));
    assert.ok(picture.sizes.includes('160x90'), `sizes were ${picture.sizes}`);
    const stranger = { id: 2, name: 'stranger' };
    assert.throws(() => assertSeen(stage, viewer, stranger, picture), /frames of others/);
    assert.throws(() => assertSeen(stage, other, other, picture), /their own picture/);

    const bad = await now();
    await page.evaluate(async () => {
      const camera = window.videoSender.track;
      await window.videoSender.replaceTrack(null);
      window.audioSender.track.enabled = false;
      setTimeout(() => window.videoSender.replaceTrack(camera), 1000);
    });
    await callGoesOn(3);
    const broken = await seen(bad);
    assert.throws(() => assertSeen(stage, viewer, other, broken), /only .* % of the frames|stood still/);
    assert.ok(broken.longestGap > 800 && broken.longestGap < 2000, `a second without pictures was measured as ${broken.longestGap} ms`);
    assert.ok(broken.share < 0.9, `a third of the frames never came, but the share was ${broken.share}`);
    const silent = await heard(bad);
    assert.throws(() => assertHeard(stage, viewer, other, silent), /tones heard were/);
    assert.ok(silent.tones.silence > silent.samples / 2, `silence was heard as ${JSON.stringify(silent.tones)}`);
  },
);
