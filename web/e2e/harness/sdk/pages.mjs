/**
 * The bare pages of livekit-client's tests: the SDK as it comes from npm, the agent that
 * drives it, a button to press, and nothing of the app.
 */
import { createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../files.mjs';

const sdk = join(root, 'web', 'node_modules', 'livekit-client', 'dist');

/** What is served besides the page, by path. */
const scripts = {
  '/livekit-client.mjs': join(sdk, 'livekit-client.esm.mjs'),
  '/e2ee-worker.mjs': join(sdk, 'livekit-client.e2ee.worker.mjs'),
  '/agent.mjs': join(root, 'web', 'e2e', 'harness', 'sdk', 'browser-agent.mjs'),
  '/network-agent.mjs': join(root, 'web', 'e2e', 'network', 'agent.mjs'),
};

/** The pages, by path: each with its agent. */
const pages = Object.fromEntries(
  Object.entries({ '/': '/agent.mjs', '/network': '/network-agent.mjs' }).map(([path, agent]) => [
    path,
    `<!doctype html><meta charset="utf-8"><title>livekit-client</title>
<style>video { width: 160px }</style><button id="begin">begin</button>
<script type="module" src="${agent}"></script>`,
  ]),
);

function answer(request, response) {
  const { pathname } = new URL(request.url, 'http://localhost');
  if (pages[pathname]) {
    response.setHeader('content-type', 'text/html').end(pages[pathname]);
  } else if (scripts[pathname]) {
    response.setHeader('content-type', 'text/javascript');
    createReadStream(scripts[pathname]).on('error', (error) => response.destroy(error)).pipe(response);
  } else {
    response.writeHead(404).end();
  }
}

/**
 * Serves the page on this machine's loopback address and on a Unix socket, for browsers in
 * a network namespace (see bridge.mjs).
 * @returns {Promise<{url: string, socket: string, close: () => void}>}
 */
export async function servePages() {
  const folder = mkdtempSync(join(tmpdir(), 'anytime-pages-'));
  const socket = join(folder, 'socket');
  const servers = [createServer(answer), createServer(answer)];
  await new Promise((resolve) => servers[0].listen(0, '127.0.0.1', resolve));
  await new Promise((resolve) => servers[1].listen(socket, resolve));
  return {
    url: `http://localhost:${servers[0].address().port}/`,
    socket,
    close() {
      for (const server of servers) {
        server.close();
        server.closeAllConnections();
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
