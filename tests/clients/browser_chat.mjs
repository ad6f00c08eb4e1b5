// A customer in a browser: the page `web_chat.html` in headless Chromium against a consumer socket, an agent on v2.1.
//
//   TIELINE_HTTP=http://127.0.0.1:8080 TIELINE_PAGE_PORT=8090 node browser_chat.mjs
//
// The page comes from another origin, http://127.0.0.1:$TIELINE_PAGE_PORT, which `server.allowed_origins` must list. What
// is asserted is what a person sees on it. With TIELINE_HTTPS the page is used over TLS too, with TIELINE_SURVEY=1 and
// TIELINE_FILES=1 a survey and a file are part of the run, and with TIELINE_SHOTS set screenshots are kept.

import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect, createServer as createRelay } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { chromium } from 'playwright-core';
import WebSocket from 'ws';
import harness from './harness.cjs';

const { DEMO, Inbox, Mismatch, absent, call, claims, exactly, main, must, required, settled, text, uuid } = harness;

const HTTP = required('TIELINE_HTTP');
const HTTPS = process.env.TIELINE_HTTPS?.replace(/\/$/, '');
const PORT = Number(required('TIELINE_PAGE_PORT'));
const PAGE = `http://127.0.0.1:${PORT}`;
const { account } = DEMO;
const GRACE = { login: 'grace', password: 'grace-demo' };
const QUEUE = '77';
/** How long the page may take to show something. */
const DEADLINE = 10_000;
/** How long the run may take: a page decides in seconds, as people do. */
const RUN_DEADLINE = 180_000;

const EX = '.ams.aam.ExConversationChangeNotification';
const EVENTS = '.ams.ms.OnlineEventDistribution';

const plain = (message) => ({ type: 'ContentEvent', contentType: 'text/plain', message });
const typing = (chatState) => ({ type: 'ChatStateEvent', chatState });

const until = (checks, what, read, expected) => settled(checks, what, read, expected, DEADLINE);

/** An agent: a login, and a socket that hears every open conversation. */
class Agent {
  #socket;
  #inbox;
  #checks;
  #asked = 0;

  static async signIn(checks, { login, password }) {
    const agent = new Agent();
    agent.#checks = checks;
    const answer = await call('POST', `${HTTP}/api/account/${account}/login?v=1.3`, { json: { username: login, password } });
    checks.match(`the login of ${login}`, answer, { status: 200, body: { bearer: text, config: { userPid: uuid } } });
    agent.name = login;
    agent.pid = answer.body.config.userPid;
    agent.oldId = `${account}.${answer.body.config.userId}`;
    agent.#inbox = new Inbox(login);
    const url = `${HTTP.replace('http', 'ws')}/ws_api/account/${account}/messaging/brand/${answer.body.bearer}?v=2.1`;
    const socket = (agent.#socket = new WebSocket(url));
    socket.on('message', (data) => agent.#inbox.put(JSON.parse(data.toString())));
    socket.on('close', (code) => agent.#inbox.fail(new Mismatch(`${login}: the socket was closed with ${code}`)));
    await new Promise((resolve, reject) => socket.once('open', resolve).on('error', reject));
    await agent.ask('.ams.aam.SubscribeExConversations', { stage: ['OPEN'] });
    return agent;
  }

  async ask(type, body, rest = {}) {
    this.#asked += 1;
    const id = String(this.#asked);
    this.#socket.send(JSON.stringify({ kind: 'req', id, type, body, ...rest }));
    const { value } = await this.#inbox.take(`the reply to ${type}`, (frame) => frame.kind === 'resp' && frame.reqId === id);
    this.#checks.match(`${this.name}: ${type}`, value, { code: 200 });
    return value.body;
  }

  /** Publishes into a conversation's first dialog; the sequence. */
  async publish(conversation, event, rest = {}) {
    const { messageAudience, ...envelope } = rest;
    const { sequence } = await this.ask('.ams.ms.PublishEvent', { dialogId: conversation, event, messageAudience }, envelope);
    return sequence;
  }

  update(conversation, ...fields) {
    return this.ask('.ams.cm.UpdateConversationField', { conversationId: conversation, conversationField: fields });
  }

  join(conversation) {
    return this.update(conversation, { field: 'ParticipantsChange', type: 'ADD', role: 'ASSIGNED_AGENT' });
  }

  close(conversation) {
    return this.update(conversation, { field: 'ConversationStateField', conversationState: 'CLOSE' });
  }

  /** The next event of a conversation that is wanted, by other than the agent. */
  async hears(conversation, what, expected) {
    const wanted = ({ conversationId, originatorPId, event }) =>
      conversationId === conversation &&
      originatorPId !== this.pid &&
      Object.entries(expected.event).every(([key, value]) => isDeepStrictEqual(event[key], value));
    const { value } = await this.#inbox.take(what, (frame) => frame.type === EVENTS && wanted(frame.body));
    this.#checks.match(`${this.name} hears ${what}`, value.body, expected);
    return value.body;
  }

  /** What has come of a conversation and was not waited for, by the kind of its events. */
  rest(conversation, type) {
    const isIt = ({ conversationId, event }) => conversationId === conversation && event.type === type;
    return this.#inbox.rest().filter((frame) => frame.type === EVENTS && isIt(frame.body));
  }

  /** The next state of a conversation that is wanted. */
  async sees(what, wanted) {
    const isIt = ({ result }) => wanted(result.conversationDetails, result);
    const { value } = await this.#inbox.take(what, (frame) => frame.type === EX && frame.body.changes.some(isIt));
    return value.body.changes.find(isIt).result;
  }

  leave() {
    this.#inbox.fail(new Mismatch(`${this.name} has left`));
    this.#socket.close(1000);
  }
}

/** The page in a browser window, as a person sees and uses it. */
class Customer {
  #checks;
  #shots;
  #shot = 0;

  static async open(browser, checks, { server, name, shots, origin = PAGE, search = '', ...options }) {
    const customer = new Customer();
    const context = await browser.newContext({ viewport: { width: 480, height: 760 }, ...options });
    const page = await context.newPage();
    Object.assign(customer, { name, context, page, faults: [], sent: new Inbox(`what the page of ${name} sends`) });
    customer.#checks = checks;
    customer.#shots = shots;
    page.on('console', (message) => message.type() === 'error' && customer.faults.push(message.text()));
    page.on('pageerror', (error) => customer.faults.push(String(error)));
    page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => customer.sent.put(JSON.parse(payload))));
    await page.goto(`${origin}/web_chat.html?server=${server}&account=${account}&skill=${QUEUE}${search}`);
    return customer;
  }

  until(what, read, expected) {
    return until(this.#checks, `${this.name}: ${what}`, read, expected);
  }

  state(expected) {
    return this.until('the state of the connection', () => this.page.getAttribute('#status', 'data-state'), expected);
  }

  /** Whether something is on the page. */
  shows(what, selector, isShown = true) {
    return this.until(`${what} is ${isShown ? '' : 'not '}shown`, () => this.page.isVisible(selector), isShown);
  }

  token() {
    return this.page.evaluate(() => sessionStorage.getItem('chat.token'));
  }

  async id() {
    return claims(await this.token()).sub;
  }

  /** The messages of a dialog: position, side, and what is written there. */
  messages(dialogType = 'MAIN') {
    return this.page.$$eval(`.message[data-dialog-type="${dialogType}"]`, (items) =>
      items.map(({ dataset, children: [content] }) => [Number(dataset.sequence), dataset.from, content.textContent]));
  }

  notes() {
    return this.page.$$eval('.note', (items) => items.map((item) => item.textContent));
  }

  noted(note) {
    return this.until('the note', async () => (await this.notes()).at(-1), note);
  }

  receipt(sequence) {
    return this.page.textContent(`.message[data-dialog-type="MAIN"][data-sequence="${sequence}"] .receipt`);
  }

  /** Writes into the box and sends it, as a person does. */
  async say(words) {
    await this.page.fill('#words', words);
    await this.page.press('#words', 'Enter');
  }

  /** A frame that the page has sent or is about to. */
  async sends(what, type, expected) {
    const { value } = await this.sent.take(what, (frame) => frame.type === type);
    this.#checks.match(`${this.name} sends ${what}`, value, expected);
  }

  async shot(what) {
    this.#shot += 1;
    if (this.#shots) await this.page.screenshot({ path: join(this.#shots, `${this.name}-${this.#shot}-${what}.png`) });
  }

  /** Everything once and nothing wrong: what a person would never be told. */
  async leave() {
    const repeats = await this.page.getAttribute('#log', 'data-repeats');
    this.#checks.match(`${this.name}: messages that came twice`, repeats, null);
    this.#checks.match(`${this.name}: errors in the browser`, this.faults, exactly([]));
    await this.context.close();
  }
}

/** Serves the page, from an origin of its own. */
async function servePage() {
  const kinds = { '/web_chat.html': 'text/html; charset=utf-8', '/web_chat.mjs': 'text/javascript; charset=utf-8' };
  const server = createServer(async ({ url }, response) => {
    const path = url.split('?')[0];
    // Browsers ask for an icon by themselves.
    if (!kinds[path]) return response.writeHead(path === '/favicon.ico' ? 204 : 404).end();
    response.writeHead(200, { 'content-type': kinds[path], 'cache-control': 'no-store' });
    return response.end(await readFile(new URL(`.${path}`, import.meta.url)));
  });
  // Not only on 127.0.0.1: under the name `localhost` it is another origin.
  await new Promise((resolve, reject) => server.once('error', reject).listen(PORT, 'localhost', resolve));
  if (server.address().address !== '127.0.0.1') {
    const other = createServer(server.listeners('request')[0]);
    await new Promise((resolve, reject) => other.once('error', reject).listen(PORT, '127.0.0.1', resolve));
  }
}

/** Stands between the browser and the gateway, and can cut what runs through it. */
async function relay() {
  const { hostname, port } = new URL(HTTP);
  const open = new Set();
  const server = createRelay((near) => {
    const far = connect(Number(port), hostname);
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one);
      one.pipe(other);
      one.on('error', () => {}).on('close', () => (open.delete(one), other.destroy()));
    }
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const cut = () => open.forEach((socket) => socket.resetAndDestroy());
  return { host: `127.0.0.1:${server.address().port}`, cut };
}

/** A page whose origin is not listed gets no socket, though nothing else tells it apart. */
async function refusesOtherOrigins(browser, checks, host) {
  const stranger = await Customer.open(browser, checks, { server: host, name: 'stranger', origin: `http://localhost:${PORT}` });
  await stranger.state('waiting');
  checks.match('the stranger has signed up', await stranger.token(), text);
  checks.match('the close that the stranger sees', await stranger.page.getAttribute('#status', 'data-closed'), '1006');
  const refused = must('only refusals with 403', (faults) => faults.length > 0 && faults.every((fault) => fault.includes('403')));
  await stranger.until('what its browser says', async () => stranger.faults, refused);
  await stranger.context.close();
}

/** A new customer's conversation, as an agent sees it come. */
async function comes(agent, customer, checks, ...earlier) {
  await customer.state('online');
  const consumer = await customer.id();
  const isNew = ({ participants }, { convId }) => participants.CONSUMER[0] === consumer && !earlier.includes(convId);
  const found = await agent.sees('the new conversation', isNew);
  checks.match('the new conversation', found, {
    convId: uuid,
    conversationDetails: { skillId: QUEUE, state: 'OPEN', closeReason: absent },
  });
  await customer.shows('the box', '#words');
  return found.convId;
}

/** Everything that a conversation can hold. */
async function talks(customer, ada, grace, id, checks) {
  const { page } = customer;
  const transcript = [];
  /** Both sides' messages on the page: each once, in order. */
  const complete = (...more) => {
    transcript.push(...more);
    return customer.until('the messages', () => customer.messages(), transcript);
  };
  const agentSays = async (agent, words, rest) => {
    const sequence = await agent.publish(id, plain(words), rest);
    await complete([sequence, 'agent', words]);
    const read = { type: 'AcceptStatusEvent', status: 'READ', sequenceList: [sequence] };
    await agent.hears(id, `that ${JSON.stringify(words)} was read`, { event: read });
  };
  const customerSays = async (agent, words) => {
    await customer.say(words);
    const { sequence } = await agent.hears(id, 'the customer', { event: plain(words), originatorId: await customer.id() });
    await complete([sequence, 'own', words]);
    return sequence;
  };

  checks.match('the greeting of the page', await customer.notes(), ['Welcome. Write to us; an agent will be with you soon.']);
  await ada.join(id);
  await customer.noted('An agent has joined');
  await agentSays(ada, 'Hello, I am Ada. How can I help?');

  await page.focus('#words');
  await page.keyboard.type('Whe');
  await ada.hears(id, 'that the customer types', { event: typing('COMPOSING') });
  await page.fill('#words', '');
  await ada.hears(id, 'that the customer types no more', { event: typing('PAUSE') });
  const asked = await customerSays(ada, 'Where is my order?');
  await customer.until('the receipt', () => customer.receipt(asked), 'Sent');
  const seen = (status) => ada.publish(id, { type: 'AcceptStatusEvent', status, sequenceList: [asked] });
  await seen('ACCEPT');
  await customer.until('the receipt', () => customer.receipt(asked), 'Delivered');
  await seen('READ');
  await customer.until('the receipt', () => customer.receipt(asked), 'Read');

  await customer.shows('the typing', '#typing', false);
  await ada.publish(id, typing('COMPOSING'));
  await customer.shows('the typing', '#typing');
  await customer.shot('typing');
  await ada.publish(id, typing('PAUSE'));
  await customer.shows('the typing', '#typing', false);
  await ada.publish(id, typing('COMPOSING'));
  await customer.shows('the typing', '#typing');
  await agentSays(ada, 'Let me look.');
  await customer.shows('the typing', '#typing', false);

  // What text can hold: beyond the BMP, joined, from right to left, line separators, and markup that must not be any.
  const odd = [
    // A family and a flag joined of several characters, and an accent behind its letter.
    '\u{1F469}\u200D\u{1F469}\u200D\u{1F467}\u200D\u{1F466} \u{1F3F3}\uFE0F\u200D\u{1F308} e\u0301',
    'one\u2028two\u2029three\u0085',
    '\u05E9\u05DC\u05D5\u05DD, \u200F\u0645\u0631\u062D\u0628\u0627\u200E abc',
    '<img src=x onerror="window.harmed=1"> & <b>bold</b>',
  ];
  for (const words of odd) await agentSays(ada, words);
  for (const words of odd) await customerSays(ada, words);
  checks.match('markup in messages', await page.$$eval('#log img, #log b', ({ length }) => length), 0);
  checks.match('script in messages', await page.evaluate(() => window.harmed), absent);

  // A card is pressed, then a quick reply: each tells the agent which by its metadata, and says its text.
  const named = (name) => [{ type: 'ExternalId', id: name }];
  const button = (title, name) => {
    const click = { actions: [{ type: 'publishText', text: title }], metadata: named(name) };
    return { type: 'button', title, tooltip: title, click };
  };
  const buttons = { type: 'horizontal', elements: [button('Track', 'T-1'), button('Return', 'R-1')] };
  const card = { type: 'vertical', elements: [{ type: 'text', text: 'Order 4711' }, { type: 'unheard-of' }, buttons] };
  const pressed = async (sequence, title, name) => {
    await page.click(`.message[data-sequence="${sequence}"] button:text-is("${title}")`);
    const action = { type: 'AcceptStatusEvent', status: 'ACTION', sequenceList: [sequence] };
    await ada.hears(id, `the press on ${title}`, { event: action, metadata: named(name) });
    const { sequence: said } = await ada.hears(id, `the text of ${title}`, { event: plain(title), metadata: named(name) });
    await complete([said, 'own', title]);
  };
  const rich = await ada.publish(id, { type: 'RichContentEvent', content: card }, { metadata: named('CARD-1') });
  await complete([rich, 'agent', 'Order 4711TrackReturn']);
  await customer.shot('card');
  await pressed(rich, 'Return', 'R-1');
  const replies = [button('Yes, please', 'Q-1'), button('No', 'Q-2')];
  const quickReplies = { type: 'quickReplies', itemsPerRow: 8, replies };
  const offered = await ada.publish(id, { ...plain('Shall I send a label?'), quickReplies });
  await complete([offered, 'agent', 'Shall I send a label?']);
  await customer.shows('the quick reply', '.replies');
  await customer.shot('quick-reply');
  await pressed(offered, 'Yes, please', 'Q-1');
  await customer.shows('the quick reply', '.replies', false);

  // What agents say among themselves is no customer's.
  await ada.publish(id, plain('a difficult one'), { messageAudience: 'AGENTS_AND_MANAGERS' });

  // To another agent, then back to the queue and to the first.
  await ada.update(
    id,
    { field: 'ParticipantsChange', type: 'SUGGEST', role: 'ASSIGNED_AGENT', userId: grace.oldId },
    { field: 'ParticipantsChange', type: 'REMOVE', role: 'ASSIGNED_AGENT' },
  );
  await customer.noted('The agent has left');
  await grace.join(id);
  await customer.noted('Another agent has joined');
  await agentSays(grace, 'Grace here, I take over.');
  await customerSays(grace, 'Hello Grace');
  await grace.update(
    id,
    { field: 'Skill', type: 'UPDATE', skill: '-1' },
    { field: 'ParticipantsChange', type: 'REMOVE', role: 'ASSIGNED_AGENT' },
  );
  await customer.noted('The agent has left');
  await ada.join(id);
  await customer.noted('Another agent has joined');
  await customerSays(ada, 'And back');
  return { transcript, complete, agentSays, customerSays };
}

/** The conversation outlives the page, the browser's network and the connection. */
async function survives(customer, ada, id, cut, { transcript, complete, agentSays, customerSays }, checks) {
  const { page } = customer;
  /** A connection begins with the token, and asks for the messages: all, or those behind what the page has. */
  const resumes = async (what, { isNew }) => {
    const fromSeq = isNew ? 0 : must('behind the last message', (value) => value > transcript.at(-1)[0]);
    const headers = must('the token', (all) => all.some(({ type, jwt }) => type.endsWith('ConsumerAuthentication') && jwt === token));
    await customer.sends(`who it is ${what}`, 'InitConnection', { headers });
    await customer.sends(`for the messages ${what}`, 'ms.SubscribeMessagingEvents', { body: { dialogId: id, fromSeq } });
  };
  const token = await customer.token();
  await resumes('at first', { isNew: true });

  const before = ada.rest(id, 'AcceptStatusEvent').length;
  await page.reload();
  await customer.state('online');
  await complete();
  await resumes('after the reload', { isNew: true });
  checks.match('the token after the reload', await customer.token(), token);
  await customer.shot('reloaded');
  await customerSays(ada, 'Still here?');
  await agentSays(ada, 'Of course.');
  checks.match('receipts given again after the reload', ada.rest(id, 'AcceptStatusEvent').length, before);

  // No network: the socket is stalled and not closed, and what it still brings afterwards must not count twice.
  await customer.context.setOffline(true);
  await customer.state('offline');
  const away = [];
  for (const words of ['while', 'you were', 'away']) away.push([await ada.publish(id, plain(words)), 'agent', words]);
  checks.match('the box while offline', await page.isDisabled('#words'), true);
  checks.match('the messages while offline', await customer.messages(), exactly(transcript));
  await customer.shot('offline');
  await customer.context.setOffline(false);
  await customer.state('online');
  await resumes('after the network was gone', { isNew: false });
  await complete(...away);
  await ada.hears(id, 'that they were read', {
    event: { type: 'AcceptStatusEvent', status: 'READ', sequenceList: away.map(([sequence]) => sequence) },
  });
  await customerSays(ada, 'Online again');

  // A connection that breaks in the middle.
  cut();
  const missed = 'Did the line break?';
  const sequence = await ada.publish(id, plain(missed));
  await resumes('after the connection broke', { isNew: false });
  await complete([sequence, 'agent', missed]);
  await customerSays(ada, 'Only for a moment');

  await customer.sends('the request for the clock', 'GetClock', { id: 1 });
}

/** The rating and the ends of conversations, and one behind the other. */
async function ends(customer, ada, first, checks) {
  const { page } = customer;
  const closed = async (id, closeReason) => {
    const { conversationDetails } = await ada.sees('the end', ({ stage }, { convId }) => convId === id && stage === 'CLOSE');
    checks.match('the end', conversationDetails, { state: 'CLOSE', closeReason });
  };
  await page.click('[aria-label="4 of 5"]');
  await customer.until('the rating', () => page.textContent('#rated'), 'You gave 4 of 5');
  const rated = await ada.sees('the rating', ({ csat }, { convId }) => convId === first && csat);
  checks.match('the rating', rated.conversationDetails.csat, { csatRate: 4, csatResolutionConfirmation: true, status: 'FILLED' });
  await ada.close(first);
  await closed(first, 'AGENT');
  await customer.noted('The agent has ended the conversation');
  await customer.shows('the box', '#words', false);
  await customer.shot('ended');

  // A new one begins with nothing of the old.
  await page.click('#again');
  const second = await comes(ada, customer, checks, first);
  checks.match('the messages of a new conversation', await customer.messages(), exactly([]));
  checks.match('the rating of a new conversation', await page.textContent('#rated'), '');
  await ada.join(second);
  checks.match('the first sequence of a new conversation', await ada.publish(second, plain('Hello again')), 0);
  await customer.until('the messages', () => customer.messages(), [[0, 'agent', 'Hello again']]);
  await page.click('#end');
  await closed(second, 'CONSUMER');
  await customer.noted('You have ended the conversation');

  // One that ends while the customer is away: the last words are there, and the end is.
  await page.click('#again');
  const third = await comes(ada, customer, checks, first, second);
  await ada.join(third);
  await customer.noted('An agent has joined');
  await customer.context.setOffline(true);
  await customer.state('offline');
  await ada.publish(third, plain('Goodbye then'));
  await ada.close(third);
  await customer.context.setOffline(false);
  await customer.until('the messages', () => customer.messages(), [[0, 'agent', 'Goodbye then']]);
  await customer.noted('The conversation has ended');
}

/** A token that is no good is told apart by the close code, and the page signs up again. */
async function signsUpAgain(customer, ada, checks) {
  const token = await customer.token();
  const [head, , signature] = token.split('.');
  const payload = Buffer.from(JSON.stringify({ ...claims(token), sub: randomUUID() })).toString('base64url');
  const forged = [head, payload, signature].join('.');
  await customer.page.evaluate((jwt) => sessionStorage.setItem('chat.token', jwt), forged);
  await customer.page.reload();
  const isNew = must('another token', (jwt) => Boolean(jwt) && ![token, forged].includes(jwt));
  await customer.until('the token', () => customer.token(), isNew);
  checks.match('the close that the page sees', await customer.page.getAttribute('#status', 'data-closed'), '4401');
  await comes(ada, customer, checks);
  checks.match('the messages of somebody new', await customer.messages(), exactly([]));
}

/** The same over TLS. */
async function worksOverTls(browser, ada, checks) {
  // The browser does not know the gateway's own authority.
  const options = { server: new URL(HTTPS).host, name: 'tess', search: '&tls', ignoreHTTPSErrors: true };
  const customer = await Customer.open(browser, checks, options);
  const id = await comes(ada, customer, checks);
  await ada.join(id);
  await customer.say('Is this safe?');
  await ada.hears(id, 'the customer', { event: plain('Is this safe?'), sequence: 0 });
  await ada.publish(id, plain('It is.'));
  await customer.until('the messages', () => customer.messages(), [[0, 'own', 'Is this safe?'], [1, 'agent', 'It is.']]);
  await customer.leave();
}

/** Questions behind the conversation, in a dialog of their own. */
async function answersSurvey(browser, ada, checks, options) {
  const customer = await Customer.open(browser, checks, { ...options, name: 'sue', search: '&survey' });
  const { page } = customer;
  const id = await comes(ada, customer, checks);
  await ada.join(id);
  await ada.publish(id, plain('All done?'));
  await customer.until('the messages', () => customer.messages(), [[0, 'agent', 'All done?']]);
  // An agent who closes the dialog lets questions follow; one who closes the conversation does not.
  await ada.update(id, { field: 'DialogChange', type: 'UPDATE', dialog: { dialogId: id, state: 'CLOSE' } });
  const { conversationDetails } = await ada.sees('the survey', ({ dialogs }, { convId }) => convId === id && dialogs.length > 1);
  checks.match('the conversation behind which the survey runs', conversationDetails, { state: 'CLOSE', stage: 'OPEN' });
  const survey = conversationDetails.dialogs.find(({ dialogType }) => dialogType === 'POST_SURVEY');
  checks.match('the survey', survey, { dialogId: must('another id', (dialogId) => dialogId !== id), state: 'OPEN' });
  const place = { dialogId: survey.dialogId, conversationId: id, fromSeq: 0 };
  await customer.sends('for the first dialog', 'ms.SubscribeMessagingEvents', { body: { dialogId: id } });
  await customer.sends('for the survey', 'ms.SubscribeMessagingEvents', { body: place });

  const QUESTION = '.message[data-dialog-type="POST_SURVEY"][data-question]';
  const last = () => page.$$eval(QUESTION, (items) => items.map(({ dataset }) => Number(dataset.sequence)).at(-1) ?? -1);
  const phase = () => page.getAttribute('#log', 'data-phase');
  let answered = -1;
  for (;;) {
    const isNext = must('a question or the end', ([now, question]) => now === 'ended' || question > answered);
    await customer.until('the survey', async () => [await phase(), await last()], isNext);
    if ((await phase()) === 'ended') break;
    answered = await last();
    if (answered === 0) await customer.shot('survey');
    const reply = page.locator('.replies button').first();
    const words = (await reply.count()) > 0 ? await reply.textContent() : 'It all went well';
    if ((await reply.count()) > 0) await reply.click();
    else await customer.say(words);
    const isIt = ([sequence, from, said]) => sequence > answered && from === 'own' && said === words;
    const isSaid = must(`the answer ${words}`, (messages) => messages.some(isIt));
    await customer.until('the answer', () => customer.messages('POST_SURVEY'), isSaid);
  }
  checks.match('the number of the last question', answered, must('0 or more', (sequence) => sequence >= 0));
  await customer.noted('The agent has ended the conversation');
  const end = await ada.sees('the end', ({ stage }, { convId }) => convId === id && stage === 'CLOSE');
  checks.match('the end', end.conversationDetails, { state: 'CLOSE', stage: 'CLOSE' });
  const over = end.conversationDetails.dialogs.find(({ dialogId }) => dialogId === survey.dialogId);
  checks.match('the end of the survey', over, { state: 'CLOSE', closedBy: 'AGENT', closedCause: 'Completed' });
  await customer.shot('surveyed');
  await customer.leave();
}

/** A picture goes from the page to the agent, and the page gets it back. */
async function sendsFile(browser, ada, checks, options) {
  const customer = await Customer.open(browser, checks, { ...options, name: 'fay', search: '&files' });
  const { page } = customer;
  const id = await comes(ada, customer, checks);
  await ada.join(id);
  await page.click('#attach');
  const { event } = await ada.hears(id, 'the file', { event: { type: 'ContentEvent', contentType: 'hosted/file' }, sequence: 0 });
  const { relativePath } = event.message;
  checks.match('the file', event.message, { relativePath: /^\//, fileType: 'PNG', preview: /^data:image\/png;base64,/ });
  await customer.until('the messages', () => customer.messages(), [[0, 'own', 'A drawingDownload']]);
  const { queryParams } = await ada.ask('.ams.ms.GenerateURLForDownloadFile', { relativePath });
  const response = await fetch(`${HTTP}${relativePath}?${new URLSearchParams(queryParams)}`);
  checks.match('the download of the agent', response.status, 200);
  const bytes = Buffer.from(await response.arrayBuffer());
  checks.match('what the agent downloads', bytes.subarray(1, 4).toString(), 'PNG');
  // The preview is the picture itself, so small is it.
  checks.match('the bytes that the agent has', bytes.toString('base64'), event.message.preview.split(',')[1]);
  await page.click('.download');
  await customer.until('the download', () => page.getAttribute('figure', 'data-state'), 'downloaded');
  const own = await page.$eval('figure img', async (image) => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]);
  checks.match('the bytes that the page has', Buffer.from(own).equals(bytes), true);
  await customer.shot('file');
  await customer.leave();
}

main('browser_chat', async (checks) => {
  const shots = process.env.TIELINE_SHOTS ? await mkdtemp(join(tmpdir(), 'browser-chat-')) : null;
  if (shots) console.log(`screenshots in ${shots}`);
  await servePage();
  const { host, cut } = await relay();
  // The sandbox needs rights that neither root nor most containers have; the only page is ours.
  const browser = await chromium.launch({ executablePath: process.env.TIELINE_CHROMIUM ?? '/usr/bin/chromium', chromiumSandbox: false });
  const [ada, grace] = await Promise.all([DEMO.agent, GRACE].map((who) => Agent.signIn(checks, who)));
  await refusesOtherOrigins(browser, checks, host);

  const customer = await Customer.open(browser, checks, { server: host, name: 'ann', shots });
  const first = await comes(ada, customer, checks);
  const talk = await talks(customer, ada, grace, first, checks);
  await survives(customer, ada, first, cut, talk, checks);
  await ends(customer, ada, first, checks);
  await signsUpAgain(customer, ada, checks);
  await customer.leave();
  if (HTTPS) await worksOverTls(browser, ada, checks);
  if (process.env.TIELINE_SURVEY) await answersSurvey(browser, ada, checks, { server: host, shots });
  if (process.env.TIELINE_FILES) await sendsFile(browser, ada, checks, { server: host, shots });
  for (const agent of [ada, grace]) agent.leave();
  await browser.close();
}, { deadline: RUN_DEADLINE });
