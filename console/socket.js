// A socket with requests and their answers, and a line: the socket that comes back.

import { masked } from './format.js';

/** How often the gateway is asked for the time. No answer by the next time means that the connection is gone. */
const CLOCK = 15_000;
/** How long one request may take before its outcome counts as unknown. */
const PATIENCE = 20_000;
/** The first wait before another attempt, and the longest. */
const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30_000;
/** A connection that held for so long was a good one: the next wait is the first again. */
const STEADY = 10_000;

/** Of a frame so much is kept. */
const LONGEST_FRAME = 4096;

/** An answer that says no. `code` is that of the envelope. */
export class Refused extends Error {
  constructor(code, sentence) {
    super(typeof sentence === 'string' ? sentence : `refused with ${code}`);
    this.code = code;
  }
}

/** The connection ended before the answer: whether the request was heeded is not known. */
export class Unknown extends Error {
  constructor() {
    super('no answer came; whether it arrived is not known');
  }
}

/** The last frames, so that a person can look at what was said. Bounded, whatever runs through. */
export class Frames {
  #most;
  #next = 0;
  list = [];
  isPaused = false;

  constructor(most = 500) {
    this.#most = most;
  }

  put(direction, text) {
    if (this.isPaused) return;
    // Masked before it is kept, and before it is cut: half of a token would not be known as one.
    const safe = masked(text.slice(0, 2 * LONGEST_FRAME));
    this.list.push({ number: this.#next++, at: Date.now(), direction, text: safe.length > LONGEST_FRAME ? `${safe.slice(0, LONGEST_FRAME)}…` : safe });
    if (this.list.length > this.#most * 1.5) this.list = this.list.slice(-this.#most);
  }

  clear() {
    this.list = [];
  }
}

/** One WebSocket. Replies find their requests; the end is told once. */
class Connection {
  #socket;
  #frames;
  #waiting = new Map();
  #asked = 0;
  #clock;
  #ended;

  constructor(url, { frames, opened, notified, ended }) {
    this.#frames = frames;
    this.#ended = ended;
    this.#socket = new WebSocket(url);
    this.#socket.addEventListener('open', () => {
      if (!this.#ended) return;
      this.#clock = setInterval(() => this.#beat(), CLOCK);
      opened(this);
    });
    this.#socket.addEventListener('message', ({ data }) => this.#take(data, notified));
    this.#socket.addEventListener('close', ({ code, reason }) => this.end(code, reason));
  }

  request(type, body, headers, metadata) {
    if (!this.#ended || this.#socket.readyState !== WebSocket.OPEN) return Promise.reject(new Unknown());
    this.#asked += 1;
    const id = String(this.#asked);
    const frame = { kind: 'req', id, type, body };
    if (headers) frame.headers = headers;
    if (metadata) frame.metadata = metadata;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.end(1006, 'no answer came in time'), PATIENCE);
      this.#waiting.set(id, { resolve, reject, timer });
      const text = JSON.stringify(frame);
      this.#frames.put('out', text);
      this.#socket.send(text);
    });
  }

  /** Ends it, once. The other side is not waited for: it may not hear of it. */
  end(code, reason = '') {
    if (!this.#ended) return;
    const ended = this.#ended;
    this.#ended = null;
    clearInterval(this.#clock);
    this.#socket.close();
    this.#frames.put('end', JSON.stringify({ closed: code, reason }));
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new Unknown());
    }
    this.#waiting.clear();
    ended(code);
  }

  #beat() {
    this.request('GetClock', {}).catch(() => {});
  }

  #take(data, notified) {
    // What an abandoned socket still brings comes again over the next one.
    if (!this.#ended) return;
    this.#frames.put('in', data);
    const frame = JSON.parse(data);
    if (frame.kind === 'notification') {
      notified(frame.type, frame.body);
      return;
    }
    const waiting = this.#waiting.get(frame.reqId);
    if (!waiting) return;
    this.#waiting.delete(frame.reqId);
    clearTimeout(waiting.timer);
    if (frame.code > 399) waiting.reject(new Refused(frame.code, frame.body));
    else waiting.resolve(frame.body);
  }
}

/** What a close code asks of a client; see the table of close codes in the protocol's description. */
function verdict(code) {
  if (code === 4401) return 'token';
  if ([1002, 1003, 1007, 1008, 1009].includes(code)) return 'fault';
  return 'again';
}

/**
 * A connection that is made again whenever it is lost.
 *
 * `greet` runs on every new connection before anything else; the line is live when it has ended. `probe` says after a
 * connection that never opened whether the token is still good. `changed` hears each state:
 * `{name: 'connecting' | 'live' | 'waiting' | 'signedOut' | 'fault' | 'off', until?, code?}`.
 */
export class Line {
  frames = new Frames();
  state = { name: 'off' };
  #settings;
  #connection = null;
  #attempts = 0;
  #timer;
  #isLost = false;

  constructor(settings) {
    this.#settings = settings;
    // The browser knows first: no need to wait for a silence, nor for the rest of a pause.
    this.offline = () => this.#connection?.end(1006, 'the browser is offline');
    this.online = () => this.state.name === 'waiting' && this.connect();
    globalThis.addEventListener('offline', this.offline);
    globalThis.addEventListener('online', this.online);
  }

  connect() {
    clearTimeout(this.#timer);
    if (this.#connection) return;
    this.#say({ name: 'connecting' });
    let opened = 0;
    this.#connection = new Connection(this.#settings.url(), {
      frames: this.frames,
      notified: (type, body) => this.#settings.notified(type, body),
      opened: async (connection) => {
        opened = Date.now();
        try {
          await this.#settings.greet((...request) => connection.request(...request));
        } catch (error) {
          if (error instanceof Refused) connection.end(error.code === 401 ? 4401 : 1006, error.message);
          else if (!(error instanceof Unknown)) throw error;
          return;
        }
        if (this.#connection === connection) {
          this.#say({ name: 'live' });
          this.#settings.live();
        }
      },
      ended: (code) => this.#over(code, opened),
    });
  }

  request(...request) {
    return this.#connection && this.state.name === 'live' ? this.#connection.request(...request) : Promise.reject(new Unknown());
  }

  /** Ends for good, because the person wants so. */
  close() {
    this.#isLost = true;
    clearTimeout(this.#timer);
    globalThis.removeEventListener('offline', this.offline);
    globalThis.removeEventListener('online', this.online);
    this.#connection?.end(1000, 'signed out');
    this.#say({ name: 'off' });
  }

  async #over(code, opened) {
    this.#connection = null;
    if (this.#isLost) return;
    let found = verdict(code);
    if (opened && Date.now() - opened > STEADY) this.#attempts = 0;
    // A refused upgrade looks like a broken line, so the token is asked about elsewhere.
    if (found === 'again' && !opened && (await this.#settings.probe?.()) === false) found = 'token';
    if (this.#isLost || this.#connection) return;
    if (found === 'token') return this.#say({ name: 'signedOut', code });
    if (found === 'fault') return this.#say({ name: 'fault', code });
    const pause = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#attempts);
    this.#attempts += 1;
    // With jitter, so that all who were cut off together do not come back together.
    const wait = pause * (0.75 + Math.random() * 0.5);
    this.#say({ name: 'waiting', until: Date.now() + wait, code });
    this.#timer = setTimeout(() => this.connect(), wait);
  }

  #say(state) {
    this.state = state;
    this.#settings.changed(state);
  }
}

/** The header by which a repeat of a request is harmless. */
export const keyed = (key) => [{ type: 'IdempotencyKey', key }];

/** A name that nobody else chooses. `crypto.randomUUID` would need HTTPS or this machine. */
export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
