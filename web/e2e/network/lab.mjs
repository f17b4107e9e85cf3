/**
 * A lab of network namespaces with links that are bad on purpose.
 *
 *   NAME-s 10.90.0.2 (ours)    ┐                ┌ NAME-q1 ═══ NAME-e1 ── NAME-v1 10.90.21.11, NAME-v2 .12 …
 *   NAME-t 10.90.0.3 (other)   ├─ NAME-n bridge ┤
 *   NAME-p 10.90.0.4 publisher ┘                └ NAME-q2 ═══ NAME-e2 ── …
 *
 * ═══ is a link: on the way to the viewers a token bucket with a drop-tail queue (tc tbf, in NAME-qN), then the delay
 * (delay/, because kernels of small machines have no netem), then random loss (nftables, in NAME-eN); on the way back the delay alone. What the queue holds
 * is read from the kernel, and what was sent into it from the device before it. The servers have a route to the viewers, and
 * segment what they send before it leaves them, so that the link sees packets as a cable does.
 */
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { artifact, root } from '../harness/files.mjs';

/** This program's clock, which all pages of this machine share: ms since 1970. */
export const clock = () => performance.timeOrigin + performance.now();

const QUEUE = 0.3; // seconds that the drop-tail queue holds
const EVERY = 50; // ms between two looks at the queue
const MTU = 1500;
const ETHERNET = 14; // bytes of each packet that a link doesn't carry

const ip = (...args) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
const within = (namespace, command, args, input) =>
  execFileSync('ip', ['netns', 'exec', namespace, command, ...args], { stdio: ['pipe', 'pipe', 'pipe'], encoding: 'utf8', input: input ?? '' });

/** Builds the program that delays; go's cache makes it quick the second time. */
function buildDelay() {
  const program = artifact('network', 'delay');
  execFileSync(process.env.GO ?? 'go', ['build', '-o', program, './web/e2e/network/delay'], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, CGO_ENABLED: '0' } });
  return program;
}

/**
 * @param {number[]} viewers how many viewers stand behind each link, such as [1] or [2, 1]
 * @returns {Promise<Lab>} with `remove`, which ends what still runs in it
 */
export async function makeBadLab(viewers) {
  const lab = new Lab(`netbench${process.pid}`);
  const remove = () => lab.remove();
  process.once('exit', remove);
  try {
    await lab.make(viewers);
  } catch (error) {
    lab.remove();
    throw error;
  }
  return lab;
}

class Lab {
  #name;
  #namespaces = [];
  #links = [];
  serverAddresses = { s: '10.90.0.2', t: '10.90.0.3' };

  constructor(name) {
    this.#name = name;
  }

  get server() {
    return `${this.#name}-s`;
  }

  get otherServer() {
    return `${this.#name}-t`;
  }

  get publisher() {
    return `${this.#name}-p`;
  }

  /** The namespace of viewer 1, 2 …, counted through all links. */
  viewer = (n) => `${this.#name}-v${n}`;

  get links() {
    return this.#links;
  }

  /** Link 1, 2 … */
  link = (n) => this.#links[n - 1];

  #add(role) {
    const namespace = `${this.#name}-${role}`;
    ip('netns', 'add', namespace);
    this.#namespaces.push(namespace);
    ip('-n', namespace, 'link', 'set', 'dev', 'lo', 'up');
    within(namespace, 'sysctl', ['-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1']);
    return namespace;
  }

  #cable(a, deviceA, b, deviceB) {
    ip('link', 'add', deviceA, 'netns', a, 'type', 'veth', 'peer', 'name', deviceB, 'netns', b);
    ip('-n', a, 'link', 'set', 'dev', deviceA, 'up');
    ip('-n', b, 'link', 'set', 'dev', deviceB, 'up');
  }

  #bridge(namespace, device) {
    ip('-n', namespace, 'link', 'add', device, 'type', 'bridge');
    ip('-n', namespace, 'link', 'set', 'dev', device, 'up');
  }

  async make(viewers) {
    const delay = buildDelay();
    const middle = this.#add('n');
    this.#bridge(middle, 'net');
    /** A namespace on the bridge in the middle. */
    const host = (role, address) => {
      const namespace = this.#add(role);
      this.#cable(namespace, 'eth0', middle, role);
      ip('-n', middle, 'link', 'set', 'dev', role, 'master', 'net');
      ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
      ip('-n', namespace, 'link', 'set', 'dev', 'eth0', 'gso_max_segs', '1');
      return namespace;
    };
    const hosts = [host('s', this.serverAddresses.s), host('t', this.serverAddresses.t), host('p', '10.90.0.4')];
    let viewer = 0;
    for (const [i, behind] of viewers.entries()) {
      const n = i + 1;
      const [near, far] = [host(`q${n}`, `10.90.0.${10 + n}`), this.#add(`e${n}`)];
      const link = new Link(near, far);
      this.#links.push(link);
      await link.make(delay);
      ip('-n', near, 'addr', 'add', `10.90.${100 + n}.1`, 'peer', `10.90.${100 + n}.2`, 'dev', 'near');
      ip('-n', far, 'addr', 'add', `10.90.${100 + n}.2`, 'peer', `10.90.${100 + n}.1`, 'dev', 'far');
      ip('-n', near, 'route', 'add', `10.90.${20 + n}.0/24`, 'via', `10.90.${100 + n}.2`);
      ip('-n', far, 'route', 'add', 'default', 'via', `10.90.${100 + n}.1`);
      for (const namespace of hosts) ip('-n', namespace, 'route', 'add', `10.90.${20 + n}.0/24`, 'via', `10.90.0.${10 + n}`);
      for (const namespace of [near, far]) within(namespace, 'sysctl', ['-qw', 'net.ipv4.ip_forward=1']);
      this.#bridge(far, 'lan');
      ip('-n', far, 'addr', 'add', `10.90.${20 + n}.1/24`, 'dev', 'lan');
      for (let k = 1; k <= behind; k++) {
        viewer++;
        const namespace = this.#add(`v${viewer}`);
        this.#cable(namespace, 'eth0', far, `v${viewer}`);
        ip('-n', far, 'link', 'set', 'dev', `v${viewer}`, 'master', 'lan');
        ip('-n', namespace, 'addr', 'add', `10.90.${20 + n}.${10 + k}/24`, 'dev', 'eth0');
        ip('-n', namespace, 'route', 'add', 'default', 'via', `10.90.${20 + n}.1`);
      }
    }
  }

  remove() {
    for (const link of this.#links) link.close();
    for (const namespace of this.#namespaces.reverse()) {
      try {
        for (const pid of ip('netns', 'pids', namespace).split('\n').filter(Boolean)) process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It ended meanwhile.
      }
      ip('netns', 'delete', namespace);
    }
    this.#links = [];
    this.#namespaces = [];
  }
}

/** One link, with its queue, delay and loss. */
class Link {
  #near;
  #far;
  #delay = null;
  #tc = null;
  #timer = null;
  #notes = [];
  #late = [];
  #rate = 0;

  constructor(near, far) {
    this.#near = near;
    this.#far = far;
  }

  async make(delay) {
    // In real time, so that browsers which keep the processors busy don't keep the packets waiting.
    this.#delay = spawn('chrt', ['--rr', '1', 'ip', 'netns', 'exec', this.#near, delay, 'near', 'far', '0s'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: this.#delay.stdout });
    await new Promise((resolve, reject) => {
      lines.once('line', resolve);
      this.#delay.once('exit', (code) => reject(new Error(`the program that delays ended with ${code}`)));
    });
    lines.on('line', (line) => this.#late.push({ at: clock(), late: Number(line.split(' ')[1]) }));
    ip('-n', this.#near, 'link', 'set', 'dev', 'far', 'netns', this.#far);
    for (const [namespace, device] of [[this.#near, 'near'], [this.#far, 'far']]) ip('-n', namespace, 'link', 'set', 'dev', device, 'mtu', String(MTU), 'up');
    within(this.#far, 'nft', ['-f', '-'], 'add table ip link\nadd chain ip link loss { type filter hook forward priority filter; }\n');
    this.capacity(100e6);
    this.#tc = spawn('ip', ['netns', 'exec', this.#near, 'tc', '-s', '-j', '-b', '-'], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#tc.stdout }).on('line', (line) => {
      if (!line.trim()) return;
      const [queue] = JSON.parse(line);
      this.#notes.push({ at: clock(), ...this.#sent(), backlog: queue.backlog, drops: queue.drops, carried: queue.bytes, rate: this.#rate });
    });
  }

  /** Changes the rate towards the viewers, in bit/s, and the queue with it. */
  capacity(rate) {
    this.#rate = rate;
    const limit = Math.round((rate * QUEUE) / 8);
    within(this.#near, 'tc', ['qdisc', 'replace', 'dev', 'near', 'root', 'handle', '1:', 'tbf', 'rate', `${Math.round(rate)}bit`, 'burst', String(2 * MTU + Math.round(rate / 8 / 1000)), 'limit', String(limit)]);
  }

  /** Changes the delay of either direction, in ms. */
  delay(ms) {
    this.#delay.stdin.write(`${ms}ms\n`);
  }

  /** Drops so many per cent of the packets towards the viewers, each by chance. */
  loss(percent) {
    const rule = percent > 0 ? `add rule ip link loss iifname "far" numgen random mod 1000 < ${Math.round(percent * 10)} counter drop` : '';
    within(this.#far, 'nft', ['-f', '-'], `flush chain ip link loss\n${rule}\n`);
  }

  /** Packets that were lost since loss() was called. */
  lost() {
    const [, packets] = /packets (\d+)/.exec(within(this.#far, 'nft', ['list', 'chain', 'ip', 'link', 'loss'])) ?? [null, 0];
    return Number(packets);
  }

  /** What was sent into the queue so far: proc(5), net/dev of a process in there. */
  #sent() {
    const line = readFileSync(`/proc/${this.#tc.pid}/net/dev`, 'utf8').split('\n').find((one) => one.trim().startsWith('eth0:'));
    const [bytes, packets] = line.split(':')[1].trim().split(/\s+/).map(Number);
    return { bytes: bytes - packets * ETHERNET, packets };
  }

  /** Begins to note what is sent, what waits and what is dropped, 20 times a second. */
  watch() {
    this.#notes = [];
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#tc.stdin.write('qdisc show dev near\n'), EVERY);
  }

  /** Ends it. The notes: [{at, bytes, packets, backlog, drops, carried, rate}], oldest first; bytes and packets add up. */
  notes() {
    clearInterval(this.#timer);
    return this.#notes;
  }

  /** The most that a packet was later than the delay since a time of clock(), in ms: what the machine, not the link, did. */
  lateSince(at) {
    return Math.max(0, ...this.#late.filter((one) => one.at >= at).map(({ late }) => late));
  }

  close() {
    clearInterval(this.#timer);
    this.#tc?.kill('SIGKILL');
    this.#delay?.kill('SIGKILL');
  }
}
