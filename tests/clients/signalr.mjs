// The stock `@microsoft/signalr` client at the events hub of Hubster's dialect, as a customer and as an agent: live, over connections
// that are cut, and by each way to connect.
//
//   TIELINE_HTTP=http://127.0.0.1:8080 TIELINE_TENANT=<32 hexadecimal digits> node signalr.mjs

import { connect, createServer } from 'node:net';
import signalR from '@microsoft/signalr';
import harness from './harness.cjs';

const { Inbox, Mismatch, call, exactly, main, must, required, until } = harness;

const HTTP = required('TIELINE_HTTP');
const HTTPS = process.env.TIELINE_HTTPS?.replace(/\/$/, '');
const TENANT = required('TIELINE_TENANT');
const SECRET = 'a-secret-of-the-account';
const SHOP = '00000000-0000-0000-0000-000000000023';
const ADA = '00000000-0000-0000-0000-000000000024';
const SALES = '00000000-0000-0000-0000-00000000002b';
const SELLER = '00000000-0000-0000-0000-00000000002c';
/** What an agent writes while connections are cut, and how often they are. */
const MESSAGES = 240;
const CUTS = 6;
const RUN_DEADLINE = 180_000;

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));
const says = (wanted) => must(`a text with ${wanted}`, (text) => typeof text === 'string' && text.includes(wanted));
const textOf = ({ message, event }) => message?.text ?? event?.type;

/** Calls over HTTP, with a token. */
class Engine {
  static async open() {
    const form = { grant_type: 'client_credentials', client_id: `hubster.engine.api.${TENANT}`, client_secret: SECRET };
    const { status, body } = await call('POST', `${HTTP}/connect/token`, { form });
    if (status !== 200) throw new Mismatch(`a token: ${status} ${JSON.stringify(body)}`);
    return Object.assign(new Engine(), { token: body.access_token, headers: { authorization: `${body.token_type} ${body.access_token}` } });
  }

  async #good(method, path, json) {
    const { status, body } = await call(method, `${HTTP}${path}`, { headers: this.headers, json });
    if (status !== 200) throw new Mismatch(`${method} ${path}: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  async establish(binding, integrationId = SHOP) {
    const { conversationId } = await this.#good('POST', '/api/v1/conversations/establish', { integrationId, binding, channelType: 'Direct' });
    return conversationId;
  }

  say(conversation, text) {
    return this.#good('POST', `/inbound/customer/v1/direct/activity/${conversation}`, { message: { type: 'text', text } });
  }

  answer(conversation, text) {
    const activity = { sender: { integrationId: ADA }, message: { type: 'text', text } };
    return this.#good('POST', `/inbound/business/v1/direct/activity/${conversation}`, activity);
  }

  /** Somebody types, which is shown and not kept. */
  types(conversation) {
    const activity = { sender: { integrationId: ADA }, event: { type: 'typing_on' } };
    return this.#good('POST', `/inbound/business/v1/direct/activity/${conversation}`, activity);
  }

  poll(conversation, after) {
    return this.#good('GET', `/api/v1/interactions/activities/${conversation}?type=Customer&leid=${after}`);
  }

  /** A connection that is not started, and tells its inbox. */
  events(query, { base = HTTP, name = 'events', retry = null, skip = false, token = this.token } = {}) {
    const options = {
      accessTokenFactory: () => token,
      ...(skip ? { skipNegotiation: true, transport: signalR.HttpTransportType.WebSockets } : {}),
    };
    const builder = new signalR.HubConnectionBuilder().withUrl(`${base}/engine-chat-hub?${new URLSearchParams(query)}`, options);
    if (retry) builder.withAutomaticReconnect(retry);
    const connection = builder.configureLogging(signalR.LogLevel.None).build();
    const inbox = new Inbox(name);
    connection.on('ReceiveDirectActivities', (...args) => inbox.put(args));
    return { connection, inbox };
  }
}

/** The next activity that says something. */
async function hears(checks, inbox, wanted) {
  const { value } = await inbox.take(`an activity that says ${wanted}`, ([activity]) => textOf(activity) === wanted);
  checks.match(`one activity at a time: ${wanted}`, value.length, 1);
  return value[0];
}

/** Stands between a client and the gateway, and can cut what runs through it. */
async function relay() {
  const { hostname, port } = new URL(HTTP);
  const open = new Set();
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one);
      one.pipe(other);
      one.on('error', () => {}).on('close', () => (open.delete(one), other.destroy()));
    }
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  return { base: `http://127.0.0.1:${server.address().port}`, cut: () => open.forEach((socket) => socket.resetAndDestroy()) };
}

/** A customer and an agent hear each other, by each way to connect. */
async function talks(checks, engine) {
  for (const [name, way] of [['negotiated', {}], ['at once', { skip: true }], ['over TLS', { base: HTTPS }]]) {
    if ('base' in way && !HTTPS) continue;
    const id = await engine.establish(`talk ${name}`);
    const customer = engine.events({ iId: SHOP, cId: id }, { ...way, name: `customer, ${name}` });
    const agent = engine.events({ iId: ADA }, { ...way, name: `agent, ${name}` });
    await customer.connection.start();
    await agent.connection.start();
    await engine.say(id, `hello ${name}`);
    const heard = await hears(checks, agent.inbox, `hello ${name}`);
    checks.match('what the agent hears', heard, {
      type: 'message',
      eventTrigger: 'message:customer',
      isEcho: false,
      flowProcess: 'Default',
      sender: { integrationId: SHOP, integrationType: 'Customer', channelType: 'Direct' },
      recipient: { integrationId: ADA, integrationType: 'Agent', tokenId: `${id}.${ADA}` },
    });
    const { eventId, interactionId } = await engine.answer(id, `good day ${name}`);
    const answered = await hears(checks, customer.inbox, `good day ${name}`);
    checks.match('what the customer hears', answered, { eventId, interactionId, eventTrigger: 'message:agent', sender: { integrationId: ADA } });
    // There is nothing to call; who asks is told, and goes on.
    const refused = await customer.connection.invoke('Send', 'x').then(() => 'no error', ({ message }) => message);
    checks.match('the outcome of a call', refused, says("no method 'Send'"));
    const streamed = await new Promise((resolve) =>
      customer.connection.stream('Flow').subscribe({ next: () => resolve('an item'), complete: () => resolve('an end'), error: ({ message }) => resolve(message) }));
    checks.match('the outcome of a stream', streamed, says("no method 'Flow'"));
    await customer.connection.send('Send', 'x');
    await engine.answer(id, `bye ${name}`);
    await hears(checks, customer.inbox, `bye ${name}`);
    await Promise.all([customer.connection.stop(), agent.connection.stop()]);
    checks.match('nothing else is told', [customer.inbox.rest().length, agent.inbox.rest().length], exactly([0, 0]));
  }
}

/** An agent hears each conversation of its hub. */
async function servesAHub(checks, engine) {
  const [ann, bob, sale] = [await engine.establish('ann'), await engine.establish('bob'), await engine.establish('cid', SALES)];
  const [ada, seller] = [engine.events({ iId: ADA }, { name: 'ada' }), engine.events({ iId: SELLER }, { name: 'seller' })];
  await Promise.all([ada.connection.start(), seller.connection.start()]);
  await engine.say(sale, 'to sales');
  await engine.say(ann, 'of ann');
  await engine.say(bob, 'of bob');
  const place = async (inbox, text) => (await hears(checks, inbox, text)).recipient.tokenId;
  checks.match('of ann', await place(ada.inbox, 'of ann'), `${ann}.${ADA}`);
  checks.match('of bob', await place(ada.inbox, 'of bob'), `${bob}.${ADA}`);
  checks.match('to sales', await place(seller.inbox, 'to sales'), `${sale}.${SELLER}`);
  await Promise.all([ada.connection.stop(), seller.connection.stop()]);
  checks.match('nothing else is told', [...ada.inbox.rest(), ...seller.inbox.rest()], exactly([]));
}

async function refuses(checks, engine) {
  const id = await engine.establish('refused');
  for (const [query, more, status] of [
    [{ iId: SHOP, cId: id }, { token: 'nonsense' }, 401],
    [{ iId: SHOP }, {}, 403],
    [{ iId: SHOP, cId: SHOP }, {}, 404],
  ]) {
    const why = await engine.events(query, more).connection.start().then(() => 'started', ({ message }) => message);
    checks.match(`${status} at negotiation`, why, says(`'${status}'`));
  }
}

/** Has an agent write while something is cut now and then; what it wrote. */
async function writes(engine, id, name, cut) {
  const texts = Array.from({ length: MESSAGES }, (_, number) => `${name} ${number}`);
  for (const [number, text] of texts.entries()) {
    if (number % 4 === 1) await engine.types(id);
    await engine.answer(id, text);
    if (number % 4 === 3) await engine.types(id);
    if (number % Math.floor(MESSAGES / CUTS) === 20) cut();
    if (number % 8 === 0) await pause(5);
  }
  return texts;
}

/** Whether somebody types, which has no place among what was said. */
const isTyping = ({ event }) => event?.type === 'typing_on';

const inOrder = (activities) => [...activities].sort((one, other) => one.eventId - other.eventId).map(textOf);

/** The client comes back by itself and asks for what it missed; put together, nothing is missing. */
async function pollsWhatItMissed(checks, engine) {
  const [id, { base, cut }] = [await engine.establish('polls'), await relay()];
  const retry = { nextRetryDelayInMilliseconds: ({ previousRetryCount }) => (previousRetryCount > 200 ? null : 20 + 10 * (previousRetryCount % 5)) };
  const { connection } = engine.events({ iId: SHOP, cId: id }, { base, retry });
  const known = new Map();
  let last = 0;
  let live = 0;
  let typed = 0;
  let returns = 0;
  const take = (activity) => {
    known.set(activity.eventId, activity);
  };
  connection.off('ReceiveDirectActivities');
  connection.on('ReceiveDirectActivities', (activity) => {
    if (isTyping(activity)) {
      checks.match('what is not kept', activity.eventId, 0);
      typed += 1;
      return;
    }
    live += 1;
    take(activity);
  });
  // What it had before it was cut is without a gap; behind that it asks.
  connection.onreconnecting(() => {
    last = Math.max(last, ...known.keys());
  });
  const asking = [];
  connection.onreconnected(() => {
    returns += 1;
    asking.push(engine.poll(id, last).then((missed) => missed.forEach(take)));
  });
  await connection.start();
  const texts = await writes(engine, id, 'polled', cut);
  await engine.answer(id, 'the end');
  // Live, or by asking.
  await until('the end', async () => [...known.values()].some((activity) => textOf(activity) === 'the end'), (is) => is);
  await Promise.all(asking);
  checks.match('it was cut and came back', returns, must('at least three times', (count) => count >= 3));
  checks.match('somebody typed', typed, must('more than a few times', (count) => count > 10));
  checks.match('much came live', live, must('more than a third', (count) => count * 3 > MESSAGES));
  checks.match('each activity once, in order', inOrder(known.values()), exactly([...texts, 'the end']));
  await connection.stop();
}

/** A client that connects anew each time and names the last event it had gets the rest, and nothing twice. */
async function resumesByItself(checks, engine) {
  const [id, { base, cut }] = [await engine.establish('resumes'), await relay()];
  const heard = [];
  let last = 0;
  let connections = 0;
  let isOver = false;
  const ended = (async () => {
    while (!isOver) {
      const { connection } = engine.events({ iId: SHOP, cId: id, leid: last }, { base, skip: connections % 2 === 1 });
      connection.off('ReceiveDirectActivities');
      connection.on('ReceiveDirectActivities', (activity) => {
        // The largest, whatever it is of.
        last = Math.max(last, activity.eventId);
        if (isTyping(activity)) return;
        heard.push(activity);
        isOver = textOf(activity) === 'the end';
        if (isOver) connection.stop();
      });
      const closed = new Promise((resolve) => connection.onclose(resolve));
      const isStarted = await connection.start().then(() => true, () => false);
      if (isStarted) {
        connections += 1;
        await closed;
      } else {
        await pause(20);
      }
    }
  })();
  const texts = await writes(engine, id, 'resumed', cut);
  await engine.answer(id, 'the end');
  await ended;
  checks.match('it was cut', connections, must('at least four connections', (count) => count >= 4));
  checks.match('each activity once, in order, as it came', heard.map(textOf), exactly([...texts, 'the end']));
}

main(
  'signalr',
  async (checks) => {
    const engine = await Engine.open();
    await talks(checks, engine);
    await servesAHub(checks, engine);
    await refuses(checks, engine);
    await pollsWhatItMissed(checks, engine);
    await resumesByItself(checks, engine);
  },
  { deadline: RUN_DEADLINE },
);
