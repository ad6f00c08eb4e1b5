"""A connector made of nothing but the documented HTTP calls and webhook bodies, with the `requests` package.

    TIELINE_HTTP=http://127.0.0.1:8080 TIELINE_HOOK_PORT=9000 \\
    TIELINE_SHORT_JWT=$(tieline token app --account demo --ttl 1s) .venv/bin/python connector.py

The gateway must post all five types of webhook of the application `demo-connector` to 127.0.0.1 at that port, each to a
path of its own (`PATHS`), with the header `X-Shop: 7` on `/content`; its first wait after a failed webhook should be
short. What the agent does, the connector learns from webhooks alone. The agent is ada, on her socket by `websockets`.
"""

import base64
import collections
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import queue
import random
import re
import struct
import sys
import threading
import time
import traceback
import zlib

import requests
from websockets.sync.client import connect

from run_websockets import FRAME_DEADLINE, MISSING, Checks, Mismatch, Must, absent, an_object, exactly, integer, matching
from run_websockets import members, millis, more_than, text, uuid

# The demo account of the built-in settings.
ACCOUNT = "demo"
CLIENT_ID, CLIENT_SECRET = "demo-connector", "demo-connector-secret"
LOGIN, PASSWORD, USER_ID = "ada", "ada-demo", "1001"

# Seconds that one awaited webhook, and the whole run, may take.
HOOK_DEADLINE = 15
RUN_DEADLINE = 100
# How often a call is made whose connection breaks before there is an answer.
ATTEMPTS = 3
# Seconds between two typing states: a lane in which an event is just failing drops them, and real agents type on.
TYPING_PAUSE = 0.2

EVENTS = "ms.MessagingEventNotification"
CONVERSATIONS = "cqm.ExConversationChangeNotification"
# Where each type of webhook is posted to.
PATHS = {
    "ContentEvent": "/content",
    "RichContentEvent": "/rich",
    "AcceptStatusEvent": "/receipt",
    "ChatStateEvent": "/typing",
    CONVERSATIONS: "/conversation",
}

CLOSED = "OK Conversation resolved successfully"
PROFILE_SET = "OK User Profile set successfully"
# By `errorCode`, the documented titles and details of what every connector meets.
DOCUMENTED = {
    40102: ("Invalid AppJWT", "AppJWT has expired or is invalid"),
    40103: ("Invalid ConsumerJWS", "ConsumerJWS is invalid"),
    40104: ("ConsumerJWS is missing", "X_ON_BEHALF_HEADER is not present"),
    40105: ("AppJWT is missing", "AUTHORIZATION header is not present"),
}

hex64 = matching("[0-9a-f]{64}")
host_and_port = matching("[^/:]+(:[0-9]+)?")
# A real client parses nothing else.
json_type = Must("the JSON content type", lambda value: value in ("application/json", "application/json;charset=utf-8"))


def plain(message):
    return {"type": "ContentEvent", "contentType": "text/plain", "message": message}


def receipt(status, *sequences):
    return {"type": "AcceptStatusEvent", "status": status, "sequenceList": list(sequences)}


def typing(state):
    return {"type": "ChatStateEvent", "chatState": state}


def hosted(path, caption):
    message = {"caption": caption, "relativePath": path, "fileType": "PNG"}
    return {"type": "ContentEvent", "contentType": "hosted/file", "message": message}


def request(id, kind, body, **rest):
    return {"kind": "req", "id": id, "type": kind, "body": body, **rest}


def publish(id, conversation, event, **rest):
    return request(id, "ms.PublishEvent", {"dialogId": conversation, "event": event}, **rest)


def update(id, conversation, field):
    return request(id, "cm.UpdateConversationField", {"conversationId": conversation, "conversationField": field})


def image(side, seed):
    """A PNG of noise, which does not compress."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    noise = random.Random(seed)
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def signature(body):
    return "sha1=" + base64.b64encode(hmac.new(CLIENT_SECRET.encode(), body, hashlib.sha1).digest()).decode()


class Post:
    """A webhook as it came."""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, body


class Receiver:
    """The connector's own HTTP server. What it takes goes into the inbox before it is answered."""

    def __init__(self, port):
        self.inbox, self.refused, self.forged = queue.Queue(), [], []
        self.plan, self.lock = collections.deque(), threading.Lock()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(receiver.take(Post(self.path, dict(self.headers.items()), body)))

            def answer(self, status):
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, post):
        """The status to answer; none if the answer is to be lost on its way."""
        given = next((value for name, value in post.headers.items() if name.lower() == "x-liveperson-signature"), "")
        if not hmac.compare_digest(given, signature(post.body)):
            self.forged.append(post)
            return 401
        with self.lock:
            # Plans are for messages, so that a late change of a conversation does not use one up.
            planned = self.plan.popleft() if self.plan and post.path == PATHS["ContentEvent"] else 200
            if planned in (200, 201, None):
                self.inbox.put(post)
            else:
                self.refused.append(post)
        return planned

    def will(self, *statuses):
        """What the next messages are answered, before all is well again."""
        with self.lock:
            self.refused.clear()
            self.plan.extend(statuses)


class Kept:
    """What the connector knows of a conversation, all of it from webhooks."""

    def __init__(self):
        self.changes, self.typing, self.details, self.repeats = [], [], {}, 0
        # What the consumer's channel shows.
        self.shown = []

    def text(self, message):
        found = [change for change in self.changes if change["event"].get("message") == message]
        return found[0] if found else None

    def participants(self):
        return [(person["id"], person["role"]) for person in self.details.get("participants", [])]


class Connector:
    """The program under its author's eyes: it calls, and it receives."""

    def __init__(self, checks, base, port):
        self.checks, self.base = checks, base
        self.receiver, self.kept = Receiver(port), collections.defaultdict(Kept)
        self.http = requests.Session()
        # The server is reached as it is, whatever proxy the environment names.
        self.http.trust_env = False
        self.app, self.attempts, self.broken = None, [], 0

    # -------------------------------------------------------------------------------------------------- calls

    def ask(self, method, url, **rest):
        """A call. What became of one whose connection broke is unknown: it is repeated, which its key makes harmless."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self.http.request(method, url, timeout=FRAME_DEADLINE, **rest)
            except requests.ConnectionError:
                self.broken += 1
        return self.http.request(method, url, timeout=FRAME_DEADLINE, **rest)

    def find_hosts(self):
        for front in ("api", "csdr"):
            services = f"{self.base}/{front}/account/{ACCOUNT}/service"
            found = self.ask("GET", f"{services}/baseURI.json", params={"version": "1.0"})
            self.checks.match("the status of the lookup", found.status_code, 200)
            self.hosts = {entry["service"]: entry["baseURI"] for entry in found.json()["baseURIs"]}
            for service in ("sentinel", "idp", "asyncMessagingEnt", "agentVep", "swift"):
                self.checks.match(f"the host of {service}", self.hosts.get(service, MISSING), host_and_port)
                # A real client manages to send a body with it.
                one = self.ask("GET", f"{services}/{service}/baseURI.json", params={"version": "1.0"}, data="{}")
                expected = {"service": service, "account": ACCOUNT, "baseURI": self.hosts[service]}
                self.checks.match(f"the lookup of {service}", one.json(), expected)

    def url(self, service, path):
        return f"http://{self.hosts[service]}{path}"

    def ask_token(self, **rest):
        return self.ask("POST", self.url("sentinel", f"/sentinel/api/account/{ACCOUNT}/app/token"), **rest)

    def fetch_app_token(self):
        credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "grant_type": "client_credentials"}
        reply = self.ask_token(params={"v": "1.0"}, data=credentials)
        self.checks.match("the status of the app token", reply.status_code, 200)
        self.app = reply.json()["access_token"]
        return reply.json()

    def consumer_token(self, name):
        url = self.url("idp", f"/api/account/{ACCOUNT}/consumer")
        reply = self.ask("POST", url, params={"v": "1.0"}, headers={"Authorization": self.app}, json={"ext_consumer_id": name})
        self.checks.match(f"the token of {name}", (reply.status_code, sorted(reply.json())), (201, ["token"]))
        return reply.json()["token"]

    def headers(self, jws):
        return {"Authorization": self.app, "X-LP-ON-BEHALF": jws, "Content-Type": "application/json"}

    def key(self):
        """For one request and its repeats; a header without value is not sent."""
        return {"Idempotency-Key": os.urandom(16).hex()}

    def post_as(self, headers, call, body, version="3"):
        """One attempt, with these headers."""
        url = self.url("asyncMessagingEnt", f"/api/account/{ACCOUNT}/messaging/consumer/{call}")
        data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        params = {"v": version} if version else {}
        reply = self.ask("POST", url, params=params, headers={**self.key(), **headers}, data=data)
        self.attempts.append((reply.status_code, data))
        self.checks.match("the content type", reply.headers["Content-Type"], json_type)
        return reply

    def post(self, jws, call, body, **headers):
        """As a connector calls: a 401 for the AppJWT means a new one and the very same request again."""
        data = json.dumps(body, ensure_ascii=False).encode()
        headers = {**self.key(), **{name.replace("_", "-"): value for name, value in headers.items()}}
        reply = self.post_as({**self.headers(jws), **headers}, call, data)
        if reply.status_code == 401 and reply.json()["body"]["errorCode"] in (40102, 40105):
            self.fetch_app_token()
            reply = self.post_as({**self.headers(jws), **headers}, call, data)
        return reply

    def ok(self, what, reply, expected):
        """A success, to the last member."""
        self.checks.match(what, reply.status_code, 200)
        self.checks.match(what, reply.json(), exactly(expected) if isinstance(expected, (dict, list)) else expected)

    def send(self, consumer, body, **headers):
        return self.post(consumer.jws, "conversation/send", body, **headers)

    def publish(self, consumer, id, conversation, event, headers=None, **rest):
        """Publishes; the number it was given."""
        reply = self.send(consumer, publish(id, conversation, event, **rest), **(headers or {}))
        sequence = reply.json().get("body", {}).get("sequence", MISSING)
        self.checks.match("the number of what was published", sequence, integer)
        self.ok("the reply to a publish", reply, {"code": "OK", "body": {"sequence": sequence}, "reqId": str(id)})
        return sequence

    def opening(self, profile=None, **body):
        return [
            # A real client's ids.
            request("1,", "userprofile.SetUserProfile", profile or {}),
            request("1,", "cm.ConsumerRequestConversation", {"brandId": ACCOUNT, "skillId": "-1", **body}),
        ]

    def open(self, consumer, profile=None, found=False, headers=None, **body):
        """Opens a conversation, whose id is that of the second element."""
        reply = self.post(consumer.jws, "conversation", self.opening(profile, **body), **(headers or {}))
        self.checks.match("the status of an opening", reply.status_code, 200)
        id = reply.json()[1]["body"]["conversationId"]
        self.checks.match("the id of the conversation", id, uuid)
        opened = {"conversationId": id, "found": True} if found else {"conversationId": id}
        self.ok("the reply to an opening", reply, [
            {"code": "OK", "body": {"msg": PROFILE_SET}, "reqId": "1,"},
            {"code": "OK", "body": opened, "reqId": "1,"},
        ])
        return id

    def close(self, consumer, id, conversation, field):
        reply = self.send(consumer, update(id, conversation, field))
        self.ok("the close", reply, {"code": "OK", "body": {"msg": CLOSED}, "reqId": str(id)})

    def read_back(self, consumer, conversation):
        reply = self.send(consumer, request("q", "ms.QueryMessages", {"dialogId": conversation, "newerThanSequence": 0}))
        self.checks.match("the status of the query", reply.status_code, 200)
        return reply.json()["body"]

    def refused(self, what, reply, code, title=None, details=None, req_id=MISSING):
        """A refusal, whose status and body agree and whose words are the documented ones."""
        title, details = DOCUMENTED.get(code, (title, details))
        error = {"title": title or text, "details": details or text, "errorCode": code}
        expected = {"kind": "resp", "code": code // 100, "type": ".ReqBody$ErrorResp", "body": error}
        self.checks.match(f"the status of {what}", reply.status_code, code // 100)
        self.checks.match(what, reply.json(), {**expected, "reqId": absent if req_id is MISSING else req_id})
        asks_for_token = "WWW-Authenticate" in reply.headers
        self.checks.match(f"whether {what} asks for an AppJWT", asks_for_token, code in (40102, 40105))

    # -------------------------------------------------------------------------------------------------- webhooks

    def wait(self, what, is_so):
        """Takes webhooks in until it is so."""
        deadline = time.monotonic() + HOOK_DEADLINE
        while not is_so():
            try:
                post = self.receiver.inbox.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                kept = {id: (kept.details.get("state"), kept.changes) for id, kept in self.kept.items()}
                raise Mismatch(f"expected a webhook with {what}\n  got nothing like it; kept: {json.dumps(kept)}") from None
            self.take(post)

    def take(self, post):
        headers = {name.lower(): value for name, value in post.headers.items()}
        self.checks.match("the headers of a webhook", headers, {
            "content-type": "application/json",
            "x-liveperson-account-id": ACCOUNT,
            "x-liveperson-client-id": CLIENT_ID,
            "x-liveperson-signature": signature(post.body),
            "x-shop": "7" if post.path == "/content" else absent,
        })
        webhook = json.loads(post.body)
        self.checks.match("the envelope of a webhook", sorted(webhook), ["body", "kind", "type"])
        self.checks.match("the kind of a webhook", webhook["kind"], "notification")
        self.checks.match("what a webhook must not have", webhook["body"].get("subscriptionId", MISSING), absent)
        for change in webhook["body"]["changes"]:
            kind = webhook["type"] if webhook["type"] == CONVERSATIONS else change["event"]["type"]
            self.checks.match(f"the path of {kind}", post.path, PATHS[kind])
            self.take_conversation(webhook["body"], change) if kind == CONVERSATIONS else self.take_event(change)

    def take_conversation(self, body, change):
        self.checks.match("a change", body["sentTs"], millis)
        result = change["result"]
        self.checks.match("a change", change, {"type": "UPSERT", "result": {"convId": uuid, "effectiveTTR": integer}})
        kept, details = self.kept[result["convId"]], result["conversationDetails"]
        self.checks.match("the conversation's time", details["metaDataLastUpdateTs"],
                          more_than(kept.details.get("metaDataLastUpdateTs", 1) - 1))
        kept.details = details

    def take_event(self, change):
        kept = self.kept[change["conversationId"]]
        self.checks.match("an event", change, {
            "originatorId": text,
            "originatorPId": absent,
            "originatorMetadata": {"id": change["originatorId"], "role": text},
            "dialogId": change["conversationId"],
            "messageAudience": matching("ALL|AGENTS_AND_MANAGERS"),
        })
        if change["event"]["type"] == "ChatStateEvent":
            self.checks.match("a typing state", change, {"sequence": absent, "serverTimestamp": absent})
            kept.typing.append((change["originatorMetadata"]["role"], change["event"]["chatState"]))
            return
        self.checks.match("an event", change, {"sequence": integer, "serverTimestamp": millis})
        known = next((known for known in kept.changes if known["sequence"] == change["sequence"]), None)
        if known:
            # What was taken comes again when the answer was lost, and is dropped.
            self.checks.match("a repeat", change, exactly(known))
            kept.repeats += 1
            return
        # Each stored event has a hook, so nothing may be missing in between.
        self.checks.match("the next number of the dialog", change["sequence"], len(kept.changes))
        kept.changes.append(change)
        is_message = change["event"]["type"] in ("ContentEvent", "RichContentEvent")
        is_theirs = change["originatorMetadata"]["role"] != "CONSUMER"
        if is_message and is_theirs and change["messageAudience"] == "ALL":
            kept.shown.append(change["event"])

    def heard(self, what, conversation, sequence, role, event, audience="ALL", metadata=None):
        """The event with this number, as it was published."""
        kept = self.kept[conversation]
        self.wait(what, lambda: len(kept.changes) > sequence)
        self.checks.match(what, kept.changes[sequence], {
            "originatorMetadata": {"role": role},
            "event": exactly(event),
            "messageAudience": audience,
            "metadata": exactly(metadata) if metadata else absent,
        })
        return kept.changes[sequence]

    def sees(self, what, conversation, is_so):
        """Waits until a webhook shows the conversation so."""
        kept = self.kept[conversation]
        self.wait(what, lambda: kept.details and is_so(kept.details))
        return kept.details


class Consumer:
    """Whom the connector speaks for."""

    def __init__(self, connector, name):
        self.name = name
        self.jws = connector.consumer_token(name)
        named = claims_of(self.jws)
        connector.checks.match(f"what the token of {name} says", named, {
            "account_id": ACCOUNT, "ext_consumer_id": name, "lp_consumer_id": hex64, "exp": absent,
        })
        self.id = named["lp_consumer_id"]


def claims_of(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Agent:
    """The other side: its requests are answered, and what it is told waits until it is asked for."""

    def __init__(self, checks, pid, socket):
        self.checks, self.pid, self.socket = checks, pid, socket
        self.old_id, self.told, self.asked = f"{ACCOUNT}.{USER_ID}", [], 0

    @classmethod
    @contextlib.contextmanager
    def connected(cls, checks, connector):
        credentials = {"username": LOGIN, "password": PASSWORD}
        url = connector.url("agentVep", f"/api/account/{ACCOUNT}/login")
        login = connector.ask("POST", url, params={"v": "1.3"}, json=credentials).json()
        checks.match("the login", login, {"bearer": text, "config": {"userId": USER_ID, "userPid": uuid}})
        host = connector.hosts["asyncMessagingEnt"]
        address = f"ws://{host}/ws_api/account/{ACCOUNT}/messaging/brand/{login['bearer']}?v=2.1"
        # The server is reached as it is, whatever proxy the environment names. What is not waited for does not stop the rest.
        with connect(address, proxy=None, open_timeout=FRAME_DEADLINE, max_queue=None) as socket:
            yield cls(checks, login["config"]["userPid"], socket)

    def take(self, what, is_wanted):
        deadline = time.monotonic() + FRAME_DEADLINE
        while True:
            found = next((frame for frame in self.told if is_wanted(frame)), None)
            if found:
                self.told.remove(found)
                return found
            try:
                self.told.append(json.loads(self.socket.recv(timeout=max(0.01, deadline - time.monotonic()))))
            except TimeoutError:
                raise Mismatch(f"agent: expected {what}\n  got nothing like it; not taken: {self.told}") from None

    def ask(self, kind, body, code=200, **rest):
        self.asked += 1
        id = f"a{self.asked}"
        self.socket.send(json.dumps(request(id, f".ams.{kind}", body, **rest)))
        reply = self.take(f"the reply to {kind}", lambda frame: frame["kind"] == "resp" and frame["reqId"] == id)
        self.checks.match(f"the reply to {kind}", reply["code"], code)
        return reply["body"]

    def goes_online(self):
        state = {"availability": "ONLINE", "channels": ["MESSAGING"], "agentUserId": self.old_id}
        self.checks.match("going online", self.ask("routing.SetAgentState", state, code=202), "Agent state updated successfully")
        self.ask("routing.SubscribeRoutingTasks", {"channelType": "MESSAGING", "agentId": self.old_id, "brandId": ACCOUNT})

    def accepts(self, conversation):
        def ring(frame):
            if frame.get("type") != ".ams.routing.RoutingTaskNotification":
                return None
            tasks = [change["result"] for change in frame["body"]["changes"]]
            rings = [task["ringsDetails"][0] for task in tasks if task["conversationId"] == conversation]
            return next((ring["ringId"] for ring in rings if ring["ringState"] == "WAITING"), None)

        ring_id = ring(self.take("the ring", ring))
        said = self.ask("routing.UpdateRingState", {"ringId": ring_id, "ringState": "ACCEPTED"}, code=202)
        self.checks.match("accepting the ring", said, "Ring state updated successfully")

    def publish(self, conversation, event, **body):
        return self.ask("ms.PublishEvent", {"dialogId": conversation, "event": event, **body})["sequence"]

    def hears(self, what, conversation, is_wanted):
        is_it = lambda frame: (frame.get("type") == ".ams.ms.OnlineEventDistribution"
                               and frame["body"]["dialogId"] == conversation and is_wanted(frame["body"]))
        return self.take(what, is_it)["body"]

    def closes(self, conversation):
        field = [{"field": "ConversationStateField", "conversationState": "CLOSE"}]
        said = self.ask("cm.UpdateConversationField", {"conversationId": conversation, "conversationField": field})
        self.checks.match("the agent closes", said, CLOSED)


# ------------------------------------------------------------------------------------------------------ the script


def tokens(checks, connector):
    """App tokens with the credentials in the form and in the query, and what is refused."""
    form = connector.fetch_app_token()
    checks.match("the app token", form, {"access_token": text, "token_type": "Bearer"})
    named = claims_of(form["access_token"])
    checks.match("what the app token says", named, {
        "aud": ACCOUNT, "azp": CLIENT_ID, "iss": "Sentinel", "scope": matching(".*msg.consumer.*"), "iat": integer, "exp": integer,
    })
    checks.match("how long the app token holds", named["exp"] - named["iat"], 3600)
    credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "grant_type": "client_credentials"}
    query = connector.ask_token(params={"v": "1.0", **credentials}, headers={"Content-Type": "application/json"})
    checks.match("the app token by the query", (query.status_code, sorted(query.json())), (200, sorted(form)))
    for what, change, status in [("a wrong secret", {"client_secret": "guess"}, 401), ("no secret", {"client_secret": None}, 400)]:
        reply = connector.ask_token(params={"v": "1.0"}, data={**credentials, **change})
        checks.match(f"the status for {what}", reply.status_code, status)
    # What other calls work with from here on.
    connector.app = query.json()["access_token"]


def opens(checks, connector, ann):
    """The profile and the conversation, with a header that does not parse."""
    profile = {
        "firstName": "Ann",
        "lastName": "Example",
        "avatarUrl": "https://cdn.example/a.png",
        "authenticatedData": {
            "lp_sdes": [
                {"type": "ctmrinfo", "info": {"socialId": "4711", "ctype": "vip"}},
                {"type": "personal", "personal": {"firstname": "Ann", "lastname": "Example", "gender": "FEMALE"}},
            ]
        },
    }
    context = {"type": "SharkContext", "lang": "en-US", "interactionContextId": "2"}
    campaign = {"campaignId": 99, "engagementId": 100}
    id = connector.open(ann, profile, headers={"Client_Properties": "[object Object]"}, ttrDefName="NORMAL",
                        channelType="MESSAGING", conversationContext=context, campaignInfo=campaign)
    details = connector.sees("the opening", id, lambda details: True)
    checks.match("the opening by webhook", details, {
        "brandId": ACCOUNT,
        "skillId": "-1",
        "state": "OPEN",
        "stage": "OPEN",
        "startTs": millis,
        "participants": members({"id": ann.id, "role": "CONSUMER"}),
        "participantsPId": absent,
        "ttr": {"ttrType": "NORMAL", "value": integer},
        "context": {"lang": "en-US"},
        "campaignInfo": an_object,
        "conversationHandlerDetails": {"accountId": ACCOUNT, "skillId": "-1"},
    })
    main = [dialog for dialog in details["dialogs"] if dialog["dialogType"] == "MAIN"]
    checks.match("the main dialog", main, [{"dialogId": id, "state": "OPEN", "channelType": "MESSAGING", "creationTs": millis}])
    return id


def talks(checks, connector, agent, ann, id):
    """Words, cards, receipts, typing and a whisper, both ways."""
    kept = connector.kept[id]
    # Beyond ASCII, so that the signature holds over the bytes and over nothing else.
    question = plain("Grüß Gott 🦀, where's my “parcel”? </script>\n\u2028")
    card = [{"type": "ExternalId", "id": "CARD-1"}]
    checks.match("the first number", connector.publish(ann, "1", id, question, metadata=card), 0)
    own = connector.heard("its own words", id, 0, "CONSUMER", question, metadata=card)
    checks.match("who said it", own["originatorId"], ann.id)

    agent.accepts(id)
    connector.sees("the agent", id, lambda details: (agent.pid, "ASSIGNED_AGENT") in kept.participants())
    said = agent.ask("ms.QueryMessages", {"dialogId": id, "newerThanSequence": 0})
    checks.match("what the agent reads", said, [{"sequence": 0, "originatorPId": ann.id, "event": exactly(question)}])
    profile = agent.ask("userprofile.GetUserProfile", {"userId": ann.id})
    checks.match("whom the agent sees", profile, {"firstName": "Ann", "authenticatedData": {"lp_sdes": [
        {"type": "ctmrinfo", "info": {"socialId": "4711", "ctype": "vip"}}, {"type": "personal", "personal": an_object}]}})

    answer, whisper = plain("On its way ✓"), plain("she sounds upset")
    rich = {"type": "RichContentEvent", "content": {"type": "vertical", "elements": [
        {"type": "text", "text": "Track it"},
        {"type": "button", "title": "Öffnen", "click": {"actions": [{"type": "link", "uri": "https://shop.example/4711"}]}},
    ]}}
    for event, body, audience in [
        (receipt("READ", 0), {}, "ALL"),
        (answer, {}, "ALL"),
        (whisper, {"messageAudience": "AGENTS_AND_MANAGERS"}, "AGENTS_AND_MANAGERS"),
        (rich, {}, "ALL"),
    ]:
        sequence = agent.publish(id, event, **body)
        theirs = connector.heard(f"the agent's {event['type']}", id, sequence, "ASSIGNED_AGENT", event, audience)
        checks.match("who said it", theirs["originatorId"], agent.pid)
    checks.match("what Ann is shown", kept.shown, exactly([answer, rich]))
    checks.match("the whisper is there and not shown", bool(kept.text("she sounds upset")), True)

    for event in [receipt("ACCEPT", 2, 4), receipt("READ", 2, 4), {**rich, "content": {"type": "text", "text": "thanks"}}]:
        sequence = connector.publish(ann, 7, id, event)
        connector.heard(f"its own {event['type']}", id, sequence, "CONSUMER", event)
        heard = agent.hears(f"the consumer's {event['type']}", id, lambda change: change.get("sequence") == sequence)
        checks.match(f"the consumer's {event['type']}", heard, {"originatorPId": ann.id, "event": exactly(event)})

    before = len(kept.changes)
    for state in ("COMPOSING", "PAUSE"):
        shown = ("ASSIGNED_AGENT", state)
        deadline = time.monotonic() + HOOK_DEADLINE
        while shown not in kept.typing and time.monotonic() < deadline:
            checks.match("the number of a typing state", agent.publish(id, typing(state)), 0)
            time.sleep(TYPING_PAUSE)
            while not connector.receiver.inbox.empty():
                connector.take(connector.receiver.inbox.get())
        checks.match(f"the agent's {state} by webhook", shown in kept.typing, True)
    checks.match("the number of its own typing state", connector.publish(ann, "8", id, typing("COMPOSING")), 0)
    heard = agent.hears("the consumer's typing", id, lambda change: change["event"].get("chatState") == "COMPOSING"
                        and change["originatorPId"] == ann.id)
    checks.match("the consumer's typing", heard, {"sequence": absent, "serverTimestamp": absent})
    connector.wait("its own typing", lambda: ("CONSUMER", "COMPOSING") in kept.typing)
    checks.match("typing takes no number", len(kept.changes), before)


def put(connector, url, data, **query):
    where = connector.url("swift", url["relativePath"])
    return connector.ask("PUT", where, params={**url["queryParams"], **query}, data=data, headers={"Content-Type": "image/png"})


def get(connector, url):
    return connector.ask("GET", connector.url("swift", url["relativePath"]), params=url["queryParams"])


def files(checks, connector, agent, ann, bob, id):
    """Files, both ways, and who may not have them."""
    good = {"relativePath": matching("/.+"), "queryParams": {"temp_url_sig": text, "temp_url_expires": matching("[0-9]{10}")}}

    def url_for(consumer, kind, body):
        reply = connector.send(consumer, request("f", f"ms.GenerateURLFor{kind}File", body))
        checks.match(f"the reply to {kind}", reply.json(), {"kind": absent, "code": "OK", "body": good, "reqId": "f"})
        return reply.json()["body"]

    picture = image(64, 1)
    for size in (len(picture), str(len(picture))):
        upload = url_for(ann, "Upload", {"fileSize": size, "fileType": "PNG"})
        checks.match("an upload with another signature", put(connector, upload, picture, temp_url_sig="0" * 40).status_code, 401)
        checks.match("the upload", put(connector, upload, picture).status_code, 201)
        shown = hosted(upload["relativePath"], "my parcel")
        sequence = connector.publish(ann, "9", id, shown)
        connector.heard("its own file", id, sequence, "CONSUMER", shown)
        seen = agent.hears("the file", id, lambda change: change.get("sequence") == sequence)
        path = seen["event"]["message"]["relativePath"]
        got = get(connector, agent.ask("ms.GenerateURLForDownloadFile", {"relativePath": path}))
        checks.match("the agent's copy", got.status_code == 200 and got.content == picture, True)
    reply = connector.send(ann, request("f", "ms.GenerateURLForUploadFile", {"fileSize": 10, "fileType": "SVG"}))
    connector.refused("a file that a browser would run", reply, 40002, req_id="f")

    parcel = image(256, 2)
    upload = agent.ask("ms.GenerateURLForUploadFile", {"fileSize": len(parcel), "fileType": "PNG"})
    checks.match("the agent's upload", put(connector, upload, parcel).status_code, 201)
    shown = hosted(upload["relativePath"], "here it is")
    theirs = connector.heard("the agent's file", id, agent.publish(id, shown), "ASSIGNED_AGENT", shown)
    path = theirs["event"]["message"]["relativePath"]
    got = get(connector, url_for(ann, "Download", {"relativePath": path}))
    checks.match("the agent's file", got.status_code == 200 and got.content == parcel, True)
    checks.match("how the file is served", {name.lower(): value for name, value in got.headers.items()}, {
        "content-type": "image/png",
        "x-content-type-options": "nosniff",
        "content-disposition": matching("attachment(;.*)?"),
        "content-length": str(len(parcel)),
    })
    checks.match("what Ann is shown", connector.kept[id].shown[-1], exactly(shown))
    theirs = connector.send(bob, request("f", "ms.GenerateURLForDownloadFile", {"relativePath": path}))
    other = re.sub("[0-9a-f]{12}", "0" * 12, path)
    nowhere = connector.send(bob, request("f", "ms.GenerateURLForDownloadFile", {"relativePath": other}))
    checks.match("a file of another's conversation is refused", theirs.status_code >= 400, True)
    checks.match("not yours and not there", (theirs.status_code, theirs.content), (nowhere.status_code, nowhere.content))


def errors(checks, connector, ann, bob, id):
    """What is refused, in the documented words."""
    body = publish("e", id, plain("never stored"))
    app, theirs = {"Authorization": connector.app}, {"X-LP-ON-BEHALF": ann.jws}
    for what, headers, code in [
        ("a call without tokens", {}, 40105),
        ("a call without AppJWT", theirs, 40105),
        ("a call without ConsumerJWS", app, 40104),
        ("a call with a bad AppJWT", {**theirs, "Authorization": "eyJ.nonsense.x"}, 40102),
        ("a call with the tokens exchanged", {"Authorization": ann.jws, "X-LP-ON-BEHALF": connector.app}, 40102),
        ("a call with a bad ConsumerJWS", {**app, "X-LP-ON-BEHALF": "eyJ.nonsense.x"}, 40103),
    ]:
        connector.refused(what, connector.post_as(headers, "conversation/send", body), code)
    nowhere = "3b241101-e2bb-4255-8caf-4136c566a962"
    for what, request_body in [
        ("another's conversation", body),
        ("no conversation", publish("e", nowhere, plain("never stored"))),
        ("the close of another's conversation", update("e", id, {"field": "Stage", "conversationState": "CLOSE"})),
        ("a query of another's conversation", request("e", "ms.QueryMessages", {"dialogId": id})),
    ]:
        connector.refused(what, connector.send(bob, request_body), 40103, req_id="e")
    known = len(connector.kept)
    for what, lacks, details in [
        ("a batch without brand", [connector.opening()[0], request("2", "cm.ConsumerRequestConversation", {"skillId": "-1"})],
         "Brand Id is missing"),
        ("a batch without profile", connector.opening()[1:], None),
        ("a batch without conversation", connector.opening()[:1], None),
    ]:
        reply = connector.post(ann.jws, "conversation", lacks)
        connector.refused(what, reply, 40001, "Missing parameter", details, reply.json().get("reqId", MISSING))
    bad = [*connector.opening(), publish("3", "", {"type": "NoSuchEvent"})]
    connector.refused("a batch with one bad element", connector.post(ann.jws, "conversation", bad), 40002, req_id="3")
    for version in ("2", "4", None):
        for call in ("conversation", "conversation/send"):
            reply = connector.post_as(connector.headers(ann.jws), call, body, version)
            checks.match(f"the status of {call} with v={version}", reply.status_code, 404)
    # And the other spellings of what is right.
    headers = {"Authorization": f"Bearer {connector.app}", "LP-On-Behalf": f"Bearer {ann.jws}"}
    said = plain("spelled otherwise")
    reply = connector.post_as(headers, "conversation/send", publish("s", id, said))
    checks.match("a call with the other spellings", reply.status_code, 200)
    connector.heard("what was said with the other spellings", id, reply.json()["body"]["sequence"], "CONSUMER", said)
    # Webhooks come in the order of the log, so what a refusal had done would be known by now.
    checks.match("no refusal stored anything", connector.kept[id].text("never stored"), None)
    checks.match("no refusal opened a conversation", len(connector.kept), known)


def renews(checks, connector, ann, id, short):
    """An AppJWT that ends: a new one, and the same request again."""
    time.sleep(max(0, claims_of(short)["exp"] + 0.1 - time.time()))
    kept = connector.kept[id]
    body = publish("1", id, plain("after the token's end"))
    connector.app = short
    reply = connector.post_as(connector.headers(ann.jws), "conversation/send", body)
    connector.refused("a call with an AppJWT that has ended", reply, 40102)
    before, connector.attempts = len(kept.changes), []
    sequence = connector.publish(ann, "1", id, plain("after the token's end"))
    statuses, bodies = zip(*connector.attempts)
    checks.match("the attempts", statuses, (401, 200))
    checks.match("the very same request again", bodies[0] == bodies[1], True)
    checks.match("another AppJWT is used", connector.app != short, True)
    checks.match("its number", sequence, before)
    connector.heard("what was said at the second attempt", id, sequence, "CONSUMER", plain("after the token's end"))
    checks.match("it is stored once", len([event for event in connector.read_back(ann, id) if event["sequence"] >= before]), 1)


def repeats_by_key(checks, connector, ann, id):
    """A retry with a key is harmless; an id is no key."""
    body, key = publish("1", id, plain("once")), {"Idempotency_Key": "msg-000123"}
    first, again = connector.send(ann, body, **key), connector.send(ann, body, **key)
    checks.match("the first attempt is no repeat", first.headers.get("Idempotent-Replayed", MISSING), absent)
    checks.match("the retry says that it is one", again.headers.get("Idempotent-Replayed", MISSING), "true")
    checks.match("the retry's answer", (again.status_code, again.content), (200, first.content))
    sequence = first.json()["body"]["sequence"]
    connector.heard("what was said once", id, sequence, "CONSUMER", plain("once"))
    other = connector.send(ann, publish("1", id, plain("not once")), **key)
    connector.refused("the key with another request", other, 40901, req_id=other.json().get("reqId", MISSING))
    for number in (1, 2):
        again = connector.publish(ann, "1", id, plain("once"), headers={"Idempotency_Key": None})
        checks.match("the number without a key", again, sequence + number)
        connector.heard("what was said again", id, sequence + number, "CONSUMER", plain("once"))
    # An opening, which a lost answer would otherwise open twice.
    opening, key = connector.opening(), {"Idempotency_Key": "open-4711-1"}
    first, again = (connector.post(ann.jws, "conversation", opening, **key) for _ in range(2))
    checks.match("the retry of an opening", (again.headers.get("Idempotent-Replayed"), again.content), ("true", first.content))
    opened = first.json()[1]["body"]["conversationId"]
    connector.sees("the opening", opened, lambda details: details["state"] == "OPEN")
    connector.close(ann, "c", opened, {"field": "ConversationStateField", "conversationState": "CLOSE"})
    connector.sees("the close", opened, lambda details: details["state"] == "CLOSE")


def finds_by_name(checks, connector, ann, bob):
    """A name for a consumer's conversation finds it while it is open."""
    first = connector.open(ann, binding="order-7")
    checks.match("the same name", connector.open(ann, binding="order-7", found=True), first)
    said = plain("about order 7")
    connector.heard("what was said", first, connector.publish(ann, "1", first, said), "CONSUMER", said)
    checks.match("the same name once more", connector.open(ann, binding="order-7", found=True), first)
    others = [connector.open(ann, binding="order-8"), connector.open(ann), connector.open(bob, binding="order-7")]
    checks.match("other names, none, and another's", len({first, *others}), 4)
    close = {"field": "ConversationStateField", "conversationState": "CLOSE"}
    connector.close(ann, "c", first, close)
    second = connector.open(ann, binding="order-7")
    checks.match("the same name after the close", second not in (first, *others), True)
    # As an array of one, too.
    for consumer, id in [(ann, others[0]), (ann, others[1]), (bob, others[2]), (ann, second)]:
        connector.close(consumer, "c", id, [close])
    for id in (first, *others, second):
        details = connector.sees("the close", id, lambda details: details["stage"] == "CLOSE")
        checks.match("the close by webhook", details, {"state": "CLOSE", "closeReason": "CONSUMER", "endTs": millis, "dialogs": [
            {"state": "CLOSE", "endTs": millis, "closedBy": "CONSUMER"}]})


def survives_trouble(checks, connector, agent, id):
    """The receiver fails, or its answer is lost: everything comes, in order, and once as far as the consumer can see."""
    kept, receiver = connector.kept[id], connector.receiver
    before = len(kept.shown)

    def says(*texts):
        for said in texts:
            agent.publish(id, plain(said))

    receiver.will(500, 503, 404)
    says("refused at first", "waits behind it", "waits too")
    connector.wait("what was refused at first", lambda: kept.text("waits too"))
    checks.match("refused webhooks", len(receiver.refused), 3)
    same = {post.body for post in receiver.refused}
    checks.match("the same bytes each time, and nothing overtakes", len(same), 1)
    checks.match("what was refused", json.loads(same.pop())["body"]["changes"][0]["event"]["message"], "refused at first")
    receiver.will(None, 201)
    says("taken, and the answer is lost", "behind the lost answer")
    connector.wait("what came twice", lambda: kept.text("behind the lost answer") and kept.repeats)
    checks.match("repeats", kept.repeats, 1)
    said = ["refused at first", "waits behind it", "waits too", "taken, and the answer is lost", "behind the lost answer"]
    checks.match("what Ann is shown, in order", kept.shown[before:], exactly([plain(words) for words in said]))


def ends(checks, connector, agent, ann, id):
    """A changed profile, a rating, the agent's close, and what may come after it."""
    kept = connector.kept[id]
    reply = connector.send(ann, request("p", "userprofile.SetUserProfile", {"lastName": "Sample", "nickName": "Annie"}))
    connector.ok("the profile's change", reply, {"code": "OK", "body": {"msg": PROFILE_SET}, "reqId": "p"})
    profile = agent.ask("userprofile.GetUserProfile", {"userId": ann.id})
    checks.match("the profile that the agent sees", profile, {"firstName": "Ann", "lastName": "Sample", "nickName": "Annie",
                                                              "authenticatedData": {"lp_sdes": [an_object, an_object]}})

    rate = {"field": "CSATRate", "csatRate": 5, "csatResolutionConfirmation": True, "status": "FILLED"}
    reply = connector.send(ann, update(5, id, rate))
    connector.ok("the rating", reply, {"code": "OK", "body": {"msg": "OK CSAT processed successfully"}, "reqId": "5"})
    details = connector.sees("the rating", id, lambda details: details.get("csat"))
    checks.match("the rating by webhook", details["csat"], {"csatRate": 5, "csatResolutionConfirmation": True, "status": "FILLED"})

    agent.closes(id)
    details = connector.sees("the close", id, lambda details: details["stage"] == "CLOSE")
    checks.match("the close by webhook", details, {"state": "CLOSE", "closeReason": "AGENT", "endTs": millis, "dialogs": [
        {"dialogId": id, "state": "CLOSE", "endTs": millis, "closedBy": "AGENT"}]})
    late = connector.send(ann, publish("8", id, plain("too late")))
    connector.refused("a message after the close", late, 40003, req_id="8")
    read = receipt("READ", kept.text("behind the lost answer")["sequence"])
    connector.heard("a receipt after the close", id, connector.publish(ann, "9", id, read), "CONSUMER", read)
    connector.close(ann, "10", id, {"field": "ConversationStateField", "conversationState": "CLOSE"})
    reply = connector.send(ann, update("11", id, [{**rate, "csatRate": "4"}]))
    connector.ok("a rating after the close", reply, {"code": "OK", "body": {"msg": "OK CSAT processed successfully"}, "reqId": "11"})
    connector.sees("the rating after the close", id, lambda details: details["csat"]["csatRate"] == 4)


def adds_up(checks, connector, ann, id):
    """What was posted is what is stored, member by member; nothing was forged, and nothing is left over."""
    kept = connector.kept[id]
    stored = connector.read_back(ann, id)
    seen = [change for change in kept.changes if change["messageAudience"] == "ALL"]
    checks.match("what is stored, but for whispers", stored, exactly(seen))
    checks.match("webhooks with a wrong signature", len(connector.receiver.forged), 0)
    genuine = b'{"kind":"notification"}'
    checks.match("a changed byte is noticed", signature(genuine) != signature(genuine.replace(b"k", b"K")), True)
    theirs = [event for event in stored if event["originatorMetadata"]["role"] != "CONSUMER"]
    messages = [event["event"] for event in theirs if event["event"]["type"] != "AcceptStatusEvent"]
    checks.match("all that Ann was shown", kept.shown, exactly(messages))


def run(checks, base, port, short):
    connector = Connector(checks, base, port)
    connector.find_hosts()
    tokens(checks, connector)
    # Each run has consumers of its own, so that it can be repeated on one server.
    run_id = os.urandom(4).hex()
    ann, bob = Consumer(connector, f"shop-4711-{run_id}"), Consumer(connector, f"shop-4712-{run_id}")
    checks.match("the same external id again", Consumer(connector, ann.name).id, ann.id)
    checks.match("another external id", bob.id != ann.id, True)
    with Agent.connected(checks, connector) as agent:
        agent.goes_online()
        id = opens(checks, connector, ann)
        talks(checks, connector, agent, ann, id)
        files(checks, connector, agent, ann, bob, id)
        errors(checks, connector, ann, bob, id)
        renews(checks, connector, ann, id, short)
        repeats_by_key(checks, connector, ann, id)
        finds_by_name(checks, connector, ann, bob)
        survives_trouble(checks, connector, agent, id)
        ends(checks, connector, agent, ann, id)
    adds_up(checks, connector, ann, id)
    checks.match("connections that broke under a call", connector.broken, 0)


def main():
    names = ("TIELINE_HTTP", "TIELINE_HOOK_PORT", "TIELINE_SHORT_JWT")
    unset = [name for name in names if not os.environ.get(name)]
    if unset:
        print(f"{', '.join(unset)} is not set", file=sys.stderr)
        return 1
    base, port, short = (os.environ[name].rstrip("/") for name in names)
    checks, failures = Checks(), []

    def guarded():
        try:
            run(checks, base, int(port), short)
        except Mismatch as mismatch:
            failures.append(str(mismatch))
        except Exception:
            failures.append(traceback.format_exc())

    # A daemon, so that nothing that hangs outlives the deadline.
    script = threading.Thread(target=guarded, daemon=True)
    script.start()
    script.join(RUN_DEADLINE)
    if script.is_alive():
        failures.append(f"expected the run to end within {RUN_DEADLINE} s")
    if failures:
        print(f"failed connector after {checks.count} checks\n{failures[0]}", file=sys.stderr)
        return 1
    print(f"ok connector {checks.count} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
