"""A whole conversation with the `websockets` package: a consumer and an agent, both on v3.

    TIELINE_HTTP=http://127.0.0.1:8080 .venv/bin/python run_websockets.py

Each frame is compared member by member, and no frame may be left over at the end.
"""

import asyncio
import base64
import json
import os
import re
import sys
import time
import traceback
import urllib.error
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

# The demo account of the built-in settings.
ACCOUNT = "demo"
LOGIN, PASSWORD, USER_ID = "grace", "grace-demo", "1002"

# Seconds that one awaited frame, and the whole run, may take.
FRAME_DEADLINE = 10
RUN_DEADLINE = 60
# Below this pause between a reply and the notification it causes, a real client was seen to lose the latter.
SHORT_PAUSE = 0.030
# Seconds in which an answer is due.
NORMAL_TTR = 3600

CONVERSATIONS = "cqm.ExConversationChangeNotification"
EVENTS = "ms.MessagingEventNotification"


class Mismatch(Exception):
    """The server said something else than expected."""


class Must:
    """A predicate with the words that say what it wants."""

    def __init__(self, says, test):
        self.says, self.test = says, test

    def __repr__(self):
        return self.says


# What a member is compared with that is not there.
MISSING = type("Missing", (), {"__repr__": lambda self: "nothing"})()

absent = Must("nothing", lambda value: value is MISSING)
a_list = Must("a list", lambda value: isinstance(value, list))
an_object = Must("an object", lambda value: isinstance(value, dict))
text = Must("a non-empty string", lambda value: isinstance(value, str) and value != "")
integer = Must("an integer", lambda value: type(value) is int)
# Milliseconds of our time have 13 digits; seconds would have 10.
millis = Must("whole milliseconds since 1970", lambda value: type(value) is int and 10**12 < value < 10**13)


def matching(pattern):
    return Must(f"text like {pattern}", lambda value: isinstance(value, str) and re.fullmatch(pattern, value))


uuid = matching("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def more_than(bound):
    return Must(f"more than {bound}", lambda value: type(value) in (int, float) and value > bound)


def exactly(expected):
    """This and no other members."""
    return Must(f"exactly {expected!r}", lambda value: value == expected)


def members(*expected):
    """These, each once, in whichever order."""

    def holds(value):
        has = lambda wanted: any(isinstance(member, dict) and wanted.items() <= member.items() for member in value)
        return isinstance(value, list) and len(value) == len(expected) and all(has(wanted) for wanted in expected)

    return Must(f"in any order {expected!r}", holds)


class Checks:
    """Counts what was compared."""

    def __init__(self):
        self.count = 0
        self.pauses = []

    def match(self, what, got, expected, path=""):
        """Compares member by member; members that are not named may be there, as clients ignore what they do not know."""
        if isinstance(expected, dict):
            self._leaf(what, got, an_object, path)
            for key, wanted in expected.items():
                self.match(what, got.get(key, MISSING), wanted, f"{path}.{key}")
        elif isinstance(expected, list):
            self._leaf(what, got, a_list, path)
            self._leaf(what, len(got), len(expected), f"{path}.length")
            for place, wanted in enumerate(expected):
                self.match(what, got[place], wanted, f"{path}[{place}]")
        else:
            self._leaf(what, got, expected, path)

    def _leaf(self, what, got, expected, path):
        self.count += 1
        # The type too: 1 is not True, and "200" is not 200.
        holds = expected.test(got) if isinstance(expected, Must) else type(got) is type(expected) and got == expected
        if not holds:
            raise Mismatch(f"{what}: {path or 'it'}\n  expected {expected!r}\n  got      {got!r}")

    def follows(self, what, reply, notification):
        """A notification must come behind the reply that causes it. The pause between them is reported, not judged."""
        self.match(what, notification.place, more_than(reply.place))
        self.pauses.append((what, notification.at - reply.at))

    def report_pauses(self):
        if self.pauses:
            print("pauses behind replies:", ", ".join(f"{pause * 1000:.0f}" for _, pause in self.pauses), "ms", file=sys.stderr)
        for what, pause in self.pauses:
            if pause < SHORT_PAUSE:
                print(f"short pause: {what}, {pause * 1000:.1f} ms", file=sys.stderr)


def frame_of(message):
    """A frame; anything but JSON text becomes one that nobody waits for, to be found at the end."""
    try:
        frame = json.loads(message) if isinstance(message, str) else None
    except ValueError:
        frame = None
    return frame if isinstance(frame, dict) else {"kind": "no frame", "message": message}


class Arrival:
    """A frame, its place among all of its socket, and when it came."""

    def __init__(self, frame, place):
        self.frame, self.place, self.at = frame, place, time.monotonic()


class Peer:
    """A socket and what came in on it."""

    def __init__(self, name, socket):
        self.name, self.socket = name, socket
        self.arrivals, self.came, self.ended = [], asyncio.Condition(), False
        self.reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, name, url):
        # The server is reached as it is, whatever proxy the environment names.
        return cls(name, await connect(url, proxy=None, open_timeout=FRAME_DEADLINE))

    async def _read(self):
        place = 0
        try:
            while True:
                arrival = Arrival(frame_of(await self.socket.recv()), place)
                place += 1
                async with self.came:
                    self.arrivals.append(arrival)
                    self.came.notify_all()
        except ConnectionClosed:
            pass
        finally:
            self.ended = True
            async with self.came:
                self.came.notify_all()

    async def take(self, what, wanted):
        """The first frame that is wanted, out of what has come or is still to come."""
        found = lambda: next((arrival for arrival in self.arrivals if wanted(arrival.frame)), None)
        try:
            async with asyncio.timeout(FRAME_DEADLINE), self.came:
                await self.came.wait_for(lambda: found() or self.ended)
        except TimeoutError:
            pass
        arrival = found()
        if arrival is None:
            why = f"the socket was closed with {self.socket.close_code}" if self.ended else "nothing like it"
            raise Mismatch(f"{self.name}: expected {what}\n  got {why}; not taken: {self.rest()}")
        self.arrivals.remove(arrival)
        return arrival

    async def ask(self, id, kind, body, **rest):
        """Sends a request and waits for the reply to it, which names the id as a string whatever it was."""
        await self.socket.send(json.dumps({"kind": "req", "id": id, "type": kind, "body": body, **rest}))
        is_reply = lambda frame: frame.get("kind") == "resp" and frame.get("reqId") == str(id)
        return await self.take(f"the reply {str(id)!r} to {kind}", is_reply)

    async def notification(self, kind, wanted=lambda body: True):
        is_wanted = lambda frame: frame.get("kind") == "notification" and frame.get("type") == kind and wanted(frame["body"])
        return await self.take(f"a notification {kind}", is_wanted)

    def rest(self):
        """What was never waited for."""
        return [arrival.frame for arrival in self.arrivals]

    async def close(self):
        await self.socket.close(1000)
        await self.reader
        return int(self.socket.close_code)


# The server is reached as it is, whatever proxy the environment names.
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


async def call(method, url, body=None):
    """One HTTP call: its status, and its body as JSON."""

    def answer():
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        try:
            with http.open(request, timeout=FRAME_DEADLINE) as response:
                return {"status": response.status, "body": json.load(response)}
        except urllib.error.HTTPError as error:
            return {"status": error.code, "body": error.read().decode(errors="replace")}

    return await asyncio.to_thread(answer)


def claims(jwt):
    """The part of a JWT that says whom it names, by plain base64, as a browser reads it."""
    part = jwt.split(".")[1]
    return json.loads(base64.b64decode(part + "=" * (-len(part) % 4), validate=True))


def conversation(id, consumer, agent=None, is_closed=False, effective_ttr=-1):
    """The conversation as v3 shows it, at one point of the run."""
    people = [{"id": consumer, "role": "CONSUMER"}]
    if agent:
        people.append({"id": agent, "role": "ASSIGNED_AGENT"})
    state = "CLOSE" if is_closed else "OPEN"
    end = millis if is_closed else absent
    return {
        "convId": id,
        "effectiveTTR": effective_ttr,
        "lastUpdateTime": absent,
        "conversationDetails": {
            "convId": absent,
            "brandId": ACCOUNT,
            "skillId": "-1",
            "participants": members(*people),
            "participantsPId": absent,
            "dialogs": [
                {
                    "dialogId": id,
                    "participantsDetails": members(*({**person, "state": "ACTIVE"} for person in people)),
                    "dialogType": "MAIN",
                    "channelType": "MESSAGING",
                    "state": state,
                    "creationTs": millis,
                    "endTs": end,
                    "metaDataLastUpdateTs": millis,
                    "closedBy": "CONSUMER" if is_closed else absent,
                }
            ],
            "state": state,
            "stage": state,
            "closeReason": "CONSUMER" if is_closed else absent,
            "startTs": millis,
            "endTs": end,
            "metaDataLastUpdateTs": millis,
            "firstConversation": True,
            "ttr": {"ttrType": "NORMAL", "value": NORMAL_TTR},
            "note": absent,
            "conversationHandlerDetails": {"accountId": ACCOUNT, "skillId": "-1"},
        },
    }


def event(id, sequence, who, role, content, metadata=None):
    """An event of the dialog as v3 shows it."""
    return {
        "sequence": sequence,
        "originatorId": who,
        "originatorPId": absent,
        "originatorMetadata": {"id": who, "role": role},
        "serverTimestamp": millis,
        "event": exactly(content),
        "conversationId": id,
        "dialogId": id,
        "messageAudience": "ALL",
        "metadata": exactly(metadata) if metadata else absent,
    }


def ok(req_id, kind, body):
    return {"kind": "resp", "reqId": req_id, "code": 200, "type": kind, "body": body}


def change(subscription, kind, result):
    return {"subscriptionId": subscription, "sentTs": millis, "changes": [{"type": kind, "result": result}]}


def under(subscription):
    return lambda body: body["subscriptionId"] == subscription


def about(subscription, id):
    """Under a subscription to everything, other runs on the same server are told of too."""
    return lambda body: body["subscriptionId"] == subscription and any(entry["result"]["convId"] == id for entry in body["changes"])


async def run(checks, base):
    # The lookup names every service by host and port, without a scheme.
    lookup = await call("GET", f"{base}/api/account/{ACCOUNT}/service/baseURI.json?version=1.0")
    checks.match("the lookup", lookup, {"status": 200, "body": {"baseURIs": a_list}})

    def host(service):
        found = next((entry for entry in lookup["body"]["baseURIs"] if entry["service"] == service), MISSING)
        checks.match(f"the lookup of {service}", found, {"service": service, "account": ACCOUNT, "baseURI": matching("[^/]+")})
        return found["baseURI"]

    login = await call(
        "POST", f"http://{host('agentVep')}/api/account/{ACCOUNT}/login?v=1.3", {"username": LOGIN, "password": PASSWORD}
    )
    config = {"loginName": LOGIN, "userId": USER_ID, "userPid": uuid, "userPrivileges": a_list, "serverCurrentTime": millis}
    tokens = {"bearer": matching("[A-Za-z0-9._~-]+"), "csrf": text, "sessionId": text, "sessionTTl": matching("[0-9]+")}
    checks.match("the login", login, {"status": 200, "body": {**tokens, "config": config, "error": absent}})
    agent = login["body"]["config"]["userPid"]
    old_id = f"{ACCOUNT}.{USER_ID}"

    sockets = f"ws://{host('asyncMessagingEnt')}/ws_api/account/{ACCOUNT}/messaging"
    a = await Peer.open("agent", f"{sockets}/brand/{login['body']['bearer']}?v=3")

    subscribed = {"subscriptionId": text}
    own_agent = await a.ask("u2", "cqm.SubscribeExConversations", {"convState": ["OPEN"], "agentIds": [old_id]})
    checks.match("agent subscribes to its own", own_agent.frame, ok("u2", "cqm.SubscribeExConversationsResponse", subscribed))
    s1 = own_agent.frame["body"]["subscriptionId"]
    # It may hold what earlier runs left open, so that only its form is known.
    own_snapshot = await a.notification(CONVERSATIONS, under(s1))
    checks.match("snapshot of the agent", own_snapshot.frame["body"], {"sentTs": millis, "changes": a_list})
    checks.follows("snapshot of the agent", own_agent, own_snapshot)

    signup = await call("POST", f"http://{host('idp')}/api/account/{ACCOUNT}/signup")
    checks.match("the sign-up", signup, {"status": 200, "body": {"jwt": text}})
    jwt = signup["body"]["jwt"]
    named = {"sub": uuid, "aud": f"acc:{ACCOUNT}", "iss": "https://idp.liveperson.net", "iat": integer, "exp": integer}
    checks.match("the claims of the consumer", claims(jwt), named)
    consumer = claims(jwt)["sub"]

    c = await Peer.open("consumer", f"{sockets}/consumer?v=3")
    properties = {"type": ".ams.headers.ClientProperties", "deviceFamily": "DESKTOP", "os": "LINUX", "features": ["AUTO_MESSAGES"]}
    authentication = {"type": ".ams.headers.ConsumerAuthentication", "jwt": jwt}
    # Some ids are numbers, as real clients send them; what comes back is a string.
    init = await c.ask(0, "InitConnection", {}, headers=[properties, authentication])
    checks.match("InitConnection", init.frame, ok("0", "StringResponse", "Connection initialized successfully"))

    own = await c.ask(1, "cqm.SubscribeExConversations", {"convState": ["OPEN"]})
    checks.match("consumer subscribes", own.frame, ok("1", "cqm.SubscribeExConversationsResponse", subscribed))
    s3 = own.frame["body"]["subscriptionId"]
    empty = await c.notification(CONVERSATIONS, under(s3))
    checks.match("empty snapshot of the consumer", empty.frame["body"], {"sentTs": millis, "changes": []})
    checks.follows("empty snapshot of the consumer", own, empty)

    opened = await c.ask("2,", "cm.ConsumerRequestConversation", {"skillId": "-1"})
    checks.match("consumer opens", opened.frame, ok("2,", "cm.RequestConversationResponse", {"conversationId": uuid}))
    id = opened.frame["body"]["conversationId"]
    upsert = await c.notification(CONVERSATIONS, under(s3))
    checks.match("consumer hears of the opening", upsert.frame["body"], change(s3, "UPSERT", conversation(id, consumer)))
    checks.follows("consumer hears of the opening", opened, upsert)
    updated = upsert.frame["body"]["changes"][0]["result"]["conversationDetails"]["metaDataLastUpdateTs"]

    async def follow(name, peer, req_id, expected):
        """Subscribes to the dialog from the beginning."""
        reply = await peer.ask(req_id, "ms.SubscribeMessagingEvents", {"dialogId": id, "fromSeq": 0})
        checks.match(f"{name} follows the dialog", reply.frame, ok(str(req_id), "GenericSubscribeResponse", an_object))
        replay = await peer.notification(EVENTS)
        checks.match(f"replay to the {name}", replay.frame["body"], {"changes": expected})
        checks.follows(f"replay to the {name}", reply, replay)

    await follow("consumer", c, "3", [])

    hello = {"type": "ContentEvent", "contentType": "text/plain", "message": "hello"}
    card = [{"type": "ExternalId", "id": "CARD-1"}]
    said = await c.ask(4, "ms.PublishEvent", {"dialogId": id, "event": hello}, metadata=card)
    checks.match("consumer publishes", said.frame, ok("4", "ms.PublishEventResponse", {"sequence": 0}))
    own_copy = await c.notification(EVENTS)
    first = event(id, 0, consumer, "CONSUMER", hello, card)
    checks.match("consumer hears itself", own_copy.frame["body"], {"changes": [first]})
    due = own_copy.frame["body"]["changes"][0]["serverTimestamp"] + NORMAL_TTR * 1000
    due_soon = await c.notification(CONVERSATIONS)
    waits = change(s3, "UPSERT", conversation(id, consumer, effective_ttr=due))
    checks.match("consumer hears that an answer is due", due_soon.frame["body"], waits)
    updated = due_soon.frame["body"]["changes"][0]["result"]["conversationDetails"]["metaDataLastUpdateTs"]

    everything = await a.ask("u3", "cqm.SubscribeExConversations", {"stage": ["OPEN"]})
    checks.match("agent subscribes to all", everything.frame, ok("u3", "cqm.SubscribeExConversationsResponse", subscribed))
    s2 = everything.frame["body"]["subscriptionId"]
    snapshot = await a.notification(CONVERSATIONS, under(s2))
    checks.follows("snapshot of all", everything, snapshot)
    ours = [entry for entry in snapshot.frame["body"]["changes"] if entry["result"]["convId"] == id]
    seen = {"type": "UPSERT", "result": conversation(id, consumer, effective_ttr=due)}
    checks.match("the conversation in the snapshot of all", ours, [seen])

    async def told(what, kind, **state):
        """A conversation that matches two subscriptions of a connection is told under each."""
        nonlocal updated
        before = updated
        for name, peer, subscription in [("consumer", c, s3), ("agent, own", a, s1), ("agent, all", a, s2)]:
            notification = await peer.notification(CONVERSATIONS, about(subscription, id))
            expected = change(subscription, kind, conversation(id, consumer, agent, **state))
            checks.match(f"{what} ({name})", notification.frame["body"], expected)
            updated = notification.frame["body"]["changes"][0]["result"]["conversationDetails"]["metaDataLastUpdateTs"]
            checks.match(f"the time of {what} ({name})", updated, more_than(before))

    addition = {"field": "ParticipantsChange", "type": "ADD", "role": "ASSIGNED_AGENT"}
    join = await a.ask("u4", "cm.UpdateConversationField", {"conversationId": id, "conversationField": [addition]})
    checks.match("agent joins", join.frame, ok("u4", "StringResponse", "OK Agent added successfully"))
    await told("the join", "UPSERT", effective_ttr=due)

    await follow("agent", a, "u5", [first])

    async def heard(what, expected):
        """Everybody who follows the dialog hears the event, the sender too."""
        for name, peer in [("agent", a), ("consumer", c)]:
            notification = await peer.notification(EVENTS)
            checks.match(f"{name} hears {what}", notification.frame["body"], {"changes": [expected]})

    hi = {"type": "ContentEvent", "contentType": "text/plain", "message": "hi"}
    answer = await a.ask("u6", "ms.PublishEvent", {"dialogId": id, "event": hi})
    checks.match("agent publishes", answer.frame, ok("u6", "ms.PublishEventResponse", {"sequence": 1}))
    await heard("the answer", event(id, 1, agent, "ASSIGNED_AGENT", hi))
    await told("that nothing is due any more", "UPSERT", effective_ttr=-1)

    read = {"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [1]}
    receipt = await c.ask(5, "ms.PublishEvent", {"dialogId": id, "event": read})
    checks.match("consumer has read it", receipt.frame, ok("5", "ms.PublishEventResponse", {"sequence": 2}))
    await heard("the receipt", event(id, 2, consumer, "CONSUMER", read))

    closing = {"field": "ConversationStateField", "conversationState": "CLOSE"}
    close = await c.ask("6", "cm.UpdateConversationField", {"conversationId": id, "conversationField": [closing]})
    checks.match("consumer closes", close.frame, ok("6", "StringResponse", "OK Conversation resolved successfully"))
    await told("the end", "DELETE", is_closed=True)

    # A round trip more, so that a frame too many would be here by now. Both spellings are known on both sides, and an
    # id may be used again once it is answered.
    for name, peer, kind in [("agent", a, ".GetClock"), ("consumer", c, "GetClock")]:
        clock = await peer.ask(1, kind, {})
        checks.match(f"the clock of the {name}", clock.frame, {"kind": "resp", "reqId": "1", "code": 200, "body": {"currentTime": millis}})
    # What other runs do on the same server is none of ours.
    is_ours = lambda frame: frame["kind"] != "notification" or id in json.dumps(frame)
    checks.match("frames left over at the agent", [frame for frame in a.rest() if is_ours(frame)], exactly([]))
    checks.match("frames left over at the consumer", c.rest(), exactly([]))

    checks.match("the close of the consumer", await c.close(), 1000)
    checks.match("the close of the agent", await a.close(), 1000)


async def main():
    base = os.environ.get("TIELINE_HTTP", "").rstrip("/")
    if not base:
        print("TIELINE_HTTP is not set", file=sys.stderr)
        return 1
    checks, failure = Checks(), None
    try:
        async with asyncio.timeout(RUN_DEADLINE):
            await run(checks, base)
    except Mismatch as mismatch:
        failure = str(mismatch)
    except TimeoutError:
        failure = f"expected the run to end within {RUN_DEADLINE} s"
    except Exception:
        failure = traceback.format_exc()
    checks.report_pauses()
    if failure:
        print(f"failed run_websockets after {checks.count} checks\n{failure}", file=sys.stderr)
        return 1
    print(f"ok run_websockets {checks.count} checks")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
