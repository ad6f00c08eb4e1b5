// The state of the connection, in words that are true.

import { html, useNow } from '../ui.js';
import { span } from '../format.js';

const NAMES = { connecting: 'Connecting…', live: 'Live', signedOut: 'Signed out', off: 'Not connected' };
const FAULTS = {
  1008: 'The gateway has ended the connection: it did not understand this page, or was not told in time who it is.',
  1009: 'The gateway has ended the connection: a message was too large.',
};

function Waiting({ until }) {
  const left = until - useNow(500);
  return left > 0 ? `Reconnecting in ${span(left + 999)}` : 'Reconnecting…';
}

/** `again` connects at once. */
export function LineState({ line, again }) {
  const isFault = line.name === 'fault';
  return html`<span class="line" data-state=${line.name} data-code=${line.code ?? ''}>
    <span class="dot" aria-hidden="true"></span>
    <span class="line-words" role="status">${isFault ? 'Disconnected' : line.name === 'waiting' ? 'Reconnecting' : NAMES[line.name]}</span>
    ${line.name === 'waiting' && html`<span class="line-left" aria-hidden="true"><${Waiting} until=${line.until} /></span>`}
    ${(line.name === 'waiting' || isFault) && html`<button type="button" class="small" onClick=${again}>Now</button>`}
  </span>`;
}

/** What only a person can mend: the line does not come back by itself. */
export const LineFault = ({ line }) => line.name === 'fault' &&
  html`<p class="banner fault" role="alert">${FAULTS[line.code] ?? `The gateway has ended the connection with ${line.code}.`}</p>`;
