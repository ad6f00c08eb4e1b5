// One dialog's log as it is known here, by pure functions: what came, what is on its way, who has read what.
//
// `head` is the last number that came and `low` the first one that was fetched; between them nothing is missing but what
// this side may not see. So a number is taken once, and `head + 1` is all that is needed to resume.

/** How long somebody counts as typing without saying so again. */
const TYPING = 10_000;

export const emptyLog = () => ({
  epoch: null, head: null, low: null, rows: [],
  // By sequence: what the other side, and what this side, has said of it.
  theirs: new Map(), ours: new Map(),
  // The last number that this side has read or answered.
  seen: -1,
  typing: {}, pending: [], isLoading: false,
});

/** Where the log stands when it is first followed: nothing fetched yet, everything older is below `low`. */
export const begin = (log, { epoch, headSeq }) => ({ ...log, epoch, head: headSeq, low: headSeq + 1 });

export const hasOlder = (log) => log.low !== null && log.low > 0;

const isContent = ({ type }) => type === 'ContentEvent' || type === 'RichContentEvent';
export const isConsumer = (change) => change.originatorMetadata?.role === 'CONSUMER';

/** A receipt only ever says more than the one before. */
const RANK = { ACCEPT: 1, READ: 2 };

function receive(known, { status, sequenceList }) {
  if (!RANK[status]) return;
  for (const sequence of sequenceList) if ((RANK[known.get(sequence)] ?? 0) < RANK[status]) known.set(sequence, status);
}

/** What a person of this side knows of a run of events, whichever end they are put to. */
function read(log, changes, side) {
  const receipts = changes.filter(({ event }) => event.type === 'AcceptStatusEvent' && Array.isArray(event.sequenceList));
  const read = { rows: changes.filter(({ event }) => isContent(event)), theirs: log.theirs, ours: log.ours, seen: log.seen };
  if (receipts.length > 0) {
    read.theirs = new Map(log.theirs);
    read.ours = new Map(log.ours);
  }
  for (const change of receipts) {
    const isOurs = side.isOurs(change);
    receive(isOurs ? read.ours : read.theirs, change.event);
    if (isOurs && change.event.status === 'READ') read.seen = change.event.sequenceList.reduce((a, b) => Math.max(a, b), read.seen);
  }
  // A note answers nobody, so it does not mean that everything before it was read.
  for (const change of read.rows) {
    if (side.isOurs(change) && change.messageAudience !== 'AGENTS_AND_MANAGERS') read.seen = Math.max(read.seen, change.sequence);
  }
  return read;
}

const refOf = ({ metadata }) => (Array.isArray(metadata) ? metadata : []).find(({ type }) => type === 'ExternalId')?.id;

/** What came live or by replay, in the order it came. */
export function append(log, changes, side, now = Date.now()) {
  const stored = changes.filter(({ sequence }) => Number.isInteger(sequence) && sequence > log.head);
  const known = read(log, stored, side);
  const typing = { ...log.typing };
  for (const { event, originatorId, originatorMetadata } of changes) {
    if (event.type === 'ChatStateEvent' && event.chatState === 'COMPOSING') {
      typing[originatorId] = { role: originatorMetadata?.role, until: now + TYPING };
    } else if (event.type !== 'AcceptStatusEvent') {
      delete typing[originatorId];
    }
  }
  const refs = new Set(stored.filter((change) => side.isMine(change)).map(refOf));
  const head = stored.at(-1)?.sequence ?? log.head;
  return {
    ...log, ...known, head, typing,
    rows: known.rows.length > 0 ? log.rows.concat(known.rows) : log.rows,
    pending: settled(log.pending.filter(({ ref }) => !refs.has(ref)), head),
  };
}

/** What was fetched, from below what is known; `reached` is the lowest number that was asked for. */
export function prepend(log, changes, reached, side) {
  const older = changes.filter(({ sequence }) => sequence < log.low);
  const known = read(log, older, side);
  return { ...log, ...known, rows: known.rows.concat(log.rows), low: Math.max(0, Math.min(reached, log.low)) };
}

/** What was acknowledged with a number that is in the log already is no longer on its way. */
const settled = (pending, head) => pending.filter(({ sequence }) => sequence === undefined || sequence > head);

export const enqueue = (log, item) => ({ ...log, pending: [...log.pending, item] });

export function amend(log, ref, patch) {
  const pending = log.pending.map((item) => (item.ref === ref ? { ...item, ...patch } : item));
  return { ...log, pending: settled(pending, log.head) };
}

export const discard = (log, ref) => ({ ...log, pending: log.pending.filter((item) => item.ref !== ref) });

/** How many messages of the other side are not read, as far as they are known. */
export function unread(log) {
  let count = 0;
  for (let at = log.rows.length - 1; at >= 0 && log.rows[at].sequence > log.seen; at -= 1) if (isConsumer(log.rows[at])) count += 1;
  return count;
}
