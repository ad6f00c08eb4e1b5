// One conversation at three desks: a customer behind Hubster's API with the unmodified npm package @microsoft/signalr, an agent on the
// socket that UltraCart's API hands out, an agent by the unmodified npm package node-agent-sdk (v2.1), and one in the console.
//
//   NODE_EXTRA_CA_CERTS=data/tls/ca.pem TIELINE_HTTP=http://127.0.0.1:8080 TIELINE_HTTPS=https://localhost:8443 \
//   TIELINE_TENANT=00000000000000000000000000000001 node three_desks.mjs
//
// The account is the demo account with an agent bea, whose queue is the integration's.
//
// Each says something while the others look, in turn and all at once; then all must have seen all of it, once, in one order.

import { HubConnectionBuilder, HttpTransportType, LogLevel } from '@microsoft/signalr';
import WebSocket from 'ws';
import agents from './agent_sdk.cjs';
import { Console, launch, until } from './console_page.mjs';
import harness from './harness.cjs';

const { AGENTS, Inbox, call, exactly, main, must, required, text, uuid } = harness;
const { AgentPeer, CONVERSATIONS, EVENTS, HTTP } = agents;

/** Several programs and a browser on few cores. */
const RUN_DEADLINE = 180_000;
const TENANT = required('TIELINE_TENANT');
const INTEGRATION = '00000000-0000-0000-0000-000000000023';
/** What each says when all speak at once. */
const AT_ONCE = 20;

/** The words of all that one side has seen, in the order in which it saw them. */
class Seen {
  heard = [];

  constructor(name) {
    this.name = name;
  }

  get words() {
    return this.heard;
  }
}

/** A customer of a Hubster integration. */
class HubsterCustomer extends Seen {
  static async establish(checks, binding) {
    const self = new this('the customer');
    const form = { grant_type: 'client_credentials', client_id: `hubster.engine.api.${TENANT}`, client_secret: 'demo-hubster-secret' };
    const token = await call('POST', `${HTTP}/connect/token`, { form });
    checks.match('the engine token', token, { status: 200, body: { access_token: text, token_type: 'Bearer' } });
    self.checks = checks;
    self.token = token.body.access_token;
    self.headers = { authorization: `Bearer ${self.token}` };
    const wanted = {
      integrationId: INTEGRATION, binding, channelType: 2000,
      properties: { profile: { 'full name': 'Visitor One', 'first name': 'Visitor', 'last name': 'One' } },
    };
    const established = await call('POST', `${HTTP}/api/v1/conversations/establish`, { headers: self.headers, json: wanted });
    checks.match('the establishment', established, { status: 200, body: { conversationId: uuid, isNew: true } });
    self.id = established.body.conversationId;
    self.connection = new HubConnectionBuilder()
      .withUrl(`${HTTP}/engine-chat-hub?iId=${INTEGRATION}&cId=${self.id}`, { accessTokenFactory: () => self.token, transport: HttpTransportType.WebSockets })
      .configureLogging(LogLevel.Error)
      .build();
    // Its own words it is not told; where they stand among the others' is known by their event's number.
    self.events = new Map();
    self.connection.on('ReceiveDirectActivities', ({ eventId, type, message }) => type === 'message' && self.events.set(eventId, message.text));
    await self.connection.start();
    return self;
  }

  async say(words) {
    const path = `/inbound/customer/v1/direct/activity/${this.id}`;
    const said = await call('POST', `${HTTP}${path}`, { headers: this.headers, json: { type: 'message', message: { type: 'text', text: words } } });
    this.checks.match('the answer to an activity', said, { status: 200, body: { conversationId: this.id, interactionId: uuid } });
    this.events.set(said.body.eventId, words);
  }

  get words() {
    return [...this.events].sort(([one], [other]) => one - other).map(([, words]) => words);
  }
}

/** An agent on the socket of UltraCart's API. */
class UltraCartAgent extends Seen {
  static async open(checks) {
    const self = new this('the agent on the UltraCart socket');
    self.checks = checks;
    const { body } = await self.#call('PUT', '/agent/auth', 200);
    self.arn = body.agent_auth.conversation_participant_arn;
    self.inbox = new Inbox(self.name);
    self.socket = new WebSocket(body.agent_auth.websocket_url);
    self.socket.on('message', (data) => {
      const frame = JSON.parse(data);
      if (frame.type === 'message' && frame.conversation_uuid === self.id) self.heard.push(frame.message.body);
      self.inbox.put(frame);
    });
    await new Promise((resolve, reject) => self.socket.once('open', resolve).once('error', reject));
    return self;
  }

  async #call(method, path, status) {
    const answer = await call(method, `${HTTP}/rest/v2/conversation${path}`, { headers: { 'x-ultracart-simple-key': 'demo-ultracart-key' } });
    this.checks.match(`${method} ${path}`, answer.status, status);
    return answer;
  }

  event(type, id, wanted = () => true) {
    return this.inbox.take(type, (frame) => frame.event_type === type && frame.conversation_uuid === id && wanted(frame));
  }

  async join(id) {
    this.id = id;
    await this.#call('PUT', `/conversations/${id}/join`, must('a success', (status) => status === 200 || status === 204));
    const isItself = ({ event_participant_join_participant: who }) => who.conversation_participant_arn === this.arn;
    await this.event('participant join', id, isItself);
    // What was said before.
    const { body } = await this.#call('GET', `/conversations/${id}`, 200);
    this.heard.unshift(...body.conversation.messages.map((message) => message.body));
  }

  say(words) {
    this.socket.send(JSON.stringify({ type: 'message', conversation_uuid: this.id, message: { body: words, client_message_id: words } }));
  }
}

/** An agent by the vendor's own package. */
class SdkAgent extends Seen {
  static async open(checks) {
    const self = new this('the agent on v2.1');
    self.checks = checks;
    self.peer = new AgentPeer(AGENTS.grace);
    await self.peer.emitted('connected');
    await self.peer.ask('subscribeExConversations', { convState: ['OPEN'] });
    return self;
  }

  async join(id) {
    this.id = id;
    await this.peer.notification('the conversation', CONVERSATIONS, ({ changes }) => changes.some(({ result }) => result.convId === id));
    this.peer.sdk.on(EVENTS, ({ changes }) => {
      for (const { dialogId, event } of changes) if (dialogId === id && event.type === 'ContentEvent') this.heard.push(event.message);
    });
    const joins = { field: 'ParticipantsChange', type: 'ADD', role: 'MANAGER' };
    await this.peer.ask('updateConversationField', { conversationId: id, conversationField: [joins] });
    await this.peer.ask('subscribeMessagingEvents', { fromSeq: 0, dialogId: id });
  }

  say(words) {
    return this.peer.ask('publishEvent', { dialogId: this.id, event: { type: 'ContentEvent', contentType: 'text/plain', message: words } });
  }
}

main('three_desks', async (checks) => {
  const browser = await launch();
  const [bea, grace, ada] = await Promise.all([Console.open(browser, checks, { agent: 'bea' }), SdkAgent.open(checks), UltraCartAgent.open(checks)]);
  await bea.signIn();
  await bea.available('ONLINE');
  const customer = await HubsterCustomer.establish(checks, `customer-${Date.now()}`);
  const { id } = customer;
  const { value: fresh } = await ada.event('new conversation', id);
  checks.match('the new conversation at the UltraCart desk', fresh.event_new_conversation, { conversation_uuid: id, merchant_id: 'DEMO' });
  const said = ['Hello, where is my parcel?'];
  await customer.say(said[0]);

  await bea.accept();
  await bea.complete(...said);
  await bea.until('the name', () => bea.page.textContent('#conversation-name'), 'Visitor One');
  await ada.join(id);
  await grace.join(id);
  const sides = [customer, ada, grace];
  const all = async (what, wanted) => {
    await Promise.all(sides.map((side) => until(checks, `${side.name}: ${what}`, async () => side.words, wanted)));
    await bea.complete(...wanted);
  };
  await all('what was said before', said);
  const turns = [
    ['The console asks: which one?', (words) => bea.say(words)],
    ['A-17, says the customer', (words) => customer.say(words)],
    ['UltraCart looks it up', (words) => ada.say(words)],
    ['v2.1 found it', (words) => grace.say(words)],
    ['Thanks to all of you', (words) => customer.say(words)],
  ];
  for (const [words, say] of turns) {
    await say(words);
    said.push(words);
    await all(words, said);
  }
  console.log('ok three desks: each answers, and all see all');

  // All at once: whoever comes first, it is one order for everybody.
  const numbers = Array.from({ length: AT_ONCE }, (_, number) => number);
  const inTurn = async (say) => {
    for (const number of numbers) await say(number);
  };
  await Promise.all([
    inTurn((number) => customer.say(`customer ${number}`)),
    inTurn((number) => ada.say(`ultracart ${number}`)),
    inTurn((number) => grace.say(`sdk ${number}`)),
    inTurn((number) => bea.say(`console ${number}`)),
  ]);
  const total = said.length + 4 * AT_ONCE;
  const isWhole = must(`${total} messages`, (words) => words.length === total);
  await until(checks, 'the order at the v2.1 desk', async () => grace.words, isWhole);
  const order = [...grace.words];
  checks.match('all that was said', [...order].sort(), exactly([
    ...said, ...['customer', 'ultracart', 'sdk', 'console'].flatMap((who) => numbers.map((number) => `${who} ${number}`)),
  ].sort()));
  for (const who of ['customer', 'ultracart', 'sdk', 'console']) {
    const own = order.filter((words) => words.startsWith(`${who} `));
    checks.match(`the order of what ${who} said`, own, exactly(numbers.map((number) => `${who} ${number}`)));
  }
  await all('one order', order);
  console.log('ok three desks: one order for all, each message once');

  await bea.page.click('.conversation-head .close');
  await bea.page.click('dialog .confirm');
  const { value: closed } = await ada.event('conversation closed', id);
  checks.match('the closed conversation', closed.event_conversation_closed, { conversation_uuid: id, closed: true });
  const late = await call('POST', `${HTTP}/inbound/customer/v1/direct/activity/${id}`, {
    headers: customer.headers, json: { type: 'message', message: { type: 'text', text: 'too late' } },
  });
  checks.match('a message to a closed conversation', late, { status: 400, body: { errors: [{ description: text }] } });
  await customer.connection.stop();
  ada.socket.close();
  grace.peer.dispose();
  await bea.isClean();
  await browser.close();
}, { deadline: RUN_DEADLINE });
