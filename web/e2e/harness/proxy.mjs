/** A TCP proxy before the server's signaling, so that a test can cut what runs through it. */
import { connect, createServer } from 'node:net';

/**
 * @param {number} port of the server, on this machine
 * @returns {Promise<{port: number, cut: () => number, hold: () => void, release: () => void, close: () => void}>}
 *   cut breaks every connection and says how many there were; between hold and release
 *   new ones are accepted, but reach nobody yet
 */
export async function startProxy(port) {
  const open = new Set();
  let held = null;
  const splice = (near) => {
    const far = connect({ host: '127.0.0.1', port });
    const pair = { destroy: () => [near, far].forEach((socket) => socket.destroy()) };
    open.add(pair);
    for (const socket of [near, far]) {
      socket.on('error', pair.destroy);
      socket.on('close', () => open.delete(pair));
    }
    near.pipe(far).pipe(near);
  };
  const server = createServer((near) => {
    if (!held) return splice(near);
    near.on('error', () => near.destroy());
    held.push(near);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = () => {
    const there = [...open];
    there.forEach((pair) => pair.destroy());
    return there.length;
  };
  return {
    port: server.address().port,
    cut,
    hold: () => (held = []),
    release() {
      const waiting = (held ?? []).filter((near) => !near.destroyed);
      held = null;
      waiting.forEach(splice);
    },
    close() {
      server.close();
      cut();
      held?.forEach((near) => near.destroy());
    },
  };
}
