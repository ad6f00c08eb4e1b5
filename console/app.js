// The agent console: draws what the desk knows, and hands it what the person does.

import { Desk } from './desk.js';
import { Store, initial, sorted, title } from './store.js';
import { html, render, useEffect } from './ui.js';
import { Conversation } from './views/conversation.js';
import { Details } from './views/details.js';
import { Close, Transfer } from './views/dialogs.js';
import { FrameList } from './views/frames.js';
import { LineFault, LineState } from './views/line.js';
import { Sidebar } from './views/sidebar.js';
import { SignIn } from './views/signin.js';

const AVAILABILITIES = { ONLINE: 'Online', OCCUPIED: 'Occupied', BACK_SOON: 'Back soon', AWAY: 'Away', OFFLINE: 'Offline' };

function TopBar({ state, desk, store }) {
  const availability = state.availability ?? 'OFFLINE';
  return html`<header class="top">
    <h1><span class="logo small" aria-hidden="true"><i></i><i></i><i></i></span><span class="brand">Tieline</span></h1>
    <label class="availability" data-availability=${availability}><span class="dot" aria-hidden="true"></span><span class="visually-hidden">Your availability</span>
      <select value=${availability} disabled=${state.line.name !== 'live'} onChange=${(event) => desk.setAvailability(event.target.value)}>
        ${Object.entries(AVAILABILITIES).map(([id, name]) => html`<option value=${id} selected=${id === availability}>${name}</option>`)}</select></label>
    <${LineState} line=${state.line} again=${() => desk.reconnect()} />
    <span class="space"></span>
    <span class="me">${state.session.login}<span class="hint"> · ${state.session.account}</span></span>
    <button type="button" class="small frames-toggle" aria-label="Frames" aria-expanded=${state.isFrames ? 'true' : 'false'} onClick=${() => store.set({ isFrames: !state.isFrames })}><span class="long">Frames</span><span class="short">{ }</span></button>
    <button type="button" class="small theme" onClick=${() => globalThis.toggleTheme()} aria-label="Light or dark">◐</button>
    <button type="button" class="small sign-out" aria-label="Sign out" onClick=${() => desk.signOut()}><span class="long">Sign out</span><span class="short">↪</span></button>
  </header>`;
}

/** Keys that work wherever the focus is. */
function press(event, { state, desk, store }) {
  if (event.key === 'Escape' && !state.dialog) {
    if (state.notice) store.set({ notice: null });
    else if (state.isFrames) store.set({ isFrames: false });
    else if (state.isDetails) store.set({ isDetails: false });
    return;
  }
  if (!event.altKey || event.ctrlKey || event.metaKey || state.dialog) return;
  const [ring] = state.rings.values();
  const { mine } = sorted(state);
  const step = (by) => mine.length > 0 && desk.open(mine[(mine.findIndex(({ id }) => id === state.selected) + by + mine.length) % mine.length].id);
  const keys = {
    KeyA: () => ring && desk.answer(ring, 'ACCEPTED'),
    KeyX: () => ring && desk.answer(ring, 'REJECTED'),
    KeyJ: () => step(1),
    KeyK: () => step(-1),
    KeyL: () => ['.entry[aria-current]', '.entry', '[role=tab][aria-selected=true]'].map((one) => document.querySelector(one)).find(Boolean)?.focus(),
    KeyW: () => document.getElementById('words')?.focus(),
  };
  if (!keys[event.code]) return;
  event.preventDefault();
  keys[event.code]();
}

function Console({ state, desk, store }) {
  useEffect(() => {
    const pressed = (event) => press(event, { state: store.state, desk, store });
    addEventListener('keydown', pressed);
    return () => removeEventListener('keydown', pressed);
  }, []);
  const close = () => store.set({ dialog: null });
  const selected = state.conversations.has(state.selected);
  return html`<div class=${`console ${selected ? 'has-selected' : ''} ${selected && state.isDetails ? 'has-details' : ''}`}>
    <${TopBar} state=${state} desk=${desk} store=${store} />
    <${LineFault} line=${state.line} />
    ${state.notice && html`<p class="banner notice" role="alert">${state.notice}
      <button type="button" class="small" onClick=${() => store.set({ notice: null })} aria-label="Dismiss">✕</button></p>`}
    <div class="panes">
      <${Sidebar} state=${state} desk=${desk} store=${store} />
      <${Conversation} state=${state} desk=${desk} store=${store} />
      ${selected && state.isDetails && html`<${Details} state=${state} close=${() => store.set({ isDetails: false })} />`}
    </div>
    ${state.isFrames && desk.frames && html`<div class="drawer frames-drawer"><${FrameList} frames=${desk.frames} close=${() => store.set({ isFrames: false })} /></div>`}
    ${selected && state.dialog === 'close' && html`<${Close} state=${state} desk=${desk} close=${close} />`}
    ${selected && state.dialog === 'transfer' && html`<${Transfer} state=${state} desk=${desk} close=${close} />`}
  </div>`;
}

function App({ state, desk, store }) {
  return html`${state.session ? html`<${Console} state=${state} desk=${desk} store=${store} />` : html`<${SignIn} state=${state} desk=${desk} />`}
    <p class="visually-hidden" aria-live="polite">${state.said.polite}</p>
    <p class="visually-hidden" aria-live="assertive">${state.said.urgent}</p>`;
}

const store = new Store(initial());
const desk = new Desk(store);
const root = document.getElementById('app');

let isDue = false;
const draw = () => {
  isDue = false;
  render(html`<${App} state=${store.state} desk=${desk} store=${store} />`, root);
};
store.subscribe((state) => {
  // A page in the background is not drawn, but its title is read.
  document.title = title(state);
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(draw);
});
document.title = title(store.state);
draw();

// Typing states end by themselves, and nothing comes to say so.
setInterval(() => {
  const isTyping = [...store.state.logs.values()].some(({ typing }) => Object.keys(typing).length > 0);
  if (isTyping) draw();
}, 1000);

addEventListener('beforeunload', (event) => {
  const waits = [...store.state.logs.values()].some(({ pending }) => pending.some(({ state }) => state !== 'sent'));
  if (waits) event.preventDefault();
});
