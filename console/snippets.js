// The steps of a conversation as code, by the Connector API: what a program does that carries customers' messages.

const quoted = (value) => JSON.stringify(value);
/** In single quotes of a shell. */
const shell = (value) => `'${String(value).replaceAll("'", "'\\''")}'`;

const request = (id, type, body) => ({ kind: 'req', id: String(id), type, body });
const message = (dialogId, text) => request(3, 'ms.PublishEvent', { dialogId, event: { type: 'ContentEvent', contentType: 'text/plain', message: text } });

const opening = ({ account, name, skill, text }) => [
  request(1, 'userprofile.SetUserProfile', name ? { firstName: name } : {}),
  request(2, 'cm.ConsumerRequestConversation', { brandId: account, ...(skill ? { skillId: skill } : {}) }),
  message('', text),
];

/** JSON in which a name of the language stands for the conversation's id. */
const PLACE = '%CONVERSATION%';
const closing = request(5, 'cm.UpdateConversationField', { conversationId: PLACE, conversationField: [{ field: 'ConversationStateField', conversationState: 'CLOSE' }] });
const reading = request(4, 'ms.QueryMessages', { dialogId: PLACE, newerThanSequence: 0 });

function curl(facts) {
  const json = (value) => shell(JSON.stringify(value)).replaceAll(PLACE, `'"$CONVERSATION"'`);
  const send = (value) => `curl -s "$BASE/api/account/$ACCOUNT/messaging/consumer/conversation/send?v=3" \\
  -H "Authorization: $APP" -H "X-LP-ON-BEHALF: $CONSUMER" -d ${json(value)}`;
  return [
    `BASE=${shell(facts.base)}
ACCOUNT=${shell(facts.account)}
APP=$(curl -s "$BASE/sentinel/api/account/$ACCOUNT/app/token?v=1.0" -d grant_type=client_credentials \\
  -d client_id=${facts.client} -d client_secret="$CLIENT_SECRET" | jq -r .access_token)`,
    `CONSUMER=$(curl -s "$BASE/api/account/$ACCOUNT/consumer?v=1.0" -H "Authorization: $APP" \\
  -d ${json({ ext_consumer_id: facts.external })} | jq -r .token)`,
    `# The same again in a retry, another one for another conversation.
KEY="open-$(date +%s)-$$"
CONVERSATION=$(curl -s "$BASE/api/account/$ACCOUNT/messaging/consumer/conversation?v=3" \\
  -H "Authorization: $APP" -H "X-LP-ON-BEHALF: $CONSUMER" -H "Idempotency-Key: $KEY" \\
  -d ${json(opening(facts))} | jq -r '.[1].body.conversationId')`,
    send(message(PLACE, facts.text)),
    send(reading),
    send(closing),
  ];
}

/** JSON is Python's too where it holds neither true, false nor null. */
function python(facts) {
  const json = (value) => JSON.stringify(value).replaceAll(`"${PLACE}"`, 'conversation');
  return [
    `import json, os, urllib.parse, urllib.request, uuid

BASE, ACCOUNT = ${quoted(facts.base)}, ${quoted(facts.account)}

def call(path, body, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(BASE + path, data, headers)) as answer:
        return json.load(answer)

form = {"grant_type": "client_credentials", "client_id": ${quoted(facts.client)}, "client_secret": os.environ["CLIENT_SECRET"]}
app = call(f"/sentinel/api/account/{ACCOUNT}/app/token?v=1.0", urllib.parse.urlencode(form).encode())["access_token"]`,
    `consumer = call(f"/api/account/{ACCOUNT}/consumer?v=1.0", {"ext_consumer_id": ${quoted(facts.external)}}, Authorization=app)["token"]
who = {"Authorization": app, "X-LP-ON-BEHALF": consumer}
url = f"/api/account/{ACCOUNT}/messaging/consumer/conversation"`,
    `# The same again in a retry, another one for another conversation.
key = str(uuid.uuid4())
opened = call(url + "?v=3", ${json(opening(facts))}, **who, **{"Idempotency-Key": key})
conversation = opened[1]["body"]["conversationId"]`,
    `print(call(url + "/send?v=3", ${json(message(PLACE, facts.text))}, **who))`,
    `print(call(url + "/send?v=3", ${json(reading)}, **who))`,
    `print(call(url + "/send?v=3", ${json(closing)}, **who))`,
  ];
}

function node(facts) {
  const json = (value) => JSON.stringify(value).replaceAll(`"${PLACE}"`, 'conversation');
  return [
    `const BASE = ${quoted(facts.base)}, ACCOUNT = ${quoted(facts.account)};
const call = async (path, body, headers = {}) =>
  (await fetch(BASE + path, { method: 'POST', headers, body: body instanceof URLSearchParams ? body : JSON.stringify(body) })).json();

const form = new URLSearchParams({ grant_type: 'client_credentials', client_id: ${quoted(facts.client)}, client_secret: process.env.CLIENT_SECRET });
const app = (await call(\`/sentinel/api/account/\${ACCOUNT}/app/token?v=1.0\`, form)).access_token;`,
    `const consumer = (await call(\`/api/account/\${ACCOUNT}/consumer?v=1.0\`, { ext_consumer_id: ${quoted(facts.external)} }, { authorization: app })).token;
const who = { authorization: app, 'x-lp-on-behalf': consumer };
const url = \`/api/account/\${ACCOUNT}/messaging/consumer/conversation\`;`,
    `// The same again in a retry, another one for another conversation.
const key = crypto.randomUUID();
const opened = await call(url + '?v=3', ${json(opening(facts))}, { ...who, 'idempotency-key': key });
const conversation = opened[1].body.conversationId;`,
    `console.log(JSON.stringify(await call(url + '/send?v=3', ${json(message(PLACE, facts.text))}, who)));`,
    `console.log(JSON.stringify(await call(url + '/send?v=3', ${json(reading)}, who)));`,
    `console.log(JSON.stringify(await call(url + '/send?v=3', ${json(closing)}, who)));`,
  ];
}

const STEPS = ['A token for the application', 'A token for the customer', 'Open a conversation with a first message', 'Send', 'Read what was said', 'Close'];
export const LANGUAGES = { curl: ['curl', curl], python: ['Python', python], node: ['Node', node] };

/**
 * The steps in a language, each with its title. `facts`: `base`, `account`, `client`, `external` (the customer's name at the
 * connector), `name`, `skill` and `text`.
 */
export const steps = (language, facts) => LANGUAGES[language][1](facts).map((code, place) => ({ title: STEPS[place], code }));

/** All of it as one program. */
export const program = (language, facts) => `${LANGUAGES[language][1](facts).join('\n\n')}\n`;
