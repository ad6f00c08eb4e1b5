'use strict';

// What the Node scripts share: counted checks, an inbox that is waited on with a deadline, and the run itself.

const { inspect, isDeepStrictEqual } = require('node:util');

/** The demo account of the built-in settings. */
const DEMO = {
  account: 'demo',
  app: { id: 'demo-connector', secret: 'demo-connector-secret' },
  agent: { login: 'ada', password: 'ada-demo', userId: '1001' },
};
/** Agents by their login. The working day needs all three, with the skills that it names. */
const AGENTS = {
  ada: DEMO.agent,
  grace: { login: 'grace', password: 'grace-demo', userId: '1002' },
  bea: { login: 'bea', password: 'bea-demo', userId: '1003' },
};

/** How long one awaited frame or event may take. */
const FRAME_DEADLINE = 10_000;
/** How long a whole script may take, unless it says otherwise. */
const RUN_DEADLINE = 60_000;
/** Between two times of asking the same. */
const POLL = 20;
/** Below this pause between a reply and the notification it causes, a real client was seen to lose the latter. */
const SHORT_PAUSE = 30;

class Mismatch extends Error {}

const show = (value) =>
  typeof value === 'function' ? value.says ?? value.name : inspect(value, { depth: null, breakLength: 160, compact: 10 });

/** A predicate with the words that say what it wants. */
const must = (says, test) => Object.assign((value) => test(value), { says });

const absent = must('nothing', (value) => value === undefined);
const anArray = must('an array', Array.isArray);
const anObject = must('an object', (value) => value !== null && typeof value === 'object' && !Array.isArray(value));
const text = must('a non-empty string', (value) => typeof value === 'string' && value !== '');
// Milliseconds of our time have 13 digits; seconds would have 10.
const millis = must('whole milliseconds since 1970', (value) => Number.isInteger(value) && value > 1e12 && value < 1e13);
const uuid = must('a UUID', (value) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value));
const atLeast = (bound) => must(`at least ${bound}`, (value) => Number.isFinite(value) && value >= bound);
const greaterThan = (bound) => must(`more than ${bound}`, (value) => Number.isFinite(value) && value > bound);
/** Exactly this, without the members that `match` otherwise allows beyond those named. */
const exactly = (expected) => must(`exactly ${show(expected)}`, (value) => isDeepStrictEqual(value, expected));
/** These members, each once, in whichever order. */
const members = (...expected) =>
  must(`in any order ${show(expected)}`, (value) =>
    Array.isArray(value) &&
    value.length === expected.length &&
    expected.every((wanted) => value.some((member) => Object.entries(wanted).every(([key, is]) => isDeepStrictEqual(member?.[key], is)))));

class Checks {
  count = 0;
  pauses = [];

  /** Compares member by member; members that are not named may be there, as clients ignore what they do not know. */
  match(what, got, expected, path = '') {
    if (Array.isArray(expected)) {
      this.#leaf(what, got, anArray, path);
      this.#leaf(what, got.length, expected.length, `${path}.length`);
      expected.forEach((wanted, place) => this.match(what, got[place], wanted, `${path}[${place}]`));
    } else if (anObject(expected) && !(expected instanceof RegExp)) {
      this.#leaf(what, got, anObject, path);
      for (const [key, wanted] of Object.entries(expected)) this.match(what, got[key], wanted, `${path}.${key}`);
    } else {
      this.#leaf(what, got, expected, path);
    }
  }

  #leaf(what, got, expected, path) {
    this.count += 1;
    const holds =
      typeof expected === 'function' ? expected(got)
      : expected instanceof RegExp ? typeof got === 'string' && expected.test(got)
      : Object.is(got, expected);
    if (!holds) throw new Mismatch(`${what}: ${path || 'it'}\n  expected ${show(expected)}\n  got      ${show(got)}`);
  }

  /** A notification must come behind the reply that causes it. The pause between them is reported, not judged. */
  follows(what, reply, notification) {
    this.match(what, { place: notification.place }, { place: greaterThan(reply.place) });
    this.pauses.push({ what, pause: notification.at - reply.at });
  }

  reportPauses() {
    if (this.pauses.length === 0) return;
    const short = this.pauses.filter(({ pause }) => pause < SHORT_PAUSE);
    console.error(`pauses behind replies: ${this.pauses.map(({ pause }) => Math.round(pause)).join(', ')} ms`);
    for (const { what, pause } of short) console.error(`short pause: ${what}, ${pause.toFixed(1)} ms`);
  }
}

/** What has arrived and was not taken yet, in the order of arrival. */
class Inbox {
  #waiting = [];
  #items = [];
  #next = 0;
  /** What ended all waiting. */
  failure = null;

  constructor(name) {
    this.name = name;
  }

  put(value) {
    const item = { value, place: this.#next++, at: performance.now() };
    const waiter = this.#waiting.findIndex(({ wanted }) => wanted(value));
    if (waiter < 0) this.#items.push(item);
    else this.#waiting.splice(waiter, 1)[0].resolve(item);
  }

  /** Ends all waiting, now and later. */
  fail(error) {
    this.failure ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.failure);
  }

  /** The first that is wanted, out of what has come or is still to come. */
  take(what, wanted) {
    const place = this.#items.findIndex(({ value }) => wanted(value));
    if (place >= 0) return Promise.resolve(this.#items.splice(place, 1)[0]);
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      const waiter = { wanted };
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(new Mismatch(`${this.name}: expected ${what}\n  got nothing like it; not taken: ${show(this.rest())}`));
      }, FRAME_DEADLINE);
      waiter.resolve = (item) => (clearTimeout(timer), resolve(item));
      waiter.reject = (error) => (clearTimeout(timer), reject(error));
      this.#waiting.push(waiter);
    });
  }

  rest() {
    return this.#items.map(({ value }) => value);
  }
}

/** Asks again until the answer is as wanted; for what nobody is told about. */
async function until(what, ask, isSo) {
  const deadline = performance.now() + FRAME_DEADLINE;
  for (;;) {
    const answer = await ask();
    if (isSo(answer)) return answer;
    if (performance.now() > deadline) throw new Mismatch(`expected ${what}\n  got ${show(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

/** One HTTP call; the body as JSON if it is some. */
async function call(method, url, { headers = {}, json, form } = {}) {
  const body = json !== undefined ? JSON.stringify(json) : form && new URLSearchParams(form);
  const kind = json !== undefined ? { 'content-type': 'application/json' } : {};
  const response = await fetch(url, { method, headers: { ...kind, ...headers }, body });
  const answer = await response.text();
  let parsed = answer;
  try {
    parsed = JSON.parse(answer);
  } catch {
    // Not JSON; the checks will say so.
  }
  return { status: response.status, headers: response.headers, body: parsed };
}

/** The part of a JWT that says whom it names. */
const claims = (jwt) => JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'));

function required(name) {
  const value = process.env[name];
  if (!value) {
    console.error(`${name} is not set`);
    process.exit(1);
  }
  return value.replace(/\/$/, '');
}

/** Runs a script to its exit code. */
function main(name, script, { deadline = RUN_DEADLINE } = {}) {
  const checks = new Checks();
  const end = (error) => {
    checks.reportPauses();
    if (error) console.error(`failed ${name} after ${checks.count} checks\n${error instanceof Mismatch ? error.message : inspect(error)}`);
    else console.log(`ok ${name} ${checks.count} checks`);
    process.exit(error ? 1 : 0);
  };
  setTimeout(() => end(new Mismatch(`expected the run to end within ${deadline / 1000} s`)), deadline);
  process.on('uncaughtException', end);
  script(checks).then(() => end(), end);
}

/** Waits until what is read is as it must be. What it was at last is checked, so that a failure shows it. */
async function settled(checks, what, read, expected, deadline) {
  const end = performance.now() + deadline;
  const holds = typeof expected === 'function' ? expected : (value) => isDeepStrictEqual(value, expected);
  let value = await read();
  while (!holds(value) && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    value = await read();
  }
  checks.match(what, value, typeof expected === 'function' ? expected : exactly(expected));
}

module.exports = {
  AGENTS, DEMO, Inbox, Mismatch, absent, anArray, anObject, atLeast, call, claims, exactly, greaterThan, main, members, millis, must,
  required, settled, text, until, uuid,
};
