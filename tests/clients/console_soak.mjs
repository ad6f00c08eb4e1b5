// Two consoles open for a while beside `tieline demo`: everything moves, nothing is missed, memory stays flat.
//
//   TIELINE_HTTP=http://127.0.0.1:8080 TIELINE_ADMIN_KEY=… TIELINE_PID=… node console_soak.mjs [MINUTES]
//
// Run by hand, since it takes as long as it is told, 10 minutes unless said otherwise. Each console shows a live conversation;
// now and then what it shows is compared with what is in the log. The figures are printed at the end.

import { readFile } from 'node:fs/promises';
import WebSocket from 'ws';
import harness from './harness.cjs';
import { Console, HTTP, account, launch, until } from './console_page.mjs';

const { call, exactly, main, must, required } = harness;

const MINUTES = Number(process.argv[2] ?? 10);
const headers = { authorization: `Bearer ${required('TIELINE_ADMIN_KEY')}` };
const PID = required('TIELINE_PID');
/** How often is looked. */
const EVERY = 20_000;

/** The gateway's memory in KiB. */
async function resident() {
  const status = await readFile(`/proc/${PID}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)[1]);
}

/** A manager's socket, which reads any log: the numbers of what is shown as a message; receipts have numbers, too. */
async function reader() {
  const login = await call('POST', `${HTTP}/api/account/${account}/login?v=1.3`, { json: { username: 'grace', password: 'grace-demo' } });
  const socket = new WebSocket(`${HTTP.replace('http', 'ws')}/ws_api/account/${account}/messaging/brand/${login.body.bearer}?v=3`);
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  const waiting = new Map();
  socket.on('message', (text) => {
    const { reqId, body } = JSON.parse(text);
    waiting.get(reqId)?.(body);
    waiting.delete(reqId);
  });
  let asked = 0;
  return async (dialogId) => {
    const id = String((asked += 1));
    const answer = new Promise((resolve) => waiting.set(id, resolve));
    socket.send(JSON.stringify({ kind: 'req', id, type: 'ms.QueryMessages', body: { dialogId, maxQuantity: 1000 } }));
    const isMessage = ({ event }) => event.type === 'ContentEvent' || event.type === 'RichContentEvent';
    return (await answer).filter(isMessage).map(({ sequence }) => sequence);
  };
}

async function someOpen(agent) {
  const { body } = await call('GET', `${HTTP}/admin/v1/conversations?account=${account}&state=open&limit=200`, { headers });
  return body.filter((one) => one.agent === agent).map((one) => one.id);
}

/** Opens a conversation of the agent's that the console lists, and compares what it shows with what there is. */
async function look(checks, desk, agent, read) {
  const open = await someOpen(agent);
  const listed = await desk.page.$$eval('[data-conversation]', (all) => all.map((one) => one.dataset.conversation));
  const id = open.find((one) => listed.includes(one));
  if (!id) return 0;
  // It may be closed, and so leave the list, just now.
  const isGone = await desk.page.click(`[data-conversation="${id}"]`, { timeout: 2_000 }).then(() => false, () => true);
  if (isGone) return 0;
  // It goes on meanwhile: at some moment the two are the same.
  await until(checks, `${desk.name}: the numbers shown are those that there are`, async () => {
    const there = (await read(id)).join();
    return { there, shown: (await desk.messages()).map(([number]) => number).join() };
  }, ({ there, shown }) => there === shown);
  const numbers = (await desk.messages()).map(([number]) => number);
  checks.match(`${desk.name}: each once and in order`, numbers, exactly([...new Set(numbers)].sort((one, other) => one - other)));
  return 1;
}

main('console_soak', async (checks) => {
  const browser = await launch();
  const read = await reader();
  const desks = [];
  for (const [agent, number] of [['ada', '1001'], ['grace', '1002']]) {
    const desk = await Console.open(browser, checks, { agent });
    await desk.signIn();
    desks.push({ desk, number });
  }
  const heap = (page) => page.evaluate(() => (globalThis.gc?.(), performance.memory.usedJSHeapSize / 1024));
  const figures = [];
  const began = performance.now();
  let looks = 0;
  while (performance.now() - began < MINUTES * 60_000) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    for (const { desk, number } of desks) {
      looks += await look(checks, desk, number, read);
      await desk.line('live');
    }
    const heaps = await Promise.all(desks.map(({ desk }) => heap(desk.page)));
    figures.push({ minute: ((performance.now() - began) / 60_000).toFixed(1), gateway: await resident(), heaps: heaps.map(Math.round) });
  }
  for (const { desk } of desks) {
    checks.match(`${desk.name}: loads`, desk.loads, 1);
    await desk.isClean();
  }
  checks.match('looks at live conversations', looks, must('one at least', (count) => count > 0));
  const shown = figures.filter((_, place) => place % 3 === 0 || place === figures.length - 1);
  for (const { minute, gateway, heaps } of shown) console.log(`minute ${minute}: gateway ${gateway} KiB, consoles ${heaps.join(' and ')} KiB`);
  console.log(`${looks} looks: what was shown was what there was`);
  await browser.close();
}, { deadline: (MINUTES + 5) * 60_000 });
