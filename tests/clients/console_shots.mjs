// Pictures of the console and the playground for the documentation, of one short conversation.
//
//   TIELINE_HTTP=http://127.0.0.1:8080 node console_shots.mjs [folder]
//
// Without a folder they go to docs/images. The gateway has the demo account and no conversations: the pictures show all
// there are. The clock of the pages stands still, so that only what is drawn otherwise makes another picture.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Console, Customer, Playground, launch } from './console_page.mjs';
import harness from './harness.cjs';

const { main } = harness;

const FOLDER = process.argv[2] ?? fileURLToPath(new URL('../../docs/images', import.meta.url));
const RUN_DEADLINE = 120_000;
/** What all clocks on the pictures show. */
const MORNING = Date.UTC(2026, 8, 14, 9, 30);

/** Times and ids differ from run to run; what is said does not. Each is written over with one that stays. */
async function settle(morning) {
  document.activeElement?.blur();
  // What is drawn by the clock is not drawn again.
  for (let last = setInterval(() => {}, 1e6); last > 0; last -= 1) clearInterval(last);
  for (let frames = 0; frames < 3; frames += 1) await new Promise(requestAnimationFrame);
  const minutes = [...document.querySelectorAll('.row time')];
  const clock = (at) => new Date(at).toISOString().slice(11, 16);
  minutes.forEach((time, place) => (time.textContent = clock(morning + Math.floor(place / 2) * 60_000)));
  document.querySelectorAll('.day span').forEach((one) => (one.textContent = 'Mon, 14 Sept 2026'));
  document.querySelectorAll('.entry time').forEach((time) => (time.textContent = clock(morning + 180_000)));
  document.querySelectorAll('.wait').forEach((wait, place) => (wait.textContent = ['1m 12s', '38s', '24s'][place] ?? '10s'));
  document.querySelectorAll('.countdown').forEach((one) => {
    one.querySelector('.left').textContent = '64 s';
    one.querySelector('progress').value = one.querySelector('progress').max * 0.89;
  });
  document.querySelectorAll('.avatar').forEach((one) => {
    const isKnown = one.textContent.length === 1;
    one.className = `avatar tone-${isKnown ? 2 : 5}`;
    if (!isKnown) one.textContent = 'C3';
  });
  const ids = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
  const walker = document.createTreeWalker(document.getElementById('app'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { data } = walker.currentNode;
    const next = data.replace(ids, '9c166cba-3c51-4e0f-9f2d-0d6c5b1a7e42').replace(/[0-9a-f]{64}/g, '7ae7a4c1'.repeat(8))
      .replace(/http:\/\/127\.0\.0\.1:\d+/g, 'http://127.0.0.1:8080').replace(/\b\d{13}\b/g, String(morning))
      .replace(/Customer [0-9a-f]{6}/g, 'Customer 3f9a1c').replace(/\b\d\d:\d\d:\d\d\b/g, '09:30:00');
    if (next !== data) walker.currentNode.data = next;
  }
  for (const fact of document.querySelectorAll('dt')) {
    if (['Began', 'Answer due'].includes(fact.textContent)) fact.nextElementSibling.textContent = 'Mon, 14 Sept 2026, 09:30';
  }
  const scroller = document.querySelector('.scroller');
  if (scroller) scroller.scrollTop = scroller.scrollHeight;
  const frames = document.querySelector('.frames-list');
  if (frames) frames.scrollTop = 0;
}

main('console_shots', async (checks) => {
  await mkdir(FOLDER, { recursive: true });
  const browser = await launch();
  const light = { reducedMotion: 'reduce', timezoneId: 'UTC', colorScheme: 'light' };
  const ada = await Console.open(browser, checks, { agent: 'ada', ...light });
  const ann = await Playground.open(browser, checks, { name: 'ann', ...light });
  const shot = async (one, name, { colorScheme = 'light' } = {}) => {
    await one.page.emulateMedia({ colorScheme });
    await one.until('the theme', () => one.page.evaluate(() => document.documentElement.dataset.theme), colorScheme);
    await one.page.evaluate(settle, MORNING);
    await one.page.screenshot({ path: join(FOLDER, `${name}.png`), animations: 'disabled', caret: 'hide' });
    console.log(`${name}.png`);
  };
  await ada.signIn();
  await ada.available('ONLINE');
  await ann.start();
  await ann.say('Good morning! My parcel was to come on Friday, and it is still on its way.');
  await ada.accept();
  await ada.until('the name', () => ada.page.textContent('#conversation-name'), 'Ann');
  const answer = async (words) => {
    await ada.say(words);
    await ann.until('the answer', async () => (await ann.texts()).at(-1), words);
    await ada.until('the receipt', () => ada.page.$$eval('.row.own .receipt', (all) => all.at(-1).textContent), ' · Read');
  };
  const ask = async (words) => {
    await ann.say(words);
    await ada.until('the question', async () => (await ada.texts()).at(-1), words);
    await ann.until('the receipt', () => ann.page.$$eval('.row.own .receipt', (all) => all.at(-1).textContent), ' · Read');
  };
  await answer('Good morning Ann, I am Ada. I am sorry to hear that. What is the number of the order?');
  await ask('It is 4711.');
  await ada.page.check('.note-switch');
  await ada.say('4711 left the depot this morning. If it is not there by Thursday, send it anew.');
  await ada.shows('the note', '.row.note[data-sequence]');
  await ada.page.uncheck('.note-switch');
  await answer('Thank you. It left the depot this morning and comes tomorrow before noon.');
  await ask('That is fine, thank you! Can I have it left with a neighbour?');

  // Others, so that there is something to see beside it.
  const bob = await Customer.named(checks, 'bob');
  await bob.open({ firstName: 'Bob' });
  await bob.say('Is the invoice for September wrong, or am I?');
  await ada.shows('the offer', '.ring');
  await ada.until('his name', () => ada.page.textContent('.ring b'), (name) => name.length > 0);
  await ada.page.click('.details');
  await ada.shows('the details', '.details-drawer');
  await ann.page.focus('#words');
  await ann.page.keyboard.type('…');
  await ada.shows('that the customer types', '.typing .dots');
  await shot(ada, 'console');
  await shot(ada, 'console-dark', { colorScheme: 'dark' });
  await ann.page.fill('#words', '');
  await ada.shows('that the customer types', '.typing .dots', false);
  await answer('Yes: I have written it on the parcel’s card.');
  await shot(ann, 'playground');
  await ann.page.click('#inside-python');
  await ann.shows('the code', '.step');
  await shot(ann, 'playground-code', { colorScheme: 'dark' });

  const phone = await Console.open(browser, checks, { agent: 'ada', ...light, viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  await phone.signIn();
  await phone.shows('the offer', '.ring');
  await phone.shows('the conversation', '.entry');
  await phone.until('the name', () => phone.page.textContent('.entry b'), 'Ann');
  await shot(phone, 'console-phone-list');
  await phone.page.click('.entry');
  await phone.until('the messages', async () => (await phone.texts()).length, 7);
  await shot(phone, 'console-phone');
  for (const one of [ada, ann, phone]) await one.isClean();
  await browser.close();
}, { deadline: RUN_DEADLINE });
