// What a side does in one dialog: follow and resume it, fetch what is older, publish, type, give receipts.

import { CallFailed, fileType, upload } from './api.js';
import { amend, append, begin, discard, emptyLog, enqueue, hasOlder, isConsumer, prepend } from './log.js';
import { Refused, Unknown, keyed, newId } from './socket.js';

/** Beyond any head: nothing is replayed, and the answer says where the log stands. */
const FAR = Number.MAX_SAFE_INTEGER;
/** Events that are fetched at once, and at first: many conversations may be followed that nobody scrolls in. */
const PAGE = 200;
const FIRST_PAGE = 60;
/** After a page could not be had, so long none is asked for. */
const REST = 2000;
/** How long after the last key somebody still counts as typing, and how often that is said again. */
const IDLE = 4000;
/** Receipts of one moment are sent together. */
const GATHER = 200;

export class Talk {
  #settings;
  #receipts = { ACCEPT: new Set(), READ: new Set() };
  #given = { ACCEPT: new Set(), READ: new Set() };
  #gathering = null;
  #following = null;
  #restsUntil = 0;
  #typing = { said: 0, timer: null };

  /**
   * `request(type, body, headers)` asks over the line; `update(change)` replaces the log by what the function makes of it,
   * `log()` reads it; `side` tells whose an event is; `takesPart()` says whether this side may give receipts,
   * `isLive()` whether there is a connection.
   */
  constructor(settings) {
    this.#settings = settings;
    this.place = { dialogId: settings.dialogId, conversationId: settings.conversationId ?? settings.dialogId };
  }

  get #log() {
    return this.#settings.log();
  }

  #update(change) {
    this.#settings.update(change);
  }

  /** Follows it on a new connection: from where the log ends, or from its end if nothing is known. Once at a time. */
  follow() {
    this.#following ??= this.#follow().finally(() => (this.#following = null));
    return this.#following;
  }

  async #follow() {
    const { head, epoch } = this.#log;
    const isNew = head === null;
    try {
      const body = isNew ? { ...this.place, fromSeq: FAR } : { ...this.place, fromSeq: head + 1, epoch };
      const reply = await this.#settings.request('ms.SubscribeMessagingEvents', body);
      if (isNew) this.#update((log) => begin(log, reply));
    } catch (error) {
      // Another log: what is known here is of one that is no more.
      if (!(error instanceof Refused) || error.code !== 409) throw error;
      this.#update((log) => ({ ...emptyLog(), pending: log.pending }));
      return this.#follow();
    }
    if (isNew) await this.older();
    this.resend();
  }

  /** Fetches the page below what is known. */
  async older() {
    const { low, isLoading, rows } = this.#log;
    if (isLoading || !hasOlder(this.#log) || !this.#settings.isLive() || Date.now() < this.#restsUntil) return;
    this.#update((log) => ({ ...log, isLoading: true }));
    const page = rows.length === 0 ? FIRST_PAGE : PAGE;
    const body = { ...this.place, newerThanSequence: Math.max(0, low - page), olderThanSequence: low - 1, maxQuantity: page };
    try {
      let changes = await this.#settings.request('ms.QueryMessages', body);
      let reached = body.newerThanSequence;
      // Large events come in fewer: then what is left lies above the last one.
      while ((changes.at(-1)?.sequence ?? low - 1) < low - 1) {
        const rest = await this.#settings.request('ms.QueryMessages', { ...body, newerThanSequence: changes.at(-1).sequence + 1 });
        if (rest.length === 0) break;
        changes = changes.concat(rest);
      }
      this.#update((log) => ({ ...prepend(log, changes, reached, this.#settings.side), isLoading: false }));
      this.#delivered(changes);
    } catch (error) {
      this.#restsUntil = Date.now() + REST;
      this.#update((log) => ({ ...log, isLoading: false }));
      if (!(error instanceof Unknown)) throw error;
    }
  }

  /** What came for this dialog. Before the log has begun, nothing is missed: what is older is fetched. */
  take(changes) {
    if (this.#log.head === null) return;
    this.#update((log) => append(log, changes, this.#settings.side));
    this.#delivered(changes);
  }

  /** Says something. It is shown at once, and stays until it is in the log or was thrown away. */
  say(event, { audience = 'ALL', file = null, metadata = [] } = {}) {
    const item = { ref: newId(), key: newId(), at: Date.now(), event, audience, file, metadata, state: 'sending' };
    this.#update((log) => enqueue(log, item));
    this.stopTyping();
    return this.attempt(item.ref);
  }

  /** Tries to publish, always with the key of the first time: however often it arrives, it counts once. */
  async attempt(ref) {
    const item = this.#log.pending.find((one) => one.ref === ref);
    if (!item) return;
    const amended = (patch) => this.#update((log) => amend(log, ref, patch));
    amended({ state: 'sending', error: null });
    try {
      let { event } = item;
      if (item.file && !event.message.relativePath) {
        const relativePath = await upload(this.#settings.request, item.file);
        event = { ...event, message: { ...event.message, relativePath, fileType: fileType(item.file.name) } };
        amended({ event });
      }
      const body = { ...this.place, event, messageAudience: item.audience };
      // The log shows it again with this name, so that it is known to be the one that is on its way.
      const metadata = [...item.metadata, { type: 'ExternalId', id: ref }];
      const { sequence } = await this.#settings.request('ms.PublishEvent', body, keyed(item.key), metadata);
      amended({ state: 'sent', sequence });
    } catch (error) {
      if (error instanceof Unknown) amended({ state: 'waiting' });
      else if (error instanceof Refused || error instanceof CallFailed) amended({ state: 'failed', error: error.message });
      else throw error;
    }
  }

  /** What has no answer is said again on the new connection, in the order it was said first. */
  resend() {
    for (const { ref, state } of this.#log.pending) if (state === 'waiting') this.attempt(ref);
  }

  discard(ref) {
    this.#update((log) => discard(log, ref));
  }

  /** A key was pressed in the box. */
  typed() {
    clearTimeout(this.#typing.timer);
    this.#typing.timer = setTimeout(() => this.stopTyping(), IDLE);
    if (Date.now() - this.#typing.said < IDLE) return;
    this.#typing.said = Date.now();
    this.#state('COMPOSING');
  }

  stopTyping() {
    clearTimeout(this.#typing.timer);
    if (this.#typing.said === 0) return;
    this.#typing.said = 0;
    this.#state('PAUSE');
  }

  /** Typing is of the moment: if it cannot be told now, it need not be told. */
  #state(chatState) {
    const event = { type: 'ChatStateEvent', chatState };
    this.#settings.request('ms.PublishEvent', { ...this.place, event }).catch(() => {});
  }

  /** Contents of the other side that have come to this one. */
  #delivered(changes) {
    this.#receipt('ACCEPT', changes.filter(({ event }) => event.type === 'ContentEvent' || event.type === 'RichContentEvent'));
  }

  /** Contents that were on the screen. */
  seen(changes) {
    this.#receipt('READ', changes);
  }

  #receipt(status, changes) {
    if (!this.#settings.takesPart()) return;
    const { ours } = this.#log;
    for (const change of changes) {
      const { sequence } = change;
      const isSaid = ours.get(sequence) === 'READ' || ours.get(sequence) === status || this.#given[status].has(sequence);
      if (!isSaid && this.#settings.side.needsReceipt(change)) this.#receipts[status].add(sequence);
    }
    if (this.#receipts.ACCEPT.size + this.#receipts.READ.size > 0) this.#gathering ??= setTimeout(() => this.#giveReceipts(), GATHER);
  }

  async #giveReceipts() {
    this.#gathering = null;
    for (const status of ['ACCEPT', 'READ']) {
      // What was read was delivered too.
      const left = [...this.#receipts[status]].filter((sequence) => status === 'READ' || !this.#receipts.READ.has(sequence));
      const sequenceList = left.sort((a, b) => a - b).slice(0, 1000);
      if (status === 'ACCEPT') this.#receipts.ACCEPT = new Set(left.slice(1000));
      else this.#receipts.READ = new Set(left.slice(1000));
      if (sequenceList.length === 0) continue;
      for (const sequence of sequenceList) this.#given[status].add(sequence);
      const event = { type: 'AcceptStatusEvent', status, sequenceList };
      this.#settings.request('ms.PublishEvent', { ...this.place, event }).catch(() => {
        // Not said, or not known to be: it may be said again when the same is seen again.
        for (const sequence of sequenceList) this.#given[status].delete(sequence);
      });
    }
    if (this.#receipts.ACCEPT.size + this.#receipts.READ.size > 0) this.#gathering = setTimeout(() => this.#giveReceipts(), GATHER);
  }
}

/** How an agent, one of many on the brand's side, tells events apart. */
export const brandSide = (pid) => ({
  isMine: ({ originatorId }) => originatorId === pid,
  isOurs: (change) => !isConsumer(change),
  needsReceipt: isConsumer,
});

/** How a consumer does. */
export const consumerSide = (id) => ({
  isMine: ({ originatorId }) => originatorId === id,
  isOurs: isConsumer,
  needsReceipt: (change) => !isConsumer(change),
});
