// A whole conversation with the `ws` package: a consumer on v3 and an agent on v2.1.
//
//   TIELINE_HTTP=http://127.0.0.1:8080 node run_ws.mjs
//
// Each frame is compared member by member, and no frame may be left over at the end.

import WebSocket from 'ws';
import harness from './harness.cjs';

const {
  DEMO, Inbox, Mismatch, absent, anArray, anObject, call, claims, exactly, greaterThan, main, members, millis, required, text, uuid,
} = harness;

const HTTP = required('TIELINE_HTTP');
const { account } = DEMO;
// Seconds in which an answer is due, and the types of the two kinds of notification.
const NORMAL_TTR = 3600;
const EX_V2 = '.ams.aam.ExConversationChangeNotification';
const EX_V3 = 'cqm.ExConversationChangeNotification';
const EVENTS_V2 = '.ams.ms.OnlineEventDistribution';
const EVENTS_V3 = 'ms.MessagingEventNotification';

/** A socket and what came in on it. */
class Peer {
  #socket;
  #inbox;

  static async open(name, url) {
    const peer = new Peer();
    peer.#inbox = new Inbox(name);
    const socket = (peer.#socket = new WebSocket(url));
    socket.on('message', (data, isBinary) => peer.#inbox.put(isBinary ? { binary: data } : JSON.parse(data.toString())));
    socket.on('close', (code) => {
      peer.#inbox.put({ closed: code });
      peer.#inbox.fail(new Mismatch(`${name}: the socket was closed with ${code}`));
    });
    await new Promise((resolve, reject) => socket.once('open', resolve).on('error', reject));
    return peer;
  }

  /** Sends a request and waits for the reply to it, which names the id as a string whatever it was. */
  async ask(id, type, body, rest = {}) {
    this.#socket.send(JSON.stringify({ kind: 'req', id, type, body, ...rest }));
    const reqId = String(id);
    return this.#inbox.take(`the reply ${JSON.stringify(reqId)} to ${type}`, (frame) => frame.kind === 'resp' && frame.reqId === reqId);
  }

  notification(type, wanted) {
    const isWanted = (frame) => frame.kind === 'notification' && frame.type === type && wanted(frame.body);
    return this.#inbox.take(`a notification ${type}`, isWanted);
  }

  /** What was never waited for. */
  rest() {
    return this.#inbox.rest();
  }

  async close() {
    this.#socket.close(1000);
    const { value } = await this.#inbox.take('the end of the closing handshake', (frame) => frame.closed !== undefined);
    return value.closed;
  }
}

/** The conversation as one side is shown it, at one point of the run. */
function conversation({ id, consumer, agent, version, isClosed, effectiveTTR }) {
  const isV2 = version === 2;
  const shownAgent = agent && (isV2 ? agent.oldId : agent.pid);
  const byRole = (agentId) => exactly(agent ? { CONSUMER: [consumer], ASSIGNED_AGENT: [agentId] } : { CONSUMER: [consumer] });
  const people = [{ id: consumer, role: 'CONSUMER' }, ...(agent ? [{ id: shownAgent, role: 'ASSIGNED_AGENT' }] : [])];
  const state = isClosed ? 'CLOSE' : 'OPEN';
  const end = isClosed ? millis : absent;
  return {
    convId: id,
    effectiveTTR,
    lastUpdateTime: isV2 ? millis : absent,
    conversationDetails: {
      convId: isV2 ? id : absent,
      brandId: account,
      skillId: '-1',
      participants: isV2 ? byRole(agent?.oldId) : members(...people),
      participantsPId: isV2 ? byRole(agent?.pid) : absent,
      dialogs: [
        {
          dialogId: id,
          participantsDetails: members(...people.map((person) => ({ ...person, state: 'ACTIVE' }))),
          dialogType: 'MAIN',
          channelType: 'MESSAGING',
          state,
          creationTs: millis,
          endTs: end,
          metaDataLastUpdateTs: millis,
          closedBy: isClosed ? 'CONSUMER' : absent,
        },
      ],
      state,
      stage: state,
      closeReason: isClosed ? 'CONSUMER' : absent,
      startTs: millis,
      endTs: end,
      metaDataLastUpdateTs: millis,
      firstConversation: true,
      ttr: { ttrType: 'NORMAL', value: NORMAL_TTR },
      note: absent,
      conversationHandlerDetails: { accountId: account, skillId: '-1' },
    },
  };
}

/** An event of the dialog as one side is shown it. */
function event({ id, sequence, from, role, version, event, metadata }) {
  const isV2 = version === 2;
  return {
    sequence,
    originatorId: isV2 ? from.oldId : from.pid,
    originatorPId: isV2 ? from.pid : absent,
    originatorMetadata: { id: from.pid, role },
    serverTimestamp: millis,
    event: exactly(event),
    conversationId: id,
    dialogId: id,
    messageAudience: 'ALL',
    metadata: metadata ? exactly(metadata) : absent,
  };
}

main('run_ws', async (checks) => {
  // The lookup names every service by host and port, without a scheme.
  const lookup = await call('GET', `${HTTP}/api/account/${account}/service/baseURI.json?version=1.0`);
  checks.match('the lookup', lookup, { status: 200, body: { baseURIs: anArray } });
  const host = (service) => {
    const found = lookup.body.baseURIs.find((entry) => entry.service === service);
    checks.match(`the lookup of ${service}`, found, { service, account, baseURI: /^[^/]+$/ });
    return found.baseURI;
  };

  const login = await call('POST', `http://${host('agentVep')}/api/account/${account}/login?v=1.3`, {
    json: { username: DEMO.agent.login, password: DEMO.agent.password },
  });
  checks.match('the login', login, {
    status: 200,
    body: {
      bearer: /^[A-Za-z0-9._~-]+$/,
      csrf: text,
      sessionId: text,
      sessionTTl: /^[0-9]+$/,
      config: {
        loginName: DEMO.agent.login,
        userId: DEMO.agent.userId,
        userPid: uuid,
        userPrivileges: anArray,
        isAdmin: false,
        isLPA: false,
        serverCurrentTime: millis,
      },
      csdsCollectionResponse: { baseURIs: anArray },
      error: absent,
    },
  });
  const cookie = login.headers.get('set-cookie') ?? '';
  checks.match('the cookie of the login', cookie.split(';')[0], `Session_id=${login.body.sessionId}`);
  const agent = { oldId: `${account}.${login.body.config.userId}`, pid: login.body.config.userPid };

  const sockets = `ws://${host('asyncMessagingEnt')}/ws_api/account/${account}/messaging`;
  const A = await Peer.open('agent', `${sockets}/brand/${login.body.bearer}?v=2.1`);

  const ok = (reqId, type, body) => ({ kind: 'resp', reqId, code: 200, type, body });
  const subscribed = { subscriptionId: text };
  // Under a subscription to everything, other runs on the same server are told of too.
  const of = (subscriptionId) => (body) => body.subscriptionId === subscriptionId;
  const about = (subscriptionId, id) => (body) => of(subscriptionId)(body) && body.changes.some((entry) => entry.result.convId === id);
  const change = (type, subscriptionId, kind, result) => ({
    kind: 'notification', type, body: { subscriptionId, sentTs: millis, changes: [{ type: kind, result }] },
  });

  const ownAgent = await A.ask('u2', '.ams.aam.SubscribeExConversations', { convState: ['OPEN'], agentIds: [agent.oldId] });
  checks.match('agent subscribes to its own', ownAgent.value, ok('u2', '.ams.aam.SubscribeExConversations$Response', subscribed));
  const s1 = ownAgent.value.body.subscriptionId;
  // It may hold what earlier runs left open, so that only its form is known.
  const ownSnapshot = await A.notification(EX_V2, of(s1));
  checks.match('snapshot of the agent', ownSnapshot.value.body, { subscriptionId: s1, sentTs: millis, changes: anArray });
  checks.follows('snapshot of the agent', ownAgent, ownSnapshot);

  const signup = await call('POST', `http://${host('idp')}/api/account/${account}/signup`);
  checks.match('the sign-up', signup, { status: 200, body: { jwt: /^[^.]+\.[A-Za-z0-9]+\.[^.]+$/ } });
  const jwt = signup.body.jwt;
  checks.match('the claims of the consumer', claims(jwt), {
    sub: uuid, aud: `acc:${account}`, iss: 'https://idp.liveperson.net', iat: Number.isInteger, exp: Number.isInteger,
  });
  const consumer = claims(jwt).sub;
  const consumerSide = { oldId: consumer, pid: consumer };

  const C = await Peer.open('consumer', `${sockets}/consumer?v=3`);
  // Some ids are numbers, as real clients send them; what comes back is a string.
  const init = await C.ask(0, 'InitConnection', {}, {
    headers: [
      { type: '.ams.headers.ClientProperties', deviceFamily: 'DESKTOP', os: 'LINUX', features: ['AUTO_MESSAGES'] },
      { type: '.ams.headers.ConsumerAuthentication', jwt },
    ],
  });
  checks.match('InitConnection', init.value, ok('0', 'StringResponse', 'Connection initialized successfully'));

  const own = await C.ask(1, 'cqm.SubscribeExConversations', { convState: ['OPEN'] });
  checks.match('consumer subscribes', own.value, ok('1', 'cqm.SubscribeExConversationsResponse', subscribed));
  const s3 = own.value.body.subscriptionId;
  const empty = await C.notification(EX_V3, of(s3));
  checks.match('empty snapshot of the consumer', empty.value.body, { subscriptionId: s3, sentTs: millis, changes: [] });
  checks.follows('empty snapshot of the consumer', own, empty);

  const opened = await C.ask('2,', 'cm.ConsumerRequestConversation', { skillId: '-1' });
  checks.match('consumer opens', opened.value, ok('2,', 'cm.RequestConversationResponse', { conversationId: uuid }));
  const id = opened.value.body.conversationId;
  const upsert = await C.notification(EX_V3, of(s3));
  const waiting = conversation({ id, consumer, version: 3, effectiveTTR: -1 });
  checks.match('consumer hears of the opening', upsert.value, change(EX_V3, s3, 'UPSERT', waiting));
  checks.follows('consumer hears of the opening', opened, upsert);
  let updated = upsert.value.body.changes[0].result.conversationDetails.metaDataLastUpdateTs;

  const follow = await C.ask('3', 'ms.SubscribeMessagingEvents', { dialogId: id, fromSeq: 0 });
  checks.match('consumer follows the dialog', follow.value, ok('3', 'GenericSubscribeResponse', anObject));
  const nothing = await C.notification(EVENTS_V3, () => true);
  checks.match('empty replay', nothing.value.body, { changes: [] });
  checks.follows('empty replay', follow, nothing);

  const hello = { type: 'ContentEvent', contentType: 'text/plain', message: 'hello' };
  const card = [{ type: 'ExternalId', id: 'CARD-1' }];
  const said = await C.ask(4, 'ms.PublishEvent', { dialogId: id, event: hello }, { metadata: card });
  checks.match('consumer publishes', said.value, ok('4', 'ms.PublishEventResponse', { sequence: 0 }));
  const ownCopy = await C.notification(EVENTS_V3, () => true);
  const first = { id, sequence: 0, from: consumerSide, role: 'CONSUMER', event: hello, metadata: card };
  checks.match('consumer hears itself', ownCopy.value.body, { changes: [event({ ...first, version: 3 })] });
  const due = ownCopy.value.body.changes[0].serverTimestamp + NORMAL_TTR * 1000;
  const dueSoon = await C.notification(EX_V3, of(s3));
  const waits = conversation({ id, consumer, version: 3, effectiveTTR: due });
  checks.match('consumer hears that an answer is due', dueSoon.value, change(EX_V3, s3, 'UPSERT', waits));
  updated = dueSoon.value.body.changes[0].result.conversationDetails.metaDataLastUpdateTs;

  const all = await A.ask('u3', '.ams.aam.SubscribeExConversations', { stage: ['OPEN'] });
  checks.match('agent subscribes to all', all.value, ok('u3', '.ams.aam.SubscribeExConversations$Response', subscribed));
  const s2 = all.value.body.subscriptionId;
  const snapshot = await A.notification(EX_V2, of(s2));
  checks.follows('snapshot of all', all, snapshot);
  const ours = snapshot.value.body.changes.filter((entry) => entry.result.convId === id);
  const seen = conversation({ id, consumer, version: 2, effectiveTTR: due });
  checks.match('the conversation in the snapshot of all', ours, [{ type: 'UPSERT', result: seen }]);

  // A conversation that matches two subscriptions of a connection is told under each.
  const told = async (what, kind, state) => {
    const before = updated;
    for (const [name, peer, type, subscription, version] of [
      ['consumer', C, EX_V3, s3, 3],
      ['agent, own', A, EX_V2, s1, 2],
      ['agent, all', A, EX_V2, s2, 2],
    ]) {
      const { value } = await peer.notification(type, about(subscription, id));
      const expected = conversation({ id, consumer, agent, version, ...state });
      checks.match(`${what} (${name})`, value, change(type, subscription, kind, expected));
      const { lastUpdateTime, conversationDetails } = value.body.changes[0].result;
      updated = conversationDetails.metaDataLastUpdateTs;
      checks.match(`the time of ${what} (${name})`, updated, greaterThan(before));
      if (version === 2) checks.match(`lastUpdateTime of ${what} (${name})`, lastUpdateTime, updated);
    }
  };

  const join = await A.ask('u4', '.ams.cm.UpdateConversationField', {
    conversationId: id,
    conversationField: [{ field: 'ParticipantsChange', type: 'ADD', role: 'ASSIGNED_AGENT' }],
  });
  checks.match('agent joins', join.value, ok('u4', '.ReqBody$StringResp', 'OK Agent added successfully'));
  await told('the join', 'UPSERT', { effectiveTTR: due });

  const query = await A.ask('u5', '.ams.ms.QueryMessages', { dialogId: id, newerThanSequence: 0 });
  checks.match('agent queries', query.value, ok('u5', '.ams.ms.QueryMessages$Response', [event({ ...first, version: 2 })]));

  // Everybody in the dialog hears the event, the sender too: v2 by one change, v3 by a list of them.
  const heard = async (what, expected) => {
    const toAgent = await A.notification(EVENTS_V2, (body) => body.dialogId === id);
    checks.match(`agent hears ${what}`, toAgent.value.body, { ...event({ ...expected, version: 2 }), changes: absent });
    const toConsumer = await C.notification(EVENTS_V3, () => true);
    checks.match(`consumer hears ${what}`, toConsumer.value.body, { changes: [event({ ...expected, version: 3 })] });
  };

  const hi = { type: 'ContentEvent', contentType: 'text/plain', message: 'hi' };
  const answer = await A.ask('u6', '.ams.ms.PublishEvent', { dialogId: id, event: hi });
  checks.match('agent publishes', answer.value, ok('u6', '.ams.ms.PublishEvent$Response', { sequence: 1 }));
  await heard('the answer', { id, sequence: 1, from: agent, role: 'ASSIGNED_AGENT', event: hi });
  await told('that nothing is due any more', 'UPSERT', { effectiveTTR: -1 });

  const read = { type: 'AcceptStatusEvent', status: 'READ', sequenceList: [1] };
  const receipt = await C.ask(5, 'ms.PublishEvent', { dialogId: id, event: read });
  checks.match('consumer has read it', receipt.value, ok('5', 'ms.PublishEventResponse', { sequence: 2 }));
  await heard('the receipt', { id, sequence: 2, from: consumerSide, role: 'CONSUMER', event: read });

  const close = await C.ask('6', 'cm.UpdateConversationField', {
    conversationId: id,
    conversationField: [{ field: 'ConversationStateField', conversationState: 'CLOSE' }],
  });
  checks.match('consumer closes', close.value, ok('6', 'StringResponse', 'OK Conversation resolved successfully'));
  await told('the end', 'DELETE', { isClosed: true, effectiveTTR: -1 });

  // A round trip more, so that a frame too many would be here by now. Both spellings are known on both sides, and an
  // id may be used again once it is answered.
  for (const [name, peer, type] of [['agent', A, 'GetClock'], ['consumer', C, '.GetClock']]) {
    const clock = await peer.ask(1, type);
    checks.match(`the clock of the ${name}`, clock.value, { kind: 'resp', reqId: '1', code: 200, body: { currentTime: millis } });
  }
  // What other runs do on the same server is none of ours.
  const isOurs = (frame) => frame.kind !== 'notification' || JSON.stringify(frame).includes(id);
  checks.match('frames left over at the agent', A.rest().filter(isOurs), exactly([]));
  checks.match('frames left over at the consumer', C.rest(), exactly([]));

  checks.match('the close of the consumer', await C.close(), 1000);
  checks.match('the close of the agent', await A.close(), 1000);
});
