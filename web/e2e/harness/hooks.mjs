/** What a webhook is posted to: keeps each delivery, and answers 200. */
import { createServer } from 'node:http';

/** @returns {Promise<{url: string, deliveries: {body: string, authorization: string, type: string}[], close: () => void}>} */
export async function receiveHooks() {
  const deliveries = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (text) => (body += text));
    request.on('end', () => {
      deliveries.push({ body, authorization: request.headers.authorization ?? '', type: request.headers['content-type'] ?? '' });
      response.end();
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/hook`,
    deliveries,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
