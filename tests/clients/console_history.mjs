// A conversation of 50,000 messages in the console: opened at its end, scrolled back to its beginning.
//
//   TIELINE_HTTP=http://127.0.0.1:8080 node console_history.mjs
//
// Every number must have been on the screen once, and the page must stay small all the way. How long the browser was busy
// at a time is reported, not judged. TIELINE_MESSAGES is another number of messages.

import { randomUUID } from 'node:crypto';
import WebSocket from 'ws';
import { Console, HTTP, account, launch } from './console_page.mjs';
import harness from './harness.cjs';

const { DEMO, Mismatch, call, claims, exactly, main, must, text } = harness;

const MESSAGES = Number(process.env.TIELINE_MESSAGES ?? 50_000);
/** Requests that wait for their answers; the gateway reads no more than so many ahead. */
const PIPELINE = 200;
/** Elements that the page may have at any time, whatever the log holds. */
const ELEMENTS = 1500;
const RUN_DEADLINE = 600_000;

/** A consumer's own socket with requests one behind the other, many on their way. */
async function consumer(checks) {
  const { body } = await call('POST', `${HTTP}/api/account/${account}/signup`);
  checks.match('the sign-up', body, { jwt: text });
  const socket = new WebSocket(`${HTTP.replace('http', 'ws')}/ws_api/account/${account}/messaging/consumer?v=3`, {
    headers: { authorization: body.jwt },
  });
  const waiting = new Map();
  let asked = 0;
  socket.on('message', (data) => {
    const frame = JSON.parse(data.toString());
    if (frame.kind !== 'resp') return;
    const { resolve, reject } = waiting.get(frame.reqId);
    waiting.delete(frame.reqId);
    if (frame.code < 300) resolve(frame.body);
    else reject(new Mismatch(`a request was refused: ${JSON.stringify(frame)}`));
  });
  socket.on('close', (code) => waiting.forEach(({ reject }) => reject(new Mismatch(`the consumer's socket was closed with ${code}`))));
  await new Promise((resolve, reject) => socket.once('open', resolve).on('error', reject));
  const ask = (type, body) => new Promise((resolve, reject) => {
    const id = String((asked += 1));
    waiting.set(id, { resolve, reject });
    socket.send(JSON.stringify({ kind: 'req', id, type, body }));
  });
  return { ask, me: claims(body.jwt).sub, close: () => socket.close() };
}

/** Fills a conversation; its id and how long it took. */
async function fill(checks) {
  const { ask, close } = await consumer(checks);
  await ask('userprofile.SetUserProfile', { firstName: 'Ann' });
  const { conversationId } = await ask('cm.ConsumerRequestConversation', { brandId: account });
  const began = performance.now();
  let next = 0;
  const work = async () => {
    while (next < MESSAGES) {
      const number = next;
      next += 1;
      // Some of them longer, so that rows differ in height.
      const message = `Number ${number}${number % 7 ? '' : ` with ${'a few more words '.repeat(number % 5 + 3)}`}`;
      const { sequence } = await ask('ms.PublishEvent', { dialogId: conversationId, event: { type: 'ContentEvent', contentType: 'text/plain', message } });
      if (sequence !== number) throw new Mismatch(`message ${number} got the number ${sequence}`);
    }
  };
  await Promise.all(Array.from({ length: PIPELINE }, work));
  close();
  return { conversationId, took: performance.now() - began };
}

/** Notes in the page what comes in sight while somebody scrolls up as fast as the page lets them. */
function scrollBack() {
  const box = document.querySelector('.scroller');
  const seen = new Uint8Array(window.expected);
  const report = { most: 0, rows: 0, steps: 0, faults: [], missing: 0, first: null };
  const look = () => {
    const { top, bottom } = box.getBoundingClientRect();
    let last = null;
    for (const row of box.querySelectorAll('.row[data-sequence]')) {
      const number = Number(row.dataset.sequence);
      if (last !== null && number !== last + 1) report.faults.push(`${number} follows ${last}`);
      last = number;
      if (!row.textContent.includes(`Number ${number}`)) report.faults.push(`${number} shows another text`);
      const place = row.getBoundingClientRect();
      if (place.bottom > top && place.top < bottom) seen[number] = 1;
    }
    report.most = Math.max(report.most, document.querySelectorAll('*').length);
    report.rows = Math.max(report.rows, box.querySelectorAll('.row').length);
  };
  return new Promise((resolve) => {
    let isWaiting = 0;
    const step = () => {
      look();
      const isAtStart = box.scrollTop === 0 && box.querySelector('.row[data-sequence="0"]');
      if (isAtStart || report.faults.length > 0 || isWaiting > 3000) {
        report.missing = seen.reduce((sum, one) => sum + (one ? 0 : 1), 0);
        report.first = seen.indexOf(0);
        report.busy = window.tasks.sort((a, b) => b - a).slice(0, 5).map(Math.round);
        report.frame = Math.round(window.longestFrame);
        resolve(report);
        return;
      }
      const before = box.scrollTop;
      // Less than a screen at a time, so that no row can be jumped over.
      box.scrollTop = Math.max(0, before - box.clientHeight * 0.8);
      isWaiting = before === 0 ? isWaiting + 1 : 0;
      report.steps += 1;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
}

main('console_history', async (checks) => {
  const { conversationId, took } = await fill(checks);
  console.log(`${MESSAGES} messages published in ${(took / 1000).toFixed(1)} s`);
  const browser = await launch();
  const ada = await Console.open(browser, checks, { agent: DEMO.agent.login, viewport: { width: 1280, height: 1600 } });
  await ada.signIn();
  await ada.page.click('#tab-queue');
  await ada.page.click(`[data-conversation="${conversationId}"]`);
  await ada.until('the end of the log', async () => (await ada.messages()).at(-1)?.[0], MESSAGES - 1);
  await ada.page.evaluate((expected) => {
    Object.assign(window, { expected, tasks: [], longestFrame: 0 });
    new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => window.tasks.push(duration))).observe({ entryTypes: ['longtask'] });
    let last = performance.now();
    const beat = (now) => {
      window.longestFrame = Math.max(window.longestFrame, now - last);
      last = now;
      requestAnimationFrame(beat);
    };
    requestAnimationFrame(beat);
  }, MESSAGES);
  const began = performance.now();
  const report = await ada.page.evaluate(scrollBack);
  console.log(`scrolled back in ${report.steps} steps, ${((performance.now() - began) / 1000).toFixed(1)} s; ` +
    `longest frame ${report.frame} ms, longest tasks ${report.busy.join(', ') || 'none over 50'} ms; at most ${report.most} elements, ${report.rows} rows`);
  checks.match('rows out of order or twice', report.faults, exactly([]));
  checks.match('numbers that never came in sight', report, { missing: 0, first: -1 });
  checks.match('elements in the page at most', report.most, must(`at most ${ELEMENTS}`, (count) => count > 0 && count <= ELEMENTS));

  // Back to the end with one press; and live from there, whatever was scrolled.
  await ada.page.click('.to-end');
  await ada.until('the end of the log', async () => (await ada.messages()).at(-1)?.[0], MESSAGES - 1);
  await ada.page.click('.join');
  const key = randomUUID();
  await ada.say(key);
  await ada.until('the answer', async () => (await ada.texts()).at(-1), key);
  await ada.isClean();
  // Closed again, so that nothing of it is left to be offered.
  await ada.page.click('.conversation-head .close');
  await ada.page.click('dialog .confirm');
  await ada.until('the end', () => ada.page.textContent('.no-compose'), 'Closed by an agent');
  await browser.close();
}, { deadline: RUN_DEADLINE });
