// What the scripts with the console's pages share: a browser, the pages as a person sees and uses them, a relay that can be
// cut, and a customer behind the Connector API.

import { connect, createServer } from 'node:net';
import { chromium } from 'playwright-core';
import harness from './harness.cjs';

const { DEMO, Mismatch, call, exactly, required, settled, text } = harness;

export const HTTP = required('TIELINE_HTTP');
export const { account } = DEMO;
/** How long a page may take to show something. */
const DEADLINE = 15_000;

export const launch = () =>
  // The sandbox needs rights that neither root nor most containers have; the only pages are ours.
  chromium.launch({ executablePath: process.env.TIELINE_CHROMIUM ?? '/usr/bin/chromium', chromiumSandbox: false });

export const until = (checks, what, read, expected) => settled(checks, what, read, expected, DEADLINE);

/** Stands between a browser and the gateway. It can cut what runs through it, or swallow what comes back. */
export async function relay() {
  const { hostname, port } = new URL(HTTP);
  const open = new Set();
  let isCut = false;
  let isDeaf = false;
  const server = createServer((near) => {
    if (isCut) return near.resetAndDestroy();
    const far = connect(Number(port), hostname);
    near.on('data', (data) => far.write(data));
    far.on('data', (data) => isDeaf || near.write(data));
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one);
      one.on('error', () => {}).on('close', () => (open.delete(one), other.destroy()));
    }
    return undefined;
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut: () => {
      isCut = true;
      open.forEach((socket) => socket.resetAndDestroy());
    },
    deafen: () => (isDeaf = true),
    mend: () => {
      isCut = false;
      isDeaf = false;
    },
  };
}

/** Watches a page from its first script on: what fires that must not, and what its content policy forbids. */
function watch() {
  window.fired = [];
  window.fire = (what) => window.fired.push(String(what));
  for (const name of ['alert', 'confirm', 'prompt', 'print']) window[name] = (what) => window.fired.push(`${name}: ${what}`);
  window.forbidden = [];
  document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI, sample }) =>
    window.forbidden.push(`${violatedDirective} ${blockedURI} ${sample}`));
}

/** A page of the console's in a browser context of its own. */
export class Page {
  static async open(browser, checks, { name, path, origin = HTTP, ...options }) {
    const self = new this();
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-GB', ...options });
    const page = await context.newPage();
    Object.assign(self, { name, context, page, checks, faults: [], loads: 0 });
    await page.addInitScript(watch);
    page.on('console', (message) => message.type() === 'error' && self.faults.push(message.text()));
    page.on('pageerror', (error) => self.faults.push(String(error)));
    page.on('dialog', (dialog) => self.faults.push(`a dialog: ${dialog.message()}`));
    page.on('load', () => (self.loads += 1));
    await page.goto(`${origin}/console/${path}`);
    return self;
  }

  until(what, read, expected) {
    return until(this.checks, `${this.name}: ${what}`, read, expected);
  }

  shows(what, selector, isShown = true) {
    return this.until(`${what} is ${isShown ? '' : 'not '}shown`, () => this.page.isVisible(selector), isShown);
  }

  line(expected) {
    return this.until('the state of the connection', () => this.page.getAttribute('.line', 'data-state'), expected);
  }

  /** The messages that are in the page: number, side, text. */
  messages() {
    return this.page.$$eval('.row[data-sequence]', (rows) => rows.map((row) => [
      Number(row.dataset.sequence),
      ['own', 'other', 'note', 'system'].find((kind) => row.classList.contains(kind)),
      row.querySelector('.text, figcaption')?.textContent ?? '',
    ]));
  }

  texts() {
    return this.page.$$eval('.row[data-sequence] .bubble', (rows) => rows.map((row) => row.querySelector('.text, figcaption')?.textContent));
  }

  /** Until the messages are these words, each once, in this order, whatever their numbers. */
  async complete(...words) {
    await this.until('the messages', () => this.texts(), words);
    const numbers = (await this.messages()).map(([number]) => number);
    this.checks.match(`${this.name}: the numbers`, numbers, exactly([...new Set(numbers)].sort((a, b) => a - b)));
  }

  async say(words) {
    await this.page.fill('#words', words);
    await this.page.press('#words', 'Enter');
  }

  /** Nothing ran that must not, and nothing was wrong. `expected` are the errors that the browser may report. */
  async isClean(expected = () => false) {
    const { fired, forbidden } = await this.page.evaluate(() => ({ fired: window.fired, forbidden: window.forbidden }));
    this.checks.match(`${this.name}: what fired`, fired, exactly([]));
    this.checks.match(`${this.name}: what the policy forbade`, forbidden, exactly([]));
    this.checks.match(`${this.name}: errors in the browser`, this.faults.filter((fault) => !expected(fault)), exactly([]));
  }

  /** No page is wider than its window. */
  async fits(what) {
    const [wide, width] = await this.page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
    this.checks.match(`${this.name}: the width of ${what}`, wide, width);
    const out = await this.page.$$eval('#app *', (all) => all
      .filter((one) => one.checkVisibility() && !one.closest('.visually-hidden, .line-words, pre, summary'))
      .map((one) => [one, one.getBoundingClientRect()])
      .filter(([, { right, width }]) => width > 0 && right > innerWidth + 1)
      .map(([one]) => one.outerHTML.slice(0, 120)));
    this.checks.match(`${this.name}: what stands out of ${what}`, out, exactly([]));
  }
}

/** The agent console. */
export class Console extends Page {
  static open(browser, checks, { agent, ...options }) {
    return super.open(browser, checks, { name: agent, path: '', ...options });
  }

  async signIn() {
    await this.page.fill('[name=login]', this.name);
    await this.page.fill('[name=password]', `${this.name}-demo`);
    await this.page.click('button.primary');
    await this.line('live');
  }

  async available(availability) {
    await this.page.selectOption('.availability select', availability);
    await this.until('the availability', () => this.page.getAttribute('.availability', 'data-availability'), availability);
  }

  async accept() {
    await this.shows('the offer', '.ring');
    await this.page.click('.ring .accept');
    await this.shows('the box', '#words');
  }
}

/** The playground. */
export class Playground extends Page {
  static open(browser, checks, options) {
    return super.open(browser, checks, { path: 'playground', ...options });
  }

  async start() {
    await this.page.fill('[name=name]', this.name[0].toUpperCase() + this.name.slice(1));
    await this.page.click('button.primary');
    await this.shows('the box', '#words');
  }
}

/** A customer behind the Connector API. */
export class Customer {
  #headers;

  static async named(checks, externalId) {
    const self = new Customer();
    const form = { grant_type: 'client_credentials', client_id: DEMO.app.id, client_secret: DEMO.app.secret };
    const app = await call('POST', `${HTTP}/sentinel/api/account/${account}/app/token?v=1.0`, { form });
    checks.match('the app token', app, { status: 200, body: { access_token: text } });
    const headers = { authorization: app.body.access_token };
    const consumer = await call('POST', `${HTTP}/api/account/${account}/consumer?v=1.0`, { headers, json: { ext_consumer_id: externalId } });
    checks.match('the consumer token', consumer, { status: 201, body: { token: text } });
    self.checks = checks;
    self.#headers = { ...headers, 'x-lp-on-behalf': consumer.body.token };
    return self;
  }

  /** Opens a conversation with a profile and further members; its id. */
  async open(profile, members = {}) {
    const json = [
      { kind: 'req', id: '1', type: 'userprofile.SetUserProfile', body: profile },
      { kind: 'req', id: '2', type: 'cm.ConsumerRequestConversation', body: { brandId: account, ...members } },
    ];
    const url = `${HTTP}/api/account/${account}/messaging/consumer/conversation?v=3`;
    const opened = await call('POST', url, { headers: this.#headers, json });
    this.checks.match('the opened conversation', opened, { status: 200, body: [{ code: 'OK' }, { code: 'OK', body: { conversationId: text } }] });
    this.id = opened.body[1].body.conversationId;
    return this.id;
  }

  async ask(type, body) {
    const url = `${HTTP}/api/account/${account}/messaging/consumer/conversation/send?v=3`;
    const answer = await call('POST', url, { headers: this.#headers, json: { kind: 'req', id: '1', type, body } });
    this.checks.match(`the answer to ${type}`, answer, { status: 200, body: { code: 'OK' } });
    return answer.body.body;
  }

  publish(event) {
    return this.ask('ms.PublishEvent', { dialogId: this.id, event });
  }

  say(message) {
    return this.publish({ type: 'ContentEvent', contentType: 'text/plain', message });
  }

  /** Puts a file and shows it. */
  async show(bytes, fileType, message) {
    const { relativePath, queryParams } = await this.ask('ms.GenerateURLForUploadFile', { fileSize: bytes.length, fileType });
    const put = await fetch(`${HTTP}${relativePath}?${new URLSearchParams(queryParams)}`, { method: 'PUT', body: bytes });
    this.checks.match('the upload', put.status, 201);
    return this.publish({ type: 'ContentEvent', contentType: 'hosted/file', message: { relativePath, fileType, ...message } });
  }

  close() {
    return this.ask('cm.UpdateConversationField', {
      conversationId: this.id, conversationField: [{ field: 'ConversationStateField', conversationState: 'CLOSE' }],
    });
  }
}

export { Mismatch };
