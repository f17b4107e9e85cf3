/**
 * People with a browser. A Person knows the app only by what is on its screen (the
 * data-testids) and what the instrument in the page saw and heard.
 */
import { randomBytes } from 'node:crypto';
import { CAMERA, hueOf, instrument, toneOf } from './instrument.mjs';
import { artifact } from './files.mjs';

const $ = (id, more = '') => `[data-testid="${id}"]${more}`;
const named = (name) => `[data-name="${name}"]`;

/** How long a person waits for something that takes a moment, in ms. */
const PATIENCE = 15_000;

/** At most so many in one file of tests: each has a tone of their own. */
const PEOPLE = 12;
let people = 0;

export class Person {
  page;
  /** The browser, for what only it can do. */
  browser;
  name;
  displayName;
  password;
  id;
  #server;

  /**
   * @param {object} browser from launchChromium or launchFirefox
   * @param {{url: string}} server
   * @param {string} name a stem: each run adds letters of its own
   * @param {{query?: string, recorder?: boolean, id?: number}} options query: the app's URL options, as '?relay=1'
   */
  static async at(browser, server, name, options = {}) {
    const person = new Person();
    person.browser = browser;
    person.#server = server;
    person.id = options.id ?? ++people;
    if (person.id > PEOPLE) throw new Error(`no tone is left for person ${person.id}`);
    person.name = `${name}_${randomBytes(3).toString('hex')}`;
    person.displayName = name[0].toUpperCase() + name.slice(1).replaceAll('_', ' ');
    person.password = `pass phrase of ${person.name}`;
    const tones = Array.from({ length: PEOPLE }, (_, i) => toneOf(i + 1));
    const self = { id: person.id, tone: toneOf(person.id), hue: hueOf(person.id), tones, recorder: options.recorder ?? false, ...CAMERA };
    person.page = await browser.page(instrument, self);
    await person.page.goto(`${server.url}/${options.query ?? process.env.E2E_QUERY ?? ''}`);
    return person;
  }

  /** The same person at a second device: signs in there with the same name and password. */
  async also(browser, options = {}) {
    const other = await Person.at(browser, this.#server, 'x', { id: this.id, ...options });
    other.name = this.name;
    other.displayName = this.displayName;
    other.password = this.password;
    await other.signIn();
    return other;
  }

  // --- Accounts ----------------------------------------------------------------------
  async signUp() {
    await this.page.click($('signup-tab'), PATIENCE);
    await this.page.fill($('signup-name'), this.name);
    await this.page.fill($('signup-display-name'), this.displayName);
    await this.page.fill($('signup-password'), this.password);
    await this.page.click($('signup-submit'));
    await this.page.see($('me-name'), PATIENCE);
  }

  async signIn() {
    await this.page.click($('signin-tab'), PATIENCE);
    await this.page.fill($('signin-name'), this.name);
    await this.page.fill($('signin-password'), this.password);
    await this.page.click($('signin-submit'));
    await this.page.see($('me-name'), PATIENCE);
  }

  /** Reloads the page; the session is a cookie, so nothing is typed again. */
  async comesBack() {
    await this.page.reload();
    await this.page.click($('nav-home'), PATIENCE);
    await this.page.see($('me-name'), PATIENCE);
  }

  /** Tries to sign up with a name or a password that won't do; what the form says. */
  async failsToSignUp(name, password = this.password) {
    await this.page.click($('signup-tab'), PATIENCE);
    await this.page.fill($('signup-name'), name);
    await this.page.fill($('signup-password'), password);
    await this.page.click($('signup-submit'));
    return this.#complaint();
  }

  async failsToSignIn(name, password) {
    await this.page.click($('signin-tab'), PATIENCE);
    await this.page.fill($('signin-name'), name);
    await this.page.fill($('signin-password'), password);
    await this.page.click($('signin-submit'));
    return this.#complaint();
  }

  /** What the form says, once it has an answer. */
  async #complaint() {
    await this.page.see(`${$('form-error')}, ${$('me-name')}`, PATIENCE);
    if (await this.page.visible($('me-name'))) throw new Error('it was accepted');
    const text = await this.page.text($('form-error'));
    await this.page.reload();
    return text;
  }

  async signsOut() {
    await this.goes('settings');
    await this.page.click($('sign-out'));
    await this.page.see($('signin-tab'), PATIENCE);
  }

  /** Finds someone by name and asks them to be a contact. */
  async addsContact(other) {
    await this.goes('home');
    await this.page.fill($('call-name'), other.name);
    await this.page.click($('contact-add'), PATIENCE);
  }

  async acceptsContact(other) {
    await this.goes('home');
    await this.page.click(`${$('request-row')}${named(other.name)} ${$('contact-accept')}`, PATIENCE);
  }

  seesContact(other) {
    return this.page.see(`${$('contact-row')}${named(other.name)}`, PATIENCE);
  }

  /** Makes an invitation; its link. */
  async invites() {
    await this.goes('settings');
    await this.page.click($('invite'), PATIENCE);
    await this.page.see($('invitation-link'), PATIENCE);
    return this.page.value($('invitation-link'));
  }

  /** Whether a second call may ring during one. */
  wantsCallWaiting(callWaiting) {
    return this.page.evaluate(async (wanted) => {
      const answer = await fetch('/v1/account', {
        method: 'PATCH',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ callWaiting: wanted }),
      });
      if (!answer.ok) throw new Error(`PATCH /v1/account: ${answer.status} ${await answer.text()}`);
    }, callWaiting);
  }

  goes(where) {
    return this.page.click($(`nav-${where}`));
  }

  // --- Calls -------------------------------------------------------------------------
  /** Types the name and presses the button; returns once it rings, or is over at once. */
  async calls(other, media = 'video') {
    const note = $('call-ended');
    if (await this.page.visible(note)) await this.page.click(`${note} [aria-label="Dismiss"]`); // of the call before
    await this.page.gone(note);
    await this.page.fill($('call-name'), other.name);
    await this.page.click($(`call-${media}`));
    await this.page.see(`${$('call-screen')}, ${note}`, PATIENCE);
  }

  /** Waits until this device rings, and for whom. */
  async rings(caller) {
    await this.page.see($('incoming'), PATIENCE);
    const said = await this.page.text($('incoming'));
    for (const name of [caller.displayName, `@${caller.name}`]) {
      if (!said.includes(name)) throw new Error(`it rings for '${said}', not for ${name}`);
    }
  }

  accepts() {
    return this.page.click($('accept'));
  }

  declines() {
    return this.page.click($('decline'));
  }

  cancels() {
    return this.#presses('cancel-call');
  }

  hangsUp() {
    return this.#presses('hang-up');
  }

  /** Presses a control of the call; these hide while nobody stirs. */
  async #presses(control) {
    for (let tries = 1; ; tries++) {
      await this.page.stir();
      try {
        return await this.page.click($(control), 3000);
      } catch (error) {
        if (tries === 4) throw error; // it hid again before the click reached it, on a slow machine
      }
    }
  }

  /** Waits until the call's media flow. */
  inCall(patience = PATIENCE) {
    return this.page.see($('call-screen', '[data-state="active"]'), patience);
  }

  async adds(other) {
    await this.#presses('add-person');
    await this.page.fill($('add-person-name'), other.name);
    await this.page.click($('add-person-submit'));
  }

  stopsRinging() {
    return this.page.gone($('incoming'), PATIENCE);
  }

  /** Waits until the call is over here; the outcome shown. */
  async ended(patience = PATIENCE) {
    await this.page.see($('call-ended'), patience);
    return this.page.attribute($('call-ended'), 'data-outcome');
  }

  // --- In a call ---------------------------------------------------------------------
  tile(other) {
    return $('tile', `[data-self="false"]${named(other.name)}`);
  }

  togglesMicrophone() {
    return this.#presses('toggle-mic');
  }

  togglesCamera() {
    return this.#presses('toggle-camera');
  }

  /** Waits until the badge on the other's tile says whether the microphone is off. */
  seesMuted(other, muted) {
    const badge = `${this.tile(other)} ${$('tile-muted')}`;
    return muted ? this.page.see(badge) : this.page.gone(badge);
  }

  /** Watches and listens to someone from now on. */
  async attends(other) {
    await this.page.evaluate(
      ([key, selector]) => {
        window.__e2e.watch(key, selector);
        window.__e2e.listen(key, () => {
          for (const participant of window.__anytime.room?.remoteParticipants.values() ?? []) {
            if (!document.querySelector(`${selector.replace(/ video$/, '')}[data-identity="${participant.identity}"]`)) continue;
            for (const publication of participant.trackPublications.values()) {
              if (publication.kind === 'audio' && publication.track) return publication.track.mediaStreamTrack;
            }
          }
          return null;
        });
      },
      [other.name, `${this.tile(other)} video`],
    );
  }

  /** Waits for the first frame of someone who is attended to. */
  async seesFirstFrame(other, patience = PATIENCE) {
    await this.page.until((key) => window.__e2e.seen(key)?.firstAt !== null, other.name, patience);
  }

  /** Attends to people who are not there yet, from the moment their tiles are. */
  async willSee(others) {
    for (const other of others) await this.attends(other);
    await this.page.evaluate((accept) => {
      const marks = (window.__marks = { accept: null, connected: null });
      document.querySelector(accept).addEventListener('click', () => (marks.accept = performance.now()), { once: true });
      const timer = setInterval(() => {
        if (window.__anytime.room?.state !== 'connected') return;
        marks.connected = performance.now();
        clearInterval(timer);
      }, 5);
    }, $('accept'));
  }

  /** How long the first frame of someone took, in ms, from several beginnings; after willSee. */
  async firstFrameOf(other) {
    await this.page.until((key) => window.__e2e.seen(key, window.__marks.accept).firstAt !== null, other.name, PATIENCE);
    return this.page.evaluate((key) => {
      const { accept, connected } = window.__marks;
      const { firstAt } = window.__e2e.seen(key, accept);
      const track = window.__e2e.timeline.find(({ what, at }) => what === 'video track' && at >= accept).at;
      const since = (at) => Math.round(firstAt - at);
      return { afterConnected: since(connected), afterTrack: since(track), afterAccept: since(accept) };
    }, other.name);
  }

  /** Waits until the frames that arrive of someone are of a certain width. */
  async seesWidth(other, { from = 0, below = Infinity }, patience = PATIENCE) {
    await this.page.until(
      ([key, least, most]) => {
        const width = Number(window.__e2e.seen(key).sizes.at(-1)?.split('x')[0]);
        return width >= least && width < most;
      },
      [other.name, from, below === Infinity ? 1e9 : below],
      patience,
    );
  }

  /** What was seen of someone since `from`, a time of `now()`. */
  seen(other, from = 0) {
    return this.page.evaluate(([key, since]) => window.__e2e.seen(key, since), [other.name, from]);
  }

  heard(other, from = 0) {
    return this.page.evaluate(([key, since]) => window.__e2e.heard(key, since), [other.name, from]);
  }

  /** This page's clock, in ms. */
  now() {
    return this.page.evaluate(() => performance.now());
  }

  stats() {
    return this.page.evaluate(() => window.__e2e.stats());
  }

  /** Asks for a simulcast layer of someone. */
  async wants(other, quality) {
    await this.page.evaluate(
      ([selector, wanted]) => {
        const identity = document.querySelector(selector).dataset.identity;
        window.__anytime.setQuality(identity, wanted);
      },
      [this.tile(other), quality],
    );
  }

  // --- Afterwards --------------------------------------------------------------------
  /** The newest call as this person's history shows it. */
  async lastCall() {
    await this.goes('history');
    await this.page.see($('history-row'), PATIENCE);
    const row = await this.page.evaluate(
      (selector) => {
        const { outcome, direction, name } = document.querySelector(selector).dataset;
        return { outcome, direction, name, text: document.querySelector(selector).innerText };
      },
      $('history-row'),
    );
    const [call] = (await this.history()).calls;
    return { ...row, id: call.id, state: call.state, lengthSeconds: call.lengthSeconds, apiOutcome: call.outcome };
  }

  /** The history as the API gives it to this person's session. */
  history() {
    return this.page.evaluate(async () => {
      const answer = await fetch('/v1/calls');
      if (!answer.ok) throw new Error(`GET /v1/calls: ${answer.status} ${await answer.text()}`);
      return answer.json();
    });
  }

  /** A picture of the screen as it is while somebody uses it: the controls of a call show. */
  async screenshot(label) {
    await this.page.stir();
    return this.page.screenshot(artifact('screens', `${label}.png`));
  }
}
