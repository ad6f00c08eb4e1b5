// What the console knows, and the pure functions by which it changes.

import { customerName } from './format.js';
import { emptyLog, unread } from './log.js';

/** Keeps a state, and tells when there is another. Drawing waits for the next frame; `heard` is told at once. */
export class Store {
  #listeners = new Set();

  constructor(state) {
    this.state = state;
  }

  set(change) {
    const next = typeof change === 'function' ? change(this.state) : { ...this.state, ...change };
    if (next === this.state) return;
    this.state = next;
    for (const listener of this.#listeners) listener(next);
  }

  subscribe(listener) {
    this.#listeners.add(listener);
  }
}

export const initial = () => ({
  session: null, signInError: null, isSigningIn: false, wasEnded: null,
  line: { name: 'off' },
  // What the gateway's clock is ahead of ours, in ms.
  skew: 0,
  availability: null,
  conversations: new Map(), rings: new Map(), logs: new Map(), profiles: new Map(),
  // The texts that are being written, so that they outlive a look at another conversation.
  drafts: new Map(),
  selected: null, tab: 'mine',
  isDetails: false, isFrames: false, dialog: null,
  notice: null, said: { polite: '', urgent: '' },
});

const participantsOf = (details) => details.dialogs?.find(({ dialogType }) => dialogType === 'MAIN')?.participantsDetails ?? [];

/** A conversation out of a notification, as the views need it. */
export function conversation({ convId, effectiveTTR, conversationDetails: details, lastContentEventNotification }) {
  const active = participantsOf(details).filter(({ state }) => state === 'ACTIVE');
  const suggested = participantsOf(details).find(({ state }) => state === 'SUGGESTED');
  const find = (role) => active.find((one) => one.role === role)?.id ?? null;
  const ttr = details.ttr?.value;
  return {
    id: convId,
    consumer: find('CONSUMER') ?? details.participants?.find(({ role }) => role === 'CONSUMER')?.id ?? null,
    assigned: find('ASSIGNED_AGENT'),
    members: active.filter(({ role }) => role !== 'CONSUMER'),
    suggested: suggested?.id ?? null,
    skill: String(details.skillId ?? '-1'),
    isOpen: details.state !== 'CLOSE',
    isSurvey: details.state === 'CLOSE' && details.stage === 'OPEN',
    isEnded: details.stage === 'CLOSE',
    closeReason: details.closeReason ?? null,
    startTs: details.startTs,
    changed: details.metaDataLastUpdateTs ?? details.startTs,
    // An answer is due by then; so long before, the customer began to wait.
    since: effectiveTTR > 0 && ttr ? effectiveTTR - ttr * 1000 : null,
    due: effectiveTTR > 0 ? effectiveTTR : null,
    last: lastContentEventNotification ?? null,
    context: details.context ?? null,
    campaign: details.campaignInfo ?? null,
    urgency: details.ttr?.ttrType ?? null,
    facts: details.facts ?? {},
  };
}

/**
 * What a notification of conversations says. The first of a subscription is all there is: what it does not name was closed
 * while nobody listened.
 */
export function conversationsChanged(state, { changes }, { isSnapshot }) {
  const conversations = isSnapshot ? new Map() : new Map(state.conversations);
  for (const { type, result } of changes) {
    const next = conversation(result);
    if (type === 'UPSERT' || next.id === state.selected) conversations.set(next.id, next);
    else conversations.delete(next.id);
  }
  // What was said in it is to be read nowhere any more, here neither.
  const silenced = changes.filter(({ result }) => result.conversationDetails.facts?.anonymisedAt && state.logs.has(result.convId));
  for (const { result } of silenced) state = withLog(state, result.convId, (log) => ({ ...log, rows: [] }));
  const shown = state.conversations.get(state.selected);
  if (shown && !conversations.has(shown.id)) conversations.set(shown.id, { ...shown, isOpen: false, isEnded: true, isSurvey: false });
  return { ...state, conversations };
}

/** The offers that wait; others have ended. */
export function ringsChanged(state, { changes }, { isSnapshot }) {
  const rings = isSnapshot ? new Map() : new Map(state.rings);
  for (const { type, result } of changes) {
    for (const ring of result.ringsDetails ?? []) {
      if (type === 'UPSERT' && ring.ringState === 'WAITING') {
        rings.set(ring.ringId, {
          id: ring.ringId, conversation: ring.convId, consumer: ring.consumerId, skill: String(ring.skillId ?? '-1'),
          until: ring.ringExpirationTs, time: ring.ringExpiration, since: ring.weight,
        });
      } else {
        rings.delete(ring.ringId);
      }
    }
  }
  return { ...state, rings };
}

export function withLog(state, id, change) {
  const old = state.logs.get(id) ?? emptyLog();
  const log = change(old);
  return log === old ? state : { ...state, logs: new Map(state.logs).set(id, log) };
}

export const withProfile = (state, id, profile) => ({ ...state, profiles: new Map(state.profiles).set(id, profile) });
export const withDraft = (state, id, draft) => ({ ...state, drafts: new Map(state.drafts).set(id, draft) });

/** Another conversation is looked at. What has ended and is not looked at any more goes. */
export function select(state, id) {
  const conversations = new Map(state.conversations);
  if (state.selected !== id && conversations.get(state.selected)?.isEnded) conversations.delete(state.selected);
  return { ...state, conversations, selected: id, dialog: null };
}

export const logOf = (state, id) => state.logs.get(id) ?? emptyLog();
export const isMember = (one, pid) => one.members.some(({ id }) => id === pid);
export const nameOf = (state, id) => customerName(state.profiles.get(id), id);

/** An agent's name; the head of its id as long as the profile is not known. */
export function agentName(state, id) {
  if (id === state.session?.pid) return 'You';
  const profile = state.profiles.get(id);
  return profile ? customerName(profile, id) : `Agent ${String(id).slice(0, 6)}`;
}

/** The conversations by where they belong: one's own, those that wait for an agent, those of others. */
export function sorted(state) {
  const all = [...state.conversations.values()];
  const pid = state.session?.pid;
  const time = (one) => state.logs.get(one.id)?.rows.at(-1)?.serverTimestamp ?? one.last?.serverTimestamp ?? one.startTs;
  const newest = (a, b) => time(b) - time(a);
  const longest = (a, b) => (a.since ?? a.startTs) - (b.since ?? b.startTs);
  return {
    mine: all.filter((one) => isMember(one, pid)).sort(newest),
    queue: all.filter((one) => one.isOpen && !one.assigned && !isMember(one, pid)).sort(longest),
    others: all.filter((one) => (one.assigned || !one.isOpen) && !isMember(one, pid)).sort(newest),
  };
}

export const unreadIn = (state, { mine }) => mine.reduce((sum, one) => sum + unread(logOf(state, one.id)), 0);

export function title(state) {
  if (!state.session) return 'Sign in · Tieline';
  if (state.rings.size > 0) return `🔔 ${state.rings.size} ringing · Tieline`;
  const count = unreadIn(state, sorted(state));
  return count > 0 ? `(${count}) Tieline` : 'Tieline';
}
