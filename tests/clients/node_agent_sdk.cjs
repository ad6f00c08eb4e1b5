'use strict';

// An agent by the unmodified npm package node-agent-sdk, over TLS, and a consumer behind the Connector API.
//
//   NODE_EXTRA_CA_CERTS=data/tls/ca.pem \
//   TIELINE_HTTP=http://127.0.0.1:8080 TIELINE_HTTPS=https://localhost:8443 node node_agent_sdk.cjs

const { DEMO, absent, anArray, exactly, greaterThan, main, members, millis, must, text, uuid } = require('./harness.cjs');
const { AgentPeer, CONVERSATIONS, Consumer, EVENTS } = require('./agent_sdk.cjs');

const { account } = DEMO;

main('node_agent_sdk', async (checks) => {
  const consumer = await Consumer.named(checks, `node-agent-sdk-${Date.now()}-${process.pid}`);

  const agent = new AgentPeer();
  const { sdk } = agent;
  await agent.emitted('connected');
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
  await told('that nothing is due any more', 'UPSERT', { hasJoined: true });

  const thanks = { ...hello, message: 'thanks' };
  await send(2, { type: 'ms.PublishEvent', body: { dialogId: id, event: thanks } }, { sequence: 3 });
  await heard('an event of the consumer, unasked', event(3, thanks, consumer.id, 'CONSUMER'));
  await told('that an answer is due', 'UPSERT', { hasJoined: true });

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

  agent.dispose();
  checks.match('the SDK after dispose', sdk, { connected: false, transport: null });
});
