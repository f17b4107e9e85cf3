/**
 * Carries TCP connections between a network namespace and the rest of the machine, over a
 * Unix socket, which knows no namespaces.
 *
 *   bridgeInto(namespace, port)          → socket: whoever connects to it reaches 127.0.0.1:port in there
 *   bridgeOutOf(namespace, port, socket)   whoever connects to 127.0.0.1:port in there reaches the socket
 *
 * Run as a program, this file is the end inside the namespace.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const file = fileURLToPath(import.meta.url);

/** @returns {Promise<{socket: string, close: () => void}>} */
export async function bridgeInto(namespace, port) {
  const folder = mkdtempSync(join(tmpdir(), 'anytime-bridge-'));
  const socket = join(folder, 'socket');
  const end = await run(namespace, 'into', socket, String(port));
  return {
    socket,
    close() {
      end();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** @returns {Promise<{close: () => void}>} */
export async function bridgeOutOf(namespace, port, socket) {
  return { close: await run(namespace, 'out', String(port), socket) };
}

async function run(namespace, ...args) {
  const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, file, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the bridge of ${namespace} ended with ${code}`)));
  });
  return kill;
}

if (process.argv[1] === file) {
  const [direction, from, to] = process.argv.slice(2);
  const [here, there] = direction === 'into' ? [from, { host: '127.0.0.1', port: Number(to) }] : [{ host: '127.0.0.1', port: Number(from) }, to];
  const server = createServer((near) => {
    const far = connect(there);
    near.pipe(far).pipe(near);
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
  });
  server.listen(here, () => process.stdout.write('ready\n'));
}
