"""The vendor's Python SDK, as it is, on a gateway: what an agent's program does with conversations.

    TIELINE_HTTP=http://127.0.0.1:8080 TIELINE_KEY=... TIELINE_CONVERSATION=... .venv-ultracart/bin/python ultracart_sdk.py

The key must be that of agent 1001, called ada. The conversation must wait for an agent and have one message, of its customer; there
must be no other.
"""

import os

import urllib3
from ultracart.api.conversation_api import ConversationApi
from ultracart.api_client import ApiClient
from ultracart.configuration import Configuration
from ultracart.exceptions import ApiException, NotFoundException, UnauthorizedException
from ultracart.model.conversation_join_request import ConversationJoinRequest
from ultracart.model.conversation_start_request import ConversationStartRequest
from ultracart.model.conversation_webchat_queue_status_update_request import ConversationWebchatQueueStatusUpdateRequest

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0"
NOBODY = "11111111-2222-4333-8444-555555555555"
BASE = os.environ["TIELINE_HTTP"].rstrip("/") + "/rest/v2"


def api(**credential):
    configuration = Configuration(host=BASE)
    if "key" in credential:
        configuration.api_key["ultraCartSimpleApiKey"] = credential["key"]
    if "token" in credential:
        configuration.access_token = credential["token"]
    return ConversationApi(ApiClient(configuration, header_name="X-UltraCart-Api-Version", header_value="2017-03-01"))


def refused(call, kind, status):
    """That a call is refused, and that the SDK tells how."""
    try:
        call()
    except ApiException as error:
        assert isinstance(error, kind) and error.status == status, (error, status)
        assert error.headers["UC-REST-ERROR"], error.headers
        return
    raise AssertionError("the call is not refused")


def authorisation(client):
    told = client.get_agent_websocket_authorization()
    auth = told.agent_auth
    assert told.success and auth.user_id == 1001 and auth.chat_user and not auth.chat_admin, told
    assert auth.conversation_participant_arn.endswith("agent/1001") and auth.conversation_participant_name == "ada", auth
    assert auth.jwt and auth.websocket_url.startswith("ws://") and auth.jwt in auth.websocket_url, auth
    client.get_agent_keep_alive()


def waiting(client, uuid):
    """A customer who waits is found, joined, read and left."""
    listed = client.get_conversations()
    assert [one.conversation_uuid for one in listed.conversations] == [uuid], listed
    row = listed.conversations[0]
    assert row.message_count == 1 and row.unread_messages is True and row.last_conversation_message_body == "Is it in stock?", row
    queue = client.get_conversation_webchat_queue_statuses().queue_statuses[0]
    assert queue.customer_waiting_count == 1 and queue.queue_entries[0].conversation_webchat_queue_uuid == uuid, queue
    client.join_conversation(uuid, join_request=ConversationJoinRequest(participant_language_iso_code="en"))
    client.join_conversation(uuid)
    shown = client.get_conversation(uuid).conversation
    assert [one.status for one in shown.participants] == ["joined", "joined"], shown
    message = shown.messages[0]
    assert message.body == "Is it in stock?" and message.type == "message" and message.transport_statuses[0].status == "sent", message
    client.mark_read_conversation(uuid)
    shown = client.get_conversation(uuid, limit=1).conversation
    assert shown.unread_messages is False and shown.messages[0].transport_statuses[0].status == "read", shown
    later = client.get_conversation_messages(uuid, message.message_epoch - 1)
    assert [one.conversation_message_uuid for one in later.conversation_messages] == [message.conversation_message_uuid], later
    assert client.get_conversation_messages(uuid, message.message_epoch).conversation_messages == []
    client.leave_conversation(uuid)
    left = [one for one in client.get_conversation(uuid).conversation.participants if one.status == "left"]
    assert len(left) == 1 and left[0].left_dts, left


def beginnings(client):
    begun = [client.start_conversation(ConversationStartRequest()).conversation for _ in range(3)]
    again = client.start_conversation(ConversationStartRequest(conversation_arn=begun[0].conversation_arn)).conversation
    assert again.conversation_uuid == begun[0].conversation_uuid, again
    seen, offset, pages = [], 0, 0
    while True:
        page = client.get_conversations(limit=2, offset=offset)
        seen += [one.conversation_uuid for one in page.conversations]
        pages += 1
        if not page.metadata.result_set.more:
            break
        offset = page.metadata.result_set.next_offset
    assert pages == 2 and len(set(seen)) == 4 and {one.conversation_uuid for one in begun} < set(seen), seen


def upload(client):
    given = client.get_conversation_multimedia_upload_url("png").conversation_multimedia_upload_url
    put = urllib3.PoolManager().request("PUT", given.url, body=PNG)
    assert put.status == 201 and given.key, (put.status, put.data)


def status(client):
    client.update_conversation_webchat_queue_status("77", ConversationWebchatQueueStatusUpdateRequest(agent_status="busy"))
    queues = {one.queue_name: one for one in client.get_conversation_webchat_queue_statuses().queue_statuses}
    assert queues["77"].agent_busy_count == 1 and queues["77"].agents[0].agent_status == "busy", queues


def refusals(client, uuid):
    refused(lambda: api(key="wrong").get_conversations(), UnauthorizedException, 401)
    refused(lambda: api(token="wrong").get_conversations(), UnauthorizedException, 401)
    refused(lambda: client.get_conversation(NOBODY), NotFoundException, 404)
    refused(lambda: client.join_conversation(NOBODY), NotFoundException, 404)
    refused(lambda: client.get_conversations(limit=0), ApiException, 400)
    refused(lambda: client.get_conversation_multimedia_upload_url("exe"), ApiException, 400)
    refused(lambda: client.mark_read_conversation(uuid), ApiException, 400)
    refused(lambda: client.start_conversation(ConversationStartRequest(conversation_arn="nonsense")), ApiException, 400)


def main():
    client, uuid = api(key=os.environ["TIELINE_KEY"]), os.environ["TIELINE_CONVERSATION"]
    authorisation(client)
    waiting(client, uuid)
    beginnings(client)
    upload(client)
    status(client)
    refusals(client, uuid)
    print("ok ultracart_sdk: a conversation found, joined, read and left, three begun, a file put, eight refusals")


main()
