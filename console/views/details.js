// What is known of the customer and of the conversation. All of it is shown as text.

import { day, timeOfDay, words } from '../format.js';
import { agentName, nameOf } from '../store.js';
import { html } from '../ui.js';
import { queueName } from './sidebar.js';

/** Members that say nothing to a person. */
const SILENT = new Set(['userId', 'role', 'privateData', 'claims', 'avatarUrl', 'type']);
/** Members that the name is made of. */
const NAMED = new Set(['firstName', 'lastName']);
const SHOWN = 40;

function Facts({ facts }) {
  const told = facts.filter(([, value]) => value !== null && value !== undefined && value !== '').slice(0, SHOWN);
  return html`<dl>${told.map(([name, value]) => html`<div><dt dir="auto">${words(name, 80)}</dt><dd dir="auto">${words(value, 600)}</dd></div>`)}</dl>`;
}

const entries = (value) => (value && typeof value === 'object' ? Object.entries(value).filter(([name]) => !SILENT.has(name)) : []);

const rating = ({ scale, score, comment }) => `${scale} ${score ?? 'asked for'}${comment ? ` (${comment})` : ''}`;

export function Details({ state, close }) {
  const one = state.conversations.get(state.selected);
  const profile = state.profiles.get(one.consumer);
  const moment = (ms) => (ms ? `${day(ms)}, ${timeOfDay(ms)}` : null);
  return html`<aside class="drawer details-drawer" aria-label="Details">
    <header><h2>Details</h2><button type="button" class="small" onClick=${close} aria-label="Close the details">✕</button></header>
    <div class="drawer-body" tabindex="0" role="region" aria-label="What is known">
      <h3>Customer</h3>
      <${Facts} facts=${[['Name', nameOf(state, one.consumer)], ...entries(profile).filter(([name]) => !NAMED.has(name)), ['Id', one.consumer]]} />
      ${!profile && html`<p class="hint">The profile can be read by who takes part.</p>`}
      <h3>Conversation</h3>
      <${Facts} facts=${[
        ['Queue', queueName(one.skill)],
        ['Agent', one.assigned && agentName(state, one.assigned)],
        ['Others', one.members.filter(({ id }) => id !== one.assigned).map(({ id, role }) => `${agentName(state, id)} (${role})`).join(', ')],
        ['Began', moment(one.startTs)],
        ['Answer due', moment(one.due)],
        ['Urgency', one.urgency],
        ['Number', one.facts.number],
        ['Channel', typeof one.facts.channel === 'string' ? one.facts.channel : one.facts.channel?.Other],
        ['Subject', one.facts.subject],
        ['Language', one.facts.language],
        ['Tags', one.facts.tags?.map(({ id, name }) => name ?? id).join(', ')],
        ['Ratings', one.facts.ratings?.map(rating).join(', ')],
        ['Bookings', one.facts.bookings?.join(', ')],
        ['Notes', one.facts.notes],
        ['Abandoned', moment(one.facts.abandonedAt)],
        ['Anonymised', moment(one.facts.anonymisedAt)],
        ['Id', one.id],
      ]} />
      ${one.facts.attributes && html`<h3>Attributes</h3><${Facts} facts=${one.facts.attributes.map(({ id, label, value }) => [label ?? id, [value].flat().join(' / ')])} />`}
      ${one.facts.answers && html`<h3>Answers</h3><${Facts} facts=${one.facts.answers.map(({ label, question, value }) => [label || question, value])} />`}
      ${one.context && html`<h3>Context</h3><${Facts} facts=${entries(one.context)} />`}
      ${one.campaign && html`<h3>Campaign</h3><${Facts} facts=${entries(one.campaign)} />`}
    </div>
  </aside>`;
}
