/** Where the tests find things and leave things. */
import { mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');

/** The server under test. */
export const binary = process.env.ANYTIME_BIN ?? join(root, 'bin', 'anytime');

/** Screenshots and, when a test fails, logs. Ignored by git. */
export function artifact(...path) {
  const file = join(root, 'artifacts', ...path);
  mkdirSync(dirname(file), { recursive: true });
  return file;
}
