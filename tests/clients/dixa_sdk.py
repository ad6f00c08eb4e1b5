"""The public Python client `dixa`, as it is, on a gateway: end users, agents and tags.

    TIELINE_HTTP=http://127.0.0.1:8080 TIELINE_KEY=... .venv-dixa/bin/python dixa_sdk.py

The account must have agents with mail addresses, one of them `ada@shop.example`, and the tags `VIP`, which is active, and `Old`, which
is not. It must have no end users.
"""

import os

from dixa import DixaClient, User, UserList
from dixa.errors import DixaApiError
from pydantic import SecretStr

MOBILE = "+447400123456"


def status_of(call):
    """The status that a call is refused with."""
    try:
        call()
    except DixaApiError as error:
        message = error.response.json()
        assert list(message) == ["message"] and message["message"], message
        return error.response.status_code
    raise AssertionError("the call is not refused")


def names(users):
    return sorted(user.display_name for user in users.user_list)


def agents(client):
    listed = client.get_agents()
    by_mail = {agent.email: agent for agent in listed.user_list}
    ada = by_mail["ada@shop.example"]
    assert ada.is_agent and ada.display_name == "ada" and ada.created_at is not None, ada
    assert client.get_agents(agent_id=ada.user_id) == ada
    paged = client.get_all_agents(page_limit=1)
    assert [agent.user_id for agent in paged.user_list] == [agent.user_id for agent in listed.user_list]
    first = client.get_agents(page_limit=2)
    assert len(first.user_list) == 2 and first.next_page_key, first
    rest = client.get_agents(page_limit=2, page_key=first.next_page_key)
    assert first.user_list + rest.user_list == listed.user_list
    assert status_of(lambda: client.get_agents(agent_id="11111111-2222-4333-8444-555555555555")) == 404
    return len(listed.user_list)


def end_users(client):
    assert client.get_end_users().user_list == []
    ann = User(displayName="Ann", email="ann@home.example", phoneNumber=MOBILE, middleNames=["B."])
    made = client.post_end_user(user=ann)
    assert made.user_id and made.created_at, made
    assert (made.display_name, made.email, made.phone_number, made.middle_names) == ("Ann", "ann@home.example", MOBILE, ["B."]), made
    for found in (
        client.get_end_users(user_id=made.user_id),
        client.get_end_users(email="ANN@home.example"),
        client.get_end_users(phone_number=MOBILE),
    ):
        assert found == made, found
    outcomes = client.post_end_users_bulk(user_list=UserList(data=[User(displayName="Bob"), User(displayName="Cid", email="cid@home.example")]))
    assert [outcome["_type"] for outcome in outcomes] == ["BulkActionSuccess"] * 2, outcomes
    assert names(client.get_end_users()) == ["Ann", "Bob", "Cid"]
    assert names(client.get_all_end_users(page_limit=1)) == ["Ann", "Bob", "Cid"]
    bob, cid = (User(**outcome["data"]) for outcome in outcomes)
    changed = client.patch_end_user(user_id=bob.user_id, user_data={"email": "bob@home.example"})
    assert (changed["displayName"], changed["email"]) == ("Bob", "bob@home.example"), changed
    client.put_end_user(user=User(id=cid.user_id, displayName="Sid"))
    assert client.get_end_users(user_id=cid.user_id).email is None
    several = UserList(data=[User(id=bob.user_id, displayName="Rob"), User(id=cid.user_id, displayName="Cyd")])
    assert [outcome["_type"] for outcome in client.put_end_user(user_list=several)] == ["BulkActionSuccess"] * 2
    assert names(client.get_end_users()) == ["Ann", "Cyd", "Rob"]
    assert status_of(lambda: client.patch_end_user(user_id=bob.user_id, user_data={"email": "nobody"})) == 400
    assert status_of(lambda: client.get_end_users(user_id="bob")) == 400
    return 3


def tags(client):
    listed = client.get_tags().tag_list
    assert [tag.name for tag in listed] == ["VIP"], listed
    vip = listed[0]
    assert (vip.state, vip.color.as_hex()) == ("Active", "#1e90ff"), vip
    assert client.get_tags(tag_id=vip.tag_id) == vip
    assert client.patch_tag(action="deactivate", tag=vip).status_code == 204
    assert client.get_tags().tag_list == [] and client.get_tags(tag_id=vip.tag_id).state == "Inactive"
    assert client.patch_tag(action="activate", tag_id=vip.tag_id).status_code == 204
    assert client.get_tags().tag_list == [vip]
    assert status_of(lambda: client.patch_tag(action="activate", tag_id="11111111-2222-4333-8444-555555555555")) == 404


def main():
    origin, key = os.environ["TIELINE_HTTP"], os.environ["TIELINE_KEY"]
    stranger = DixaClient(base_url=origin, api_key=SecretStr("wrong"))
    assert status_of(stranger.get_tags) == 401
    client = DixaClient(base_url=origin, api_key=SecretStr(key))
    count, made = agents(client), end_users(client)
    tags(client)
    print(f"ok dixa: {count} agents read, {made} end users made and changed, tags switched off and on")


if __name__ == "__main__":
    main()
