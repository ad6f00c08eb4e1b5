// What an agent does: sign in, be asked, answer, hand over, close. Everything over the socket that any client may open.

import { CallFailed, isGood, login, logout, refresh } from './api.js';
import { summary } from './format.js';
import { emptyLog, isConsumer } from './log.js';
import { Line, Refused, Unknown } from './socket.js';
import {
  conversationsChanged, initial, isMember, logOf, nameOf, ringsChanged, select, withDraft, withLog, withProfile,
} from './store.js';
import { Talk, brandSide } from './talk.js';

/** Where the session is kept: a reload stays signed in, a closed tab does not. */
const SESSION = 'tieline.session';
/** The longest wait between two refreshes; a session may last for longer than a timer can wait. */
const REFRESH = 30 * 60_000;

const field = (type, more = {}) => ({ field: 'ParticipantsChange', type, role: 'ASSIGNED_AGENT', ...more });

export class Desk {
  #line = null;
  #talks = new Map();
  #asked = new Set();
  #fresh = new Set();
  #timer;

  constructor(store) {
    this.store = store;
    const kept = sessionStorage.getItem(SESSION);
    if (kept) this.#enter(JSON.parse(kept));
  }

  get #state() {
    return this.store.state;
  }

  get frames() {
    return this.#line?.frames ?? null;
  }

  async signIn(account, name, password) {
    this.store.set({ isSigningIn: true, signInError: null });
    try {
      const session = await login(account, name, password);
      sessionStorage.setItem(SESSION, JSON.stringify(session));
      this.#enter(session);
    } catch (error) {
      if (!(error instanceof CallFailed)) throw error;
      const sentence = error.status === 401 ? 'Account, login or password is wrong.' : error.message;
      this.store.set({ isSigningIn: false, signInError: sentence });
    }
  }

  #enter(session) {
    this.store.set({ ...initial(), session });
    const path = `/ws_api/account/${encodeURIComponent(session.account)}/messaging/brand/${session.bearer}?v=3`;
    this.#line = new Line({
      url: () => new URL(path, location.href.replace(/^http/, 'ws')).href,
      greet: async (request) => {
        const asked = Date.now();
        const { currentTime } = await request('GetClock', {});
        // The answer was made somewhere between the question and now.
        this.store.set({ skew: currentTime - (asked + Date.now()) / 2 });
      },
      probe: () => isGood(session),
      live: () => this.#subscribe(),
      notified: (type, body) => this.#notified(type, body),
      changed: (line) => {
        this.store.set({ line });
        if (line.name === 'signedOut') this.#leave(`Your session has ended. ${this.#unsent()}Please sign in again.`);
      },
    });
    this.#line.connect();
    this.#refreshLater();
  }

  /** Keeps the session alive for as long as the page is open. */
  #refreshLater() {
    clearTimeout(this.#timer);
    const { session } = this.#state;
    this.#timer = setTimeout(async () => {
      try {
        await refresh(session);
        const next = { ...session, until: Date.now() + session.life };
        sessionStorage.setItem(SESSION, JSON.stringify(next));
        if (this.#state.session) this.store.set({ session: next });
      } catch (error) {
        if (!(error instanceof CallFailed)) throw error;
        // The socket tells when the session is over. Until then it may only be a moment without a network.
      }
      if (this.#state.session) this.#refreshLater();
    }, Math.min(REFRESH, session.life / 2));
  }

  async signOut() {
    const { session } = this.#state;
    // Nobody is to be asked who cannot answer any more.
    await this.#line.request('rs.SetAgentState', { availability: 'OFFLINE' }).catch(() => {});
    this.#leave(null);
    await logout(session).catch((error) => {
      if (!(error instanceof CallFailed)) throw error;
      // The token is forgotten here, whether or not the gateway could be told.
    });
  }

  /** What did not arrive and goes with the session; nothing is dropped without a word. */
  #unsent() {
    const count = [...this.#state.logs.values()].flatMap(({ pending }) => pending).filter(({ state }) => state !== 'sent').length;
    return count > 0 ? `${count} of your messages may not have arrived. ` : '';
  }

  #leave(reason) {
    clearTimeout(this.#timer);
    sessionStorage.removeItem(SESSION);
    this.#line.close();
    this.#line = null;
    this.#talks.clear();
    this.#asked.clear();
    this.store.set({ ...initial(), wasEnded: reason });
  }

  /** Comes back at once, because a person does not want to wait. */
  reconnect() {
    this.#line?.connect();
  }

  #ask = (...request) => (this.#line ? this.#line.request(...request) : Promise.reject(new Unknown()));

  /** What each new connection begins with. What is followed goes on where it ended. */
  async #subscribe() {
    this.#asked.clear();
    this.#fresh = new Set(['conversations', 'rings']);
    const wanted = [
      ['userprofile.GetUserProfile', {}],
      ['rs.SubscribeAgentsState', {}],
      ['rs.SubscribeRoutingTasks', {}],
      ['cqm.SubscribeExConversations', { stage: ['OPEN'] }],
    ];
    const [profile] = await this.#mind(Promise.all(wanted.map(([type, body]) => this.#ask(type, body)))) ?? [];
    const { session } = this.#state;
    if (profile && session) this.store.set((state) => withProfile(state, session.pid, profile));
    for (const talk of this.#talks.values()) this.#mind(talk.follow());
  }

  #notified(type, body) {
    if (type === 'ms.MessagingEventNotification') this.#events(body);
    if (type === 'cqm.ExConversationChangeNotification') this.#conversations(body);
    if (type === 'rs.RoutingTaskNotification') this.#rings(body);
    if (type === 'rs.AgentStateNotification') this.#availability(body);
  }

  #events({ dialogId, changes }) {
    const talk = this.#talks.get(dialogId);
    if (!talk) return;
    const { head } = logOf(this.#state, dialogId);
    talk.take(changes);
    const heard = changes.filter((change) => change.sequence > head && isConsumer(change) && change.event.type !== 'AcceptStatusEvent');
    if (heard.length > 0) this.#announce(`${nameOf(this.#state, heard.at(-1).originatorId)}: ${summary(heard.at(-1).event)}`);
  }

  #conversations(body) {
    const isSnapshot = this.#fresh.delete('conversations');
    this.store.set((state) => conversationsChanged(state, body, { isSnapshot }));
    const { conversations, session, selected, logs } = this.#state;
    for (const one of conversations.values()) {
      if (isMember(one, session.pid) || one.id === selected) this.#follow(one.id);
      if (one.consumer && isMember(one, session.pid)) this.#learn(one.consumer);
      for (const { id, role } of one.members) if (role !== 'CONTROLLER') this.#learn(id);
      if (one.suggested) this.#learn(one.suggested);
    }
    for (const id of logs.keys()) if (!conversations.has(id)) this.#forget(id);
  }

  #forget(id) {
    this.#talks.delete(id);
    this.store.set((state) => {
      const logs = new Map(state.logs);
      logs.delete(id);
      return { ...state, logs };
    });
  }

  #rings(body) {
    const before = this.#state.rings;
    const isSnapshot = this.#fresh.delete('rings');
    this.store.set((state) => ringsChanged(state, body, { isSnapshot }));
    for (const ring of this.#state.rings.values()) {
      if (before.has(ring.id)) continue;
      this.#announce('A conversation rings. Alt and A accepts it.', 'urgent');
      this.#learn(ring.consumer);
    }
  }

  #availability({ changes }) {
    const { pid } = this.#state.session;
    const own = changes.map(({ result }) => result).find(({ agentUserId }) => agentUserId === pid);
    if (own) this.store.set({ availability: own.availability });
  }

  /** Follows a conversation: from then on what is said in it comes by itself. */
  #follow(id) {
    if (this.#talks.has(id)) return;
    this.store.set((state) => withLog(state, id, () => emptyLog()));
    const talk = new Talk({
      dialogId: id,
      request: this.#ask,
      log: () => logOf(this.#state, id),
      update: (change) => this.store.set((state) => (state.logs.has(id) ? withLog(state, id, change) : state)),
      side: brandSide(this.#state.session.pid),
      isLive: () => this.#state.line.name === 'live',
      takesPart: () => this.#state.conversations.get(id)?.assigned === this.#state.session?.pid,
    });
    this.#talks.set(id, talk);
    this.#mind(talk.follow());
  }

  /** Asks who somebody is, once on each connection: it may be that one may not know yet. */
  #learn(id, { again = false } = {}) {
    if (!again && (this.#asked.has(id) || this.#state.profiles.has(id))) return;
    this.#asked.add(id);
    this.#ask('userprofile.GetUserProfile', { userId: id }).then(
      (profile) => this.store.set((state) => withProfile(state, id, profile)),
      () => this.#asked.delete(id),
    );
  }

  /** Who a number, login-like id or participant id names, for a transfer; null if nobody. */
  async findAgent(userId) {
    try {
      const profile = await this.#ask('userprofile.GetUserProfile', { userId });
      this.store.set((state) => withProfile(state, profile.userId, profile));
      return profile;
    } catch (error) {
      if (error instanceof Refused) return null;
      throw error;
    }
  }

  #announce(text, how = 'polite') {
    this.store.set((state) => ({ ...state, said: { ...state.said, [how]: text } }));
  }

  notice(text) {
    this.store.set({ notice: text });
  }

  /** Says to the person what was refused. A lost connection is shown at the top anyway. */
  async #mind(asked) {
    try {
      return await asked;
    } catch (error) {
      if (error instanceof Refused || error instanceof CallFailed) this.notice(error.message);
      else if (error instanceof Unknown) {
        if (this.#state.line.name !== 'live') return undefined;
        this.notice('The connection was lost before the answer. Look whether it has happened.');
      } else throw error;
      return undefined;
    }
  }

  setAvailability(availability) {
    return this.#mind(this.#ask('rs.SetAgentState', { availability }));
  }

  async answer(ring, ringState) {
    const done = await this.#mind(this.#ask('rs.UpdateRingState', { ringId: ring.id, ringState }).then(() => true));
    if (done && ringState === 'ACCEPTED') this.open(ring.conversation);
  }

  open(id) {
    this.store.set((state) => select(state, id));
    const one = this.#state.conversations.get(id);
    if (one) {
      this.#follow(id);
      // A profile may have changed since it was read.
      if (one.consumer) this.#learn(one.consumer, { again: true });
    }
    // What was only looked at and has ended is forgotten with its log.
    for (const known of this.#state.logs.keys()) if (known !== id && !this.#state.conversations.has(known)) this.#forget(known);
  }

  /** Changes a part of what is being written. What is drawn may be a moment older than what was chosen, so the rest is kept. */
  draft(id, change) {
    const draft = { ...this.#draftOf(id), ...change };
    this.store.set((state) => withDraft(state, id, draft));
    const talk = this.#talks.get(id);
    // That a note is written is nothing for the customer.
    if (draft.text && !draft.isNote) talk?.typed();
    else talk?.stopTyping();
  }

  #draftOf(id) {
    return this.#state.drafts.get(id) ?? { text: '', isNote: false };
  }

  #audience(id) {
    return this.#draftOf(id).isNote ? 'AGENTS_AND_MANAGERS' : 'ALL';
  }

  say(id, text) {
    const audience = this.#audience(id);
    this.store.set((state) => withDraft(state, id, { ...this.#draftOf(id), text: '' }));
    return this.#talks.get(id).say({ type: 'ContentEvent', contentType: 'text/plain', message: text }, { audience });
  }

  attach(id, file, caption) {
    const event = { type: 'ContentEvent', contentType: 'hosted/file', message: { caption: caption || file.name } };
    return this.#talks.get(id).say(event, { file, audience: this.#audience(id) });
  }

  retry(id, ref) {
    return this.#talks.get(id).attempt(ref);
  }

  discard(id, ref) {
    this.#talks.get(id).discard(ref);
  }

  older(id) {
    return this.#mind(this.#talks.get(id)?.older());
  }

  seen(id, changes) {
    this.#talks.get(id)?.seen(changes);
  }

  /** Asks for files on behalf of the views. */
  request = (...request) => this.#ask(...request);

  #change(id, ...conversationField) {
    const asked = this.#ask('cm.UpdateConversationField', { conversationId: id, conversationField });
    return this.#mind(asked.then(() => true));
  }

  join(id) {
    return this.#change(id, field('ADD'));
  }

  /** Another queue, or the same again: whoever serves it is asked. */
  toQueue(id, skill) {
    const one = this.#state.conversations.get(id);
    const changes = one.skill === skill ? [] : [{ field: 'Skill', skill }];
    if (one.assigned) changes.push(field('REMOVE', { userId: one.assigned }));
    return this.#change(id, ...changes);
  }

  /** The agent is asked; until it answers, or if it does not take it, the conversation waits in its queue. */
  toAgent(id, userId) {
    const { assigned } = this.#state.conversations.get(id);
    return this.#change(id, ...(assigned ? [field('REMOVE', { userId: assigned })] : []), field('SUGGEST', { userId }));
  }

  /** Closes what is talked in, so that a survey may follow where the account has one. */
  close(id) {
    return this.#change(id, { field: 'DialogChange', type: 'UPDATE', dialog: { dialogId: id, state: 'CLOSE' } });
  }
}
