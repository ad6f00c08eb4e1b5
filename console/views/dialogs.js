// Questions before something that cannot be taken back.

import { agentName, logOf, nameOf, sorted } from '../store.js';
import { html, useEffect, useRef, useState } from '../ui.js';
import { queueName } from './sidebar.js';

/** The browser's own dialog: it holds the focus, Escape closes it, and the focus returns to where it was. */
function Dialog({ title, close, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    dialog.current.showModal();
    return () => dialog.current?.close();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${close} onCancel=${close}>
    <h2 id="dialog-title">${title}</h2>${children}</dialog>`;
}

export function Close({ state, desk, close }) {
  const id = state.selected;
  const name = nameOf(state, state.conversations.get(id).consumer);
  const waits = logOf(state, id).pending.length;
  const confirm = async () => {
    close();
    await desk.close(id);
  };
  return html`<${Dialog} title="Close the conversation?" close=${close}>
    <p>${name} can then write only in a new one.</p>
    ${waits > 0 && html`<p class="fault">${waits} of your messages have not arrived yet.</p>`}
    <p class="actions"><button type="button" class="primary confirm" onClick=${confirm}>Close it</button>
      <button type="button" onClick=${close}>Keep it open</button></p><//>`;
}

/** Nobody tells a client which agents and queues there are, so what was seen is suggested and all else can be typed. */
export function Transfer({ state, desk, close }) {
  const one = state.conversations.get(state.selected);
  const [kind, setKind] = useState('queue');
  const [queue, setQueue] = useState(one.skill);
  const [agent, setAgent] = useState('');
  const [error, setError] = useState(null);
  const all = [...state.conversations.values()];
  const queues = [...new Set(['-1', ...all.map(({ skill }) => skill)])];
  const agents = [...new Set(sorted(state).others.flatMap(({ members }) => members.map(({ id }) => id)))].filter((id) => id !== state.session.pid);
  const submit = async (event) => {
    event.preventDefault();
    setError(null);
    if (kind === 'queue') {
      if (await desk.toQueue(one.id, queue.trim())) close();
      else setError('It was not transferred.');
      return;
    }
    const found = await desk.findAgent(agent.trim()).catch(() => undefined);
    if (!found) return setError(found === null ? `There is no agent ${agent.trim()}.` : 'The connection is lost; try again when it is back.');
    if (await desk.toAgent(one.id, found.userId)) close();
    else setError('It was not transferred.');
  };
  const option = (value, label) => html`<label class="switch"><input type="radio" name="kind" value=${value} checked=${kind === value} onChange=${() => setKind(value)} /> ${label}</label>`;
  return html`<${Dialog} title="Transfer the conversation" close=${close}>
    <form onSubmit=${submit}>
      <fieldset><legend class="visually-hidden">To whom</legend>${option('queue', 'To a queue')}${option('agent', 'To an agent')}</fieldset>
      ${kind === 'queue'
        ? html`<label>Queue <input name="queue" required maxlength="128" list="queues" value=${queue} onInput=${(event) => setQueue(event.target.value)} /></label>
          <datalist id="queues">${queues.map((id) => html`<option value=${id}>${queueName(id)}</option>`)}</datalist>
          <p class="hint">${queue.trim() === one.skill ? 'It goes back to its queue, and is offered to who serves it.' : 'It is offered to who serves that queue.'}</p>`
        : html`<label>Agent's number or id <input name="agent" required maxlength="128" list="agents" value=${agent} onInput=${(event) => setAgent(event.target.value)} /></label>
          <datalist id="agents">${agents.map((id) => html`<option value=${id}>${agentName(state, id)}</option>`)}</datalist>
          <p class="hint">It rings at that agent. If the agent does not take it, its queue is asked.</p>`}
      ${error && html`<p class="fault" role="alert">${error} ${state.notice ?? ''}</p>`}
      <p class="actions"><button class="primary confirm" disabled=${state.line.name !== 'live'}>Transfer</button>
        <button type="button" onClick=${close}>Cancel</button></p>
    </form><//>`;
}
