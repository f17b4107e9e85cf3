/**
 * The instrument's picture and tone (see ../instrument.mjs) for a program without a page:
 * frames in I420 that say whose they are, and sound in 16 bits.
 */
import { hueOf } from '../instrument.mjs';

const COLUMNS = 8;
const ROWS = 4;

/** CRC-8, polynomial 0x07, from 0xff. */
function crc8(bytes) {
  let crc = 0xff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : (crc << 1) & 0xff;
  }
  return crc;
}

/** ITU-R BT.601, limited range, of hsl(hue 80% 50%). */
function colourOf(hue) {
  const [r, g, b] = [0, 8, 4].map((n) => {
    const k = (n + hue / 30) % 12;
    return 255 * (0.5 - 0.4 * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
  });
  return [0.257 * r + 0.504 * g + 0.098 * b + 16, -0.148 * r - 0.291 * g + 0.439 * b + 128, 0.439 * r - 0.368 * g - 0.071 * b + 128].map(Math.round);
}

/** One frame of who has this id: 32 bits as black and white blocks, and something that moves. */
export function paint({ width, height }, id, counter) {
  const half = height / 2;
  const area = width * height;
  const [y, u, v] = colourOf(hueOf(id));
  const frame = new Uint8Array((area * 3) / 2).fill(y, area / 2, area);
  const left = (counter * 8) % (width - 80);
  for (let row = half + 10; row < half + 50; row++) frame.fill(y - 20, row * width + left, row * width + left + 80);
  const head = [id, counter >> 8, counter & 0xff];
  [...head, crc8(head)].forEach((byte, band) => {
    for (let row = Math.round((band * half) / ROWS); row < Math.round(((band + 1) * half) / ROWS); row++) {
      for (let column = 0; column < COLUMNS; column++) {
        const from = row * width + (column * width) / COLUMNS;
        frame.fill(byte & (0x80 >> column) ? 235 : 16, from, from + width / COLUMNS);
      }
    }
  });
  frame.fill(128, area, area + area / 8).fill(u, area + area / 8, area + area / 4);
  frame.fill(128, area + area / 4, area + (area * 3) / 8).fill(v, area + (area * 3) / 8);
  return frame;
}

/** Whose frame it is and which, from its luma plane; null when the blocks make no sense. */
export function decipher(luma, width, height) {
  const bytes = [];
  for (let row = 0; row < ROWS; row++) {
    let byte = 0;
    for (let column = 0; column < COLUMNS; column++) {
      const [x, y] = [Math.floor(((column + 0.5) * width) / COLUMNS), Math.floor(((row + 0.5) * height) / ROWS / 2)];
      byte = (byte << 1) | (luma[y * width + x] > 127 ? 1 : 0);
    }
    bytes.push(byte);
  }
  return crc8(bytes.slice(0, 3)) === bytes[3] ? { id: bytes[0], counter: (bytes[1] << 8) | bytes[2] } : null;
}

/** So many samples of a tone, from sample `start` on. */
export function tone(frequency, rate, start, samples) {
  return Int16Array.from({ length: samples }, (_, i) => Math.round(9000 * Math.sin((2 * Math.PI * frequency * (start + i)) / rate)));
}

/** Which of the tones most of the sound is: its frequency as text, 'silence' or 'other'. */
export function nameTone(sound, rate, tones) {
  const total = sound.reduce((sum, value) => sum + value * value, 0) / sound.length;
  if (total < 1000) return 'silence'; // 30 dB below the tones above
  // Goertzel's algorithm: the mean power of a sine of that frequency.
  const powers = tones.map((frequency) => {
    const turn = 2 * Math.cos((2 * Math.PI * frequency) / rate);
    let [last, before] = [0, 0];
    for (const value of sound) [last, before] = [value + turn * last - before, last];
    return (2 * (last * last + before * before - turn * last * before)) / sound.length ** 2;
  });
  const best = powers.indexOf(Math.max(...powers));
  return powers[best] > total / 2 ? String(tones[best]) : 'other';
}
