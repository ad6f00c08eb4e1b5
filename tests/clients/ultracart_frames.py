"""Decodes the frames of the agent socket with the vendor's Python SDK, as it is and as strict as it is.

    .venv-ultracart/bin/python ultracart_frames.py FRAMES

FRAMES has one JSON document on each line.
"""

import json
import sys

from ultracart.api_client import ApiClient
from ultracart.model.conversation_websocket_message import ConversationWebsocketMessage


class Reply:
    """What the SDK reads from: the body of a reply."""

    def __init__(self, text):
        self.data = text


def decode(text):
    return ApiClient().deserialize(Reply(text), (ConversationWebsocketMessage,), True)


def agrees(frame, decoded, path=""):
    """That all that stands in a frame is found again in what the SDK made of it."""
    for name, value in frame.items():
        found = decoded[name]
        if isinstance(value, dict) and not isinstance(found, dict):
            agrees(value, found, f"{path}.{name}")
        elif not isinstance(value, list):
            assert found == value, (f"{path}.{name}", value, found)


def refused(text):
    try:
        decode(text)
    except Exception:  # The SDK has several kinds of refusal.
        return True
    return False


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = [line for line in file.read().splitlines() if line]
    kinds = set()
    for line in lines:
        frame = json.loads(line)
        try:
            agrees(frame, decode(line))
        except Exception as error:
            raise SystemExit(f"{line}: {error!r}") from error
        kinds.add(frame.get("event_type") or frame["type"])
    # It is as strict as we believe, or the above would say nothing.
    for wrong in [
        '{"type":"pong"}',
        '{"type":"event","event_type":"gone"}',
        '{"type":"message","message":{"body":null}}',
        '{"type":"message","message":{"message_epoch":"7"}}',
        '{"type":"event","event_type":"new message","event_new_message":{"unread_messages":1}}',
    ]:
        assert refused(wrong), wrong
    print(f"ok {len(lines)} frames of {len(kinds)} kinds")


main()
