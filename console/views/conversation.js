// One conversation: who it is with, what was said, and the box to answer in.

import { isConsumer } from '../log.js';
import { agentName, isMember, logOf, nameOf } from '../store.js';
import { html, onEnter, useEffect, useRef } from '../ui.js';
import { Messages, receiptOf } from './messages.js';
import { Avatar, queueName } from './sidebar.js';

const CLOSED = { AGENT: 'Closed by an agent', CONSUMER: 'Closed by the customer', SYSTEM: 'Closed by the gateway', TIMEOUT: 'Closed because it was silent' };

const kindOf = (change) => {
  if (change.messageAudience === 'AGENTS_AND_MANAGERS') return 'note';
  if (isConsumer(change)) return 'other';
  return change.originatorMetadata?.role === 'CONTROLLER' ? 'system' : 'own';
};

const speaker = (state) => (change) => {
  if (isConsumer(change)) return nameOf(state, change.originatorId);
  if (change.originatorMetadata?.role === 'CONTROLLER') return 'Automatic';
  // One knows what one has said oneself.
  return change.originatorId === state.session.pid ? '' : agentName(state, change.originatorId);
};

function whereabouts(state, one) {
  if (one.isEnded) return CLOSED[one.closeReason] ?? 'Closed';
  if (one.isSurvey) return 'Closed; a survey is running';
  const agent = one.assigned === state.session.pid ? 'With you' : one.assigned ? `With ${agentName(state, one.assigned)}` : 'Waits for an agent';
  return one.suggested ? `${agent}; offered to ${agentName(state, one.suggested)}` : agent;
}

function Head({ state, one, desk, store }) {
  const name = nameOf(state, one.consumer);
  const pid = state.session.pid;
  const isOurs = isMember(one, pid);
  const isLive = state.line.name === 'live';
  return html`<header class="conversation-head">
    <button type="button" class="back" onClick=${() => desk.open(null)} aria-label="Back to the conversations">‹</button>
    <${Avatar} name=${name} id=${one.consumer} />
    <div class="who-with"><h2 dir="auto" id="conversation-name">${name}</h2><p class="hint">${queueName(one.skill)} · ${whereabouts(state, one)}</p></div>
    <div class="actions">
      ${one.isOpen && !one.assigned && html`<button type="button" class="primary join" disabled=${!isLive} onClick=${() => desk.join(one.id)}>Take it</button>`}
      ${one.isOpen && isOurs && html`<button type="button" class="transfer" disabled=${!isLive} onClick=${() => store.set({ dialog: 'transfer' })}>Transfer</button>
        <button type="button" class="close" disabled=${!isLive} onClick=${() => store.set({ dialog: 'close' })}>Close</button>`}
      <button type="button" class="details" aria-expanded=${state.isDetails ? 'true' : 'false'} onClick=${() => store.set({ isDetails: !state.isDetails })}>Details</button>
    </div>
  </header>`;
}

function Typing({ log }) {
  const isTyping = Object.values(log.typing).some(({ role, until }) => role === 'CONSUMER' && until > Date.now());
  return html`<p class="typing" role="status">${isTyping && html`<span class="dots" aria-hidden="true"><i></i><i></i><i></i></span> The customer is typing…`}</p>`;
}

function Compose({ state, one, desk }) {
  const box = useRef(null);
  const file = useRef(null);
  const { text = '', isNote = false } = state.drafts.get(one.id) ?? {};
  useEffect(() => box.current?.focus({ preventScroll: true }), [one.id]);
  useEffect(() => {
    // As high as what is written, up to a bound that the style sets.
    box.current.rows = Math.min(6, Math.max(1, text.split('\n').length));
  }, [text]);
  const send = () => {
    // What stands in the box now: what is drawn may be a moment older, for who types fast.
    const words = box.current.value.trim();
    if (!words) return;
    box.current.value = '';
    desk.say(one.id, words);
  };
  const attach = () => {
    const [chosen] = file.current.files;
    if (chosen) desk.attach(one.id, chosen, box.current.value.trim());
    if (chosen && box.current.value) desk.draft(one.id, { text: '' });
    file.current.value = '';
  };
  return html`<form class=${`compose ${isNote ? 'is-note' : ''}`} onSubmit=${(event) => (event.preventDefault(), send())}>
    <textarea ref=${box} id="words" rows="1" maxlength="8000" aria-label=${isNote ? 'Note to your colleagues' : 'Message to the customer'} dir="auto"
      placeholder=${isNote ? 'A note; the customer does not see it' : 'Write a message'} value=${text}
      onInput=${(event) => desk.draft(one.id, { text: event.target.value })} onKeyDown=${onEnter(send)}></textarea>
    <div class="compose-foot">
      <label class="switch"><input type="checkbox" class="note-switch" checked=${isNote} onChange=${(event) => desk.draft(one.id, { isNote: event.target.checked })} /> Note</label>
      <input ref=${file} type="file" id="file" class="visually-hidden" tabindex="-1" aria-hidden="true" onChange=${attach} />
      <button type="button" class="attach" onClick=${() => file.current.click()}>Attach</button>
      <span class="hint keys"><kbd>Enter</kbd> sends, <kbd>Shift</kbd>+<kbd>Enter</kbd> new line</span>
      <button class="primary send" disabled=${!text.trim()}>${isNote ? 'Save note' : 'Send'}</button>
    </div>
  </form>`;
}

export function Conversation({ state, desk, store }) {
  const one = state.conversations.get(state.selected);
  if (!one) {
    return html`<main class="conversation nothing"><div><p class="logo" aria-hidden="true"><i></i><i></i><i></i></p>
      <p>Choose a conversation, or wait for one to ring.</p></div></main>`;
  }
  const log = logOf(state, one.id);
  return html`<main class="conversation" aria-labelledby="conversation-name">
    <${Head} state=${state} one=${one} desk=${desk} store=${store} />
    <${Messages} key=${one.id} log=${log} kindOf=${kindOf} nameOf=${speaker(state)} label="What was said"
      receiptOf=${(change) => (kindOf(change) === 'own' ? receiptOf(log)(change) : null)} request=${desk.request}
      older=${() => desk.older(one.id)} seen=${(changes) => desk.seen(one.id, changes)}
      retry=${(ref) => desk.retry(one.id, ref)} discard=${(ref) => desk.discard(one.id, ref)} />
    <${Typing} log=${log} />
    ${one.isOpen && isMember(one, state.session.pid)
      ? html`<${Compose} state=${state} one=${one} desk=${desk} />`
      : html`<p class="no-compose">${one.isOpen ? 'You read along. Only who takes part can write.' : whereabouts(state, one)}</p>`}
  </main>`;
}
