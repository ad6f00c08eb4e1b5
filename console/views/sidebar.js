// What waits for the agent: offers, its own conversations, the queue.

import { initials, span, summary, timeOfDay } from '../format.js';
import { unread } from '../log.js';
import { agentName, logOf, nameOf, sorted } from '../store.js';
import { html, useNow, walkTabs } from '../ui.js';

/** Entries of a list that are in the page. */
const SHOWN = 200;
const LISTS = [['mine', 'Mine'], ['queue', 'Queue'], ['others', 'Others']];
const EMPTY = {
  mine: 'You have no conversations. When you are online, they are offered to you.',
  queue: 'Nobody waits.',
  others: 'No conversation is with somebody else.',
};

export const queueName = (skill) => (skill === '-1' ? 'Default queue' : `Queue ${skill}`);

/** A round sign in a colour that stays the same for the same person. */
export function Avatar({ name, id }) {
  const tone = [...String(id)].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 6, 0);
  return html`<span class=${`avatar tone-${tone}`} aria-hidden="true">${initials(name)}</span>`;
}

function Countdown({ until, time }) {
  const left = Math.max(0, until - useNow(250));
  return html`<span class="countdown"><progress max=${time} value=${left} aria-label="Time left to accept"></progress>
    <span class="left">${Math.ceil(left / 1000)} s</span></span>`;
}

function Ring({ ring, state, desk }) {
  const name = nameOf(state, ring.consumer);
  const { last } = state.conversations.get(ring.conversation) ?? {};
  return html`<li class="ring" data-ring=${ring.id}>
    <p class="ring-head"><${Avatar} name=${name} id=${ring.consumer} /><b>${name}</b><span class="hint">${queueName(ring.skill)}</span></p>
    ${last && html`<p class="peek" dir="auto">${summary(last.event)}</p>`}
    <${Countdown} until=${ring.until - state.skew} time=${ring.time} />
    <p class="actions">
      <button type="button" class="primary accept" onClick=${() => desk.answer(ring, 'ACCEPTED')}>Accept</button>
      <button type="button" class="decline" onClick=${() => desk.answer(ring, 'REJECTED')}>Decline</button></p>
  </li>`;
}

function Wait({ since }) {
  return html`<span class="wait">${span(useNow(1000) - since)}</span>`;
}

function Entry({ one, state, desk, list }) {
  const name = nameOf(state, one.consumer);
  const log = logOf(state, one.id);
  const last = log.rows.at(-1) ?? one.last;
  const count = list === 'mine' ? unread(log) : 0;
  const isTyping = Object.values(log.typing).some(({ role, until }) => role === 'CONSUMER' && until > Date.now());
  const who = one.assigned && list === 'others' ? `${agentName(state, one.assigned)} · ` : '';
  return html`<li><button type="button" class="entry" aria-current=${one.id === state.selected ? 'true' : undefined} data-conversation=${one.id}
      onClick=${() => desk.open(one.id)}>
    <${Avatar} name=${name} id=${one.consumer} />
    <span class="entry-words"><span class="entry-head"><b dir="auto">${name}</b>
      ${one.since && one.isOpen
        ? html`<span class="waits" title="Waits for an answer"><span class="visually-hidden">waits for an answer since </span><${Wait} since=${one.since - state.skew} /></span>`
        : list === 'queue' ? html`<span class="hint"><${Wait} since=${one.startTs - state.skew} /></span>`
        : last && html`<time class="hint">${timeOfDay(last.serverTimestamp)}</time>`}</span>
    <span class="entry-foot"><span class="peek" dir="auto">${isTyping ? html`<i>typing…</i>` : who + (last ? summary(last.event) : queueName(one.skill))}</span>
      ${count > 0 && html`<span class="badge">${count}<span class="visually-hidden"> unread</span></span>`}
      ${one.isSurvey && html`<span class="tag">survey</span>`}${one.isEnded && html`<span class="tag">closed</span>`}</span></span>
  </button></li>`;
}

/** Up and down go through a list, as in any list. */
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const entries = [...event.currentTarget.querySelectorAll('.entry')];
  const next = entries[entries.indexOf(document.activeElement) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

export function Sidebar({ state, desk, store }) {
  const lists = sorted(state);
  const shown = lists[state.tab];
  const rings = [...state.rings.values()];
  return html`<nav class="sidebar" aria-label="Conversations">
    ${rings.length > 0 && html`<section aria-label="Offered to you"><ul class="rings">
      ${rings.map((ring) => html`<${Ring} key=${ring.id} ring=${ring} state=${state} desk=${desk} />`)}</ul></section>`}
    <div class="tabs" role="tablist" aria-label="Which conversations" onKeyDown=${walkTabs}>
      ${LISTS.map(([id, name]) => html`<button type="button" role="tab" id=${`tab-${id}`} aria-selected=${state.tab === id ? 'true' : 'false'} aria-controls="list"
        tabindex=${state.tab === id ? 0 : -1} onClick=${() => store.set({ tab: id })}>${name} <span class="number">${lists[id].length}</span></button>`)}
    </div>
    <div id="list" role="tabpanel" aria-labelledby=${`tab-${state.tab}`} class="list">
      ${shown.length === 0 && html`<p class="empty">${EMPTY[state.tab]}</p>`}
      <ul onKeyDown=${walk}>${shown.slice(0, SHOWN).map((one) => html`<${Entry} key=${one.id} one=${one} state=${state} desk=${desk} list=${state.tab} />`)}</ul>
      ${shown.length > SHOWN && html`<p class="empty">and ${shown.length - SHOWN} more</p>`}
    </div>
  </nav>`;
}
