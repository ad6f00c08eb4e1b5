"""The Singer tap `tap-dixa`, as it is, takes the activity log of a gateway.

    HTTPS_PROXY=http://127.0.0.1:9000 REQUESTS_CA_BUNDLE=ca.pem TIELINE_KEY=... .venv-tap-dixa/bin/python tap_dixa.py

The tap knows one host, so the proxy must lead dev.dixa.io:443 to the gateway's TLS listener, whose certificate for that name the bundle
must vouch for. Something must have happened in the account already.
"""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import requests

TAP = pathlib.Path(sys.executable).parent / "tap-dixa"
LOG = "https://dev.dixa.io/v1/conversations/activitylog"
STREAM = "activity_logs"
# Seconds that one run may take, and the activities of one page.
DEADLINE = 120
PAGE = 3


def run(folder, *words):
    command = [TAP, "--config", folder / "config.json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def write(folder, name, value):
    path = folder / name
    path.write_text(json.dumps(value))
    return path


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def sync(folder, catalog, *words):
    """The records of a run, and the state behind it."""
    messages = [json.loads(line) for line in run(folder, "--catalog", catalog, *words).splitlines()]
    records = [message["record"] for message in messages if message["type"] == "RECORD"]
    assert all(message["stream"] == STREAM for message in messages if "stream" in message), messages
    return records, [message["value"] for message in messages if message["type"] == "STATE"][-1]


def known(record, activity):
    """What of an activity the tap's schema knows, as it writes it."""
    same = {"id", "conversationId", "activityType", "_type"}
    assert {name: record[name] for name in same} == {name: activity[name] for name in same}, (record, activity)
    assert moment(record["activityTimestamp"]) == moment(activity["activityTimestamp"]), (record, activity)
    for name in ("author", "attributes"):
        given = activity.get(name) or {}
        for member, value in (record.get(name) or {}).items():
            assert value == given.get(member), (name, member, record, activity)
    assert record["author"]["id"] == activity["author"]["id"], record


def main():
    key = os.environ["TIELINE_KEY"]
    reply = requests.get(LOG, headers={"Authorization": key}, params={"pageLimit": 10_000}, timeout=DEADLINE)
    assert reply.status_code == 200, reply.text
    expected = reply.json()["data"]
    last = max(moment(activity["activityTimestamp"]) for activity in expected)
    # The tap asks up to the second that has begun.
    while int(time.time()) <= last.timestamp():
        time.sleep(0.05)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write(folder, "config.json", {"api_token": key, "start_date": "2024-01-01T00:00:00Z", "page_size": PAGE})
        catalog = json.loads(run(folder, "--discover"))
        for stream in catalog["streams"]:
            for entry in stream["metadata"]:
                entry["metadata"]["selected"] = stream["tap_stream_id"] == STREAM
        catalog = write(folder, "catalog.json", catalog)
        records, state = sync(folder, catalog)
        assert [record["id"] for record in records] == [activity["id"] for activity in expected], (records, expected)
        assert len(records) > 3 * PAGE, len(records)
        for record, activity in zip(records, expected):
            known(record, activity)
        bookmark = state["bookmarks"][STREAM]["activityTimestamp"]
        assert moment(bookmark) == last, (bookmark, last)
        # From there on the next run begins. It asks by whole seconds, and keeps what is as new as the last.
        again, state = sync(folder, catalog, "--state", write(folder, "state.json", state))
        newest = [activity["id"] for activity in expected if moment(activity["activityTimestamp"]) == last]
        assert [record["id"] for record in again] == newest, again
        assert moment(state["bookmarks"][STREAM]["activityTimestamp"]) == last, state
        # A wrong key ends the tap.
        write(folder, "config.json", {"api_token": "wrong", "start_date": "2024-01-01T00:00:00Z"})
        refused = subprocess.run([TAP, "--config", folder / "config.json", "--discover"], capture_output=True, timeout=DEADLINE, check=False)
        assert refused.returncode != 0 and b"Invalid or missing credentials" in refused.stderr, refused
    print(f"ok tap-dixa: {len(records)} activities in pages of {PAGE}, and none twice from the bookmark on")


if __name__ == "__main__":
    main()
