// What a customer does: sign up without a name, open a conversation, talk, end it. Over the consumer's socket, as a chat in
// a web page does.

import { CallFailed, claims, renew, signUp } from './api.js';
import { summary } from './format.js';
import { emptyLog, isConsumer } from './log.js';
import { Line, Refused, Unknown, keyed, newId } from './socket.js';
import { Talk, consumerSide } from './talk.js';

/** Where the token is kept: a reload goes on as the same customer, a new tab begins as another. */
const KEPT = 'tieline.customer';

export const initialBox = () => ({
  account: 'demo', name: '', skill: '', token: null, me: null, error: null, isStarting: false,
  line: { name: 'off' },
  conversation: null, isOpen: false, agent: null, closedBy: null,
  log: emptyLog(), draft: '', profiles: new Map(), said: '',
});

export class Customer {
  #line = null;
  #talk = null;
  #isFresh = true;
  #wantsNew = false;
  #openKey = null;
  #timer;

  constructor(store) {
    this.store = store;
    const account = new URLSearchParams(location.search).get('account');
    if (account) store.set({ account });
    const kept = sessionStorage.getItem(KEPT);
    if (kept) this.#enter(JSON.parse(kept));
  }

  get #state() {
    return this.store.state;
  }

  get frames() {
    return this.#line?.frames ?? null;
  }

  #ask = (...request) => (this.#line ? this.#line.request(...request) : Promise.reject(new Unknown()));
  request = (...request) => this.#ask(...request);

  /** Signs up and opens a conversation. */
  async start({ account, name, skill }) {
    this.store.set({ isStarting: true, error: null });
    try {
      const token = await signUp(account);
      this.#wantsNew = true;
      this.#enter({ account, name, skill, token });
    } catch (error) {
      if (!(error instanceof CallFailed)) throw error;
      this.store.set({ isStarting: false, error: error.status === 404 || error.status === 400 ? `There is no account ${account}.` : error.message });
    }
  }

  #keep() {
    const { account, name, skill, token } = this.#state;
    sessionStorage.setItem(KEPT, JSON.stringify({ account, name, skill, token }));
  }

  #enter({ account, name, skill, token }) {
    this.store.set({ ...initialBox(), account, name, skill, token, me: claims(token).sub });
    this.#keep();
    const path = `/ws_api/account/${encodeURIComponent(account)}/messaging/consumer?v=3`;
    this.#line = new Line({
      url: () => new URL(path, location.href.replace(/^http/, 'ws')).href,
      greet: async (request) => {
        await request('InitConnection', {}, this.#identity());
        if (name) await request('userprofile.SetUserProfile', { firstName: name });
      },
      live: () => this.#resume(),
      notified: (type, body) => this.#notified(type, body),
      changed: (line) => {
        this.store.set({ line });
        if (line.name === 'signedOut') this.leave('The token has expired. Start again as a new customer.');
      },
    });
    this.#line.connect();
    this.#renewLater();
  }

  #identity() {
    return [{ type: 'ConsumerAuthentication', jwt: this.#state.token }];
  }

  /** Long before the token ends there is another, and the open socket is told. */
  #renewLater() {
    clearTimeout(this.#timer);
    const { iat, exp } = claims(this.#state.token);
    const half = Math.max(30_000, ((exp - iat) / 2) * 1000);
    this.#timer = setTimeout(async () => {
      try {
        const token = await renew(this.#state.account, this.#state.token);
        if (!this.#line) return;
        this.store.set({ token });
        this.#keep();
        await this.#ask('InitConnection', {}, this.#identity());
      } catch (error) {
        if (!(error instanceof CallFailed || error instanceof Unknown || error instanceof Refused)) throw error;
        // There is time to try again; when there is none left, the socket ends with 4401 and says so.
      }
      if (this.#line) this.#renewLater();
    }, Math.min(half, 30 * 60_000));
  }

  reconnect() {
    this.#line?.connect();
  }

  async #resume() {
    this.#isFresh = true;
    await this.#mind(this.#ask('cqm.SubscribeExConversations', { stage: ['OPEN'] }));
  }

  #notified(type, body) {
    if (type === 'cqm.ExConversationChangeNotification') this.#conversations(body);
    if (type === 'ms.MessagingEventNotification' && body.dialogId === this.#state.conversation) this.#events(body);
  }

  #events({ changes }) {
    const { head } = this.#state.log;
    this.#talk.take(changes);
    const isHeard = (change) => change.sequence > head && !isConsumer(change) && change.event.type !== 'AcceptStatusEvent';
    const heard = changes.filter(isHeard).at(-1);
    if (heard) this.store.set({ said: `Agent: ${summary(heard.event)}` });
  }

  #conversations({ changes }) {
    const isSnapshot = this.#isFresh;
    this.#isFresh = false;
    const { conversation } = this.#state;
    const open = changes.filter(({ type }) => type === 'UPSERT').map(({ result }) => result);
    const found = changes.find(({ result }) => result.convId === conversation)?.result ?? (conversation ? null : open[0]);
    if (found) {
      this.#look(found);
    } else if (isSnapshot && conversation && this.#state.isOpen) {
      this.store.set({ isOpen: false, closedBy: null });
      // What was said at the end is still to be had.
      this.#mind(this.#talk.follow());
      return;
    } else if (isSnapshot && !conversation && this.#wantsNew) {
      this.open();
      return;
    }
    if (isSnapshot && this.#talk) this.#mind(this.#talk.follow());
  }

  #look({ convId, conversationDetails: details }) {
    const agent = details.participants?.find(({ role }) => role === 'ASSIGNED_AGENT')?.id ?? null;
    this.store.set({ conversation: convId, isOpen: details.state !== 'CLOSE', agent, closedBy: details.closeReason ?? null });
    this.#wantsNew = false;
    this.#follow(convId);
    if (agent && !this.#state.profiles.has(agent)) {
      this.#ask('userprofile.GetUserProfile', { userId: agent }).then(
        (profile) => this.store.set((state) => ({ ...state, profiles: new Map(state.profiles).set(agent, profile) })),
        () => {},
      );
    }
  }

  /** Opens a conversation; however often it is asked for until there is one, one is opened. */
  async open() {
    const { account, skill } = this.#state;
    this.#wantsNew = true;
    this.#openKey ??= newId();
    const body = { brandId: account, ...(skill ? { skillId: skill } : {}), conversationContext: { type: 'CustomContext', page: 'playground' } };
    const reply = await this.#mind(this.#ask('cm.ConsumerRequestConversation', body, keyed(this.#openKey)));
    if (!reply) return;
    this.#openKey = null;
    this.#wantsNew = false;
    this.#talk = null;
    this.store.set({ conversation: reply.conversationId, isOpen: true, agent: null, closedBy: null, log: emptyLog(), error: null });
    this.#follow(reply.conversationId);
  }

  #follow(id) {
    if (this.#talk?.place.dialogId === id) return;
    this.#talk = new Talk({
      dialogId: id,
      request: this.#ask,
      log: () => this.#state.log,
      update: (change) => this.store.set((state) => (state.conversation === id ? { ...state, log: change(state.log) } : state)),
      side: consumerSide(this.#state.me),
      isLive: () => this.#state.line.name === 'live',
      takesPart: () => this.#state.conversation === id,
    });
    this.#mind(this.#talk.follow());
  }

  async #mind(asked) {
    try {
      return await asked;
    } catch (error) {
      if (error instanceof Refused || error instanceof CallFailed) this.store.set({ error: error.message });
      else if (!(error instanceof Unknown)) throw error;
      return undefined;
    }
  }

  draft(text) {
    this.store.set({ draft: text });
    if (text) this.#talk?.typed();
    else this.#talk?.stopTyping();
  }

  say(message, metadata) {
    this.store.set({ draft: '', error: null });
    return this.#talk.say({ type: 'ContentEvent', contentType: 'text/plain', message }, { metadata });
  }

  attach(file, caption) {
    const event = { type: 'ContentEvent', contentType: 'hosted/file', message: { caption: caption || file.name } };
    return this.#talk.say(event, { file });
  }

  retry = (ref) => this.#talk.attempt(ref);
  discard = (ref) => this.#talk.discard(ref);
  older = () => this.#mind(this.#talk?.older());
  seen = (changes) => this.#talk?.seen(changes);

  end() {
    const conversationField = [{ field: 'ConversationStateField', conversationState: 'CLOSE' }];
    return this.#mind(this.#ask('cm.UpdateConversationField', { conversationId: this.#state.conversation, conversationField }));
  }

  /** Forgets who this was. The conversation stays where it is. */
  leave(error = null) {
    clearTimeout(this.#timer);
    sessionStorage.removeItem(KEPT);
    this.#line?.close();
    this.#line = null;
    this.#talk = null;
    this.#openKey = null;
    const { account, name, skill } = this.#state;
    this.store.set({ ...initialBox(), account, name, skill, error });
  }
}
