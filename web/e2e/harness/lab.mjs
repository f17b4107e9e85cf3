/** Network namespaces, made and removed by scripts/netns. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './files.mjs';

const script = join(root, 'scripts', 'netns');
const run = (...args) => execFileSync(script, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim();

/** The server's address in every lab. */
export const SERVER_ADDRESS = '10.90.0.2';

/** Whether this user may make namespaces at all. */
export const mayMakeNamespaces = process.getuid?.() === 0;

let made = 0;

/**
 * @param {{clients?: number, only443?: boolean, host?: string}} options
 * @returns {{server: string, serverAddress: string, client: (n: number) => string, natAddress: (n: number) => string, refuseUDP: (n: number) => void, renumber: (n: number) => void, dropped: () => number, forwarded: () => number, remove: () => void}}
 *   namespaces' names, the addresses as the server sees them, the routers' counters
 */
export function makeLab({ clients = 2, only443 = false, host } = {}) {
  const name = `t${process.pid.toString(36)}${made++}`.slice(-9);
  run('up', name, '--clients', String(clients), ...(only443 ? ['--only-tcp-443'] : []), ...(host ? ['--host', host] : []));
  let there = true;
  const remove = () => {
    if (there) run('down', name);
    there = false;
  };
  process.once('exit', remove);
  return {
    server: `${name}-s`,
    serverAddress: SERVER_ADDRESS,
    client: (n) => `${name}-c${n}`,
    natAddress: (n) => `10.90.0.1${n}`,
    refuseUDP: (n) => run('refuse-udp', name, String(n)),
    renumber: (n) => run('renumber', name, String(n)),
    dropped: () => Number(run('drops', name)),
    forwarded: () => Number(run('forwarded', name)),
    remove,
  };
}

/** Runs a command inside a namespace; its exit code. */
export function exitCodeIn(namespace, command, ...args) {
  try {
    execFileSync('ip', ['netns', 'exec', namespace, command, ...args], { stdio: 'ignore', timeout: 10_000 });
    return 0;
  } catch (error) {
    return error.status ?? -1;
  }
}
