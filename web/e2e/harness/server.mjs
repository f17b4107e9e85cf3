/** The server under test: the real binary on free ports, with a data folder of its own. */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as elapse } from 'node:timers/promises';
import { binary } from './files.mjs';
import { SERVER_ADDRESS } from './lab.mjs';

/** A port that nobody listens on just now, neither over UDP nor over TCP. */
async function freePort() {
  for (;;) {
    const tcp = createServer();
    await new Promise((resolve, reject) => tcp.once('error', reject).listen(0, '0.0.0.0', resolve));
    const { port } = tcp.address();
    const udp = createSocket('udp4');
    const free = await new Promise((resolve) => {
      udp.once('error', () => resolve(false));
      udp.bind(port, '0.0.0.0', () => resolve(true));
    });
    await new Promise((resolve) => tcp.close(resolve));
    await new Promise((resolve) => udp.close(resolve));
    if (free) return port;
  }
}

/** This process's environment without settings of a server: the tests say all of them by flags. */
const plainEnvironment = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('ANYTIME_')));

/**
 * Starts `anytime serve` and waits until it says that it is ready.
 * @param {{namespace?: string, host?: string, certificate?: {certificate: string, key: string}, flags?: string[]}} options
 *   namespace: runs it there, on the standard ports; otherwise on this machine's loopback
 *   addresses and free ports. host: its public name, with a certificate for it
 */
export async function startServer(options = {}) {
  if (!existsSync(binary)) throw new Error(`${binary} is not there: run 'make build' first, or set ANYTIME_BIN`);
  const data = mkdtempSync(join(tmpdir(), 'anytime-data-'));
  const ports = { listen: 7880, https: 443, udp: 7882, tcp: 7881, turn: 3478, turnTLS: 5349 };
  if (!options.namespace) for (const name of Object.keys(ports)) ports[name] = await freePort();
  const address = options.namespace ? '' : '127.0.0.1';
  const flags = [
    ...['--data', data, '--registration', 'open', '--admin', 'off', '--redirect', 'off'],
    ...['--listen', `${address}:${ports.listen}`, '--udp', `:${ports.udp}`, '--tcp', `:${ports.tcp}`],
    // TURN over TLS shares the port of HTTPS, at the address announced for media.
    ...['--turn', `:${ports.turn}`, '--turn-tls', `:${ports.turnTLS}`, '--https', `:${ports.https}`],
  ];
  if (options.certificate) flags.push('--tls-cert', options.certificate.certificate, '--tls-key', options.certificate.key);
  if (options.host) flags.push('--domain', options.host);
  if (process.env.E2E_UDP_PATH) flags.push('--udp-path', process.env.E2E_UDP_PATH);
  flags.push(...(options.flags ?? []));
  const server = new Server(data, ports, flags, options);
  await server.start();
  return server;
}

class Server {
  #data;
  #flags;
  #options;
  #child = null;
  #exit = null;
  /** Everything it printed, this run's and those before a restart. */
  log = '';
  ports;

  constructor(data, ports, flags, options) {
    this.#data = data;
    this.ports = ports;
    this.#flags = flags;
    this.#options = options;
  }

  /** What a browser opens. */
  get url() {
    const { host, namespace, certificate } = this.#options;
    if (!certificate) return `http://localhost:${this.ports.listen}`;
    return namespace ? `https://${host}` : `https://${host ?? 'localhost'}:${this.ports.https}`;
  }

  /** What an SDK connects to, from this machine or, in a namespace, from the lab. */
  get signal() {
    return this.#options.namespace ? `ws://${SERVER_ADDRESS}:${this.ports.listen}` : `ws://127.0.0.1:${this.ports.listen}`;
  }

  /** The keys that room tokens are signed with: {apiKey, apiSecret}. */
  get keys() {
    return JSON.parse(readFileSync(join(this.#data, 'keys.json'), 'utf8'));
  }

  async start() {
    const { namespace } = this.#options;
    const command = namespace ? ['ip', 'netns', 'exec', namespace, binary, 'serve'] : [binary, 'serve'];
    const child = spawn(command[0], [...command.slice(1), ...this.#flags], { stdio: ['ignore', 'pipe', 'pipe'], env: plainEnvironment() });
    this.#child = child;
    this.#exit = new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)));
    const kill = () => child.kill('SIGKILL');
    process.once('exit', kill);
    child.once('exit', () => process.off('exit', kill));
    const start = this.log.length;
    const ready = new Promise((resolve) => {
      const take = (bytes) => {
        this.log += bytes;
        if (/^Open https?:\/\//m.test(this.log.slice(start))) resolve(true);
      };
      child.stdout.on('data', take);
      child.stderr.on('data', (bytes) => (this.log += bytes));
    });
    const late = new Promise((resolve) => setTimeout(resolve, 20_000).unref());
    const first = await Promise.race([ready, this.#exit, late.then(() => 'late')]);
    if (first !== true) {
      kill();
      throw new Error(`the server did not start (${first}):\n${this.log}`);
    }
  }

  /** Waits until what it has printed matches; the match. */
  async prints(pattern, patience = 5000) {
    const end = Date.now() + patience;
    for (;;) {
      const match = pattern.exec(this.log);
      if (match) return match;
      if (Date.now() > end) throw new Error(`the server did not print ${pattern} within ${patience} ms:\n${this.log}`);
      await elapse(20);
    }
  }

  /** Asks it to stop, as a supervisor would; its exit code, or a signal's name if it had to be killed. */
  async stop() {
    const child = this.#child;
    child.kill('SIGTERM');
    const late = setTimeout(() => child.kill('SIGKILL'), 15_000);
    const code = await this.#exit;
    clearTimeout(late);
    return code;
  }

  /** Stops it and takes its data away. */
  async remove() {
    const code = await this.stop();
    rmSync(this.#data, { recursive: true, force: true });
    return code;
  }
}
