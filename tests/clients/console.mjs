// Two agents in the console and a customer in the playground, each in a browser context of its own.
//
//   TIELINE_HTTP=http://127.0.0.1:8080 node console.mjs
//
// The gateway has the demo account and serves the pages at /console/. What is asserted is what a person sees on them.

import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { promisify } from 'node:util';
import WebSocket from 'ws';
import { Console, Customer, HTTP, Page, Playground, account, launch, relay, until } from './console_page.mjs';
import { payloads } from './console_payloads.mjs';
import harness from './harness.cjs';

const { DEMO, Inbox, Mismatch, atLeast, call, exactly, main, must, text } = harness;

/** Many pages on few cores. */
const RUN_DEADLINE = 300_000;
/** The smallest PNG there is: one pixel. */
const PIXEL = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');
/** What a browser reports when it finds no gateway behind the relay. */
const isNetwork = (fault) => /WebSocket connection to|ERR_(CONNECTION|NETWORK|EMPTY|SOCKET|INTERNET)/.test(fault);

/** Sign-in that is refused, sign-in that is not, and a reload that stays signed in. */
async function signsIn(browser, checks) {
  const ada = await Console.open(browser, checks, { agent: 'ada' });
  await ada.page.fill('[name=login]', 'ada');
  await ada.page.fill('[name=password]', 'not-it');
  await ada.page.click('button.primary');
  await ada.until('why not', () => ada.page.textContent('.door .fault'), 'Account, login or password is wrong.');
  ada.faults.splice(0);
  await ada.signIn();
  await ada.page.reload();
  await ada.line('live');
  checks.match('the session is kept for the tab alone', await ada.page.evaluate(() => [Object.keys(sessionStorage), localStorage.length]), [['tieline.session'], 0]);
  checks.match('the password is not kept', (await ada.page.evaluate(() => sessionStorage.getItem('tieline.session'))).includes('ada-demo'), false);
  await ada.page.click('.sign-out');
  await ada.shows('the door', '.door');
  checks.match('what is kept after the sign-out', await ada.page.evaluate(() => sessionStorage.length), 0);
  // A session that is ended elsewhere ends here too.
  await ada.signIn();
  const { csrf, account: where } = await ada.page.evaluate(() => JSON.parse(sessionStorage.getItem('tieline.session')));
  await ada.page.evaluate(([path, json]) => fetch(path, { method: 'POST', body: json }), [`/api/account/${where}/logout`, JSON.stringify({ csrf })]);
  await ada.until('why it is over', () => ada.page.textContent('.door .banner'), 'Your session has ended. Please sign in again.');
  // A bearer that is no good any more cannot open a socket, which a browser shows as a broken line.
  await ada.page.evaluate((kept) => sessionStorage.setItem('tieline.session', JSON.stringify(kept)), {
    account, login: 'ada', bearer: 'a.b.c', csrf, userId: '1001', pid: randomUUID(), life: 28_800_000, until: 0,
  });
  await ada.page.reload();
  await ada.until('why it is over', () => ada.page.textContent('.door .banner'), 'Your session has ended. Please sign in again.');
  await ada.isClean((fault) => isNetwork(fault) || fault.includes('401'));
  await ada.context.close();
  console.log('ok console: sign-in, reload, sign-out, a session that ends');
}

/** The session is refreshed long before it ends, on a clock that is turned on by hand. */
async function refreshes(browser, checks) {
  const ada = await Console.open(browser, checks, { agent: 'ada' });
  await ada.page.clock.install();
  await ada.page.reload();
  await ada.signIn();
  const until0 = await ada.page.evaluate(() => JSON.parse(sessionStorage.getItem('tieline.session')).until);
  const [refreshed] = await Promise.all([
    ada.page.waitForResponse((response) => response.url().endsWith('/refresh')),
    ada.page.clock.fastForward('31:00'),
  ]);
  checks.match('the answer to the refresh', refreshed.status(), 200);
  const isLater = must('a later end', (end) => end > until0);
  await ada.until('the end of the session', () => ada.page.evaluate(() => JSON.parse(sessionStorage.getItem('tieline.session')).until), isLater);
  await ada.line('live');
  await ada.isClean();
  await ada.context.close();
  console.log('ok console: the session is refreshed');
}

/** Each close code does what the table of the protocol asks for. */
async function heedsCloseCodes(browser, checks) {
  const ada = await Console.open(browser, checks, { agent: 'ada' });
  let socket;
  await ada.page.routeWebSocket(/ws_api/, (route) => {
    socket = route;
    route.connectToServer();
  });
  await ada.page.reload();
  await ada.signIn();
  for (const code of [1001, 1012, 4408]) {
    const one = socket;
    await one.close({ code });
    await ada.until('another socket', async () => socket !== one, true);
    await ada.line('live');
  }
  for (const code of [1008, 1009]) {
    await socket.close({ code });
    await ada.line('fault');
    checks.match('the code that the page heard', await ada.page.getAttribute('.line', 'data-code'), String(code));
    await ada.until('what is said of it', () => ada.page.textContent('.banner.fault'), must('the gateway', (said) => said.includes('The gateway has ended the connection')));
    await ada.page.click('.line button');
    await ada.line('live');
  }
  await socket.close({ code: 4401 });
  await ada.until('why it is over', () => ada.page.textContent('.door .banner'), 'Your session has ended. Please sign in again.');
  await ada.isClean();
  await ada.context.close();
  console.log('ok console: close codes');
}

/** From the ring to the close, with everything in between. */
async function converses(browser, checks) {
  const line = await relay();
  const [ada, grace, ann] = await Promise.all([
    Console.open(browser, checks, { agent: 'ada', origin: line.url }),
    Console.open(browser, checks, { agent: 'grace' }),
    Playground.open(browser, checks, { name: 'ann' }),
  ]);
  await Promise.all([ada.signIn(), grace.signIn()]);
  await ada.available('ONLINE');
  await ann.start();
  await ann.say('Hello, where is my parcel?');

  await ada.shows('the offer', '.ring');
  await ada.until('the title', () => ada.page.title(), '🔔 1 ringing · Tieline');
  await ada.until('the countdown', () => ada.page.textContent('.ring .left'), must('some seconds', (left) => /^\d+ s$/.test(left)));
  await ada.until('what is read out', () => ada.page.textContent('[aria-live=assertive]'), must('a ring', (said) => said.includes('rings')));
  await ada.accept();
  await ada.shows('the offer', '.ring', false);
  await ada.complete('Hello, where is my parcel?');
  await ada.until('the name', () => ada.page.textContent('#conversation-name'), 'Ann');
  await ann.until('who answers', () => ann.page.textContent('.whereabouts'), 'You talk with Ada.');
  await ann.until('the receipt', () => ann.page.textContent('.row.own .receipt'), ' · Read');
  console.log('ok console: ring, accept, profile, receipt');

  await ada.shows('that the customer types', '.typing .dots', false);
  await ann.page.focus('#words');
  await ann.page.keyboard.type('Are');
  await ada.shows('that the customer types', '.typing .dots');
  await ann.page.fill('#words', '');
  await ada.shows('that the customer types', '.typing .dots', false);
  await ada.page.focus('#words');
  await ada.page.keyboard.type('Let me');
  await ann.until('that the agent types', () => ann.page.textContent('.typing'), must('Ada types', (said) => said.includes('Ada is typing')));
  await ada.page.keyboard.press('Shift+Enter');
  await ada.page.keyboard.type('look.');
  checks.match('two lines', await ada.page.inputValue('#words'), 'Let me\nlook.');
  await ada.page.keyboard.press('Enter');
  await ann.complete('Hello, where is my parcel?', 'Let me\nlook.');
  await ann.shows('that the agent types', '.typing .dots', false);
  await ada.until('the receipt', () => ada.page.textContent('.row.own .receipt'), ' · Read');
  console.log('ok console: both ways, typing, receipts');

  // A note is for the brand's side.
  await ada.page.check('.note-switch');
  await ada.say('Parcel 4711 is lost, be kind');
  await ada.shows('the note', '.row.note');
  await ada.page.uncheck('.note-switch');
  await ada.say('I am on it');
  await ann.complete('Hello, where is my parcel?', 'Let me\nlook.', 'I am on it');
  checks.match('the note at the customer', (await ann.page.content()).includes('4711'), false);
  // Whether it ever came over the wire is seen in the frames.
  checks.match('the note in the frames', (await ann.page.$$eval('.frames pre', (all) => all.map((one) => one.textContent).join())).includes('4711'), false);
  console.log('ok console: a note is not shown to the customer');

  const files = { name: 'pixel.png', mimeType: 'image/png', buffer: PIXEL };
  await ada.page.setInputFiles('#file', files);
  await ann.shows('the picture', '.row.other .preview img');
  await ann.page.setInputFiles('#file', { name: 'note.txt', mimeType: 'text/plain', buffer: Buffer.from('hello, file\n') });
  await ada.until('the file', async () => (await ada.texts()).at(-1), 'note.txt');
  const [saved] = await Promise.all([ada.page.waitForEvent('download'), ada.page.click('.row.other .download')]);
  checks.match('the name of the file', saved.suggestedFilename(), 'note.txt');
  checks.match('what is in the file', await readFile(await saved.path(), 'utf8'), 'hello, file\n');
  await ada.page.setInputFiles('#file', { name: 'page.html', mimeType: 'text/html', buffer: Buffer.from('<p>') });
  await ada.until('why a page is not sent', () => ada.page.textContent('.pending .fault'), must('a refusal', (said) => said.startsWith('Not sent: ')));
  await ada.page.click('.pending >> text=Discard');
  await ada.shows('what was not sent', '.pending', false);
  console.log('ok console: files both ways');

  await staysWhole(ada, ann, line, checks);

  // To the other agent, by its number; it rings there.
  await grace.available('ONLINE');
  await ada.available('AWAY');
  await ada.page.click('.transfer');
  await ada.page.check('dialog [value=agent]');
  await ada.page.fill('dialog [name=agent]', '4444');
  await ada.page.click('dialog .confirm');
  await ada.until('that there is no such agent', () => ada.page.textContent('dialog .fault'), must('said', (said) => said.includes('There is no agent 4444.')));
  await ada.page.fill('dialog [name=agent]', '1002');
  await ada.page.click('dialog .confirm');
  await ada.shows('the dialog', 'dialog', false);
  await grace.accept();
  await grace.until('the history', async () => (await grace.texts()).includes('Parcel 4711 is lost, be kind'), true);
  await grace.say('Hello Ann, Grace here');
  await ann.until('the other agent', async () => (await ann.texts()).at(-1), 'Hello Ann, Grace here');
  await ada.until('with whom it is', () => ada.page.textContent('.who-with .hint'), 'Default queue · With Grace');
  await ada.shows('the box of who does not take part', '#words', false);

  // Back to the queue, where the first agent takes it by itself.
  await grace.page.click('.transfer');
  await grace.page.click('dialog .confirm');
  await grace.shows('the dialog', 'dialog', false);
  await grace.available('AWAY');
  await ada.page.click('.join');
  await ada.shows('the box', '#words');
  await ada.say('And Ada again');
  await ann.until('the first agent', async () => (await ann.texts()).at(-1), 'And Ada again');
  // To another queue, which only the other serves.
  await grace.available('ONLINE');
  await ada.page.click('.transfer');
  await ada.page.fill('dialog [name=queue]', '77');
  await ada.page.click('dialog .confirm');
  await grace.accept();
  await grace.until('the queue', () => grace.page.textContent('.who-with .hint'), 'Queue 77 · With you');
  console.log('ok console: transfer to an agent, to the queue, to another queue');

  await grace.page.click('.conversation-head .close');
  await grace.page.click('dialog >> text=Keep it open');
  await grace.shows('the box', '#words');
  await grace.page.click('.conversation-head .close');
  await grace.page.click('dialog .confirm');
  await grace.until('the end', () => grace.page.textContent('.no-compose'), 'Closed by an agent');
  await ann.until('the end', () => ann.page.textContent('.whereabouts'), 'The agent has ended the conversation.');
  console.log('ok console: close');

  // What the console and the playground keep to themselves is not in their frames either.
  await grace.page.click('.frames-toggle');
  for (const page of [grace.page, ann.page]) {
    const read = () => page.$$eval('.frames li', (all) => all.map((one) => one.textContent).join('\n'));
    await until(checks, 'the frames', async () => (await read()).length, atLeast(500));
    const shown = await read();
    checks.match('tokens in the frames', /eyJ|temp_url_sig":"[0-9a-f]/.test(shown), false);
  }
  await grace.page.click('.frames .pause');
  const count = () => grace.page.textContent('.frames .count');
  const before = await count();
  await grace.available('AWAY');
  checks.match('a paused ring takes nothing', await count(), before);
  await grace.context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: HTTP });
  await grace.page.click('.frames >> text=Copy');
  const isCopied = must('the frames, without the bearer', (copied) => copied.includes('rs.SetAgentState') && !copied.includes('eyJ'));
  await grace.until('the clipboard', () => grace.page.evaluate(() => navigator.clipboard.readText()), isCopied);
  await grace.page.keyboard.press('Escape');
  await grace.shows('the frames', '.frames', false);
  for (const one of [ada, grace, ann]) {
    await one.isClean((fault) => isNetwork(fault) || fault.includes('400'));
    await one.context.close();
  }
  console.log('ok console: frames');
}

/** The connection breaks, and comes back: no gap, nothing twice, no new page. */
async function staysWhole(ada, ann, line, checks) {
  const words = await ada.texts();
  const both = words.filter((one) => one !== 'Parcel 4711 is lost, be kind');
  const say = async (page, other, said) => {
    await page.say(said);
    words.push(said);
    both.push(said);
    await other.until('the message', async () => (await other.texts()).at(-1), said);
  };
  const { loads } = ada;
  line.cut();
  await ada.line('waiting');
  await ada.until('how long it waits', () => ada.page.textContent('.line-left'), must('the wait', (left) => /^Reconnecting( in \d+s|…)$/.test(left)));
  for (const said of ['while', 'you were', 'away']) {
    await ann.say(said);
    words.push(said);
    both.push(said);
  }
  await ann.complete(...both);
  for (const said of ['I write', 'all the same']) {
    await ada.say(said);
    words.push(said);
    both.push(said);
  }
  await ada.until('what waits', () => ada.page.$$eval('.pending.waiting', (all) => all.length), 2);
  line.mend();
  await ada.page.click('.line button');
  await ada.line('live');
  await ada.complete(...words);
  await ann.complete(...both);

  // What was heard but not answered: the key makes the repeat harmless.
  line.deafen();
  await ada.page.fill('#words', 'Once only');
  await ada.page.press('#words', 'Enter');
  words.push('Once only');
  both.push('Once only');
  await ann.complete(...both);
  checks.match('the message without an answer', await ada.page.$$eval('.pending', (all) => all.length), 1);
  line.cut();
  await ada.line('waiting');
  line.mend();
  await ada.line('live');
  await ada.complete(...words);
  await ada.shows('what waits', '.pending', false);
  await ann.complete(...both);

  await say(ann, ada, 'Still there?');
  await say(ada, ann, 'Of course.');
  checks.match('how often the page was loaded', ada.loads, loads);

  // The customer's line, for as long as the browser says that there is no network.
  await ann.context.setOffline(true);
  await ann.line('waiting');
  await ada.say('In the meantime');
  words.push('In the meantime');
  both.push('In the meantime');
  await ada.complete(...words);
  await ann.context.setOffline(false);
  await ann.line('live');
  await ann.complete(...both);
  await ann.page.reload();
  await ann.complete(...both);
  console.log('ok console: no gap and no repeat over breaks of the line');
}

/** Nothing but keys, from the door to the answer. */
async function worksByKeys(browser, checks) {
  const ada = await Console.open(browser, checks, { agent: 'ada' });
  const bob = await Customer.named(checks, `bob-${randomUUID()}`);
  const { keyboard } = ada.page;
  const focused = () => ada.page.evaluate(() => document.activeElement?.getAttribute('name') ?? document.activeElement?.className ?? '');
  await ada.until('where the focus begins', focused, 'login');
  await keyboard.type('ada');
  await keyboard.press('Tab');
  await keyboard.type('ada-demo');
  await keyboard.press('Enter');
  await ada.line('live');
  /** Goes on by Tab until the focus is there; a focus must be seen. */
  const tabTo = async (what, selector) => {
    for (let steps = 0; steps < 40; steps += 1) {
      await keyboard.press('Tab');
      const [isIt, isSeen] = await ada.page.evaluate((wanted) => {
        const at = document.activeElement;
        return [at.matches(wanted), at === document.body || getComputedStyle(at).outlineStyle !== 'none' || at.closest('.compose:focus-within') !== null];
      }, selector);
      checks.match(`a focus that is seen on the way to ${what}`, isSeen, true);
      if (isIt) return;
    }
    throw new Mismatch(`${what} cannot be reached by Tab`);
  };
  await tabTo('the availability', '.availability select');
  await ada.until('that it may be chosen', () => ada.page.isEnabled('.availability select'), true);
  await keyboard.type('Onl');
  await ada.until('the availability', () => ada.page.getAttribute('.availability', 'data-availability'), 'ONLINE');
  await bob.open({ firstName: 'Bob' });
  await bob.say('Anybody there?');
  await ada.shows('the offer', '.ring');
  await tabTo('the offer', '.accept');
  await keyboard.press('Enter');
  await ada.until('the focus', () => ada.page.evaluate(() => document.activeElement.id), 'words');
  await keyboard.type('Yes, me');
  await keyboard.press('Enter');
  await ada.complete('Anybody there?', 'Yes, me');
  await tabTo('the details', '.conversation-head .details, .details');
  await keyboard.press('Enter');
  await ada.shows('the details', '.details-drawer');
  await keyboard.press('Escape');
  await ada.shows('the details', '.details-drawer', false);
  await keyboard.press('Shift+Tab');
  await keyboard.press('Enter');
  await ada.shows('the question', 'dialog');
  await keyboard.press('Escape');
  await ada.shows('the question', 'dialog', false);
  await ada.until('where the focus returns to', focused, 'close');
  await keyboard.press('Alt+KeyL');
  await ada.until('the list', () => ada.page.evaluate(() => document.activeElement.matches('.entry')), true);
  await keyboard.press('Alt+KeyW');
  await ada.until('the box', () => ada.page.evaluate(() => document.activeElement.id), 'words');
  // By shortcut: the next offer.
  await bob.close();
  const again = await bob.open({});
  await bob.say('One more thing');
  await ada.shows('the offer', '.ring');
  await keyboard.press('Alt+KeyA');
  await ada.until('the conversation', () => ada.page.getAttribute('.entry[aria-current]', 'data-conversation'), again);
  await ada.complete('One more thing');
  await bob.close();
  await ada.until('the end', () => ada.page.textContent('.no-compose'), 'Closed by the customer');
  await ada.available('OFFLINE');
  await ada.isClean();
  await ada.context.close();
  console.log('ok console: by keys alone');
}

/** A phone: one thing at a time, and nothing wider than the screen. */
async function fitsPhone(browser, checks) {
  const phone = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
  const ada = await Console.open(browser, checks, { agent: 'ada', ...phone });
  const ann = await Playground.open(browser, checks, { name: 'ann', ...phone });
  await ada.fits('the door');
  await ann.fits('the start');
  await ada.signIn();
  await ada.available('ONLINE');
  await ann.start();
  await ann.say(`A word without a break: ${'x'.repeat(300)}`);
  await ada.shows('the offer', '.ring');
  await ada.fits('the list');
  await ada.accept();
  await ada.shows('the list', '.sidebar', false);
  await ada.say(`https://example.com/${'y'.repeat(300)}`);
  await ann.until('the answer', async () => (await ann.texts()).length, 2);
  await ada.fits('the conversation');
  await ann.fits('the chat');
  await ada.page.click('.details');
  await ada.shows('the details', '.details-drawer');
  await ada.fits('the details');
  await ada.page.click('.details-drawer header button');
  await ada.page.click('.frames-toggle');
  await ada.fits('the frames');
  await ada.page.click('.frames-toggle');
  await ada.page.click('.transfer');
  await ada.fits('the transfer');
  await ada.page.click('dialog >> text=Cancel');
  await ada.page.click('.back');
  await ada.shows('the list', '.sidebar');
  await ada.shows('the conversation', '.conversation', false);
  await ann.say('Are you still there?');
  await ada.until('the number of unread messages', () => ada.page.textContent('.badge'), '1 unread');
  await ada.until('the title', () => ada.page.title(), '(1) Tieline');
  await ada.page.click('.entry');
  await ada.shows('the conversation', '.conversation');
  await ada.until('the title', () => ada.page.title(), 'Tieline');
  await ann.page.click('text=Inside');
  await ann.fits('the frames');
  await ann.page.click('text=Python');
  await ann.fits('the code');
  await ann.page.click('.narrow-tabs >> text=Chat');
  await ann.page.click('.end');
  await ada.until('the end', () => ada.page.textContent('.no-compose'), 'Closed by the customer');
  await ada.available('OFFLINE');
  for (const one of [ada, ann]) {
    await one.isClean();
    await one.context.close();
  }
  console.log('ok console: a phone');
}

/** What the playground shows as code is a program that runs: it opens, says, reads back and closes. */
async function showsCodeThatRuns(browser, checks) {
  const ann = await Playground.open(browser, checks, { name: 'ann' });
  await ann.start();
  const said = `It's "quoted", $HOME, \`ls\`, \\n & <b>`;
  await ann.say(said);
  await ann.until('the message', async () => (await ann.texts()).at(-1), said);
  for (const [language, command, ...rest] of [['node', process.execPath, '--input-type=module', '-e'], ['python', 'python3', '-c'], ['curl', 'sh', '-c']]) {
    await ann.page.click(`#inside-${language}`);
    await ann.shows('the code', '.step');
    const parts = await ann.page.$$eval('.step pre', (all) => all.map((one) => one.textContent));
    checks.match(`the steps in ${language}`, parts.length, 6);
    const env = { ...process.env, CLIENT_SECRET: DEMO.app.secret };
    const { stdout, stderr } = await promisify(execFile)(command, [...rest, parts.join('\n')], { env });
    checks.match(`what ${language} prints`, stdout, must('the message, its number and the end', (printed) =>
      /"?sequence"?'?: ?1\b/.test(printed) && printed.includes('$HOME') && printed.includes('Conversation resolved successfully')));
    if (language !== 'curl') checks.match(`what ${language} complains about`, stderr, '');
  }
  await ann.page.click('.end');
  await ann.shows('the end', '.again');
  await ann.isClean();
  await ann.context.close();
  console.log('ok console: the code of the playground runs');
}

/** An agent without a page, who says what the console does not offer to say. */
async function agentSocket(checks, login) {
  const answer = await call('POST', `${HTTP}/api/account/${account}/login?v=1.3`, { json: { username: login, password: `${login}-demo` } });
  checks.match(`the login of ${login}`, answer, { status: 200, body: { bearer: text } });
  const inbox = new Inbox(login);
  const socket = new WebSocket(`${HTTP.replace('http', 'ws')}/ws_api/account/${account}/messaging/brand/${answer.body.bearer}?v=3`);
  socket.on('message', (data) => inbox.put(JSON.parse(data.toString())));
  socket.on('close', (code) => inbox.fail(new Mismatch(`${login}: the socket was closed with ${code}`)));
  await new Promise((resolve, reject) => socket.once('open', resolve).on('error', reject));
  let asked = 0;
  const ask = async (type, body) => {
    const id = String((asked += 1));
    socket.send(JSON.stringify({ kind: 'req', id, type, body }));
    const { value } = await inbox.take(`the reply to ${type}`, (frame) => frame.reqId === id);
    checks.match(`the reply to ${type}`, value, { code: must('a success', (code) => code < 300) });
    return value.body;
  };
  return { ask, close: () => socket.close() };
}

/** Everything that rich content can say, made of one text. */
const rich = (said) => ({
  type: 'vertical',
  elements: [
    { type: 'text', text: said, style: { bold: true, color: said }, tooltip: said },
    { type: 'image', url: said, caption: said, tooltip: said },
    { type: 'image', url: 'https://example.com/picture.png', caption: said },
    { type: 'button', title: said, click: { actions: [{ type: 'link', uri: said, name: said }] } },
    { type: 'button', title: said, click: { actions: [{ type: 'link', uri: `javascript:fire('button')//${said}` }] } },
    { type: 'button', title: said, click: { actions: [{ type: 'publishText', text: said }] } },
    { type: 'button', title: said, click: { actions: [{ type: 'navigate', lo: 1, la: 2, name: said }] } },
    { type: said, html: said, dangerouslySetInnerHTML: { __html: said } },
    { type: 'horizontal', elements: [{ type: 'map', lo: 1, la: 2, tooltip: said }, said, null, 7] },
  ],
});

/** What a page holds that a text could only have brought by being taken for markup. */
const strange = () => {
  const links = [...document.querySelectorAll('a')].filter((link) => link.getAttribute('target') && !link.rel.includes('noopener noreferrer'));
  const addresses = [...document.querySelectorAll('[href], [src], [action]')]
    .map((one) => one.getAttribute('href') ?? one.getAttribute('src') ?? one.getAttribute('action'))
    .filter((address) => !/^(https?:\/\/|blob:|\.\/$|playground$|(icon\.svg|console\.css|theme\.js|app\.js|playground\.js)$)/.test(address));
  const elements = [...document.querySelectorAll('#app :is(script, style, iframe, object, embed, svg, math, base, meta, link, video, audio, template, marquee, noscript)')];
  const attributes = [...document.querySelectorAll('#app *')].flatMap((one) => one.getAttributeNames().filter((name) => /^on|^style$|^srcdoc$/.test(name)));
  return [...links, ...elements].map((one) => one.outerHTML.slice(0, 200)).concat(addresses, attributes);
};

/** Whoever writes, and wherever it is shown, a text is a text. */
async function showsTextAsText(browser, checks) {
  checks.match('the number of payloads', payloads.length, atLeast(40));
  const ada = await agentSocket(checks, 'ada');
  const mallory = await Customer.named(checks, `ann-${randomUUID()}`);
  const grace = await Console.open(browser, checks, { agent: 'grace' });
  await grace.signIn();
  // Each payload in each field that a customer can fill, in conversations of few messages, so that all are in the page at once.
  let shown = 0;
  const look = async (what) => {
    checks.match(`what ${what} has made of texts`, await grace.page.evaluate(strange), exactly([]));
    await grace.isClean();
  };
  const size = 10;
  for (let first = 0; first < payloads.length; first += size) {
    const some = payloads.slice(first, first + size);
    const profile = { firstName: some[0], lastName: some.at(-1), ...Object.fromEntries(some.map((said, place) => [`field ${place} ${said}`, said])) };
    const id = await mallory.open(profile, {
      conversationContext: { type: 'CustomContext', subject: some[1], ...Object.fromEntries(some.map((said, place) => [`${place} ${said}`, said])) },
      campaignInfo: { campaignId: some[2], engagementId: some[3] },
    });
    await ada.ask('cm.UpdateConversationField', { conversationId: id, conversationField: [{ field: 'ParticipantsChange', type: 'ADD', role: 'ASSIGNED_AGENT' }] });
    for (const said of some) {
      await mallory.say(said);
      await mallory.publish({ type: 'RichContentEvent', content: rich(said) });
      await mallory.publish({ type: 'ContentEvent', contentType: 'text/plain', message: 'choose', quickReplies: { type: 'quickReplies', replies: [{ type: 'button', title: said, click: { actions: [{ type: 'publishText', text: said }] } }] } });
      await ada.ask('ms.PublishEvent', { dialogId: id, messageAudience: 'AGENTS_AND_MANAGERS', event: { type: 'ContentEvent', contentType: 'text/plain', message: said } });
    }
    await mallory.show(PIXEL, 'PNG', { caption: some[4], preview: `data:image/svg+xml,${some[5]}`, fileType: some[6] });
    // A manager may read every profile, and so sees it where the agent who answers does.
    await ada.ask('cm.UpdateConversationField', { conversationId: id, conversationField: [{ field: 'ParticipantsChange', type: 'ADD', role: 'MANAGER', userId: '1002' }] });
    await grace.page.click('#tab-mine');
    await grace.page.click(`[data-conversation="${id}"]`);
    await grace.until('the last message', async () => (await grace.texts()).at(-1), some[4]);
    await grace.shows('the picture', '.preview img');
    const texts = await grace.page.$$eval('.row .bubble', (rows) => rows.map((row) => row.textContent));
    for (const said of some) {
      const places = texts.filter((one) => one.includes(said.replaceAll('\r', '')) || one.includes(JSON.stringify(said).slice(1, -1)));
      checks.match(`how often ${JSON.stringify(said)} is shown`, places.length, atLeast(4));
      shown += places.length;
    }
    if ((await grace.page.getAttribute('.details', 'aria-expanded')) === 'false') await grace.page.click('.details');
    const name = `${some[0].trim()} ${some.at(-1).trim()}`.slice(0, 120);
    await grace.until('the name', () => grace.page.textContent('#conversation-name'), must(name, (value) => value.trim() === name.trim()));
    const facts = await grace.page.textContent('.details-drawer');
    for (const said of some) checks.match(`${JSON.stringify(said)} among the details`, facts.includes(said), true);
    await grace.page.click('.frames-toggle');
    await grace.shows('the frames', '.frames li');
    await grace.page.$$eval('.frames details', (all) => all.forEach((one) => (one.open = true)));
    await look('the console');
    await grace.page.click('.frames-toggle');
    await mallory.close();
    await grace.until('the end', () => grace.page.isVisible('.no-compose'), true);
    await grace.page.click('#tab-queue');
  }
  checks.match('how often payloads were shown', shown, atLeast(payloads.length * 4));

  // The other way: what an agent's program says to a customer in the playground, who is called like a payload too.
  const ann = await Playground.open(browser, checks, { name: 'ann' });
  await ann.page.fill('[name=name]', payloads[9]);
  await ann.page.click('button.primary');
  await ann.shows('the box', '#words');
  await ann.page.click('#inside-curl');
  const id = await ann.page.textContent('.code .id');
  await ada.ask('cm.UpdateConversationField', { conversationId: id, conversationField: [{ field: 'ParticipantsChange', type: 'ADD', role: 'ASSIGNED_AGENT' }] });
  for (let first = 0; first < payloads.length; first += 40) {
    for (const said of payloads.slice(first, first + 40)) {
      await ada.ask('ms.PublishEvent', { dialogId: id, event: { type: 'ContentEvent', contentType: 'text/plain', message: said } });
      await ada.ask('ms.PublishEvent', { dialogId: id, event: { type: 'RichContentEvent', content: rich(said) } });
    }
    await ann.until('the last', async () => (await ann.texts()).at(-1), payloads.slice(first, first + 40).at(-1));
    checks.match('what the playground has made of texts', await ann.page.evaluate(strange), exactly([]));
  }
  for (const said of payloads.slice(0, 12)) {
    await ann.say(said);
    await ann.until('what the customer says', async () => (await ann.texts()).at(-1), said);
  }
  for (const language of ['curl', 'python', 'node', 'frames']) {
    await ann.page.click(`#inside-${language}`);
    await ann.shows(language, language === 'frames' ? '.frames li' : '.step');
    checks.match(`what ${language} has made of texts`, await ann.page.evaluate(strange), exactly([]));
  }
  await ann.page.click('.end');
  await ann.until('the end', () => ann.page.isVisible('.again'), true);
  for (const one of [grace, ann]) {
    await one.isClean();
    await one.context.close();
  }
  ada.close();
  // The hooks themselves: they catch what they are there for, where the policy does not stand in the way.
  const trap = await Page.open(browser, checks, { name: 'the trap', path: '', bypassCSP: true });
  await trap.page.evaluate(() => document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="fire(1)">'));
  await trap.until('what fires', () => trap.page.evaluate(() => window.fired), ['1']);
  await trap.context.close();
  const policy = await Page.open(browser, checks, { name: 'the policy', path: '' });
  await policy.page.evaluate(() => {
    const script = document.createElement('script');
    try {
      script.text = 'fire(2)';
    } catch {
      // Trusted types forbid it.
    }
    document.body.append(script);
  });
  await policy.until('what is forbidden', async () => (await policy.page.evaluate(() => window.forbidden)).length, atLeast(1));
  checks.match('what fires under the policy', await policy.page.evaluate(() => window.fired), exactly([]));
  await policy.context.close();
  console.log(`ok console: ${payloads.length} payloads in every field are texts`);
}

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** No barrier that axe knows as serious or critical, in light and in dark. */
async function isAccessible(browser, checks) {
  const judge = async (one, what) => {
    for (const colorScheme of ['light', 'dark']) {
      await one.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await one.until('the theme', () => one.page.evaluate(() => document.documentElement.dataset.theme), colorScheme);
      await one.page.evaluate(`window.axe ?? (() => {${AXE}})()`);
      const found = await one.page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
      const grave = found.violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
        .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 140)} ${failureSummary}`).join('; ').slice(0, 800)}`);
      checks.match(`barriers in ${what}, ${colorScheme}`, grave, exactly([]));
      checks.match(`what axe has looked at in ${what}`, found.passes.length, atLeast(5));
    }
  };
  const ada = await Console.open(browser, checks, { agent: 'ada' });
  const ann = await Playground.open(browser, checks, { name: 'ann' });
  await judge(ada, 'the door');
  await judge(ann, 'the start');
  await ada.page.click('button.primary');
  await ada.page.fill('[name=login]', 'ada');
  await ada.page.fill('[name=password]', 'wrong');
  await ada.page.click('button.primary');
  await ada.shows('the fault', '.door .fault');
  await judge(ada, 'the door after a wrong password');
  ada.faults.splice(0);
  await ada.signIn();
  await judge(ada, 'the empty console');
  await ada.available('ONLINE');
  await ann.start();
  await judge(ann, 'the empty chat');
  await ann.say('Hello, see https://example.com/ please');
  await ada.shows('the offer', '.ring');
  await judge(ada, 'an offer');
  await ada.accept();
  await ada.say('Hello Ann');
  await ada.page.check('.note-switch');
  await judge(ada, 'the box for a note');
  await ada.say('A note');
  await ada.page.setInputFiles('#file', { name: 'pixel.png', mimeType: 'image/png', buffer: PIXEL });
  await ada.shows('the picture', '.note .preview img');
  await ada.page.uncheck('.note-switch');
  await ada.page.setInputFiles('#file', { name: 'page.html', mimeType: 'text/html', buffer: Buffer.from('<p>') });
  await ada.shows('the fault', '.pending.failed');
  await judge(ada, 'a conversation');
  await ada.page.click('.details');
  await judge(ada, 'the details');
  await ada.page.click('.frames-toggle');
  await judge(ada, 'the frames');
  await ada.page.click('.frames-toggle');
  await ada.page.click('.transfer');
  await judge(ada, 'the transfer to a queue');
  await ada.page.check('dialog [value=agent]');
  await judge(ada, 'the transfer to an agent');
  await ada.page.click('dialog >> text=Cancel');
  await ada.page.click('.conversation-head .close');
  await judge(ada, 'the close');
  await judge(ann, 'the chat and the frames');
  for (const language of ['curl', 'python', 'node']) {
    await ann.page.click(`#inside-${language}`);
    await judge(ann, `the code in ${language}`);
  }
  await ada.page.click('dialog .confirm');
  await ada.shows('the end', '.no-compose');
  await judge(ada, 'a closed conversation');
  await ann.shows('the end', '.again');
  await judge(ann, 'a chat that has ended');
  // By hand, and kept.
  await ada.page.emulateMedia({ colorScheme: 'light' });
  const theme = () => ada.page.evaluate(() => document.documentElement.dataset.theme);
  await ada.until('the theme', theme, 'light');
  await ada.page.click('.theme');
  await ada.until('the theme', theme, 'dark');
  await ada.page.click('.pending >> text=Discard');
  await ada.page.reload();
  await ada.until('the theme', theme, 'dark');
  await ada.line('live');
  await ada.available('OFFLINE');
  for (const one of [ada, ann]) {
    await one.isClean((fault) => fault.includes('401'));
    await one.context.close();
  }
  console.log('ok console: no barriers that axe knows');
}

main('console', async (checks) => {
  const browser = await launch();
  const parts = { signsIn, refreshes, heedsCloseCodes, converses, worksByKeys, fitsPhone, showsCodeThatRuns, showsTextAsText, isAccessible };
  const wanted = process.argv.slice(2);
  for (const [name, part] of Object.entries(parts)) if (wanted.length === 0 || wanted.includes(name)) await part(browser, checks);
  await browser.close();
}, { deadline: RUN_DEADLINE });
