// A log on the screen. However long it is, only a window of it is in the page: it moves with the scrolling, and what the
// person looks at stays where it is while rows come and go above or below.

import { day, timeOfDay } from '../format.js';
import { Component, createRef, html } from '../ui.js';
import { Content } from './content.js';

/** Rows in the page at most, and by how many the window moves. */
const WINDOW = 120;
const STEP = 40;
/** So near to an end the window moves on. */
const NEAR = 600;
/** So near to the end one counts as reading along. */
const STICKS = 40;
/** Messages of one person within this time stand together. */
const TOGETHER = 120_000;

const RECEIPTS = { ACCEPT: 'Delivered', READ: 'Read' };

class Row extends Component {
  shouldComponentUpdate(next) {
    return ['change', 'receipt', 'isFirst', 'name'].some((key) => next[key] !== this.props[key]);
  }

  render({ change, kind, receipt, isFirst, name, request, press }) {
    const { event, sequence, serverTimestamp } = change;
    return html`<li class="row ${kind} ${isFirst ? 'first' : ''}" data-sequence=${sequence}>
      ${isFirst && (name || kind === 'note') && html`<p class="who">${name} ${kind === 'note' && html`<span class="tag">Note · not shown to the customer</span>`}</p>`}
      <div class="bubble"><${Content} event=${event} request=${request} press=${press} /></div>
      <p class="meta"><time datetime=${new Date(serverTimestamp).toISOString()}>${timeOfDay(serverTimestamp)}</time>
        ${receipt && html`<span class="receipt"> · ${receipt}</span>`}</p>
    </li>`;
  }
}

const WAITS = {
  sending: 'Sending…',
  sent: 'Sent',
  waiting: 'Waits for the connection',
};

/** Something that was said and is not in the log yet. */
function Pending({ item, request, retry, discard }) {
  const { event, state, error, ref, audience } = item;
  const kind = audience === 'ALL' ? 'own' : 'note own-note';
  return html`<li class="row ${kind} first pending ${state}" data-ref=${ref}>
    <div class="bubble">${item.file ? html`<p class="text">File: ${event.message.caption}</p>` : html`<${Content} event=${event} request=${request} />`}</div>
    <p class="meta">${state === 'failed'
      ? html`<span class="fault" role="alert">Not sent: ${error}</span>
          <button type="button" class="small retry" onClick=${() => retry(ref)}>Retry</button>
          <button type="button" class="small" onClick=${() => discard(ref)}>Discard</button>`
      : item.file && state === 'sending' && !event.message.relativePath ? 'Uploading…' : WAITS[state]}</p>
  </li>`;
}

/** The first place whose row is behind a sequence. */
function placeBehind(rows, sequence) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].sequence <= sequence) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * `log` as in log.js; `kindOf(change)` is `own`, `other`, `note` or `system`, `nameOf(change)` who said it, `receiptOf(change)` what
 * is known of its way; `older`, `seen(changes)`, `retry(ref)` and `discard(ref)` are asked for.
 */
export class Messages extends Component {
  box = createRef();
  // The window ends behind this number; at null it follows the log.
  state = { end: null, isBehind: false };
  #isSticking = true;
  #look = () => this.#see();

  componentDidMount() {
    addEventListener('focus', this.#look);
    document.addEventListener('visibilitychange', this.#look);
    this.#resize = new ResizeObserver(() => this.#settle());
    this.#resize.observe(this.box.current);
    this.#settle();
  }

  #resize;

  componentWillUnmount() {
    removeEventListener('focus', this.#look);
    document.removeEventListener('visibilitychange', this.#look);
    this.#resize.disconnect();
  }

  /** Where the window is now. */
  #window(rows = this.props.log.rows) {
    const end = this.state.end === null ? rows.length : placeBehind(rows, this.state.end);
    return { start: Math.max(0, end - WINDOW), end };
  }

  /** The first row in sight, and where it stands. */
  getSnapshotBeforeUpdate() {
    const box = this.box.current;
    const top = box.getBoundingClientRect().top;
    for (const row of box.querySelectorAll('.row[data-sequence]')) {
      const place = row.getBoundingClientRect();
      if (place.bottom > top) return { sequence: row.dataset.sequence, top: place.top };
    }
    return null;
  }

  componentDidUpdate(before, state, anchor) {
    if (this.props.log.pending.length > before.log.pending.length) this.toEnd();
    const box = this.box.current;
    const row = anchor && !this.#isSticking && box.querySelector(`.row[data-sequence="${anchor.sequence}"]`);
    if (row) box.scrollTop += row.getBoundingClientRect().top - anchor.top;
    this.#settle();
  }

  /** Holds on to the end, moves the window where it comes near to one of its ends, and tells what is in sight. */
  #settle() {
    const box = this.box.current;
    if (!box) return;
    if (this.#isSticking && this.state.end === null) box.scrollTop = box.scrollHeight;
    this.#move();
    this.#see();
  }

  #move() {
    const box = this.box.current;
    const { log, older } = this.props;
    const { rows } = log;
    const { start, end } = this.#window();
    if (box.scrollTop < NEAR && start > 0) {
      this.#to(rows[Math.max(WINDOW, end - STEP) - 1].sequence);
    } else if (box.scrollTop < NEAR && start === 0 && log.low > 0 && !log.isLoading) {
      older();
    } else if (box.scrollHeight - box.scrollTop - box.clientHeight < NEAR && end < rows.length) {
      this.#to(end + STEP >= rows.length ? null : rows[end + STEP - 1].sequence);
    }
  }

  #to(end) {
    if (end !== this.state.end) this.setState({ end });
  }

  #scrolled = () => {
    const box = this.box.current;
    const { end } = this.#window();
    const isAtEnd = end === this.props.log.rows.length && box.scrollHeight - box.scrollTop - box.clientHeight < STICKS;
    this.#isSticking = isAtEnd;
    if (this.state.isBehind === isAtEnd) this.setState({ isBehind: !isAtEnd });
    this.#move();
    this.#see();
  };

  toEnd = () => {
    this.#isSticking = true;
    this.setState({ end: null, isBehind: false });
  };

  /** What is in sight of somebody who looks. */
  #see() {
    const box = this.box.current;
    if (!box || document.visibilityState !== 'visible' || !document.hasFocus()) return;
    const { top, bottom } = box.getBoundingClientRect();
    const { rows } = this.props.log;
    const { start } = this.#window();
    const seen = [];
    [...box.querySelectorAll('.row[data-sequence]')].forEach((row, place) => {
      const { top: above, bottom: below } = row.getBoundingClientRect();
      // The end of a message that is taller than the window is enough.
      if (below > top && below <= bottom + 2 && above < bottom && rows[start + place]) seen.push(rows[start + place]);
    });
    if (seen.length > 0) this.props.seen(seen);
  }

  render({ log, kindOf, nameOf, receiptOf, request, press, retry, discard, label, empty }, { isBehind }) {
    const { rows, pending } = log;
    const { start, end } = this.#window(rows);
    const items = [];
    for (let place = start; place < end; place += 1) {
      const [change, above] = [rows[place], rows[place - 1]];
      const isNewDay = !above || day(above.serverTimestamp) !== day(change.serverTimestamp);
      if (isNewDay) items.push(html`<li class="day" key=${`day-${change.sequence}`}><span>${day(change.serverTimestamp)}</span></li>`);
      const kind = kindOf(change);
      const isFirst = isNewDay || above.originatorId !== change.originatorId || kindOf(above) !== kind ||
        change.serverTimestamp - above.serverTimestamp > TOGETHER;
      items.push(html`<${Row} key=${change.sequence} change=${change} kind=${kind} isFirst=${isFirst} name=${nameOf(change)}
        receipt=${receiptOf(change)} request=${request} press=${press} />`);
    }
    const isAtEnd = end === rows.length;
    return html`<div class="messages">
      <div class="scroller" ref=${this.box} tabindex="0" role="region" aria-label=${label} onScroll=${this.#scrolled}>
        ${start === 0 && log.low > 0 && html`<p class="edge">Loading what is older…</p>`}
        ${start === 0 && log.low === 0 && html`<p class="edge">${rows.length > 0 ? 'The conversation begins here' : empty ?? 'Nothing was said yet'}</p>`}
        ${log.head === null && html`<p class="edge">Loading…</p>`}
        <ol>
          ${items}
          ${isAtEnd && pending.map((item) => html`<${Pending} key=${item.ref} item=${item} request=${request} retry=${retry} discard=${discard} />`)}
        </ol>
      </div>
      ${isBehind && rows.length > 0 && html`<button type="button" class="to-end" onClick=${this.toEnd}>↓ Latest</button>`}
    </div>`;
  }
}

/** What the log says of a message's way to the other side. */
export const receiptOf = (log) => (change) => RECEIPTS[log.theirs.get(change.sequence)] ?? 'Sent';
