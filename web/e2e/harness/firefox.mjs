/**
 * Firefox ESR under test, driven over WebDriver BiDi, which it speaks by itself
 * (--remote-debugging-port): playwright-core drives only a Firefox of its own making.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { bridgeInto } from './bridge.mjs';
import { connectWebSocket } from './websocket.mjs';

const program = process.env.FIREFOX ?? ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find(existsSync);

const preferences = {
  'media.navigator.streams.fake': true, // so that devices are listed
  'media.navigator.permission.disabled': true,
  'media.autoplay.default': 0,
  'media.peerconnection.ice.loopback': true, // the server of a test may be on this machine only
  'media.volume_scale': '0.0',
  // Nothing but the page under test is fetched.
  'app.update.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.page': 0,
  'browser.aboutwelcome.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'datareporting.healthreport.uploadEnabled': false,
  'toolkit.telemetry.enabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'browser.safebrowsing.malware.enabled': false,
  'browser.safebrowsing.phishing.enabled': false,
  'browser.safebrowsing.update.enabled': false,
  'extensions.update.enabled': false,
  'extensions.getAddons.cache.enabled': false,
  'services.settings.server': 'data:,#remote-settings-dummy/v1',
  'dom.disable_beforeunload': true,
  'media.gmp-manager.updateEnabled': false, // no download of OpenH264
};

/**
 * @param {{extra?: object, namespace?: string}} options extra: more preferences
 * @returns {Promise<Firefox>}
 */
export async function launchFirefox({ extra = {}, namespace } = {}) {
  if (!program) throw new Error('no Firefox found: run scripts/install-test-tools, or set FIREFOX to its path');
  const home = mkdtempSync(join(tmpdir(), 'anytime-firefox-'));
  const lines = Object.entries({ ...preferences, ...extra }).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`);
  writeFileSync(join(home, 'user.js'), lines.join('\n'));
  const inside = namespace ? ['ip', 'netns', 'exec', namespace, program] : [program];
  const child = spawn(inside[0], [...inside.slice(1), '--headless', '--no-remote', '--profile', home, '--remote-debugging-port', '0', '--width', '1024', '--height', '700', 'about:blank'], {
    env: { ...process.env, HOME: home, MOZ_HEADLESS: '1', MOZ_CRASHREPORTER_DISABLE: '1' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
  let said = '';
  const url = await new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`Firefox did not start within 60 s:\n${said}`)), 60_000);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`Firefox ended with ${code}:\n${said}`)));
    child.stderr.on('data', (bytes) => {
      said += bytes;
      const found = /WebDriver BiDi listening on (ws:\S+)/.exec(said);
      if (!found) return;
      clearTimeout(late);
      resolve(found[1]);
    });
  });
  const bridge = namespace ? await bridgeInto(namespace, Number(new URL(url).port)) : null;
  const firefox = new Firefox(child, home, bridge);
  await firefox.connect(`${url}/session`);
  return firefox;
}

class Firefox {
  #child;
  #home;
  #bridge;
  #socket;
  #waiting = new Map();
  #commands = 0;
  #listeners = [];
  /** browserVersion and the like, as the browser says them. */
  capabilities = null;

  constructor(child, home, bridge) {
    this.#child = child;
    this.#home = home;
    this.#bridge = bridge;
  }

  async connect(url) {
    this.#socket = await connectWebSocket(url, {
      message: (text) => this.#receive(JSON.parse(text)),
      closed: (reason) => {
        for (const { reject } of this.#waiting.values()) reject(new Error(`Firefox went away: ${reason}`));
        this.#waiting.clear();
      },
    }, {}, this.#bridge?.socket);
    const session = await this.send('session.new', { capabilities: { alwaysMatch: { acceptInsecureCerts: true } } });
    this.capabilities = session.capabilities;
    await this.send('session.subscribe', { events: ['log.entryAdded'] });
  }

  #receive(message) {
    if (message.type === 'event') {
      for (const listener of this.#listeners) listener(message);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.type === 'success') waiting?.resolve(message.result);
    else waiting?.reject(new Error(`${waiting.method}: ${message.error}: ${message.message}`));
  }

  /** One BiDi command and its result. */
  send(method, params) {
    const id = ++this.#commands;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, method });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  onEvent(listener) {
    this.#listeners.push(listener);
  }

  async page(instrument, self) {
    const { contexts } = await this.send('browsingContext.getTree', {});
    const { context } = contexts[0];
    await this.send('script.addPreloadScript', {
      functionDeclaration: `() => { (${instrument})(${JSON.stringify(self)}); }`,
    });
    return new FirefoxPage(this, context);
  }

  async close() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return; // closed before: nobody would answer
    try {
      await this.send('browser.close', {});
    } catch {
      this.#child.kill('SIGKILL');
    }
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      await Promise.race([new Promise((resolve) => this.#child.once('exit', resolve)), wait(10_000, undefined, { ref: false })]);
      this.#child.kill('SIGKILL');
    }
    this.#bridge?.close();
    rmSync(this.#home, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

/** The same as chromium.mjs's page. */
class FirefoxPage {
  #firefox;
  #context;
  log = [];

  constructor(firefox, context) {
    this.#firefox = firefox;
    this.#context = context;
    firefox.onEvent(({ method, params }) => {
      if (method === 'log.entryAdded') this.log.push(`${params.level}: ${params.text}`);
    });
  }

  #go(method, url) {
    return this.#firefox.send(method, { context: this.#context, ...(url ? { url } : {}), wait: 'interactive' });
  }

  goto(url) {
    return this.#go('browsingContext.navigate', url);
  }

  url() {
    return this.evaluate(() => location.href);
  }

  reload() {
    return this.#go('browsingContext.reload');
  }

  async evaluate(body, argument) {
    // The value travels as JSON, which is all that the tests send back and forth.
    const answer = await this.#firefox.send('script.evaluate', {
      target: { context: this.#context },
      expression: `(async () => { const value = await (${body})(${JSON.stringify(argument)}); return value === undefined ? 'null' : JSON.stringify(value); })()`,
      awaitPromise: true,
      userActivation: true,
    });
    if (answer.type === 'exception') throw new Error(`in Firefox: ${answer.exceptionDetails.text}`);
    return JSON.parse(answer.result.value);
  }

  async until(body, argument, timeout = 10_000) {
    const end = Date.now() + timeout;
    while (!(await this.evaluate(body, argument))) {
      if (Date.now() > end) throw new Error(`not so within ${timeout} ms in Firefox: ${body}`);
      await wait(50);
    }
  }

  see(selector, timeout) {
    return this.until((s) => document.querySelector(s)?.checkVisibility() ?? false, selector, timeout);
  }

  gone(selector, timeout) {
    return this.until((s) => !document.querySelector(s)?.checkVisibility(), selector, timeout);
  }

  visible(selector) {
    return this.evaluate((s) => document.querySelector(s)?.checkVisibility() ?? false, selector);
  }

  /** Clicks as a person does: with the pointer, on the element's middle. */
  async click(selector, timeout) {
    await this.see(selector, timeout);
    await this.until((s) => !document.querySelector(s)?.disabled, selector, timeout);
    const point = await this.evaluate((s) => {
      const element = document.querySelector(s);
      element.scrollIntoView({ block: 'center', behavior: 'instant' });
      const box = element.getBoundingClientRect();
      return { x: Math.round(box.x + box.width / 2), y: Math.round(box.y + box.height / 2) };
    }, selector);
    await this.#pointer({ type: 'pointerMove', ...point }, { type: 'pointerDown', button: 0 }, { type: 'pointerUp', button: 0 });
  }

  /** Moves the pointer, as somebody who is about to do something. */
  stir() {
    return this.#pointer({ type: 'pointerMove', x: 500, y: 300 }, { type: 'pointerMove', x: 510, y: 310 });
  }

  #pointer(...actions) {
    return this.#firefox.send('input.performActions', { context: this.#context, actions: [{ type: 'pointer', id: 'mouse', actions }] });
  }

  async fill(selector, text) {
    await this.click(selector);
    const keys = [...text].flatMap((value) => [
      { type: 'keyDown', value },
      { type: 'keyUp', value },
    ]);
    await this.evaluate((s) => document.querySelector(s).select(), selector);
    await this.#firefox.send('input.performActions', { context: this.#context, actions: [{ type: 'key', id: 'keyboard', actions: keys }] });
  }

  async text(selector) {
    await this.see(selector);
    return this.evaluate((s) => document.querySelector(s).innerText.trim(), selector);
  }

  value(selector) {
    return this.evaluate((s) => document.querySelector(s).value, selector);
  }

  attribute(selector, name) {
    return this.evaluate(([s, n]) => document.querySelector(s)?.getAttribute(n) ?? null, [selector, name]);
  }

  async screenshot(path) {
    const { data } = await this.#firefox.send('browsingContext.captureScreenshot', { context: this.#context });
    writeFileSync(path, Buffer.from(data, 'base64'));
  }

  async close() {}
}
