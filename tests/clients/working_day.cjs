'use strict';

// A whole working day of agents by the unmodified npm package node-agent-sdk, over TLS: rings, messages, transfers,
// files, surveys, and lost connections. Checked is what the package's user sees.
//
//   NODE_EXTRA_CA_CERTS=data/tls/ca.pem \
//   TIELINE_HTTP=http://127.0.0.1:8080 TIELINE_HTTPS=https://localhost:8443 node working_day.cjs [SCENARIO…]
//
// The gateway must have, in the account "demo": ada and grace with the skills -1 and 77 and a capacity of 3, bea with the
// skill 88 and a capacity of 1; grace is a manager. A ring lasts 2 s. The queue 77 has a survey of two questions, and
// files may be PNG of at most 3 MiB. Each scenario has agents and conversations of its own and leaves none behind. A run
// logs in ada about 40 times, so a second one within a minute needs more than the default `limits.logins_per_minute`.

const { randomBytes } = require('node:crypto');
const { inspect } = require('node:util');
const {
  AGENTS, DEMO, Mismatch, absent, anArray, atLeast, call, exactly, greaterThan, main, members, millis, must, text, until, uuid,
} = require('./harness.cjs');
const { EVENTS, HTTPS, STATES } = require('./agent_sdk.cjs');
const { Conversation, Day, has, oldId, plain, receipt, typing, whole } = require('./day.cjs');

const { account } = DEMO;
/** How long all scenarios may take together. */
const DAY_DEADLINE = 240_000;
const MIB = 1024 * 1024;

const QUESTIONS = ['How did we do?', 'What could be better?'];
const JOINED = 'OK Agent added successfully';
const LEFT = 'OK Agent removed successfully';
const CLOSED = 'OK Conversation resolved successfully';
const STRANGER = 'Agent does not exist in conversation';

const joins = (role) => ({ field: 'ParticipantsChange', type: 'ADD', role });
const leaves = (role) => ({ field: 'ParticipantsChange', type: 'REMOVE', role });
const suggests = (name) => ({ field: 'ParticipantsChange', type: 'SUGGEST', role: 'ASSIGNED_AGENT', userId: oldId(name) });
const closesDialog = (dialogId) => ({ field: 'DialogChange', type: 'UPDATE', dialog: { dialogId, state: 'CLOSE' } });

const surveyed = { features: ['MULTI_DIALOG'] };
const errors = must('an HTTP error', (status) => status >= 400 && status < 500);

/** Everybody's conversations, which a manager may see. */
const ALL_OPEN = { stage: ['OPEN'] };

// ---------------------------------------------------------------------------------------------- coming and going

async function logs_in(day) {
  const { checks } = day;
  const ada = await day.login('ada');
  checks.match('the login as the SDK keeps it', ada.sdk, {
    connected: true, agentId: uuid, userId: AGENTS.ada.userId, accountId: account, csrf: text, token: text,
  });
  checks.match('getClock', await ada.ask('getClock', {}), { currentTime: millis });
  const wrong = day.peer('ada', { password: 'not it' }).expect('error');
  const readable = must('a text, not an object', (said) => text(said) && !said.includes('[object'));
  checks.match('the error for a wrong password', await wrong.emitted('error'), { message: readable });
  checks.match('after a wrong password', wrong.sdk.connected, must('not true', (connected) => !connected));
}

async function ready_made_token(day) {
  const { checks } = day;
  const ada = await day.login('ada');
  const bot = await day.login('ada', { username: undefined, password: undefined, token: ada.sdk.token, userId: AGENTS.ada.userId });
  checks.match('getClock', await bot.ask('getClock', {}), { currentTime: millis });
  // Without a login the SDK does not know the account as its brandId, and leaves it out.
  checks.match('subscribeAgentsState', await bot.ask('subscribeAgentsState', {}), { subscriptionId: text });
  await bot.emitted(STATES);
  await bot.watchRings();
  await bot.goes('AWAY');
}

async function bad_bearer(day) {
  const { checks } = day;
  const token = { username: undefined, password: undefined, token: 'not-a-bearer', userId: AGENTS.ada.userId };
  const stranger = day.peer('ada', token).expect('error', 'closed');
  checks.match('the error for a bad bearer', (await stranger.emitted('error')).message, /401/);
}

async function agent_states(day) {
  const { checks } = day;
  const ada = await day.login('ada');
  const { subscriptionId } = await ada.ask('subscribeAgentsState', {});
  checks.match('subscribeAgentsState', subscriptionId, text);
  const told = async (what, availability) => {
    const body = await ada.notification(what, STATES, (body) => body.subscriptionId === subscriptionId);
    checks.match(what, body, { subscriptionId, changes: [{ type: 'UPSERT', result: { channels: ['MESSAGING'], availability } }] });
    return body.changes[0].result.availability;
  };
  await told('the present state', /^(ONLINE|OFFLINE|AWAY|BACK_SOON)$/);
  for (const availability of ['ONLINE', 'AWAY', 'BACK_SOON', 'OFFLINE', 'AWAY']) {
    await ada.goes(availability);
    await told(`the state ${availability}`, availability);
  }
  // The present state of who comes later is the last one.
  const later = await day.login('ada');
  const second = await later.ask('subscribeAgentsState', {});
  const present = await later.notification('the present state', STATES, (body) => body.subscriptionId === second.subscriptionId);
  checks.match('the present state', present.changes, [{ result: { availability: 'AWAY' } }]);
}

// Every socket of an agent is rung and told, whichever of them acts.
async function two_sockets(day) {
  const { checks } = day;
  const desk = await day.online('ada');
  const phone = await day.agent('ada');
  const conversation = await day.waiting();
  const ringId = await desk.ring(conversation, 'WAITING');
  checks.match('the ring on the other socket', await phone.ring(conversation, 'WAITING'), ringId);
  await phone.answers(conversation, ringId, 'ACCEPTED');
  checks.match('the accepted ring on the other socket', await desk.ring(conversation, 'ACCEPTED'), ringId);
  await desk.seesAssigned(conversation);
  await phone.seesAssigned(conversation);

  const office = await day.agent('grace');
  const home = await day.agent('grace');
  checks.match('the manager joins', await office.update(conversation, joins('MANAGER')), JOINED);
  for (const grace of [office, home]) {
    await grace.sees('the manager among the participants', conversation, ({ participants }) => has(participants, grace.id, 'MANAGER'));
  }
  const sequence = await desk.publish(conversation, plain('to everybody'));
  for (const peer of [desk, phone, office, home]) await peer.hearsAgent(conversation, sequence, plain('to everybody'), desk);
}

// The SDK refreshes by itself; its timer is a new one after each success, and it says so when one fails.
async function logs_out(day) {
  const { checks } = day;
  const ada = await day.login('ada', { refreshSessionInterval: 20 });
  for (const which of ['first', 'second']) {
    const before = ada.sdk.refreshSessionTimeoutId;
    await until(`the SDK's ${which} refresh`, () => ada.sdk.refreshSessionTimeoutId !== before || ada.inbox.failure !== null, Boolean);
    checks.match(`the ${which} refresh`, ada.inbox.failure, null);
  }

  ada.expect('closed', 'error');
  const cookie = ada.sdk.jar.getCookieString(`${HTTPS}/`);
  checks.match('the cookie of the session', cookie, /^session_id=/i);
  const logout = await call('POST', `${HTTPS}/api/account/${account}/logout`, { headers: { cookie }, json: { csrf: ada.sdk.csrf } });
  checks.match('the logout', logout, { status: 200 });
  checks.match('the close code of the socket', await ada.emitted('closed'), 4401);
  checks.match('the refresh of a session that is over', await ada.emitted('error'), { code: 401 });
  const late = day.peer('ada', { username: undefined, password: undefined, token: ada.sdk.token, userId: AGENTS.ada.userId });
  checks.match('the bearer of a session that is over', (await late.expect('error', 'closed').emitted('error')).message, /401/);

  const again = await day.login('ada');
  checks.match('getClock after the new login', await again.ask('getClock', {}), { currentTime: millis });
  checks.match('the same agent', again.id, ada.id);
}

// What was missed is the conversation's present state and the events from the next number on.
async function reconnects(day) {
  const { checks } = day;
  const lost = await day.online('ada');
  const conversation = await day.taken(lost);
  await conversation.say('before');
  await lost.hearsConsumer(conversation, 1, plain('before'));

  lost.expect('closed', 'error');
  lost.sdk.transport.ws.terminate();
  await lost.emitted('closed');
  await conversation.say('meanwhile, one');
  await conversation.say('meanwhile, two');

  const ada = await day.agent('ada');
  await ada.seesAssigned(conversation);
  await conversation.say('connected, not asked');
  await ada.ask('subscribeMessagingEvents', { dialogId: conversation.id, fromSeq: 2 });
  await conversation.say('live again');
  const missed = ['meanwhile, one', 'meanwhile, two', 'connected, not asked', 'live again'];
  for (const [place, message] of missed.entries()) await ada.hearsConsumer(conversation, 2 + place, plain(message));
  // What was said between the two may have come both ways; nothing else may.
  const isOther = ({ dialogId, change }) => dialogId === conversation.id && change.sequence !== 4;
  await ada.hasNone('events too many', ada.events, isOther);
  await ada.publish(conversation, plain('here I am'));
  checks.match('all that was said', (await conversation.read()).map((event) => event.sequence), exactly([0, 1, 2, 3, 4, 5, 6]));
}

async function unsubscribes(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const subscriptionId = await ada.watch();
  const conversation = await day.taken(ada);
  // Under the other of the two subscriptions than the one before, whichever that was.
  await ada.sees('the join, a second time', conversation, ({ getMyRole }) => getMyRole() === 'ASSIGNED_AGENT');
  checks.match('unsubscribeExConversations', await ada.ask('unsubscribeExConversations', { subscriptionId }), text);
  await ada.update(conversation, { field: 'TTRField', ttrType: 'URGENT', value: 60 });
  await ada.sees('the change', conversation, ({ ttr }) => ttr.ttrType === 'URGENT');
  const isOver = (item) => item.subscriptionId === subscriptionId && item.change.result.conversationDetails.ttr.ttrType === 'URGENT';
  await ada.hasNone('changes after the end of the subscription', ada.conversations, isOver);
}

// ---------------------------------------------------------------------------------------------------------- rings

async function present_rings(day) {
  const { checks } = day;
  const ada = await day.login('ada');
  const { subscriptionId, changes } = await ada.watchRings();
  checks.match('the rings of who is not online', changes, exactly([]));
  checks.match('updateRoutingTaskSubscription', await ada.ask('updateRoutingTaskSubscription', { subscriptionId }), text);
  await ada.goes('ONLINE');
  const conversation = await day.waiting();
  const ringId = await ada.ring(conversation, 'WAITING');
  const late = await day.login('ada');
  const present = await late.watchRings();
  checks.match('a ring that was there before', present.changes, [{
    type: 'UPSERT', result: { conversationId: conversation.id, ringsDetails: [{ ringId, ringState: 'WAITING' }] },
  }]);
  await ada.answers(conversation, ringId, 'ACCEPTED');
}

async function rung_at_the_first_message(day) {
  const ada = await day.online('ada');
  const silent = await day.open();
  const loud = await day.waiting();
  await ada.takes(loud);
  await ada.isNotRung(silent);
  await silent.say('now I say something');
  await ada.takes(silent);
}

async function accepts_once(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const grace = await day.agent('grace');
  const conversation = await day.waiting();
  const ringId = await ada.ring(conversation, 'WAITING');
  await grace.refused("accepting a colleague's ring", 'updateRingState', { ringId, ringState: 'ACCEPTED' });
  await ada.answers(conversation, ringId, 'ACCEPTED');
  const details = await ada.seesAssigned(conversation);
  checks.match('the conversation that was accepted', details, { skillId: '77', appInstId: DEMO.app.id });
  await ada.refused('accepting a ring that is over', 'updateRingState', { ringId, ringState: 'ACCEPTED' });
  await ada.refused('rejecting a ring that is over', 'updateRingState', { ringId, ringState: 'REJECTED' });
  await ada.refused('accepting a ring that never was', 'updateRingState', { ringId: 'no-such-ring', ringState: 'ACCEPTED' });
}

async function rejected_ring_goes_on(day) {
  const grace = await day.agent('grace');
  const ada = await day.online('ada');
  const conversation = await day.waiting();
  const ringId = await ada.ring(conversation, 'WAITING');
  await grace.goes('ONLINE');
  await ada.answers(conversation, ringId, 'REJECTED');
  await grace.takes(conversation);
  await ada.isNotRung(conversation);
}

async function ignored_ring_expires(day) {
  const { checks } = day;
  const grace = await day.agent('grace');
  const ada = await day.online('ada');
  const conversation = await day.waiting();
  const ringId = await ada.ring(conversation, 'WAITING');
  await grace.goes('ONLINE');
  checks.match('the ring that expired', await ada.ring(conversation, 'EXPIRED'), ringId);
  await grace.takes(conversation);
  await ada.refused('accepting an expired ring', 'updateRingState', { ringId, ringState: 'ACCEPTED' });
}

async function ring_cancelled_by_the_close(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.waiting();
  const ringId = await ada.ring(conversation, 'WAITING');
  checks.match('the consumer closes', await conversation.change({ field: 'ConversationStateField', conversationState: 'CLOSE' }), CLOSED);
  checks.match('the cancelled ring', await ada.ring(conversation, 'CANCELLED'), ringId);
  await ada.refused('accepting a cancelled ring', 'updateRingState', { ringId, ringState: 'ACCEPTED' });
}

async function ring_cancelled_by_going_away(day) {
  const { checks } = day;
  const grace = await day.agent('grace');
  const ada = await day.online('ada');
  const conversation = await day.waiting();
  const ringId = await ada.ring(conversation, 'WAITING');
  await ada.goes('AWAY');
  checks.match('the cancelled ring', await ada.ring(conversation, 'CANCELLED'), ringId);
  await grace.goes('ONLINE');
  await grace.takes(conversation);
  await ada.isNotRung(conversation);
}

async function no_ring_beyond_the_capacity(day) {
  const { checks } = day;
  const grace = await day.agent('grace');
  const ada = await day.online('ada');
  const [first] = [await day.taken(ada), await day.taken(ada), await day.taken(ada)];
  const fourth = await day.waiting();
  // A colleague is rung, so the fourth was looked at.
  await grace.goes('ONLINE');
  const ringId = await grace.ring(fourth, 'WAITING');
  await ada.isNotRung(fourth);
  await grace.answers(fourth, ringId, 'REJECTED');
  await ada.isNotRung(fourth);
  checks.match('the agent closes one', await ada.update(first, { field: 'ConversationStateField', conversationState: 'CLOSE' }), CLOSED);
  await ada.takes(fourth);
}

async function rung_by_skill_alone(day) {
  const { checks } = day;
  const ada = await day.agent('ada');
  const bea = await day.online('bea');
  const billing = await day.waiting({ skill: '77' });
  const repair = await day.waiting({ skill: '88' });
  await bea.takes(repair);
  await bea.isNotRung(billing);
  await ada.goes('ONLINE');
  await ada.takes(billing);
  // Her capacity is one.
  const next = await day.waiting({ skill: '88' });
  await bea.isNotRung(next);
  checks.match('the agent closes one', await bea.update(repair, { field: 'ConversationStateField', conversationState: 'CLOSE' }), CLOSED);
  await bea.takes(next);
  await ada.isNotRung(next);
}

// ------------------------------------------------------------------------------------------------------- messages

async function proactive(day) {
  const { checks } = day;
  const ada = await day.agent('ada');
  const former = await day.open();
  const context = { type: 'ProactiveContext', originConversationId: former.id };
  const opened = await ada.ask('agentRequestConversation', { consumerId: former.consumer.id, conversationContext: context });
  checks.match('agentRequestConversation', opened, { conversationId: uuid });
  const conversation = day.keep(new Conversation(checks, former.consumer, opened.conversationId, '-1'));
  const details = await ada.seesAssigned(conversation);
  checks.match('the new conversation', details, { context });
  const event = plain('we have news for you');
  await ada.publish(conversation, event);
  await ada.hearsAgent(conversation, 0, event, ada);
  checks.match('what the consumer reads', await conversation.read(), [{ sequence: 0, originatorId: ada.id, event: exactly(event) }]);
  await conversation.say('thank you');
  await ada.hearsConsumer(conversation, 1, plain('thank you'));
  await ada.refused('a consumer that never was', 'agentRequestConversation', { consumerId: '0'.repeat(64) });
}

async function content_and_receipts(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.taken(ada);
  const yes = { actions: [{ type: 'publishText', text: 'yep' }], metadata: [{ type: 'ExternalId', id: 'Yes-1234' }] };
  const quickReplies = {
    type: 'quickReplies', itemsPerRow: 8, replies: [{ type: 'button', tooltip: 'Yes!', title: 'Yes', click: yes }],
  };
  const card = { type: 'vertical', elements: [{ type: 'text', text: 'A product', style: { bold: true } }] };
  const metadata = [{ type: 'ExternalId', id: 'CARD-1' }];
  const encodedMetadata = Buffer.from('opaque').toString('base64');
  const said = [
    [plain('an agent speaks: ü, 🙂'), {}],
    [{ ...plain('yes?'), quickReplies }, { metadata, encodedMetadata }],
    [{ type: 'RichContentEvent', content: card }, { metadata }],
    [{ type: 'RichContentEvent', content: card, quickReplies }, {}],
    [receipt('ACCEPT', 0), {}],
    [receipt('READ', 0), {}],
  ];
  for (const [event, beside] of said) {
    const sequence = await ada.publish(conversation, event, beside);
    await ada.hearsAgent(conversation, sequence, event, ada, beside);
  }
  const [, ...read] = await conversation.read();
  checks.match('what the consumer reads', read, said.map(([event, beside], place) => ({
    sequence: place + 1, originatorId: ada.id, originatorPId: absent, originatorMetadata: { id: ada.id, role: 'ASSIGNED_AGENT' },
    event: exactly(event), metadata: beside.metadata ?? absent, encodedMetadata: beside.encodedMetadata ?? absent,
  })));

  // The consumer presses a quick reply: an ACTION and a text, both with the element's metadata.
  const pressed = { metadata: yes.metadata };
  for (const event of [receipt('ACTION', 2), plain('yep')]) {
    await ada.hearsConsumer(conversation, await conversation.publish(event, pressed), event, pressed);
  }
  await ada.refused('an event of no kind', 'publishEvent', { dialogId: conversation.id });
  await ada.refused('a text that is too long', 'publishEvent', { dialogId: conversation.id, event: plain('x'.repeat(8001)) });
  await ada.refused('a conversation that never was', 'publishEvent', { dialogId: 'no-such-dialog', event: plain('hi') });
}

async function typing_is_not_kept(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.taken(ada);
  const grace = await day.agent('grace');
  await grace.update(conversation, joins('MANAGER'));
  await conversation.publish(typing('COMPOSING'));
  for (const agent of [ada, grace]) await agent.hearsConsumer(conversation, undefined, typing('COMPOSING'));
  await ada.publish(conversation, typing('PAUSE'));
  await grace.hearsAgent(conversation, undefined, typing('PAUSE'), ada);
  await conversation.say('typed');
  await ada.hearsConsumer(conversation, 1, plain('typed'));
  checks.match('what is kept', (await conversation.read()).map(({ event }) => event.type), exactly(['ContentEvent', 'ContentEvent']));
}

async function whispers(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.taken(ada);
  const grace = await day.agent('grace');
  await grace.update(conversation, joins('MANAGER'));
  const audience = 'AGENTS_AND_MANAGERS';
  const hint = await ada.publish(conversation, plain('what do I say?'), { audience });
  for (const agent of [ada, grace]) {
    await agent.hearsAgent(conversation, hint, plain('what do I say?'), ada, { messageAudience: audience });
  }
  const help = await grace.publish(conversation, plain('say yes'), { audience });
  await ada.hears(conversation, help, plain('say yes'), { from: grace.id, role: 'MANAGER', messageAudience: audience });
  const answer = await ada.publish(conversation, plain('yes'));
  await grace.hearsAgent(conversation, answer, plain('yes'), ada, { messageAudience: 'ALL' });

  const read = await conversation.read();
  checks.match('the numbers that the consumer sees', read.map(({ sequence }) => sequence), exactly([0, 3]));
  checks.match('what the consumer sees', read.map(({ event }) => event.message), exactly(['hello', 'yes']));
  const whisper = { dialogId: conversation.id, event: plain('psst'), messageAudience: audience };
  const tried = await conversation.send('ms.PublishEvent', whisper);
  checks.match('a consumer that whispers', tried, { status: errors, body: { code: errors } });
}

async function queries(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const empty = await day.open();
  checks.match('an empty dialog', await ada.ask('subscribeMessagingEvents', { dialogId: empty.id }), absent);
  const isOfIt = (item) => item.type === EVENTS && item.body.dialogId === empty.id;
  await ada.hasNone('events of an empty dialog', ada.inbox, isOfIt);

  const conversation = await day.waiting();
  for (const message of ['one', 'two', 'three']) await conversation.say(message);
  await ada.takes(conversation);
  const asks = async (fromSeq) => {
    await ada.ask('subscribeMessagingEvents', { dialogId: conversation.id, fromSeq });
    const body = await ada.notification('the events so far', EVENTS, (body) => body.dialogId === conversation.id);
    return body.changes.map(({ sequence, event: { message } }) => [sequence, message]);
  };
  const all = [[0, 'hello'], [1, 'one'], [2, 'two'], [3, 'three']];
  checks.match('all events', await asks(undefined), exactly(all));
  checks.match('the events from 2, which is one of them', await asks(2), exactly(all.slice(2)));
  await ada.refused('a dialog that never was', 'subscribeMessagingEvents', { dialogId: 'no-such-dialog' });
}

async function profiles(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.taken(ada);
  // Bare strings, as its users pass them; the SDK makes a list of SDEs out of a profile.
  const person = { type: 'personal', personal: { firstname: 'Ann', lastname: 'Example' } };
  checks.match('the profile of the consumer', await ada.ask('getUserProfile', conversation.consumer.id), members(person));
  checks.match('its own, by its old id', await ada.ask('getUserProfile', oldId('ada')), anArray);
  checks.match('its own, by its participant id', await ada.ask('getUserProfile', ada.id), anArray);
  await ada.refused('the profile of nobody', 'getUserProfile', 'nobody-at-all');
}

// --------------------------------------------------------------------------------------- fields and participants

async function fields(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.taken(ada);
  const raw = await day.raw(ada);
  const changed = async () => (await raw.snapshot(conversation)).conversationDetails;
  let before = await changed();
  const time = Date.now() + 3_600_000;
  const ttr = { ttrType: 'PRIORITIZED', value: 1200 };
  const steps = [
    [{ field: 'Note', note: 'a good customer' }, 'OK Update note success', { note: 'a good customer' }],
    [{ field: 'TTRField', ...ttr }, 'Update TTR ended successfully', { ttr }],
    [{ field: 'ManualETTR', time }, 'Update manual Ettr ended successfully', { manualETTR: time }],
  ];
  for (const [field, said, details] of steps) {
    checks.match(field.field, await ada.update(conversation, field), said);
    const isNew = ({ metaDataLastUpdateTs }) => metaDataLastUpdateTs > before.metaDataLastUpdateTs;
    const change = await ada.sees(`the change by ${field.field}`, conversation, isNew);
    checks.match(`the change by ${field.field}`, change.type, 'UPSERT');
    before = await changed();
    checks.match(`the details after ${field.field}`, before, details);
  }
  checks.match('the time of the answer', (await raw.snapshot(conversation)).effectiveTTR, time);
  await ada.refused('all or none', 'updateConversationField', {
    conversationId: conversation.id,
    conversationField: [{ field: 'Note', note: 'half of it' }, { field: 'Skill', type: 'UPDATE', skill: 'no-such-skill' }],
  });
  checks.match('the note after a refusal', await changed(), { note: 'a good customer', skillId: '77' });
}

async function transfer_to_a_skill(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const bea = await day.online('bea');
  const conversation = await day.taken(ada);
  const said = await ada.update(conversation, { field: 'Skill', type: 'UPDATE', skill: '88' }, leaves('ASSIGNED_AGENT'));
  checks.match('the transfer', said, must('either text', (said) => said === 'Skill changed successfully' || said === LEFT));
  const gone = await ada.sees('the conversation gone', conversation, (details, { type }) => type === 'DELETE');
  checks.match('the conversation gone', gone.result.conversationDetails, {
    skillId: '88', state: 'OPEN', stage: 'OPEN', participants: must('without her', (got) => !has(got, ada.id, 'ASSIGNED_AGENT')),
  });
  conversation.skill = '88';
  await bea.takes(conversation);
  await ada.isNotRung(conversation);
  await ada.refused('publishing after the transfer', 'publishEvent', { dialogId: conversation.id, event: plain('still me') }, STRANGER);
  await bea.publish(conversation, plain('I go on'));
  await bea.hearsAgent(conversation, 1, plain('I go on'), bea);
}

async function transfer_to_an_agent(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.taken(ada);
  const grace = await day.online('grace', ALL_OPEN);
  const fields = [suggests('ada')];
  const already = 'Transfer to agent failed: Agent already exist';
  await ada.refused('one who is there', 'updateConversationField', { conversationId: conversation.id, conversationField: fields }, already);

  checks.match('the transfer', await ada.update(conversation, suggests('grace'), leaves('ASSIGNED_AGENT')), LEFT);
  const change = await grace.sees('herself suggested', conversation, ({ dialogs }) =>
    dialogs[0].participantsDetails.some(({ state }) => state === 'SUGGESTED'));
  const { dialogs, participants } = change.result.conversationDetails;
  const last = dialogs[0].participantsDetails.at(-1);
  checks.match('the last participant', last, {
    role: 'ASSIGNED_AGENT', state: 'SUGGESTED', id: must('that of grace', (id) => id === oldId('grace') || id === grace.id),
  });
  checks.match('the participants', participants, exactly([{ id: conversation.consumer.id, role: 'CONSUMER' }]));
  const ringId = await grace.ring(conversation, 'WAITING');
  await ada.isNotRung(conversation);
  await grace.answers(conversation, ringId, 'ACCEPTED');
  const details = await grace.seesAssigned(conversation);
  const details0 = details.dialogs[0].participantsDetails;
  checks.match('nobody suggested any more', details0.map(({ state }) => state), exactly(['ACTIVE', 'ACTIVE']));
}

async function back_to_the_queue(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.taken(ada);
  const grace = await day.agent('grace');
  // So that it does not come back to her.
  await ada.goes('AWAY');
  checks.match('the return', await ada.update(conversation, leaves('ASSIGNED_AGENT')), LEFT);
  await ada.sees('the conversation gone', conversation, (details, { type }) => type === 'DELETE');
  const fields = [leaves('ASSIGNED_AGENT')];
  await ada.refused('leaving twice', 'updateConversationField', { conversationId: conversation.id, conversationField: fields });
  await grace.goes('ONLINE');
  await grace.takes(conversation);
  await ada.isNotRung(conversation);
}

async function manager_joins_and_leaves(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.taken(ada);
  const grace = await day.agent('grace');
  await grace.refused('publishing before joining', 'publishEvent', { dialogId: conversation.id, event: plain('hi') }, STRANGER);
  checks.match('the manager joins', await grace.update(conversation, joins('MANAGER')), JOINED);
  for (const agent of [ada, grace]) {
    const change = await agent.sees('the manager', conversation, ({ participants }) => has(participants, grace.id, 'MANAGER'));
    const { dialogs, getMyRole } = change.result.conversationDetails;
    checks.match('the role of oneself', getMyRole(), agent === ada ? 'ASSIGNED_AGENT' : 'MANAGER');
    checks.match('the dialog', has(dialogs[0].participantsDetails, grace.id, 'MANAGER', 'ACTIVE'), true);
  }
  // From now on she hears all, and may speak.
  await conversation.say('is somebody there?');
  for (const agent of [ada, grace]) await agent.hearsConsumer(conversation, 1, plain('is somebody there?'));
  await grace.publish(conversation, plain('two of us'));
  for (const agent of [ada, grace]) await agent.hears(conversation, 2, plain('two of us'), { from: grace.id, role: 'MANAGER' });

  checks.match('the manager leaves', await grace.update(conversation, leaves('MANAGER')), LEFT);
  await ada.sees('the manager gone', conversation, ({ participants }) => !has(participants, grace.id, 'MANAGER'));
  await grace.sees('the conversation gone', conversation, (details, { type }) => type === 'DELETE');
  await conversation.say('and now?');
  await ada.hearsConsumer(conversation, 3, plain('and now?'));
  const isNews = ({ dialogId, change }) => dialogId === conversation.id && change.sequence > 2;
  await grace.hasNone('events after leaving', grace.events, isNews);
}

// ---------------------------------------------------------------------------------------------------------- files

/** A picture of one dot, with bytes behind its end that no reader looks at, so that it is larger than a frame may be. */
function picture() {
  const dot = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=';
  return Buffer.concat([Buffer.from(dot, 'base64'), randomBytes(200_000)]);
}

/** The answer to a question for an address, as an address of the `swift` service. */
async function address(checks, what, answer) {
  const isSoon = must('seconds since 1970, in the next minute', (time) => Math.abs(Number(time) - Date.now() / 1000 - 30) < 40);
  checks.match(what, answer, { relativePath: /^\//, queryParams: { temp_url_sig: text, temp_url_expires: isSoon } });
  const swift = await call('GET', `${HTTPS}/api/account/${account}/service/swift/baseURI.json?version=1.0`);
  checks.match('the service swift', swift, { status: 200, body: { service: 'swift', baseURI: text } });
  return { base: `https://${swift.body.baseURI}${answer.relativePath}`, query: answer.queryParams };
}

const url = ({ base, query }, changed) => `${base}?${new URLSearchParams({ ...query, ...changed })}`;

async function uploads(checks, place, bytes) {
  const forged = await fetch(url(place, { temp_url_sig: '0'.repeat(40) }), { method: 'PUT', body: bytes });
  checks.match('a forged signature', forged.status, 401);
  const put = await fetch(url(place), { method: 'PUT', body: bytes, headers: { 'content-type': 'image/png' } });
  checks.match('the upload', put.status, 201);
}

async function downloads(checks, place, bytes) {
  const forged = await fetch(url(place, { temp_url_sig: '0'.repeat(40) }));
  checks.match('a forged signature', forged.status, 401);
  const got = await fetch(url(place));
  checks.match('the download', got.status, 200);
  checks.match('the bytes', Buffer.from(await got.arrayBuffer()).equals(bytes), true);
}

const hosted = (relativePath) => ({
  type: 'ContentEvent',
  contentType: 'hosted/file',
  message: { caption: 'a dot', relativePath, fileType: 'PNG', preview: 'data:image/png;base64,iVBORw0KGgo=' },
});

async function file_of_the_agent(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.taken(ada);
  const bytes = picture();
  const asked = await ada.ask('generateURLForUploadFile', { fileSize: bytes.length, fileType: 'PNG' });
  await uploads(checks, await address(checks, 'generateURLForUploadFile', asked), bytes);
  const event = hosted(asked.relativePath);
  await ada.publish(conversation, event);
  await ada.hearsAgent(conversation, 1, event, ada);

  const { event: published } = (await conversation.read()).at(-1);
  checks.match('the file as the consumer reads of it', published, exactly(event));
  const { relativePath } = published.message;
  const place = await conversation.ask('ms.GenerateURLForDownloadFile', { relativePath });
  await downloads(checks, await address(checks, 'ms.GenerateURLForDownloadFile', place), bytes);
  const stranger = await day.open();
  const refused = await stranger.send('ms.GenerateURLForDownloadFile', { relativePath });
  checks.match("another consumer's question", refused, { status: errors, body: { code: errors } });
  await ada.refused('a file that is too large', 'generateURLForUploadFile', { fileSize: 3 * MIB + 1, fileType: 'PNG' }, text, 413);
  await ada.refused('a file of a type not allowed', 'generateURLForUploadFile', { fileSize: 5020, fileType: 'EXE' });
}

async function file_of_the_consumer(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const conversation = await day.taken(ada);
  const bytes = picture();
  // Sizes come as text too.
  const asked = await conversation.ask('ms.GenerateURLForUploadFile', { fileSize: String(bytes.length), fileType: 'PNG' });
  await uploads(checks, await address(checks, 'ms.GenerateURLForUploadFile', asked), bytes);
  const event = hosted(asked.relativePath);
  await conversation.publish(event);
  await ada.hearsConsumer(conversation, 1, event);
  const place = await ada.ask('generateURLForDownloadFile', { relativePath: asked.relativePath });
  await downloads(checks, await address(checks, 'generateURLForDownloadFile', place), bytes);
  await ada.refused('a file that never was', 'generateURLForDownloadFile', { relativePath: `${asked.relativePath}x` });
}

// ---------------------------------------------------------------------------------------------------- the close

/** That a conversation is over altogether, its main dialog being its only one. */
function over(checks, change, by) {
  checks.match('the end', change, { type: 'DELETE', result: { conversationDetails: {
    state: 'CLOSE', stage: 'CLOSE', closeReason: by, endTs: millis,
    dialogs: [{ dialogType: 'MAIN', state: 'CLOSE', endTs: millis, closedBy: by }],
  } } });
}

const isClosed = ({ state }) => state === 'CLOSE';

async function closes_without_a_survey(day) {
  const { checks } = day;
  const ada = await day.online('ada');
  const close = { field: 'ConversationStateField', conversationState: 'CLOSE' };

  const plainConsumer = await day.taken(ada);
  checks.match('the close', await ada.update(plainConsumer, close), CLOSED);
  over(checks, await ada.sees('the end', plainConsumer, isClosed), 'AGENT');

  const byDialog = await day.taken(ada);
  checks.match('the close of the dialog', await ada.update(byDialog, closesDialog(byDialog.id)), CLOSED);
  over(checks, await ada.sees('the end', byDialog, isClosed), 'AGENT');

  const noSurvey = await day.taken(ada, { skill: '-1', consumer: await day.consumer(surveyed) });
  checks.match('the close of the dialog', await ada.update(noSurvey, closesDialog(noSurvey.id)), CLOSED);
  over(checks, await ada.sees('the end', noSurvey, isClosed), 'AGENT');

  const byStage = await day.taken(ada, { consumer: await day.consumer(surveyed) });
  checks.match('the close of the container', await ada.update(byStage, { field: 'Stage', conversationState: 'CLOSE' }), CLOSED);
  over(checks, await ada.sees('the end', byStage, isClosed), 'AGENT');

  const byConsumer = await day.taken(ada);
  checks.match('the close by the consumer', await byConsumer.change(close), CLOSED);
  over(checks, await ada.sees('the end', byConsumer, isClosed), 'CONSUMER');
  await ada.refused('publishing after the end', 'publishEvent', { dialogId: byConsumer.id, event: plain('wait!') });
  // A receipt is still taken.
  await ada.publish(byConsumer, receipt('READ', 0));
}

/** A taken conversation whose main dialog is closed while its survey runs; the survey's dialog, and who watches. */
async function surveying(day, close) {
  const { checks } = day;
  // The survey's bot may be a participant that the SDK cannot place; it warns and goes on.
  const ada = (await day.online('ada')).expect('warn');
  const grace = (await day.agent('grace', ALL_OPEN)).expect('warn');
  const conversation = await day.taken(ada, { consumer: await day.consumer(surveyed) });
  checks.match('the close', await close(ada, conversation), CLOSED);
  const gone = await ada.sees('the main dialog closed', conversation, isClosed);
  checks.match('the main dialog closed', gone, { type: 'DELETE', result: { conversationDetails: { state: 'CLOSE', stage: 'OPEN' } } });

  const { type, result } = await grace.sees('the survey', conversation, isClosed);
  const { conversationDetails: details } = result;
  checks.match('the survey', type, 'UPSERT');
  checks.match('the survey', details, { state: 'CLOSE', stage: 'OPEN' });
  const [main, survey] = ['MAIN', 'POST_SURVEY'].map((kind) => details.dialogs.find(({ dialogType }) => dialogType === kind));
  checks.match('the two dialogs', details.dialogs.length, 2);
  checks.match('the main dialog', main, { dialogId: conversation.id, state: 'CLOSE', endTs: millis });
  checks.match('the survey’s dialog', survey, {
    dialogId: must('an id of its own', (id) => typeof id === 'string' && id !== '' && id !== conversation.id),
    state: 'OPEN', creationTs: millis, endTs: absent,
    participantsDetails: must('the consumer among them', (got) => has(got, conversation.consumer.id, 'CONSUMER', 'ACTIVE')),
  });
  return { ada, grace, conversation, surveyId: survey.dialogId };
}

/** The survey's question, as the consumer reads it. */
async function question(conversation, surveyId, wanted) {
  const isIt = ({ event }) => event.type === 'ContentEvent' && String(event.message).includes(wanted);
  const events = await until(`the question ${wanted}`, () => conversation.read(surveyId), (events) => events.some(isIt));
  return events.find(isIt);
}

/** The end of the container: how the survey's dialog was closed. */
async function surveyOver(day, grace, conversation, closedBy) {
  const { type, result } = await grace.sees('the end', conversation, ({ stage }) => stage === 'CLOSE');
  day.checks.match('the end', type, 'DELETE');
  const { conversationDetails: details } = result;
  day.checks.match('the end', details, { state: 'CLOSE', stage: 'CLOSE', dialogs: anArray });
  const survey = details.dialogs.find(({ dialogType }) => dialogType === 'POST_SURVEY');
  day.checks.match('the survey’s dialog', survey, { state: 'CLOSE', endTs: millis, closedBy });
  return survey;
}

async function survey_answered(day) {
  const { checks } = day;
  const { ada, grace, conversation, surveyId } = await surveying(day, (ada, { id }) => ada.update({ id }, closesDialog(id)));
  const says = async (event, metadata) => {
    const body = { conversationId: conversation.id, dialogId: surveyId, event };
    return (await conversation.ask('ms.PublishEvent', body, { metadata })).sequence;
  };
  const score = await question(conversation, surveyId, QUESTIONS[0]);
  checks.match('the first question', score, { sequence: 0, dialogId: surveyId, originatorMetadata: { role: text } });
  // Pressed if it has quick replies, else typed.
  const five = score.event.quickReplies?.replies.find(({ click }) => click.actions.some(({ text }) => String(text) === '5'));
  if (five) await says(receipt('ACTION', score.sequence), five.click.metadata);
  await says(plain('5'), five?.click.metadata);
  const why = await question(conversation, surveyId, QUESTIONS[1]);
  checks.match('the second question', why, { sequence: greaterThan(score.sequence), dialogId: surveyId });
  const answered = await says(plain('nothing at all'));
  checks.match('the last answer', answered, greaterThan(why.sequence));

  checks.match('why the survey ended', await surveyOver(day, grace, conversation, 'AGENT'), { closedCause: 'Completed' });
  const { conversationDetails: details } = await (await day.raw(ada)).snapshot(conversation);
  checks.match('the rating', Number(details.csat?.csatRate ?? details.csatRate), 5);
  const late = { conversationId: conversation.id, dialogId: surveyId, event: plain('one more thing') };
  checks.match('an answer too late', await conversation.send('ms.PublishEvent', late), { status: errors, body: { code: errors } });
}

async function survey_left(day) {
  const close = { field: 'ConversationStateField', conversationState: 'CLOSE' };
  const { grace, conversation, surveyId } = await surveying(day, (ada, conversation) => conversation.change(close));
  await question(conversation, surveyId, QUESTIONS[0]);
  day.checks.match('the consumer leaves the survey', await conversation.change(closesDialog(surveyId)), CLOSED);
  await surveyOver(day, grace, conversation, 'CONSUMER');
}

// ------------------------------------------------------------------------------------------------------ raw frames

// What v2 has and the SDK drops, on a socket beside it.
async function raw_frames(day) {
  const { checks } = day;
  const ada = await day.agent('ada');
  const raw = await day.raw(ada);
  const subscribed = async (type, body, notification) => {
    const reply = await raw.ask(type, body);
    checks.match(type, reply, { code: 200, type: '.ams.GenericSubscribe$Response', body: { subscriptionId: text } });
    const { subscriptionId } = reply.body;
    return raw.notification(`the first of ${type}`, notification, (body) => body.subscriptionId === subscriptionId);
  };
  const own = { brandId: account, agentId: oldId('ada') };
  const state = await subscribed('.ams.routing.SubscribeAgentsState', own, '.ams.routing.AgentStateNotification');
  const ofHers = { channels: ['MESSAGING'], availability: text, agentUserId: oldId('ada') };
  checks.match('the present state', state.changes, [{ type: 'UPSERT', result: ofHers }]);
  const TASKS = '.ams.routing.RoutingTaskNotification';
  const present = await subscribed('.ams.routing.SubscribeRoutingTasks', { ...own, channelType: 'MESSAGING' }, TASKS);
  checks.match('the present rings', present.changes, exactly([]));
  const online = await raw.ask('.ams.routing.SetAgentState', { ...ofHers, availability: 'ONLINE' });
  checks.match('SetAgentState', online, { code: 202, type: '.ReqBody$StringResp', body: 'Agent state updated successfully' });

  const conversation = await day.waiting();
  const { id } = conversation;
  const task = await raw.notification('the ring', TASKS, ({ changes }) => changes[0]?.result.conversationId === id);
  const about = { brandId: account, consumerId: conversation.consumer.id, skillId: '77' };
  checks.match('the ring', task.changes, [{ type: 'UPSERT', result: {
    ...about, routingTaskId: text, assignedAgentId: oldId('ada'), conversationId: id,
    ringsDetails: [{ ...about, ringState: 'WAITING', convId: id }],
  } }]);
  const { ringId } = task.changes[0].result.ringsDetails[0];
  const accepted = await raw.ask('.ams.routing.UpdateRingState', { ringId, ringState: 'ACCEPTED' });
  checks.match('UpdateRingState', accepted, { code: 202, type: '.ReqBody$StringResp', body: 'Ring state updated successfully' });
  checks.match('the ring at the SDK', await ada.ring(conversation, 'ACCEPTED'), ringId);
  await ada.seesAssigned(conversation);

  await conversation.say('and a second');
  const live = await raw.notification('the event', '.ams.ms.OnlineEventDistribution', (body) => body.dialogId === id && body.sequence === 1);
  const person = conversation.consumer.id;
  const consumer = { originatorId: person, originatorPId: person, originatorMetadata: { id: person, role: 'CONSUMER' } };
  const event = exactly(plain('and a second'));
  checks.match('the event, which is the body', live, { ...consumer, changes: absent, serverTimestamp: millis, event });

  const isCounts = must('whole numbers by id', (counts) => Object.values(counts ?? [-1]).every((count) => whole(count) && count >= 0));
  const unread = ({ numberOfunreadMessages: counts }) => {
    checks.match('numberOfunreadMessages', counts, isCounts);
    return counts[oldId('ada')] ?? counts[AGENTS.ada.userId] ?? counts[ada.id] ?? 0;
  };
  const before = await raw.snapshot(conversation);
  checks.match('unread by her', unread(before), atLeast(1));
  checks.match('the result', before, { lastUpdateTime: before.conversationDetails.metaDataLastUpdateTs, effectiveTTR: whole });
  checks.match('the details', before.conversationDetails, {
    convId: id, brandId: account,
    participants: exactly({ CONSUMER: [person], ASSIGNED_AGENT: [oldId('ada')] }),
    participantsPId: exactly({ CONSUMER: [person], ASSIGNED_AGENT: [ada.id] }),
  });
  checks.match('the last content', before.lastContentEventNotification, {
    ...consumer, sequence: 1, serverTimestamp: millis, event, dialogId: id, messageAudience: absent,
  });

  await ada.publish(conversation, receipt('READ', 0, 1));
  const read = await raw.snapshot(conversation);
  checks.match('unread after reading', unread(read), 0);
  checks.match('the last content, which a receipt is not', read.lastContentEventNotification, { sequence: 1 });
  await ada.publish(conversation, plain('an answer'));
  checks.match('the last content', (await raw.snapshot(conversation)).lastContentEventNotification, {
    sequence: 3, originatorId: oldId('ada'), originatorPId: ada.id, originatorMetadata: { id: ada.id, role: 'ASSIGNED_AGENT' },
    event: exactly(plain('an answer')), messageAudience: absent,
  });

  const queried = await raw.ask('.ams.ms.QueryMessages', { dialogId: id, newerThanSequence: 1 });
  checks.match('QueryMessages', queried, { code: 200, type: '.ams.ms.QueryMessages$Response', body: anArray });
  checks.match('QueryMessages', queried.body.map(({ sequence }) => sequence), exactly([1, 2, 3]));
  const profile = await raw.ask('.ams.userprofile.GetUserProfile', { userId: oldId('ada') });
  checks.match('GetUserProfile', profile, { code: 200, type: '.ams.userprofile.GetUserProfile$Response', body: { userId: text } });
}

const SCENARIOS = [
  logs_in, ready_made_token, bad_bearer, agent_states, two_sockets, logs_out, reconnects, unsubscribes,
  present_rings, rung_at_the_first_message, accepts_once, rejected_ring_goes_on, ignored_ring_expires, ring_cancelled_by_the_close,
  ring_cancelled_by_going_away, no_ring_beyond_the_capacity, rung_by_skill_alone,
  proactive, content_and_receipts, typing_is_not_kept, whispers, queries, profiles,
  fields, transfer_to_a_skill, transfer_to_an_agent, back_to_the_queue, manager_joins_and_leaves,
  file_of_the_agent, file_of_the_consumer,
  closes_without_a_survey, survey_answered, survey_left,
  raw_frames,
];

/** The scenarios that were named, or all. */
function chosen(names) {
  const unknown = names.filter((name) => !SCENARIOS.some((scenario) => scenario.name === name));
  const known = SCENARIOS.map(({ name }) => name).join(', ');
  if (unknown.length > 0) throw new Mismatch(`no scenario ${unknown.join(', ')}\n  there are ${known}`);
  return SCENARIOS.filter(({ name }) => names.length === 0 || names.includes(name));
}

/** Runs a scenario to its end, and leaves nothing of it. */
async function run(checks, scenario) {
  const day = new Day(checks, scenario.name);
  let error;
  await scenario(day).catch((failure) => (error = failure));
  await day.end().catch((failure) => (error ??= failure));
  return error;
}

main('working_day', async (checks) => {
  const failed = [];
  for (const scenario of chosen(process.argv.slice(2))) {
    const error = await run(checks, scenario);
    if (!error) continue;
    failed.push(scenario.name);
    // At once, so that it is seen even if the day does not come to its end.
    console.error(`failed ${scenario.name}\n${error instanceof Mismatch ? error.message : inspect(error)}`);
  }
  if (failed.length > 0) throw new Mismatch(`failed scenarios: ${failed.join(', ')}`);
}, { deadline: DAY_DEADLINE });
