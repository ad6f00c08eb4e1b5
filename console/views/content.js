// What is in a message: text, rich content, a file. All of it was written by somebody else, so nothing of it is markup, no
// address is loaded from elsewhere, and only plain web links can be followed.

import { download, imageKind, imageUrl } from '../api.js';
import { safeLink, words } from '../format.js';
import { html, useEffect, useState } from '../ui.js';

/** How deep, and of how many elements, rich content is shown. */
const DEPTH = 8;
const ELEMENTS = 100;
const URLS = /https?:\/\/[^\s<>"'`]+[^\s<>"'`.,;:!?)\]]/g;

const Link = ({ href, children }) => html`<a href=${href} target="_blank" rel="noopener noreferrer nofollow">${children}</a>`;

/** A text with its web addresses as links. */
export function Text({ text }) {
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(URLS)) {
    const href = safeLink(found);
    if (!href) continue;
    parts.push(text.slice(end, index), html`<${Link} href=${href}>${found}<//>`);
    end = index + found.length;
  }
  parts.push(text.slice(end));
  return html`<p class="text" dir="auto">${parts}</p>`;
}

const GROUPS = { vertical: 'rich-vertical', horizontal: 'rich-horizontal', carousel: 'rich-horizontal', list: 'rich-vertical' };
const list = (value) => (Array.isArray(value) ? value : []);
const text = (value) => (typeof value === 'string' || typeof value === 'number' ? String(value) : '');

/** An image elsewhere would tell its server who looks, so it is a link. */
function RichImage({ part }) {
  const href = safeLink(part.url);
  const name = text(part.caption) || text(part.tooltip) || 'no caption';
  return html`<p class="rich-image">Image: ${href ? html`<${Link} href=${href}>${name} ↗<//>` : `${name}: ${words(part.url, 200)}`}</p>`;
}

function RichButton({ part, press }) {
  if (part === null || typeof part !== 'object') return html`<span class="rich-button">${words(part, 200)}</span>`;
  const title = text(part.title) || 'Button';
  const action = list(part.click?.actions)[0] ?? {};
  const uri = action.type === 'link' ? safeLink(action.uri) : null;
  if (uri) return html`<a class="button small" href=${uri} target="_blank" rel="noopener noreferrer nofollow">${title}</a>`;
  const says = action.type === 'publishText' ? text(action.text) : '';
  if (press && says) return html`<button type="button" class="small" onClick=${() => press(says, list(part.click.metadata))}>${title}</button>`;
  const hint = says ? `says “${says}”` : words(action.uri ?? action.type ?? '', 200);
  return html`<span class="rich-button">${title}${hint && html`<small> ${hint}</small>`}</span>`;
}

function RichPart({ part, press, depth, budget }) {
  budget.left -= 1;
  if (budget.left < 0) return null;
  if (part === null || typeof part !== 'object' || depth > DEPTH) return html`<p class="rich-unknown">${words(part, 400)}</p>`;
  if (Object.hasOwn(GROUPS, part.type)) {
    const inner = list(part.elements).slice(0, ELEMENTS).map((one) => RichPart({ part: one, press, depth: depth + 1, budget }));
    return html`<div class=${GROUPS[part.type]}>${inner}</div>`;
  }
  if (part.type === 'text') return html`<p class=${part.style?.bold ? 'text bold' : 'text'} dir="auto">${text(part.text)}</p>`;
  if (part.type === 'image') return html`<${RichImage} part=${part} />`;
  if (part.type === 'button') return html`<${RichButton} part=${part} press=${press} />`;
  return html`<p class="rich-unknown">${words(part, 400)}</p>`;
}

/** `press` is called with the words of a button that says something; without it such a button only shows them. */
export const Rich = ({ content, press }) =>
  html`<div class="rich">${RichPart({ part: content, press, depth: 0, budget: { left: ELEMENTS } })}</div>`;

/** Images that were fetched, since a scrolled log shows the same ones again. */
const fetched = new Map();
const KEPT = 30;

function imageOf(request, path) {
  if (!fetched.has(path)) {
    const asked = download(request, path);
    fetched.set(path, asked);
    asked.catch(() => fetched.delete(path));
    if (fetched.size > KEPT) fetched.delete(fetched.keys().next().value);
  }
  return fetched.get(path);
}

/** Saves bytes under a name, as nothing that a browser would open by itself. */
function save(data, name) {
  const url = URL.createObjectURL(new Blob([data], { type: 'application/octet-stream' }));
  const link = Object.assign(document.createElement('a'), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A name that is a name only, whatever a caption holds. */
function fileName({ caption, fileType }, path) {
  const end = /\.([A-Za-z0-9]{1,5})$/.exec(path)?.[1]?.toLowerCase() ?? String(fileType ?? 'bin').replace(/\W/g, '').toLowerCase();
  const stem = words(caption, 80).replace(/\.[A-Za-z0-9]{1,5}$/, '').replace(/[^\p{L}\p{N} ._-]+/gu, '_').replace(/^[. ]+/, '');
  return `${stem || 'file'}.${end}`;
}

export function Attachment({ message, request }) {
  const path = text(message.relativePath);
  const caption = words(message.caption, 500);
  const [image, setImage] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    if (!path || !imageKind(path)) return undefined;
    let url = null;
    let isGone = false;
    imageOf(request, path).then((data) => {
      if (isGone) return;
      url = imageUrl(path, data);
      setImage(url);
    }, (failed) => isGone || setError(failed.message));
    return () => {
      isGone = true;
      if (url) URL.revokeObjectURL(url);
    };
  }, [path]);
  const fetchIt = async () => {
    setError(null);
    try {
      save(await download(request, path), fileName(message, path));
    } catch (failed) {
      setError(failed.message);
    }
  };
  return html`<figure class="file">
    ${imageKind(path) && html`<div class="preview">${image && html`<img src=${image} alt=${caption || 'Image'} />`}</div>`}
    <figcaption dir="auto">${caption || 'File'}</figcaption>
    ${path && html`<button type="button" class="small download" onClick=${fetchIt}>⬇ Download ${words(message.fileType, 8)}</button>`}
    ${error && html`<p class="fault">${error}</p>`}
  </figure>`;
}

/** The content of an event. */
export function Content({ event, request, press }) {
  if (event.type === 'RichContentEvent') return html`<${Rich} content=${event.content} press=${press} />`;
  if (event.contentType === 'hosted/file' && event.message && typeof event.message === 'object') {
    return html`<${Attachment} message=${event.message} request=${request} />`;
  }
  const replies = list(event.quickReplies?.replies).slice(0, 20);
  return html`<${Text} text=${words(event.message, 20_000)} />
    ${replies.length > 0 && html`<div class="rich-horizontal">${replies.map((part) => html`<${RichButton} part=${part} press=${press} />`)}</div>`}`;
}
