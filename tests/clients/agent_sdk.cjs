'use strict';

// What the scripts with the npm package node-agent-sdk share: an agent by the unmodified package over TLS, and a
// consumer behind the Connector API. It reads the addresses from the environment, as node_agent_sdk.cjs shows.
//
// The package asks https://{csdsDomain} where each service is, so csdsDomain is host:port of the TLS address.

const { DEMO, Inbox, Mismatch, absent, call, claims, required, text } = require('./harness.cjs');

const HTTP = required('TIELINE_HTTP');
const HTTPS = required('TIELINE_HTTPS');
// Node reads it when it starts; without it every call would fail with a certificate that nobody knows.
required('NODE_EXTRA_CA_CERTS');
// The package would send its calls through a proxy of the environment.
for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy']) delete process.env[name];

const { Agent } = require('node-agent-sdk');

const { account } = DEMO;
// The names that the package gives the four notifications.
const CONVERSATIONS = 'cqm.ExConversationChangeNotification';
const EVENTS = 'ms.MessagingEventNotification';
const RINGS = 'routing.RoutingTaskNotification';
const STATES = 'routing.AgentStateNotification';

/** A consumer, spoken for by the demo application. */
class Consumer {
  #headers;

  /** The features are those that the connector announces for it, such as MULTI_DIALOG. */
  static async named(checks, externalId, { features } = {}) {
    const self = new Consumer();
    const form = { client_id: DEMO.app.id, client_secret: DEMO.app.secret };
    const token = await call('POST', `${HTTP}/sentinel/api/account/${account}/app/token?v=1.0&grant_type=client_credentials`, { form });
    checks.match('the app token', token, { status: 200, body: { access_token: text, token_type: 'Bearer' } });
    const appJwt = token.body.access_token;
    const identity = await call('POST', `${HTTP}/api/account/${account}/consumer?v=1.0`, {
      headers: { authorization: appJwt },
      json: { ext_consumer_id: externalId },
    });
    checks.match('the consumer token', identity, { status: 201, body: { token: text } });
    const jws = claims(identity.body.token);
    checks.match('the claims of the consumer', jws, {
      account_id: account, ext_consumer_id: externalId, lp_consumer_id: /^[0-9a-f]{64}$/, exp: absent,
    });
    self.id = jws.lp_consumer_id;
    self.#headers = { authorization: appJwt, 'x-lp-on-behalf': identity.body.token };
    if (features) self.#headers['client-properties'] = JSON.stringify({ type: '.ClientProperties', features });
    return self;
  }

  /** Sends a batch to CONVERSATION, or one request to SEND. */
  post(json) {
    const path = Array.isArray(json) ? 'conversation' : 'conversation/send';
    return call('POST', `${HTTP}/api/account/${account}/messaging/consumer/${path}?v=3`, { headers: this.#headers, json });
  }
}

/** The SDK with its events in an inbox and its callbacks as promises. */
class AgentPeer {
  #expected = new Set();
  #reply;

  constructor(agent = DEMO.agent, settings = {}) {
    const [, csdsDomain] = HTTPS.split('://');
    this.sdk = new Agent({ accountId: account, username: agent.login, password: agent.password, csdsDomain, ...settings });
    this.inbox = new Inbox(agent.login ?? 'agent');
    this.sdk.on('connected', (data) => {
      // Before the SDK's own listener, which changes what it gets.
      this.sdk.transport.prependListener('message', (frame) => this.frame(structuredClone(frame)));
      this.inbox.put({ type: 'connected', body: data });
    });
    for (const type of [CONVERSATIONS, EVENTS, RINGS, STATES]) this.sdk.on(type, (body) => this.inbox.put({ type, body }));
    // The package says so when it could not make sense of something, and drops it.
    for (const type of ['error', 'warn', 'closed']) {
      this.sdk.on(type, (said) => {
        if (this.#expected.has(type)) this.inbox.put({ type, body: said });
        else this.fail(new Mismatch(`the SDK emitted ${type}: ${said?.message ?? JSON.stringify(said)}`));
      });
    }
  }

  /** From now on these events of the SDK are no failure, but come into the inbox. */
  expect(...types) {
    for (const type of types) this.#expected.add(type);
    return this;
  }

  /** Each frame as it came, before the SDK has changed it. */
  frame(frame) {
    if (frame.kind === 'resp') this.#reply = frame;
  }

  fail(error) {
    this.inbox.fail(error);
  }

  /** The next event of the SDK of such a type. */
  async emitted(type) {
    const { value } = await this.inbox.take(`the event '${type}'`, (item) => item.type === type);
    return value.body;
  }

  /** The body of the reply to a request of the SDK. */
  async ask(method, ...request) {
    return (await this.reply(method, ...request)).body;
  }

  /** The body, and the code that came with it on the wire, which the SDK keeps to itself. */
  reply(method, ...request) {
    return new Promise((resolve, reject) => {
      this.sdk[method](...request, (error, body) => {
        if (error) reject(new Mismatch(`${method}: expected success\n  got ${error.message ?? JSON.stringify(error)}`));
        // The SDK calls back while it handles the very frame.
        else resolve({ code: this.#reply.code, body });
      });
    });
  }

  /** The error that the SDK hands out for a request that must be refused. */
  refusal(method, ...request) {
    return new Promise((resolve, reject) => {
      this.sdk[method](...request, (error, body) => {
        if (error) resolve(error);
        else reject(new Mismatch(`${method}: expected a refusal\n  got ${JSON.stringify(body)}`));
      });
    });
  }

  async notification(what, type, wanted) {
    const { value } = await this.inbox.take(what, (item) => item.type === type && wanted(item.body));
    return value.body;
  }

  dispose() {
    this.sdk.dispose();
    // A refresh of the session may still be on its way, and has nobody to tell any more.
    this.sdk.on('error', () => {});
  }
}

module.exports = { AgentPeer, CONVERSATIONS, Consumer, EVENTS, HTTP, HTTPS, RINGS, STATES };
