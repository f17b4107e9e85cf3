/** A person with an app of their own instead of a browser: the JSON API, and the room client on Pion. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { root } from './files.mjs';
import { connectWebSocket } from './websocket.mjs';

export class Guest {
  #url;
  #token = '';
  name;

  /** Signs up with a bearer token, as an app does. */
  static async at(server, name) {
    const guest = new Guest();
    guest.#url = server.url;
    guest.name = `${name}_${randomBytes(3).toString('hex')}`;
    const session = await guest.asks('POST', '/v1/accounts', {
      name: guest.name,
      password: `pass phrase of ${guest.name}`,
      kind: 'app',
      deviceName: 'room client',
      bearer: true,
    });
    guest.#token = session.token;
    return guest;
  }

  async asks(method, path, body) {
    const answer = await fetch(this.#url + path, {
      method,
      headers: { 'Content-Type': 'application/json', ...(this.#token && { Authorization: `Bearer ${this.#token}` }) },
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** Waits until a call rings here; `meanwhile` is what makes it ring. Its id. */
  async rings(meanwhile) {
    const url = `${this.#url.replace(/^http/, 'ws')}/v1/events`;
    let late = null;
    let socket = null;
    try {
      return await new Promise((resolve, reject) => {
        late = setTimeout(() => reject(new Error(`nobody called ${this.name}`)), 15_000);
        const message = (text) => {
          const { type, data } = JSON.parse(text);
          if (type === 'snapshot') meanwhile().catch(reject);
          if (type === 'call' && data.myState === 'ringing') resolve(data.id);
        };
        const closed = (reason) => reject(new Error(`the events of ${this.name} ended: ${reason}`));
        connectWebSocket(url, { message, closed }, { Authorization: `Bearer ${this.#token}` }).then((open) => (socket = open), reject);
      });
    } finally {
      clearTimeout(late);
      socket?.close();
    }
  }

  /** What it takes to join the call. */
  answers(id) {
    return this.asks('POST', `/v1/calls/${id}/answer`, {});
  }

  hangsUp(call) {
    return this.asks('POST', `/v1/calls/${call.id}/hangup`, {});
  }
}

/** Has the room client receive so many tracks for some seconds; what it says about them. */
export async function receiveWithPion(join, tracks) {
  const { stdout } = await promisify(execFile)('go', ['test', '-count=1', '-v', '-run', '^TestBrowserMedia$', './signaling/client'], {
    cwd: root,
    env: { ...process.env, E2E_ROOM_URL: join.url, E2E_ROOM_TOKEN: join.token, E2E_ROOM_TRACKS: String(tracks) },
    timeout: 120_000,
  }).catch((error) => {
    throw new Error(`the room client failed:\n${error.stdout}${error.stderr}`);
  });
  return stdout.split('\n').filter((line) => /frames per second/.test(line)).map((line) => line.replace(/^\s*\S+\.go:\d+: /, ''));
}

/** Compiles it beforehand, so that no token expires meanwhile. */
export async function prepareRoomClient() {
  await promisify(execFile)('go', ['test', '-count=1', '-run', '^$', './signaling/client'], { cwd: root, timeout: 300_000 });
}

/** Has a crowd join a room, stay for so many seconds from when all are there, and leave again (signaling/client). */
export async function crowd(url, tokens, seconds) {
  await promisify(execFile)('go', ['test', '-count=1', '-run', '^TestBrowserCrowd$', './signaling/client'], {
    cwd: root,
    env: { ...process.env, E2E_ROOM_URL: url, E2E_ROOM_TOKENS: tokens.join(' '), E2E_ROOM_SECONDS: String(seconds) },
    timeout: (seconds + 120) * 1000,
  }).catch((error) => {
    throw new Error(`the crowd failed:\n${error.stdout}${error.stderr}`);
  });
}
