// A customer's chat in a web page, as web samples for this protocol are written: lookup and sign-up by script tags, the
// token read with plain `atob`, one socket without headers, and the decision after a second whether to open a conversation.
//
//   web_chat.html?server=127.0.0.1:8080&account=demo&skill=77
//
// `tls` asks for https and wss, `survey` for a survey behind the conversation, `files` for a button that sends a drawing.

const query = new URLSearchParams(location.search);
const ACCOUNT = query.get('account') ?? 'demo';
const IS_TLS = query.has('tls');
const WANTS_SURVEY = query.has('survey');
const HTTP = IS_TLS ? 'https' : 'http';

/** Where the token is kept, so that a reload goes on as the same person. */
const TOKEN = 'chat.token';
/** By then the server has said which conversations are open. */
const DECISION = 1000;
/** How often the clock is asked for. No answer by the next time means that the connection is gone. */
const CLOCK = 3000;
/** The clock is asked for with the same id each time. */
const CLOCK_ID = 1;
/** How long after the last key somebody still counts as typing. */
const TYPING = 3000;
/** Waits before each further attempt to connect. */
const PAUSES = [1000, 2000, 5000, 10_000];

let callbacks = 0;

/** Calls another origin by a script tag, and gives what the script calls back with. */
function jsonp(url, parameter) {
  callbacks += 1;
  const name = `chatCallback${callbacks}`;
  const script = document.createElement('script');
  return new Promise((resolve, reject) => {
    window[name] = resolve;
    script.addEventListener('load', () => reject(new Error(`${url} does not call back`)));
    script.addEventListener('error', () => reject(new Error(`${url} cannot be loaded`)));
    script.src = `${url}${url.includes('?') ? '&' : '?'}${parameter}=${name}`;
    document.head.append(script);
  }).finally(() => {
    script.remove();
    delete window[name];
  });
}

/** Host and port of a service. */
async function lookUp(service) {
  const url = `${HTTP}://${query.get('server')}/csdr/account/${ACCOUNT}/service/${service}/baseURI.lpCsds?version=1.0`;
  const answer = await jsonp(url, 'cb');
  return answer.ResultSet.lpData[0].lpServer;
}

/** A socket with requests and their answers. */
class Connection {
  #socket;
  #waiting = new Map();
  #asked = 0;
  #clock;
  #ended;

  /** `opened` is called once, `notified` for each notification, `ended` once with the code of the close. */
  constructor(url, { opened, notified, ended }) {
    this.#ended = ended;
    this.#socket = new WebSocket(url);
    this.#socket.addEventListener('open', () => {
      this.#clock = setInterval(() => this.#askClock(), CLOCK);
      opened();
    });
    this.#socket.addEventListener('message', ({ data }) => this.#take(JSON.parse(data), notified));
    this.#socket.addEventListener('close', ({ code }) => this.end(code));
  }

  request(type, body, rest = {}) {
    this.#asked += 1;
    // Ids are the client's to choose: numbers, and texts of any form.
    const id = this.#asked % 2 ? `${this.#asked},` : 100 + this.#asked;
    return this.#send(id, { type, body, ...rest });
  }

  /** While the other side closes it, it takes nothing more, though its end is still to come. */
  get isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** Ends it, once. An end that the page decides is not waited for: the other side may not hear of it. */
  end(code) {
    if (!this.#ended) return;
    const ended = this.#ended;
    this.#ended = null;
    clearInterval(this.#clock);
    this.#socket.close();
    for (const { reject } of this.#waiting.values()) reject(new Error('the connection has ended'));
    ended(code);
  }

  #askClock() {
    if (this.#waiting.has(String(CLOCK_ID))) this.end(1006);
    else this.#send(CLOCK_ID, { type: 'GetClock' }).catch(() => {});
  }

  #send(id, rest) {
    if (!this.isOpen) return Promise.reject(new Error('the connection is closing'));
    return new Promise((resolve, reject) => {
      this.#waiting.set(String(id), { resolve, reject });
      this.#socket.send(JSON.stringify({ kind: 'req', id, ...rest }));
    });
  }

  #take(frame, notified) {
    // What an abandoned socket still brings comes again over the next one.
    if (!this.#ended) return;
    if (frame.kind === 'notification') {
      notified(frame.type, frame.body);
      return;
    }
    const waiting = this.#waiting.get(frame.reqId);
    if (!waiting) throw new Error(`an answer with the unknown reqId ${JSON.stringify(frame.reqId)}`);
    this.#waiting.delete(frame.reqId);
    if (frame.code > 399) waiting.reject(new Error(`${frame.code} ${frame.body}`));
    else waiting.resolve(frame.body);
  }
}

const at = (id) => document.getElementById(id);

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  // Never as markup: what people write is shown as they wrote it.
  if (text !== undefined) made.textContent = text;
  return made;
}

/** What is on the page. It knows nothing of the protocol but the form of contents. */
class View {
  state(state, words) {
    at('status').dataset.state = state;
    at('status').textContent = words;
    this.#allow();
  }

  /** Which of the controls make sense now. */
  phase(phase) {
    const isOpen = phase === 'open' || phase === 'survey';
    at('say').hidden = !isOpen;
    at('end').hidden = !isOpen;
    at('again').hidden = phase !== 'ended';
    at('rating').hidden = phase === 'none';
    at('log').dataset.phase = phase;
    if (!isOpen) this.typing(false);
    this.#allow();
  }

  #allow() {
    const isOnline = at('status').dataset.state === 'online';
    for (const control of document.querySelectorAll('button, #words')) control.disabled = !isOnline;
  }

  clear() {
    at('log').replaceChildren();
    at('rated').textContent = '';
  }

  note(text) {
    this.#append(element('li', 'note', text));
  }

  #append(item) {
    at('log').append(item);
    at('log').scrollTop = at('log').scrollHeight;
  }

  typing(isTyping) {
    at('typing').hidden = !isTyping;
  }

  rated(rate) {
    at('rated').textContent = `You gave ${rate} of 5`;
  }

  /** A message: text, a file or a card; `press` is called for what can be pressed on it. */
  message({ sequence, dialogType, isOwn, event, question }, { press, download }) {
    for (const old of document.querySelectorAll('.replies')) old.remove();
    const item = element('li', 'message');
    Object.assign(item.dataset, { sequence, dialogType, from: isOwn ? 'own' : 'agent' });
    if (question && !isOwn) item.dataset.question = question;
    if (event.type === 'RichContentEvent') {
      const card = element('div', 'card');
      card.append(...this.#part(event.content, press));
      item.append(card);
    } else if (event.contentType === 'hosted/file') {
      item.append(this.#file(event.message, download));
    } else {
      const words = element('p', 'text', event.message);
      words.dir = 'auto';
      item.append(words);
    }
    if (event.quickReplies && !isOwn) {
      const replies = element('div', 'replies');
      replies.append(...event.quickReplies.replies.flatMap((reply) => this.#part(reply, press)));
      item.append(replies);
    }
    if (isOwn) item.append(element('span', 'receipt', 'Sent'));
    this.#append(item);
  }

  /** The elements of rich content that we know; others are left out. */
  #part(part, press) {
    if (['vertical', 'horizontal', 'carousel', 'list'].includes(part.type)) {
      const group = element('div', part.type);
      group.append(...(part.elements ?? []).flatMap((inner) => this.#part(inner, press)));
      return [group];
    }
    if (part.type === 'text') return [element('p', '', part.text)];
    if (part.type === 'image' && /^(https|data):/.test(part.url)) {
      const image = element('img');
      image.alt = part.caption ?? part.tooltip ?? '';
      image.src = part.url;
      return [image];
    }
    if (part.type !== 'button') return [];
    const button = element('button', '', part.title);
    button.title = part.tooltip ?? part.title;
    button.addEventListener('click', () => press(part.click ?? {}));
    return [button];
  }

  #file({ caption, preview }, download) {
    const figure = element('figure');
    const image = element('img');
    image.alt = caption;
    if (preview?.startsWith('data:image/')) image.src = preview;
    const button = element('button', 'download', 'Download');
    button.addEventListener('click', async () => {
      image.src = URL.createObjectURL(await download());
      figure.dataset.state = 'downloaded';
    });
    figure.append(image, element('figcaption', '', caption), button);
    return figure;
  }

  receipt(dialogType, sequence, text) {
    const found = document.querySelector(`.message[data-dialog-type="${dialogType}"][data-sequence="${sequence}"] .receipt`);
    // What was read is not shown as merely delivered again.
    if (found && found.textContent !== 'Read') found.textContent = text;
  }
}

const RECEIPTS = { ACCEPT: 'Delivered', READ: 'Read' };
const CLOSERS = { AGENT: 'The agent has', CONSUMER: 'You have', SYSTEM: 'The system has', TIMEOUT: 'A timeout has' };

/** One person's chat over as many connections as it takes. */
class Chat {
  #view;
  #services;
  #me;
  #connection;
  #subscription;
  #attempts = 0;
  #retry;
  /** Whether the token was never accepted yet. If such a one is refused, the next may fare no better. */
  #isFresh = false;
  /** The conversation on the page: its last known state and its dialogs by id. */
  #conversation;
  #typing;

  constructor(view) {
    this.#view = view;
    view.phase('none');
  }

  /** Connects; with a token if there is none yet. */
  async connect() {
    clearTimeout(this.#retry);
    if (this.#connection) return;
    this.#view.state('connecting', 'Connecting …');
    try {
      const url = await this.#address();
      // Another attempt may have got so far meanwhile.
      if (this.#connection || !navigator.onLine) return;
      const connection = new Connection(url, {
        opened: () => this.#greet(connection),
        notified: (type, body) => this.#notified(type, body),
        ended: (code) => this.#ended(code),
      });
      this.#connection = connection;
    } catch (error) {
      this.#later(error.message);
    }
  }

  async #address() {
    this.#services ??= Object.fromEntries(
      await Promise.all(['idp', 'asyncMessagingEnt', 'swift'].map(async (service) => [service, await lookUp(service)])),
    );
    if (!sessionStorage.getItem(TOKEN)) {
      const { jwt } = await jsonp(`${HTTP}://${this.#services.idp}/api/account/${ACCOUNT}/signup.jsonp`, 'callback');
      sessionStorage.setItem(TOKEN, jwt);
      this.#isFresh = true;
    }
    this.#me = JSON.parse(atob(sessionStorage.getItem(TOKEN).split('.')[1])).sub;
    return `${IS_TLS ? 'wss' : 'ws'}://${this.#services.asyncMessagingEnt}/ws_api/account/${ACCOUNT}/messaging/consumer?v=3`;
  }

  /** Says who we are and asks for our conversations, without waiting in between. */
  #greet(connection) {
    this.#subscription = null;
    for (const dialog of this.#conversation?.dialogs.values() ?? []) dialog.isFollowed = false;
    if (this.#conversation) this.#conversation.isSeen = false;
    const features = WANTS_SURVEY ? ['MULTI_DIALOG', 'RICH_CONTENT', 'AUTO_MESSAGES'] : ['RICH_CONTENT', 'AUTO_MESSAGES'];
    const headers = [
      { type: '.ams.headers.ClientProperties', deviceFamily: 'DESKTOP', os: 'LINUX', integration: 'WEB_SDK', features },
      { type: '.ams.headers.ConsumerAuthentication', jwt: sessionStorage.getItem(TOKEN) },
    ];
    const initialized = connection.request('InitConnection', {}, { headers });
    // While a survey runs, the conversation is closed and its container is not.
    const open = WANTS_SURVEY ? { stage: ['OPEN'] } : { convState: ['OPEN'] };
    const subscribed = connection.request('cqm.SubscribeExConversations', open);
    Promise.all([initialized, subscribed]).then(
      ([words, { subscriptionId }]) => {
        if (words !== 'Connection initialized successfully') throw new Error(`InitConnection is answered with ${words}`);
        this.#subscription = subscriptionId;
        this.#attempts = 0;
        this.#isFresh = false;
        this.#view.state('online', 'Online');
      },
      () => {},
    );
    setTimeout(() => connection === this.#connection && connection.isOpen && this.#decide(), DECISION);
  }

  #decide() {
    const conversation = this.#conversation;
    if (!conversation) this.open();
    else if (!conversation.isSeen && !conversation.isOver) this.#endedMeanwhile(conversation);
  }

  /** It ended while we were away; what was said until then is still to be had. */
  #endedMeanwhile(conversation) {
    for (const dialog of conversation.dialogs.values()) this.#follow(conversation, dialog);
    this.#over('The conversation has ended');
  }

  async #try(what, request) {
    try {
      return await request;
    } catch (error) {
      this.#view.note(`${what}: ${error.message}`);
      return null;
    }
  }

  open() {
    const skillId = query.get('skill');
    const request = this.#connection.request('cm.ConsumerRequestConversation', skillId ? { skillId } : {});
    return this.#try('The conversation cannot be opened', request);
  }

  #ended(code) {
    this.#connection = null;
    this.#view.typing(false);
    at('status').dataset.closed = code;
    if (!navigator.onLine) {
      this.#view.state('offline', 'You are offline');
    } else if (code === 4401) {
      // The token is no longer good, so we are somebody new.
      sessionStorage.removeItem(TOKEN);
      this.#conversation = null;
      this.#view.clear();
      this.#view.phase('none');
      if (this.#isFresh) this.#later('The sign-in is refused');
      else this.connect();
    } else {
      this.#later('The connection is lost');
    }
  }

  #later(reason) {
    this.#view.state('waiting', `${reason}; trying again …`);
    this.#retry = setTimeout(() => this.connect(), PAUSES[Math.min(this.#attempts, PAUSES.length - 1)]);
    this.#attempts += 1;
  }

  /** The browser knows that there is no network, long before the socket does. */
  offline() {
    clearTimeout(this.#retry);
    this.#view.state('offline', 'You are offline');
    this.#connection?.end(1006);
  }

  #notified(type, { subscriptionId, changes }) {
    if (!Array.isArray(changes)) throw new Error(`${type} without an array of changes`);
    if (type === 'cqm.ExConversationChangeNotification') {
      if (subscriptionId !== this.#subscription) throw new Error(`${type} for the unknown subscription ${subscriptionId}`);
      for (const change of changes) this.#conversationChanged(change);
    } else if (type === 'ms.MessagingEventNotification') {
      for (const change of changes) this.#event(change);
      this.#acknowledge();
    }
  }

  #conversationChanged({ type, result }) {
    const details = result.conversationDetails;
    const isOver = details.stage === 'CLOSE' || (type === 'DELETE' && !WANTS_SURVEY);
    if (!this.#conversation || this.#conversation.id !== result.convId) {
      // One that is open takes the place of one that is over, and of nothing else.
      if (isOver || (this.#conversation && !this.#conversation.isOver)) return;
      this.#conversation = { id: result.convId, dialogs: new Map(), updated: 0 };
      this.#view.clear();
      this.#view.note('Welcome. Write to us; an agent will be with you soon.');
    }
    const conversation = this.#conversation;
    if (details.metaDataLastUpdateTs < conversation.updated) return;
    conversation.updated = details.metaDataLastUpdateTs;
    conversation.isSeen = true;
    for (const dialog of details.dialogs) this.#dialogChanged(conversation, dialog);
    this.#agentChanged(conversation, details.participants.find(({ role }) => role === 'ASSIGNED_AGENT')?.id);
    const rate = details.csat?.csatRate ?? details.csatRate;
    if (rate) this.#view.rated(rate);
    if (isOver) this.#over(`${CLOSERS[details.closeReason] ?? 'Somebody has'} ended the conversation`);
    else this.#view.phase(details.state === 'OPEN' ? 'open' : 'survey');
  }

  #dialogChanged(conversation, { dialogId, dialogType, state }) {
    const known = conversation.dialogs.get(dialogId) ?? { dialogId, dialogType, next: 0, read: new Set(), unread: new Set() };
    conversation.dialogs.set(dialogId, known);
    if (dialogType === 'POST_SURVEY' && !known.state) this.#view.note('A few questions, if you have a moment:');
    known.state = state;
    if (!known.isFollowed && !conversation.isOver) this.#follow(conversation, known);
  }

  #follow(conversation, dialog) {
    dialog.isFollowed = true;
    const { dialogId, next: fromSeq } = dialog;
    // A dialog that is not the first can only be found with its conversation.
    const place = dialogId === conversation.id ? { dialogId } : { dialogId, conversationId: conversation.id };
    this.#try('The messages cannot be had', this.#connection.request('ms.SubscribeMessagingEvents', { ...place, fromSeq }));
  }

  #agentChanged(conversation, agent) {
    if (agent === conversation.agent) return;
    if (!agent) this.#view.note('The agent has left');
    else this.#view.note(conversation.hadAgent ? 'Another agent has joined' : 'An agent has joined');
    conversation.agent = agent;
    conversation.hadAgent ||= Boolean(agent);
  }

  #over(words) {
    if (this.#conversation.isOver) return;
    this.#conversation.isOver = true;
    this.#view.phase('ended');
    this.#view.note(words);
  }

  #event({ dialogId, sequence, originatorId, event, metadata }) {
    const dialog = this.#conversation.dialogs.get(dialogId);
    if (!dialog) return;
    const isOwn = originatorId === this.#me;
    if (event.type === 'ChatStateEvent') {
      if (!isOwn) this.#view.typing(event.chatState === 'COMPOSING');
      return;
    }
    if (sequence < dialog.next) {
      // Shown already. It is counted, for whoever tests the server.
      at('log').dataset.repeats = Number(at('log').dataset.repeats ?? 0) + 1;
      return;
    }
    dialog.next = sequence + 1;
    if (event.type === 'AcceptStatusEvent') {
      for (const seen of event.sequenceList) {
        if (isOwn) dialog.read.add(seen);
        else if (RECEIPTS[event.status]) this.#view.receipt(dialog.dialogType, seen, RECEIPTS[event.status]);
      }
      return;
    }
    if (!isOwn) {
      dialog.unread.add(sequence);
      this.#view.typing(false);
    }
    const question = metadata?.find(({ type }) => type === 'Question')?.questionId;
    this.#view.message({ sequence, dialogType: dialog.dialogType, isOwn, event, question }, {
      press: (click) => this.#press(dialog, sequence, click),
      download: () => this.#download(event.message.relativePath),
    });
  }

  /** Tells the agent what has been read, which the replay may say has been told before. */
  #acknowledge() {
    for (const dialog of this.#conversation?.dialogs.values() ?? []) {
      const sequenceList = [...dialog.unread].filter((sequence) => !dialog.read.has(sequence));
      dialog.unread.clear();
      if (sequenceList.length > 0) {
        this.#try('The receipt is not accepted', this.#publish(dialog, { type: 'AcceptStatusEvent', status: 'READ', sequenceList }));
      }
    }
  }

  #publish({ dialogId }, event, metadata) {
    const conversationId = this.#conversation.id;
    return this.#connection.request('ms.PublishEvent', { dialogId, conversationId, event }, metadata?.length ? { metadata } : {});
  }

  /** The dialog that is written into: the survey while it runs. */
  get #writable() {
    const open = [...this.#conversation.dialogs.values()].filter(({ state }) => state === 'OPEN');
    return open.find(({ dialogType }) => dialogType === 'POST_SURVEY') ?? open[0];
  }

  async #press(dialog, sequence, { actions = [], metadata }) {
    const action = { type: 'AcceptStatusEvent', status: 'ACTION', sequenceList: [sequence] };
    this.#try('The choice is not accepted', this.#publish(dialog, action, metadata));
    for (const { type, text, uri } of actions) {
      if (type === 'publishText') {
        const event = { type: 'ContentEvent', contentType: 'text/plain', message: text };
        this.#try('The answer is not accepted', this.#publish(dialog, event, metadata));
      } else if (type === 'link' && /^https?:/.test(uri)) {
        window.open(uri, '_blank', 'noopener');
      }
    }
  }

  /** Sends a text; whether it was taken. */
  async say(message) {
    this.#isTyping(false);
    const event = { type: 'ContentEvent', contentType: 'text/plain', message };
    return (await this.#try('Your message is not accepted', this.#publish(this.#writable, event))) !== null;
  }

  /** Something was written into the box, or taken out of it. */
  writing(isEmpty) {
    clearTimeout(this.#typing?.timer);
    if (isEmpty) this.#isTyping(false, 'PAUSE');
    else this.#isTyping(true, 'COMPOSING');
  }

  /** Tells the agent when that changes; a message that is sent tells by itself. */
  #isTyping(isTyping, chatState) {
    const tell = (state) => this.#connection && this.#publish(this.#writable, { type: 'ChatStateEvent', chatState: state }).catch(() => {});
    if (isTyping !== Boolean(this.#typing) && chatState) tell(chatState);
    clearTimeout(this.#typing?.timer);
    this.#typing = isTyping ? { timer: setTimeout(() => this.#isTyping(false, 'PAUSE'), TYPING) } : null;
  }

  #update(what, field) {
    const body = { conversationId: this.#conversation.id, conversationField: [field] };
    return this.#try(what, this.#connection.request('cm.UpdateConversationField', body));
  }

  async rate(csatRate) {
    const field = { field: 'CSATRate', csatRate, csatResolutionConfirmation: csatRate > 2, status: 'FILLED' };
    if (await this.#update('Your rating is not accepted', field)) this.#view.rated(csatRate);
  }

  end() {
    const { dialogId, dialogType } = this.#writable;
    const isSurvey = dialogType === 'POST_SURVEY';
    const survey = { field: 'DialogChange', type: 'UPDATE', dialog: { dialogId, state: 'CLOSE', closedCause: 'Skipped' } };
    this.#update('The conversation cannot be ended', isSurvey ? survey : { field: 'ConversationStateField', conversationState: 'CLOSE' });
  }

  /** The address of a file, which is good for a minute. */
  async #fileUrl(type, body) {
    const { relativePath, queryParams } = await this.#connection.request(type, body);
    return { relativePath, url: `${HTTP}://${this.#services.swift}${relativePath}?${new URLSearchParams(queryParams)}` };
  }

  async attach(blob, preview) {
    const stored = async () => {
      const { relativePath, url } = await this.#fileUrl('ms.GenerateURLForUploadFile', { fileSize: blob.size, fileType: 'PNG' });
      const response = await fetch(url, { method: 'PUT', body: blob });
      if (response.status !== 201) throw new Error(`the upload is answered with ${response.status}`);
      const message = { caption: 'A drawing', relativePath, fileType: 'PNG', preview };
      return this.#publish(this.#writable, { type: 'ContentEvent', contentType: 'hosted/file', message });
    };
    await this.#try('The file cannot be sent', stored());
  }

  async #download(relativePath) {
    const { url } = await this.#fileUrl('ms.GenerateURLForDownloadFile', { relativePath });
    const response = await fetch(url);
    if (!response.ok) throw new Error(`the download is answered with ${response.status}`);
    return response.blob();
  }
}

/** A small picture, so that there is a file to send. */
function drawing() {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width: 96, height: 64 });
  const pen = canvas.getContext('2d');
  for (const [place, colour] of ['#2f6fed', '#12b76a', '#f79009'].entries()) {
    pen.fillStyle = colour;
    pen.fillRect(place * 32, place * 8, 32, 64 - place * 16);
  }
  const preview = canvas.toDataURL('image/png');
  return new Promise((resolve) => canvas.toBlob((blob) => resolve({ blob, preview }), 'image/png'));
}

const chat = new Chat(new View());

at('say').addEventListener('submit', async (submitted) => {
  submitted.preventDefault();
  const words = at('words').value;
  if (words === '') return;
  at('words').value = '';
  // What was not taken is not lost, unless something else was begun.
  if (!(await chat.say(words)) && at('words').value === '') at('words').value = words;
});
at('words').addEventListener('input', () => chat.writing(at('words').value === ''));
at('end').addEventListener('click', () => chat.end());
at('again').addEventListener('click', () => chat.open());
for (const rate of [1, 2, 3, 4, 5]) {
  const star = element('button', '', '★');
  star.ariaLabel = `${rate} of 5`;
  star.addEventListener('click', () => chat.rate(rate));
  at('rated').before(star);
}
at('attach').hidden = !query.has('files');
at('attach').addEventListener('click', async () => {
  const { blob, preview } = await drawing();
  await chat.attach(blob, preview);
});
addEventListener('offline', () => chat.offline());
addEventListener('online', () => chat.connect());
chat.connect();
