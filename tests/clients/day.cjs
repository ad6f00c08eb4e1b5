'use strict';

// What the scenarios of working_day.cjs are made of: agents on duty, conversations that count their own events, a
// socket without the SDK to look at what the SDK drops, and the day that ends each scenario as it began.

const WebSocket = require('ws');
const {
  AGENTS, DEMO, Inbox, Mismatch, absent, anArray, anObject, atLeast, exactly, millis, must, text, uuid,
} = require('./harness.cjs');
const { AgentPeer, CONVERSATIONS, Consumer, EVENTS, HTTPS, RINGS, STATES } = require('./agent_sdk.cjs');

const { account } = DEMO;
/** `[routing] ring` of the gateway, in milliseconds. */
const RING = 2000;

const EX_V2 = '.ams.aam.ExConversationChangeNotification';

const isRing = ({ id }, ringState) => ({ change: { result } }) =>
  result.conversationId === id && result.ringsDetails[0]?.ringState === ringState;
const oldId = (name) => `${account}.${AGENTS[name].userId}`;
const plain = (message) => ({ type: 'ContentEvent', contentType: 'text/plain', message });
const receipt = (status, ...sequenceList) => ({ type: 'AcceptStatusEvent', status, sequenceList });
const typing = (chatState) => ({ type: 'ChatStateEvent', chatState });
const whole = must('a whole number', Number.isInteger);

/** That a conversation's last update, by which clients order what they hear, never goes back on one connection. */
class Newest {
  #checks;
  #times = new Map();

  constructor(checks) {
    this.#checks = checks;
  }

  see({ convId, conversationDetails }) {
    const time = conversationDetails.metaDataLastUpdateTs;
    this.#checks.match(`metaDataLastUpdateTs of ${convId}`, time, atLeast(this.#times.get(convId) ?? 0));
    this.#times.set(convId, time);
  }
}

/** A conversation from its consumer's side. It counts the events of its main dialog, so that a hole in the numbers shows. */
class Conversation {
  next = 0;

  constructor(checks, consumer, id, skill) {
    Object.assign(this, { checks, consumer, id, skill });
  }

  /** One request to SEND, whatever comes of it. */
  send(type, body, envelope = {}) {
    return this.consumer.post({ kind: 'req', id: '1', type, body, ...envelope });
  }

  /** The body of a SEND that must succeed. */
  async ask(type, body, envelope) {
    const answer = await this.send(type, body, envelope);
    this.checks.match(`SEND ${type}`, answer, { status: 200, body: { code: 'OK', reqId: '1' } });
    return answer.body.body;
  }

  /** Publishes into the main dialog; the event's number. */
  async publish(event, envelope) {
    const { sequence } = await this.ask('ms.PublishEvent', { dialogId: this.id, event }, envelope);
    if (event.type === 'ChatStateEvent') return undefined;
    this.checks.match('the sequence of a consumer’s event', sequence, this.next++);
    return sequence;
  }

  say(message) {
    return this.publish(plain(message));
  }

  /** What the consumer can read of a dialog. */
  async read(dialogId = this.id) {
    const events = await this.ask('ms.QueryMessages', { conversationId: this.id, dialogId, newerThanSequence: 0 });
    this.checks.match('QueryMessages over SEND', events, anArray);
    return events;
  }

  async change(field) {
    return (await this.ask('cm.UpdateConversationField', { conversationId: this.id, conversationField: [field] })).msg;
  }

  /** Closes the whole of it, a survey too; nothing if that was done. */
  end() {
    const field = { field: 'Stage', conversationState: 'CLOSE' };
    return this.send('cm.UpdateConversationField', { conversationId: this.id, conversationField: [field] });
  }
}

/** An agent by the SDK, with an inbox for each kind of notification. */
class DayAgent extends AgentPeer {
  #checks;
  #newest;
  // By dialog, what came last unasked.
  #heard = new Map();
  // By subscription and conversation, what was taken last: what came before it is over.
  #seen = new Map();
  #arrivals = 0;

  constructor(checks, name, settings) {
    super(AGENTS[name], settings);
    this.name = name;
    this.#checks = checks;
    this.#newest = new Newest(checks);
    this.conversations = new Inbox(`${name}'s conversations`);
    this.events = new Inbox(`${name}'s events`);
    this.rings = new Inbox(`${name}'s rings`);
    this.states = new Inbox(`${name}'s states`);
    const sort = (type, inbox, look = () => {}) => {
      this.sdk.on(type, ({ changes, ...rest }) => {
        for (const change of changes) {
          this.#judge(() => look(change));
          inbox.put({ ...rest, change, arrival: this.#arrivals++ });
        }
      });
    };
    sort(CONVERSATIONS, this.conversations, (change) => this.#newest.see(change.result));
    sort(EVENTS, this.events);
    sort(RINGS, this.rings);
    sort(STATES, this.states);
  }

  get id() {
    return this.sdk.agentId;
  }

  fail(error) {
    super.fail(error);
    for (const inbox of [this.conversations, this.events, this.rings, this.states]) inbox?.fail(error);
  }

  frame(frame) {
    super.frame(frame);
    if (frame.type !== '.ams.ms.OnlineEventDistribution' || frame.body.sequence === undefined) return;
    const { dialogId, sequence } = frame.body;
    this.#judge(() => this.#checks.match(`an unasked event of ${dialogId}`, sequence, atLeast(this.#heard.get(dialogId) ?? 0)));
    this.#heard.set(dialogId, sequence + 1);
  }

  /** A check within an event of the SDK, which must not be thrown through it. */
  #judge(check) {
    try {
      check();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Subscribes to the agent's own conversations, or to those of another filter. */
  async watch(filter = { convState: ['OPEN'], agentIds: [this.id] }) {
    const { subscriptionId } = await this.ask('subscribeExConversations', filter);
    this.#checks.match('subscribeExConversations', subscriptionId, text);
    const snapshot = await this.notification('the snapshot', CONVERSATIONS, (body) => body.subscriptionId === subscriptionId);
    this.#checks.match('the snapshot', snapshot, { sentTs: millis, changes: anArray });
    return subscriptionId;
  }

  /** Subscribes to the agent's rings; those that are there come at once, also if there are none. */
  async watchRings() {
    const { subscriptionId } = await this.ask('subscribeRoutingTasks', {});
    this.#checks.match('subscribeRoutingTasks', subscriptionId, text);
    const first = await this.notification('the present rings', RINGS, (body) => body.subscriptionId === subscriptionId);
    this.#checks.match('the present rings', first, { changes: anArray });
    return { subscriptionId, changes: first.changes };
  }

  async goes(availability) {
    const reply = await this.reply('setAgentState', { availability });
    this.#checks.match(`setAgentState ${availability}`, reply, { code: 202, body: 'Agent state updated successfully' });
  }

  /** The next ring for the conversation in that state. */
  async ring(conversation, ringState) {
    const { value } = await this.rings.take(`a ring ${ringState} for ${conversation.id}`, isRing(conversation, ringState));
    this.#checks.match(`the ring ${ringState}`, value, {
      subscriptionId: text,
      change: {
        type: 'UPSERT',
        result: {
          conversationId: conversation.id,
          consumerId: conversation.consumer.id,
          skillId: conversation.skill,
          taskCompleted: must('a boolean', (value) => typeof value === 'boolean'),
          ringsDetails: [{ ringId: text, ringState, ringExpiration: RING, ringExpirationTs: millis, weight: Number.isFinite }],
        },
      },
    });
    return value.change.result.ringsDetails[0].ringId;
  }

  /** Answers a ring, and hears of it. */
  async answers(conversation, ringId, ringState) {
    const reply = await this.reply('updateRingState', { ringId, ringState });
    this.#checks.match(`updateRingState ${ringState}`, reply, { code: 202, body: 'Ring state updated successfully' });
    this.#checks.match(`the ring that is ${ringState}`, await this.ring(conversation, ringState), ringId);
  }

  /** Is rung for a conversation and takes it. */
  async accepts(conversation) {
    const ringId = await this.ring(conversation, 'WAITING');
    await this.answers(conversation, ringId, 'ACCEPTED');
    return ringId;
  }

  /** As `accepts`; then it sees itself in the conversation. */
  async takes(conversation) {
    const ringId = await this.accepts(conversation);
    await this.seesAssigned(conversation);
    return ringId;
  }

  /** Waits for a change of the conversation; those before it are over. */
  async sees(what, conversation, wanted, { subscriptionId } = {}) {
    const place = (item) => `${item.subscriptionId} ${conversation.id}`;
    const { value } = await this.conversations.take(what, (item) =>
      item.change.result.convId === conversation.id &&
      item.arrival > (this.#seen.get(place(item)) ?? -1) &&
      (subscriptionId === undefined || item.subscriptionId === subscriptionId) &&
      wanted(item.change.result.conversationDetails, item.change));
    this.#seen.set(place(value), value.arrival);
    const { change } = value;
    this.#checks.match(what, value, {
      subscriptionId: text,
      sentTs: millis,
      change: {
        result: {
          effectiveTTR: whole,
          conversationDetails: {
            skillId: text,
            participants: anArray,
            participantsPId: absent,
            dialogs: anArray,
            state: /^(OPEN|CLOSE)$/,
            stage: /^(OPEN|CLOSE)$/,
            startTs: millis,
            metaDataLastUpdateTs: millis,
            ttr: { ttrType: text },
          },
        },
      },
    });
    return change;
  }

  /** Waits for the conversation with this agent as its assigned one. */
  async seesAssigned(conversation) {
    const what = `${this.name} as the assigned agent`;
    const change = await this.sees(what, conversation, (details) => details.getMyRole() === 'ASSIGNED_AGENT');
    const people = [{ id: conversation.consumer.id, role: 'CONSUMER' }, { id: this.id, role: 'ASSIGNED_AGENT' }];
    const { conversationDetails } = change.result;
    this.#checks.match(what, change.type, 'UPSERT');
    this.#checks.match(what, conversationDetails, {
      state: 'OPEN',
      stage: 'OPEN',
      participants: must(`among them ${JSON.stringify(people)}`, (got) => people.every(({ id, role }) => has(got, id, role))),
    });
    this.#checks.match(what, conversationDetails.dialogs[0], {
      dialogId: conversation.id,
      dialogType: 'MAIN',
      channelType: 'MESSAGING',
      state: 'OPEN',
      participantsDetails: must('all of them active', (got) => people.every(({ id, role }) => has(got, id, role, 'ACTIVE'))),
    });
    return conversationDetails;
  }

  /** Publishes into the main dialog; the event's number. */
  async publish(conversation, event, { audience, metadata, encodedMetadata } = {}) {
    const body = { dialogId: conversation.id, event, ...(audience && { messageAudience: audience }) };
    const { sequence } = await this.ask('publishEvent', body, null, metadata, encodedMetadata);
    const isTyping = event.type === 'ChatStateEvent';
    this.#checks.match(`the sequence of ${this.name}'s event`, sequence, isTyping ? 0 : conversation.next++);
    return sequence;
  }

  /** Waits for an event, live or queried, in the form that the SDK gives it. */
  async hears(conversation, sequence, event, { from, role, ...rest }) {
    const what = `${this.name} hears ${sequence ?? event.chatState}`;
    const isIt = ({ dialogId, change }) =>
      dialogId === conversation.id && change.sequence === sequence && change.event.type === event.type && change.originatorId === from;
    const { value } = await this.events.take(what, isIt);
    const isNumbered = sequence !== undefined;
    this.#checks.match(what, value.change, {
      originatorPId: absent,
      originatorMetadata: { id: from, role },
      serverTimestamp: isNumbered ? millis : absent,
      event: exactly(event),
      conversationId: conversation.id,
      dialogId: conversation.id,
      isMe: must(`that it is ${from === this.id ? 'one' : 'none'} of its own`, (isMe) => isMe() === (from === this.id)),
      ...rest,
    });
  }

  /** As `hears`, of the conversation's consumer. */
  hearsConsumer(conversation, sequence, event, rest) {
    return this.hears(conversation, sequence, event, { from: conversation.consumer.id, role: 'CONSUMER', ...rest });
  }

  /** As `hears`, of the agent's own or a colleague's. */
  hearsAgent(conversation, sequence, event, agent, rest) {
    return this.hears(conversation, sequence, event, { from: agent.id, role: 'ASSIGNED_AGENT', ...rest });
  }

  /** Changes fields of a conversation; the text of the reply. */
  update(conversation, ...conversationField) {
    return this.ask('updateConversationField', { conversationId: conversation.id, conversationField });
  }

  /** A request that must be refused with 400 and a reason, or with this one. */
  async refused(what, method, body, reason = text, code = 400) {
    this.#checks.match(what, await this.refusal(method, body), { kind: 'resp', code, type: '.ReqBody$StringResp', body: reason });
  }

  /** That nothing of the kind has come by the end of one more round trip. */
  async hasNone(what, inbox, isIt) {
    await this.ask('getClock', {});
    this.#checks.match(what, inbox.rest().filter(isIt), exactly([]));
  }

  /** That no ring for the conversation is waiting here. */
  isNotRung(conversation) {
    return this.hasNone(`rings at ${this.name} for ${conversation.id}`, this.rings, isRing(conversation, 'WAITING'));
  }
}

/** A socket of an agent without the SDK, to see what it would have dropped. */
class RawAgent {
  #checks;
  #newest;
  #socket;
  #next = 0;

  static async open(checks, bearer) {
    const self = new RawAgent();
    self.#checks = checks;
    self.#newest = new Newest(checks);
    self.inbox = new Inbox('the raw socket');
    const url = `${HTTPS.replace(/^http/, 'ws')}/ws_api/account/${account}/messaging/brand/${bearer}?v=2.1`;
    const socket = (self.#socket = new WebSocket(url));
    socket.on('message', (data) => self.#put(JSON.parse(data.toString())));
    socket.on('close', (code) => self.inbox.fail(new Mismatch(`the raw socket was closed with ${code}`)));
    await new Promise((resolve, reject) => socket.once('open', resolve).on('error', reject));
    return self;
  }

  #put(frame) {
    try {
      if (frame.type === EX_V2) frame.body.changes.forEach(({ result }) => this.#newest.see(result));
    } catch (error) {
      this.inbox.fail(error);
    }
    this.inbox.put(frame);
  }

  async ask(type, body) {
    const id = `raw-${this.#next++}`;
    this.#socket.send(JSON.stringify({ kind: 'req', id, type, body }));
    return (await this.inbox.take(`the reply to ${type}`, (frame) => frame.kind === 'resp' && frame.reqId === id)).value;
  }

  async notification(what, type, wanted) {
    const { value } = await this.inbox.take(what, (frame) => frame.kind === 'notification' && frame.type === type && wanted(frame.body));
    return value.body;
  }

  /** A conversation as it is now: the snapshot of a subscription to it alone. */
  async snapshot(conversation) {
    const reply = await this.ask('.ams.aam.SubscribeExConversations', { conversationId: conversation.id });
    this.#checks.match('the raw subscription', reply, {
      code: 200, type: '.ams.aam.SubscribeExConversations$Response', body: { subscriptionId: text },
    });
    const { subscriptionId } = reply.body;
    const { changes } = await this.notification('the raw snapshot', EX_V2, (body) => body.subscriptionId === subscriptionId);
    const result = { convId: conversation.id, conversationDetails: anObject };
    this.#checks.match('the raw snapshot', changes, [{ type: 'UPSERT', result }]);
    await this.ask('.ams.aam.UnsubscribeExConversations', { subscriptionId });
    return changes[0].result;
  }

  close() {
    this.#socket.terminate();
  }
}

/** That a list of participants names somebody, in that state if one is given. */
function has(list, id, role, state) {
  return list.some((one) => one.id === id && one.role === role && (state === undefined || one.state === state));
}

/** One scenario: whom it has brought in, and how all of them leave. */
class Day {
  #agents = [];
  #raw = [];
  #conversations = [];
  #named = 0;

  constructor(checks, scenario) {
    Object.assign(this, { checks, scenario });
  }

  consumer(options) {
    return Consumer.named(this.checks, `${this.scenario}-${this.#named++}-${Date.now()}-${process.pid}`, options);
  }

  /** An SDK that logs in, and is not waited for. */
  peer(name, settings) {
    const agent = new DayAgent(this.checks, name, settings);
    this.#agents.push(agent);
    return agent;
  }

  /** An agent who is connected, and nothing more. */
  async login(name, settings) {
    const agent = this.peer(name, settings);
    await agent.emitted('connected');
    return agent;
  }

  /** An agent who watches its rings and its own conversations, or those of another filter. */
  async agent(name, filter) {
    const agent = await this.login(name);
    await agent.watch(filter);
    await agent.watchRings();
    return agent;
  }

  /** As `agent`, and open to rings. */
  async online(name, filter) {
    const agent = await this.agent(name, filter);
    await agent.goes('ONLINE');
    return agent;
  }

  async raw(agent) {
    const raw = await RawAgent.open(this.checks, agent.sdk.token);
    this.#raw.push(raw);
    return raw;
  }

  /** A conversation without a message, so nobody is rung yet. */
  async open({ skill = '77', consumer } = {}) {
    const who = consumer ?? (await this.consumer());
    const body = { ttrDefName: 'NORMAL', channelType: 'MESSAGING', brandId: account, skillId: skill };
    const opened = await who.post([
      { kind: 'req', id: '1', type: 'userprofile.SetUserProfile', body: { firstName: 'Ann', lastName: 'Example' } },
      { kind: 'req', id: '2', type: 'cm.ConsumerRequestConversation', body },
    ]);
    this.checks.match('CONVERSATION', opened, {
      status: 200, body: [{ code: 'OK', reqId: '1' }, { code: 'OK', reqId: '2', body: { conversationId: uuid } }],
    });
    return this.keep(new Conversation(this.checks, who, opened.body[1].body.conversationId, skill));
  }

  /** A conversation with a first message, so that somebody is rung. */
  async waiting(options) {
    const conversation = await this.open(options);
    await conversation.say('hello');
    return conversation;
  }

  /** A conversation that the agent, who is online, has taken. */
  async taken(agent, options) {
    const conversation = await this.waiting(options);
    await agent.takes(conversation);
    return conversation;
  }

  keep(conversation) {
    this.#conversations.push(conversation);
    return conversation;
  }

  /** Nothing stays that the next scenario could meet. */
  async end() {
    for (const conversation of this.#conversations) await conversation.end();
    for (const agent of this.#agents.filter(({ sdk }) => sdk.connected)) {
      await agent.ask('setAgentState', { availability: 'OFFLINE' }).catch(() => {});
    }
    for (const raw of this.#raw) raw.close();
    const failure = this.#agents.map((agent) => agent.inbox.failure).find((failure) => failure !== null);
    for (const agent of this.#agents) agent.dispose();
    if (failure) throw failure;
  }
}

module.exports = { Conversation, Day, has, oldId, plain, receipt, typing, whole };
