/**
 * Chromium under test: one browser process per device, each with a profile of its own,
 * in a network namespace when asked for.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const program = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);

const flags = [
  '--no-first-run',
  '--disable-gpu',
  '--disable-quic',
  '--disable-sync',
  '--disable-background-networking',
  '--disable-component-update',
  '--mute-audio',
  // Only so that devices are listed: the app's camera and microphone are instrument.mjs's.
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
];

/**
 * @param {{namespace?: string, trust?: string, viewport?: {width: number, height: number}, dark?: boolean}} options
 *   trust: a certificate authority's PEM file that this browser believes, through the NSS
 *   database in its HOME, as one that a person installs
 * @returns {Promise<Chromium>}
 */
export async function launchChromium(options = {}) {
  if (!program) throw new Error('no Chromium found: run scripts/install-test-tools, or set CHROMIUM to its path');
  const home = mkdtempSync(join(tmpdir(), 'anytime-chromium-'));
  const profile = join(home, 'profile');
  mkdirSync(profile);
  if (options.trust) trust(home, options.trust);
  let executablePath = program;
  if (options.namespace) {
    executablePath = join(home, 'chromium');
    writeFileSync(executablePath, `#!/bin/sh\nexec ip netns exec ${options.namespace} ${program} "$@"\n`);
    chmodSync(executablePath, 0o755);
  }
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: flags,
    env: { ...process.env, HOME: home },
    viewport: options.viewport ?? { width: 1024, height: 700 },
    colorScheme: options.dark ? 'dark' : 'light',
    chromiumSandbox: false,
    serviceWorkers: 'allow',
  });
  return new Chromium(context, home);
}

/** Makes an NSS database in `home` that trusts the authority in the PEM file. */
function trust(home, authority) {
  const database = join(home, '.pki', 'nssdb');
  mkdirSync(database, { recursive: true });
  const certutil = (...args) => execFileSync('certutil', ['-d', `sql:${database}`, ...args], { stdio: 'pipe' });
  certutil('-N', '--empty-password');
  certutil('-A', '-t', 'C,,', '-n', 'test authority', '-i', authority);
}

class Chromium {
  #context;
  #home;

  constructor(context, home) {
    this.#context = context;
    this.#home = home;
  }

  /** A page with `instrument(self)` in it before anything of the app. */
  async page(instrument, self) {
    const page = this.#context.pages()[0]?.url() === 'about:blank' ? this.#context.pages()[0] : await this.#context.newPage();
    await page.addInitScript(instrument, self);
    return new ChromiumPage(page);
  }

  async close() {
    await this.#context.close();
    rmSync(this.#home, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

/** What person.mjs needs of a page; firefox.mjs has the same. Selectors are CSS. */
class ChromiumPage {
  #page;
  /** Console lines and page errors, oldest first: shown when a test fails. */
  log = [];

  constructor(page) {
    this.#page = page;
    page.setDefaultTimeout(10_000);
    page.on('console', (message) => this.log.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => this.log.push(`uncaught: ${error.stack ?? error.message}`));
    page.on('crash', () => this.log.push('the page crashed'));
  }

  goto(url) {
    return this.#page.goto(url, { waitUntil: 'domcontentloaded' });
  }

  url() {
    return this.#page.url();
  }

  reload() {
    return this.#page.reload({ waitUntil: 'domcontentloaded' });
  }

  async click(selector, timeout) {
    await this.#page.locator(selector).first().click({ timeout });
  }

  /** Moves the pointer, as somebody who is about to do something. */
  async stir() {
    await this.#page.mouse.move(500, 300);
    await this.#page.mouse.move(510, 310);
  }

  async fill(selector, text) {
    await this.#page.locator(selector).first().fill(text);
  }

  /** Waits until an element is visible. */
  async see(selector, timeout) {
    await this.#page.locator(selector).first().waitFor({ state: 'visible', timeout });
  }

  /** Waits until none is. */
  async gone(selector, timeout) {
    await this.#page.locator(selector).first().waitFor({ state: 'hidden', timeout });
  }

  visible(selector) {
    return this.#page.locator(selector).first().isVisible();
  }

  async text(selector) {
    return (await this.#page.locator(selector).first().innerText()).trim();
  }

  value(selector) {
    return this.#page.locator(selector).first().inputValue();
  }

  attribute(selector, name) {
    return this.#page.locator(selector).first().getAttribute(name);
  }

  evaluate(body, argument) {
    return this.#page.evaluate(body, argument);
  }

  /** Waits until body(argument) is true in the page. */
  async until(body, argument, timeout = 10_000) {
    await this.#page.waitForFunction(body, argument, { timeout, polling: 50 });
  }

  screenshot(path) {
    return this.#page.screenshot({ path });
  }

  resize(width, height) {
    return this.#page.setViewportSize({ width, height });
  }

  colours(scheme) {
    return this.#page.emulateMedia({ colorScheme: scheme });
  }

  close() {
    return this.#page.close();
  }
}
