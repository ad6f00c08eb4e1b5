// The playground: a customer's chat beside what it says on the wire and the same steps as code.

import { Customer, initialBox } from './customer.js';
import { customerName, summary } from './format.js';
import { isConsumer } from './log.js';
import { LANGUAGES, program, steps } from './snippets.js';
import { Store } from './store.js';
import { html, onEnter, render, useEffect, useRef, useState, walkTabs } from './ui.js';
import { FrameList, copy } from './views/frames.js';
import { LineFault, LineState } from './views/line.js';
import { Messages, receiptOf } from './views/messages.js';

const CLOSERS = { AGENT: 'The agent has ended the conversation.', CONSUMER: 'You have ended the conversation.', TIMEOUT: 'The conversation was silent and has ended.' };

const kindOf = (change) => (isConsumer(change) ? 'own' : change.originatorMetadata?.role === 'CONTROLLER' ? 'system' : 'other');

function Start({ state, customer }) {
  const form = useRef(null);
  const submit = (event) => {
    event.preventDefault();
    const { account, name, skill } = form.current.elements;
    customer.start({ account: account.value.trim(), name: name.value.trim(), skill: skill.value.trim() });
  };
  return html`<form class="start" ref=${form} onSubmit=${submit} aria-labelledby="start-title">
    <h2 id="start-title">Be a customer</h2>
    <p class="hint">Signs up an anonymous customer and opens a conversation. Answer it in the <a href="./">agent console</a>, in another tab.</p>
    <label>Account <input name="account" required value=${state.account} /></label>
    <label>Your name, if you like <input name="name" maxlength="100" autocomplete="off" value=${state.name} /></label>
    <label>Queue, if not the default one <input name="skill" maxlength="100" autocomplete="off" value=${state.skill} /></label>
    ${state.error && html`<p class="fault" role="alert">${state.error}</p>`}
    <button class="primary" disabled=${state.isStarting}>${state.isStarting ? 'Starting…' : 'Start a chat'}</button>
  </form>`;
}

function Chat({ state, customer }) {
  const box = useRef(null);
  const file = useRef(null);
  const { log, draft } = state;
  const agentName = (id) => (id && state.profiles.has(id) ? customerName(state.profiles.get(id), id) : 'Agent');
  const isTyping = Object.values(log.typing).some(({ role, until }) => role !== 'CONSUMER' && until > Date.now());
  const send = () => {
    // What stands in the box now: what is drawn may be a moment older, for who types fast.
    const words = box.current.value.trim();
    if (!words) return;
    box.current.value = '';
    customer.say(words);
  };
  const attach = () => {
    const [chosen] = file.current.files;
    if (chosen) customer.attach(chosen, box.current.value.trim());
    if (chosen && box.current.value) customer.draft('');
    file.current.value = '';
  };
  const whereabouts = !state.conversation ? 'Opening a conversation…'
    : !state.isOpen ? CLOSERS[state.closedBy] ?? 'The conversation has ended.'
    : state.agent ? `You talk with ${agentName(state.agent)}.` : 'Waiting for an agent.';
  return html`<header class="conversation-head"><div class="who-with"><h2>${state.name || 'Customer'}</h2><p class="hint whereabouts" role="status">${whereabouts}</p></div>
      <div class="actions">${state.isOpen
        ? html`<button type="button" class="small end" disabled=${state.line.name !== 'live'} onClick=${() => customer.end()}>End</button>`
        : state.conversation && html`<button type="button" class="small again" disabled=${state.line.name !== 'live'} onClick=${() => customer.open()}>Open another</button>`}
        <button type="button" class="small leave" onClick=${() => customer.leave()}>Forget me</button></div></header>
    <${Messages} key=${state.conversation} log=${log} kindOf=${kindOf} label="What was said" empty="Say something: with your first message you begin to wait for an agent."
      nameOf=${(change) => (isConsumer(change) ? '' : change.originatorMetadata?.role === 'CONTROLLER' ? 'Automatic' : agentName(change.originatorId))}
      receiptOf=${(change) => (isConsumer(change) ? receiptOf(log)(change) : null)} request=${customer.request}
      press=${state.isOpen ? (text, metadata) => customer.say(text, metadata) : null}
      older=${customer.older} seen=${customer.seen} retry=${customer.retry} discard=${customer.discard} />
    <p class="typing" role="status">${isTyping && html`<span class="dots" aria-hidden="true"><i></i><i></i><i></i></span> ${agentName(state.agent)} is typing…`}</p>
    ${state.error && html`<p class="banner notice" role="alert">${state.error}</p>`}
    ${state.isOpen && html`<form class="compose" onSubmit=${(event) => (event.preventDefault(), send())}>
      <textarea ref=${box} id="words" rows="1" maxlength="8000" dir="auto" aria-label="Your message" placeholder="Write a message" value=${draft}
        onInput=${(event) => customer.draft(event.target.value)} onKeyDown=${onEnter(send)}></textarea>
      <div class="compose-foot">
        <input ref=${file} type="file" id="file" class="visually-hidden" tabindex="-1" aria-hidden="true" onChange=${attach} />
        <button type="button" class="attach" onClick=${() => file.current.click()}>Attach</button>
        <span class="space"></span><button class="primary send" disabled=${!draft.trim()}>Send</button>
      </div></form>`}`;
}

function CopyButton({ text, label }) {
  const [said, setSaid] = useState(null);
  const press = async () => {
    setSaid((await copy(text)) ? 'Copied' : 'Not allowed');
    setTimeout(() => setSaid(null), 2000);
  };
  return html`<button type="button" class="small" onClick=${press} aria-label=${said ?? label}>${said ?? 'Copy'}</button>`;
}

function Code({ language, state }) {
  const text = state.log.rows.filter(isConsumer).at(-1)?.event;
  const facts = {
    base: location.origin, account: state.account, client: 'demo-connector', external: state.me ?? 'ann', name: state.name, skill: state.skill,
    text: text ? summary(text) : 'Hello',
  };
  return html`<div class="code" tabindex="0" role="region" aria-label="Code">
    <p class="hint">The same by the Connector API, as a program does it that carries customers' messages. <code>demo-connector</code> stands for
      the <code>client_id</code> of your application; its secret is read from <code>CLIENT_SECRET</code>. To a connector this customer is another
      one, so a conversation of its own is opened.${state.conversation && html` The one beside this is <code class="id">${state.conversation}</code>.`}</p>
    <p><${CopyButton} text=${program(language, facts)} label="Copy the whole program" /> <span class="hint">the whole program</span></p>
    ${steps(language, facts).map(({ title, code }) => html`<section class="step" key=${title}><header><h3>${title}</h3><${CopyButton} text=${code} label=${`Copy: ${title}`} /></header>
      <pre tabindex="0">${code}</pre></section>`)}
  </div>`;
}

function Inside({ state, customer }) {
  const [shown, setShown] = useState('frames');
  const tab = (id, name) => html`<button type="button" class="small" role="tab" id=${`inside-${id}`} aria-controls="inside" aria-selected=${shown === id ? 'true' : 'false'}
    tabindex=${shown === id ? 0 : -1} onClick=${() => setShown(id)}>${name}</button>`;
  const { frames } = customer;
  return html`<div class="side-tabs" role="tablist" aria-label="What happens inside" onKeyDown=${walkTabs}>${tab('frames', 'Frames')}
      ${Object.entries(LANGUAGES).map(([id, [name]]) => tab(id, name))}</div>
    <div class="inside" id="inside" role="tabpanel" aria-labelledby=${`inside-${shown}`}>
    ${shown !== 'frames' ? html`<${Code} language=${shown} state=${state} />`
      : frames ? html`<${FrameList} frames=${frames} />` : html`<p class="empty">The frames stand here when the chat has begun.</p>`}</div>`;
}

function Playground({ state, customer }) {
  const [side, setSide] = useState('chat');
  const choose = (id, name) => html`<button type="button" class="small" aria-pressed=${side === id ? 'true' : 'false'} onClick=${() => setSide(id)}>${name}</button>`;
  return html`<div class="playground">
    <header class="top"><h1><span class="logo small" aria-hidden="true"><i></i><i></i><i></i></span>Playground</h1>
      <${LineState} line=${state.line} again=${() => customer.reconnect()} /><span class="space"></span>
      <a class="button small" href="./">Agent console</a>
      <button type="button" class="small theme" onClick=${() => globalThis.toggleTheme()} aria-label="Light or dark">◐</button></header>
    <${LineFault} line=${state.line} />
    <div class="narrow-tabs" role="group" aria-label="Which side">${choose('chat', 'Chat')}${choose('inside', 'Inside')}</div>
    <main class="sides" data-shown=${side}>
      <section class="side" aria-label="The customer's chat">${state.token ? html`<${Chat} state=${state} customer=${customer} />` : html`<${Start} state=${state} customer=${customer} />`}</section>
      <section class="side" aria-label="Inside"><${Inside} state=${state} customer=${customer} /></section>
    </main>
    <p class="visually-hidden" aria-live="polite">${state.said}</p>
  </div>`;
}

const store = new Store(initialBox());
const customer = new Customer(store);
const root = document.getElementById('app');

let isDue = false;
const draw = () => {
  isDue = false;
  render(html`<${Playground} state=${store.state} customer=${customer} />`, root);
};
store.subscribe(() => {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(draw);
});
draw();

// Typing states end by themselves, and nothing comes to say so.
setInterval(() => Object.keys(store.state.log.typing).length > 0 && draw(), 1000);
