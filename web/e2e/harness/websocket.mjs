/**
 * A WebSocket client (RFC 6455) of the size that the tests need: text frames over plain TCP
 * to this machine, for driving Firefox and for a guest's events. Node 20 has none of its own.
 */
import { createHash, randomBytes } from 'node:crypto';
import { request } from 'node:http';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'; // RFC 6455, 1.3
const MAX_MESSAGE = 64 << 20;

/**
 * @param {string} url ws://…
 * @param {{message: (text: string) => void, closed: (reason: string) => void}} on
 * @param {Record<string, string>} headers more headers of the upgrade request
 * @param {string} socketPath a Unix socket to connect to, instead of the url's address
 * @returns {Promise<{send: (text: string) => void, close: () => void}>}
 */
export function connectWebSocket(url, on, headers = {}, socketPath = undefined) {
  const target = new URL(url);
  const key = randomBytes(16).toString('base64');
  return new Promise((resolve, reject) => {
    const upgrade = request({
      host: target.hostname,
      port: target.port,
      socketPath,
      path: target.pathname + target.search,
      headers: { ...headers, Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Key': key, 'Sec-WebSocket-Version': '13' },
    });
    upgrade.once('error', reject);
    upgrade.once('response', (response) => reject(new Error(`${url} answered ${response.statusCode}, not a WebSocket`)));
    upgrade.once('upgrade', (response, socket, head) => {
      const accept = createHash('sha1').update(key + GUID).digest('base64');
      if (response.headers['sec-websocket-accept'] !== accept) {
        socket.destroy();
        reject(new Error(`${url} is no WebSocket: wrong Sec-WebSocket-Accept`));
        return;
      }
      let ended = false;
      const end = (reason) => {
        if (ended) return;
        ended = true;
        socket.destroy();
        on.closed(reason);
      };
      const take = frameReader({
        text: on.message,
        ping: (payload) => socket.write(frame(0xa, payload)),
        close: () => end('closed by the other side'),
        error: end,
      });
      socket.on('data', take);
      socket.on('error', (error) => end(error.message));
      socket.on('close', () => end('connection lost'));
      resolve({
        send: (text) => socket.write(frame(0x1, Buffer.from(text))),
        close: () => {
          ended = true;
          socket.end(frame(0x8, Buffer.alloc(0)));
        },
      });
      if (head.length > 0) take(head);
    });
    upgrade.end();
  });
}

/** One whole frame. RFC 6455, 5.1: "a client MUST mask all frames that it sends". */
export function frame(opcode, payload) {
  const mask = randomBytes(4);
  let head;
  if (payload.length < 126) {
    head = Buffer.from([0x80 | opcode, 0x80 | payload.length]);
  } else if (payload.length < 1 << 16) {
    head = Buffer.from([0x80 | opcode, 0x80 | 126, payload.length >> 8, payload.length & 0xff]);
  } else {
    head = Buffer.alloc(10);
    head[0] = 0x80 | opcode;
    head[1] = 0x80 | 127;
    head.writeBigUInt64BE(BigInt(payload.length), 2);
  }
  const masked = Buffer.from(payload.map((byte, i) => byte ^ mask[i & 3]));
  return Buffer.concat([head, mask, masked]);
}

/** Returns a function that takes bytes as they arrive and calls `on` per message. */
export function frameReader(on) {
  let rest = Buffer.alloc(0);
  let parts = [];
  let size = 0;
  return (bytes) => {
    rest = rest.length > 0 ? Buffer.concat([rest, bytes]) : bytes;
    while (rest.length >= 2) {
      const final = (rest[0] & 0x80) !== 0;
      const opcode = rest[0] & 0x0f;
      let length = rest[1] & 0x7f;
      let start = 2;
      if (length === 126) {
        if (rest.length < 4) return;
        length = rest.readUInt16BE(2);
        start = 4;
      } else if (length === 127) {
        if (rest.length < 10) return;
        length = Number(rest.readBigUInt64BE(2));
        start = 10;
      }
      if (length + size > MAX_MESSAGE) {
        on.error(`a message of more than ${MAX_MESSAGE} bytes`);
        return;
      }
      if (rest.length < start + length) return;
      const payload = rest.subarray(start, start + length);
      rest = rest.subarray(start + length);
      if (opcode === 0x9) on.ping(payload);
      else if (opcode === 0x8) on.close();
      else if (opcode <= 0x2) {
        parts.push(payload);
        size += length;
        if (final) {
          const whole = Buffer.concat(parts).toString('utf8');
          parts = [];
          size = 0;
          on.text(whole);
        }
      }
    }
  };
}
