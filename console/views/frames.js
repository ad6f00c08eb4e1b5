// The frames of the socket as they are, but for what would let their reader in, which is not kept in the ring.

import { html, useEffect, useRef, useState } from '../ui.js';

/** Frames that are in the page; the ring holds more. */
const SHOWN = 150;
const ARROWS = { in: '↓', out: '↑', end: '×' };
const WORDS = { in: 'received', out: 'sent', end: 'closed' };

/** Copies a text; where a page may not, it says so by `false`. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

const clock = (at) => new Date(at).toTimeString().slice(0, 8);

function nameOf(text) {
  try {
    const { type, kind, reqId, id, closed } = JSON.parse(text);
    if (closed) return `closed ${closed}`;
    return kind === 'resp' ? `reply ${reqId}` : kind === 'req' ? `${type} ${id}` : type;
  } catch {
    // It was too long to be kept whole.
    return /"type":"([^"]*)"/.exec(text)?.[1] ?? '';
  }
}

const Frame = ({ frame }) => html`<li class=${frame.direction}>
  <details><summary><span aria-label=${WORDS[frame.direction]}>${ARROWS[frame.direction]}</span>
    <time>${clock(frame.at)}</time> <b>${nameOf(frame.text)}</b> <span class="peek">${frame.text.slice(0, 300)}</span></summary>
    <pre tabindex="0">${frame.text}</pre></details></li>`;

/** `frames` is the ring; it is looked at anew four times a second while it is shown. */
export function FrameList({ frames, close }) {
  const [, draw] = useState(0);
  const [said, setSaid] = useState('');
  const list = useRef(null);
  useEffect(() => {
    const timer = setInterval(() => draw((count) => count + 1), 250);
    return () => clearInterval(timer);
  }, []);
  const shown = frames.list.slice(-SHOWN);
  const last = shown.at(-1)?.number;
  useEffect(() => {
    const box = list.current;
    if (!frames.isPaused && !box.contains(document.activeElement)) box.scrollTop = box.scrollHeight;
  }, [last]);
  const copyAll = async () => {
    const text = frames.list.map(({ at, direction, text: frame }) => `${new Date(at).toISOString()} ${direction} ${frame}`).join('\n');
    setSaid((await copy(text)) ? `${frames.list.length} frames copied` : 'This browser does not let the page copy');
  };
  const pause = () => {
    frames.isPaused = !frames.isPaused;
    draw((count) => count + 1);
  };
  return html`<section class="frames" aria-label="Frames">
    <header><h2>Frames</h2><span class="count" role="status">${said || `${frames.list.length} kept`}</span>
      <button type="button" class="small pause" aria-pressed=${frames.isPaused} onClick=${pause}>${frames.isPaused ? 'Resume' : 'Pause'}</button>
      <button type="button" class="small" onClick=${copyAll}>Copy</button>
      <button type="button" class="small" onClick=${() => (frames.clear(), draw((count) => count + 1))}>Clear</button>
      ${close && html`<button type="button" class="small" onClick=${close} aria-label="Close the frames">✕</button>`}
    </header>
    <div class="frames-list" ref=${list} tabindex="0" role="region" aria-label="The last frames">
      <ol>${shown.map((frame) => html`<${Frame} key=${frame.number} frame=${frame} />`)}</ol></div>
  </section>`;
}
