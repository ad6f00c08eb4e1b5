'use strict';

// An agent by the unmodified npm package node-agent-sdk, over TLS, and a consumer behind the Connector API.
//
//   NODE_EXTRA_CA_CERTS=data/tls/ca.pem \
//   TIELINE_HTTP=http://127.0.0.1:8080 TIELINE_HTTPS=https://localhost:8443 node node_agent_sdk.cjs
//
// The package asks https://{csdsDomain} where each service is, so csdsDomain is host:port of the TLS address.

const {
  DEMO, Inbox, Mismatch, absent, anArray, call, claims, exactly, greaterThan, main, members, millis, must, required, text, uuid,
} = require('./harness.cjs');

const HTTP = required('TIELINE_HTTP');
const HTTPS = required('TIELINE_HTTPS');
// Node reads it when it starts; without it every call would fail with a certificate that nobody knows.
required('NODE_EXTRA_CA_CERTS');
// The package would send its calls through a proxy of the environment.
for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy']) delete process.env[name];

const { Agent } = require('node-agent-sdk');

const { account } = DEMO;
const CONVERSATIONS = 'cqm.ExConversationChangeNotification';
const EVENTS = 'ms.MessagingEventNotification';

/** A consumer, spoken for by the demo application. */
class Consumer {
  #headers;

  static async named(checks, externalId) {
    const self = new Consumer();
    const form = { client_id: DEMO.app.id, client_secret: DEMO.app.secret };
    const token = await call('POST', `${HTTP}/sentinel/api/account/${account}/app/token?v=1.0&grant_type=client_credentials`, { form });
    checks.match('the app token', token, { status: 200, body: { access_token: text, token_type: 'Bearer' } });
    const appJwt = token.body.access_token;
    const identity = await call('POST', `${HTTP}/api/account/${account}/consumer?v=1.0`, {
      headers: { authorization: appJwt },
      json: { ext_consumer_id: externalId },
    });
    checks.match('the consumer token', identity, { status: 201, body: { token: text } });
    const jws = claims(identity.body.token);
    checks.match('the claims of the consumer', jws, {
      account_id: account, ext_consumer_id: externalId, lp_consumer_id: /^[0-9a-f]{64}$/, exp: absent,
    });
    self.id = jws.lp_consumer_id;
    self.#headers = { authorization: appJwt, 'x-lp-on-behalf': identity.body.token };
    return self;
  }

  /** Sends a batch to CONVERSATION, or one request to SEND. */
  post(json) {
    const path = Array.isArray(json) ? 'conversation' : 'conversation/send';
    return call('POST', `${HTTP}/api/account/${account}/messaging/consumer/${path}?v=3`, { headers: this.#headers, json });
  }
}

/** The SDK with its events in an inbox and its callbacks as promises. */
class AgentPeer {
  constructor() {
    const [, csdsDomain] = HTTPS.split('://');
    this.sdk = new Agent({ accountId: account, username: DEMO.agent.login, password: DEMO.agent.password, csdsDomain });
    this.inbox = new Inbox('agent');
    this.sdk.on('connected', (data) => this.inbox.put({ type: 'connected', body: data }));
    for (const type of [CONVERSATIONS, EVENTS]) this.sdk.on(type, (body) => this.inbox.put({ type, body }));
    // The package says so when it could not make sense of something, and drops it.
    for (const type of ['error', 'warn', 'closed']) {
      const fail = (said) => this.inbox.fail(new Mismatch(`the SDK emitted ${type}: ${said?.message ?? JSON.stringify(said)}`));
      this.sdk.on(type, fail);
    }
  }

  /** The body of the reply to a request of the SDK. */
  ask(method, ...request) {
    return new Promise((resolve, reject) => {
      this.sdk[method](...request, (error, body) => {
        if (error) reject(new Mismatch(`${method}: expected success\n  got ${error.message ?? JSON.stringify(error)}`));
        else resolve(body);
      });
    });
  }

  async notification(what, type, wanted) {
    const { value } = await this.inbox.take(what, (item) => item.type === type && wanted(item.body));
    return value.body;
  }
}

main('node_agent_sdk', async (checks) => {
  const consumer = await Consumer.named(checks, `node-agent-sdk-${Date.now()}-${process.pid}`);

  const agent = new AgentPeer();
  const { sdk } = agent;
  await agent.inbox.take("the event 'connected'", (item) => item.type === 'connected');
  checks.match('the login as the SDK keeps it', sdk, {
    connected: true, agentId: uuid, userId: DEMO.agent.userId, csrf: text, token: text,
  });
  const me = sdk.agentId;

  checks.match('getClock', await agent.ask('getClock', {}), { currentTime: millis });

  // SubscribeExConversations, and its first notification in the form that the SDK gives it.
  const { subscriptionId } = await agent.ask('subscribeExConversations', { convState: ['OPEN'] });
  checks.match('subscribeExConversations', subscriptionId, text);
  const snapshot = await agent.notification('the snapshot', CONVERSATIONS, (body) => body.subscriptionId === subscriptionId);
  checks.match('the snapshot', snapshot, { sentTs: millis, changes: anArray });

  // A profile and a conversation with its first message in one batch, as a connector opens one.
  const hello = { type: 'ContentEvent', contentType: 'text/plain', message: 'hello' };
  const sde = { type: 'ctmrinfo', info: { socialId: '4711', ctype: 'vip' } };
  const opened = await consumer.post([
    {
      kind: 'req', id: '1,', type: 'userprofile.SetUserProfile',
      body: { firstName: 'Ann', lastName: 'Example', authenticatedData: { lp_sdes: [sde] } },
    },
    {
      kind: 'req', id: '2,', type: 'cm.ConsumerRequestConversation',
      body: { ttrDefName: 'NORMAL', channelType: 'MESSAGING', brandId: account, skillId: '77' },
    },
    { kind: 'req', id: 3, type: 'ms.PublishEvent', body: { dialogId: '', event: hello } },
  ]);
  const batched = (reqId, body) => ({ code: 'OK', reqId, body, kind: absent, type: absent });
  checks.match('CONVERSATION', opened, {
    status: 200,
    body: [
      batched('1,', { msg: 'OK User Profile set successfully' }),
      batched('2,', { conversationId: uuid }),
      batched('3', { sequence: 0 }),
    ],
  });
  const id = opened.body[1].body.conversationId;

  const again = { ...hello, message: 'anybody there?' };
  const send = async (reqId, body, answer) => {
    const sent = await consumer.post({ kind: 'req', id: reqId, ...body });
    checks.match(`SEND ${reqId}`, sent, { status: 200, body: batched(String(reqId), answer) });
  };
  await send(1, { type: 'ms.PublishEvent', body: { dialogId: id, event: again } }, { sequence: 1 });

  // What the SDK makes of a conversation: participants by participant id, and its own role.
  const told = async (what, type, { hasJoined, isClosed }) => {
    const about = (body) => body.changes.some((change) => change.result.convId === id && change.type === type);
    const body = await agent.notification(what, CONVERSATIONS, about);
    const people = [{ id: consumer.id, role: 'CONSUMER' }, ...(hasJoined ? [{ id: me, role: 'ASSIGNED_AGENT' }] : [])];
    const state = isClosed ? 'CLOSE' : 'OPEN';
    checks.match(what, body, {
      subscriptionId,
      sentTs: millis,
      changes: [{
        type,
        result: {
          convId: id,
          effectiveTTR: Number.isInteger,
          conversationDetails: {
            skillId: '77',
            participants: members(...people),
            participantsPId: absent,
            dialogs: [{
              dialogId: id,
              dialogType: 'MAIN',
              channelType: 'MESSAGING',
              state,
              participantsDetails: members(...people.map((person) => ({ ...person, state: 'ACTIVE' }))),
            }],
            state,
            stage: state,
            closeReason: isClosed ? 'AGENT' : absent,
            startTs: millis,
            endTs: isClosed ? millis : absent,
            metaDataLastUpdateTs: millis,
            ttr: { ttrType: 'NORMAL', value: 3600 },
            appInstId: DEMO.app.id,
            getMyRole: must('the role of the agent', (role) => role() === (hasJoined ? 'ASSIGNED_AGENT' : undefined)),
          },
        },
      }],
    });
    return body.changes[0].result.conversationDetails.metaDataLastUpdateTs;
  };
  const event = (sequence, event, from, role) => ({
    sequence,
    originatorId: from,
    originatorPId: absent,
    originatorMetadata: { id: from, role },
    serverTimestamp: millis,
    event: exactly(event),
    conversationId: id,
    dialogId: id,
    isMe: must(`that it is ${from === me ? 'one' : 'none'} of its own`, (isMe) => isMe() === (from === me)),
  });
  const heard = async (what, ...events) => {
    const body = await agent.notification(what, EVENTS, (body) => body.dialogId === id);
    checks.match(what, body, { dialogId: id, changes: events });
  };

  const openedAt = await told('the conversation', 'UPSERT', {});

  // subscribeMessagingEvents is QueryMessages on the wire; the SDK hands out its answer as a notification.
  checks.match('subscribeMessagingEvents', await agent.ask('subscribeMessagingEvents', { dialogId: id, fromSeq: 0 }), absent);
  await heard('the messages so far', event(0, hello, consumer.id, 'CONSUMER'), event(1, again, consumer.id, 'CONSUMER'));

  // The SDK names itself as the one who joins.
  const joined = await agent.ask('updateConversationField', {
    conversationId: id,
    conversationField: [{ field: 'ParticipantsChange', type: 'ADD', role: 'ASSIGNED_AGENT' }],
  });
  checks.match('the agent joins', joined, 'OK Agent added successfully');
  const joinedAt = await told('the join', 'UPSERT', { hasJoined: true });
  checks.match('the time of the join', joinedAt, greaterThan(openedAt));

  // Asked by a bare string, as its users do; the SDK makes a list of SDEs out of the profile.
  const sdes = await agent.ask('getUserProfile', consumer.id);
  checks.match('getUserProfile', sdes, members(
    { ...sde, auth: {} },
    { type: 'personal', personal: { firstname: 'Ann', lastname: 'Example' } },
  ));

  const hi = { type: 'ContentEvent', contentType: 'text/plain', message: 'hi' };
  checks.match('publishEvent', await agent.ask('publishEvent', { dialogId: id, event: hi }), { sequence: 2 });
  await heard('its own event', event(2, hi, me, 'ASSIGNED_AGENT'));

  const thanks = { ...hello, message: 'thanks' };
  await send(2, { type: 'ms.PublishEvent', body: { dialogId: id, event: thanks } }, { sequence: 3 });
  await heard('an event of the consumer, unasked', event(3, thanks, consumer.id, 'CONSUMER'));

  const closed = await agent.ask('updateConversationField', {
    conversationId: id,
    conversationField: [{ field: 'ConversationStateField', conversationState: 'CLOSE' }],
  });
  checks.match('the agent closes', closed, 'OK Conversation resolved successfully');
  const closedAt = await told('the end', 'DELETE', { hasJoined: true, isClosed: true });
  checks.match('the time of the end', closedAt, greaterThan(joinedAt));

  // A round trip more, so that an event too many would be here by now. What other runs do is none of ours.
  await agent.ask('getClock', {});
  const isOurs = (item) => JSON.stringify(item).includes(id);
  checks.match('events left over', agent.inbox.rest().filter(isOurs), exactly([]));
  checks.match('errors of the SDK', agent.inbox.failure, null);

  sdk.dispose();
  checks.match('the SDK after dispose', sdk, { connected: false, transport: null });
});
