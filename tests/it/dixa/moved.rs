//! Conversations that are claimed, closed, opened again and put into queues (rows 4 to 7), with an agent on its socket.

use super::{Dixa, NOBODY, People, chat, open, people, start, text};
use crate::support::*;
use serde_json::{Value, json};

/// The native id of a conversation of a socket's list.
async fn follow_all(ws: &mut Ws) {
    let subscribed =
        ws.ask(&request("s", "cqm.SubscribeExConversations", json!({"brandId": ACCOUNT, "convState": ["OPEN", "CLOSE"]}))).await;
    assert_eq!(subscribed["code"], 200, "{subscribed}");
}

/// Waits for a state of a conversation on a socket.
async fn told(ws: &mut Ws, id: &str, is_so: impl Fn(&Value) -> bool) {
    let passes = |frame: &Value| {
        frame["body"]["changes"].as_array().is_some_and(|changes| {
            changes.iter().any(|change| change["result"]["convId"] == id && is_so(&change["result"]["conversationDetails"]))
        })
    };
    ws.first(passes).await;
}

fn has(details: &Value, pid: &str) -> bool {
    details["participants"].to_string().contains(pid) || details["participantsPId"].to_string().contains(pid)
}

#[tokio::test]
async fn a_claim_takes_over_unless_it_says_that_it_does_not_and_the_socket_sees_it() {
    let (server, dixa) = start().await;
    let People { ada, grace, speaker, .. } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "77", "hello").await;
    let path = format!("/conversations/{number}/claim");
    let mut socket = server.api().agent("ada", "2").await;
    follow_all(&mut socket).await;
    let claim = async |agent: &str, force: Value| dixa.put(&path, &json!({"agentId": agent, "force": force})).await;
    let first = claim(&ada, json!(false)).await;
    assert_eq!((first.status, first.text.as_str()), (204, ""));
    told(&mut socket, &id, |details| has(details, &ada)).await;
    let since = dixa.conversation(number).await["assignment"].clone();
    assert_eq!(since["agentId"], ada.as_str());
    assert_eq!(claim(&ada, json!(false)).await.status, 204, "it has it");
    assert_eq!(dixa.conversation(number).await["assignment"], since, "since then");
    assert_eq!(claim(&grace, json!(false)).await.status, 409);
    assert_eq!(dixa.conversation(number).await["assignment"], since);
    assert_eq!(dixa.put(&path, &json!({"agentId": grace})).await.status, 204);
    told(&mut socket, &id, |details| has(details, &grace) && !has(details, &ada)).await;
    assert_eq!(claim(&ada, json!(true)).await.status, 204);
    assert_eq!(claim(&grace, Value::Null).await.status, 204);
    let is = dixa.conversation(number).await;
    assert_eq!((&is["assignment"]["agentId"], &is["state"]), (&json!(grace), &json!("Open")));
    for (body, status) in [
        (json!({"agentId": NOBODY}), 404),
        (json!({"agentId": is["requesterId"]}), 404),
        (json!({"agentId": "1001"}), 400),
        (json!({"agentId": ada, "force": "yes"}), 400),
        (json!({}), 400),
    ] {
        dixa.refused("PUT", &path, &body, status).await;
    }
    dixa.refused("PUT", "/conversations/999/claim", &json!({"agentId": ada}), 404).await;
    dixa.refused("PUT", "/conversations/x/claim", &json!({"agentId": ada}), 400).await;
    let agents = Dixa::with(&dixa.api, "agent-key");
    agents.refused("PUT", &path, &json!({"agentId": grace}), 401).await;
    assert_eq!(agents.put(&path, &json!({"agentId": ada})).await.status, 204);
    // Closed, it has another agent and stays closed.
    assert_eq!(dixa.call("PUT", &format!("/conversations/{number}/close"), "").await.status, 204);
    assert_eq!(claim(&grace, json!(true)).await.status, 204);
    let is = dixa.conversation(number).await;
    assert_eq!((&is["assignment"]["agentId"], &is["state"]), (&json!(grace), &json!("Closed")));
}

#[tokio::test]
async fn of_two_claims_at_once_one_wins() {
    let (_server, dixa) = start().await;
    let People { ada, grace, speaker, .. } = people(&dixa).await;
    for _ in 0..10 {
        let (_, number) = open(&dixa, &speaker, "77", "hello").await;
        let path = format!("/conversations/{number}/claim");
        let claim = async |agent: &str| dixa.put(&path, &json!({"agentId": agent, "force": false})).await.status;
        let (one, other) = tokio::join!(claim(&ada), claim(&grace));
        let winner = if one == 204 { &ada } else { &grace };
        assert_eq!([one.min(other), one.max(other)], [204, 409]);
        assert_eq!(dixa.conversation(number).await["assignment"]["agentId"], winner.as_str());
    }
}

#[tokio::test]
async fn what_is_closed_stays_closed_and_what_is_opened_again_waits_in_its_queue() {
    let (server, dixa) = start().await;
    let People { ada, speaker, ann, .. } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "77", "hello").await;
    let mut socket = server.api().agent("ada", "2").await;
    follow_all(&mut socket).await;
    let path = |what: &str| format!("/conversations/{number}/{what}");
    assert_eq!(dixa.put(&path("claim"), &json!({"agentId": ada})).await.status, 204);
    let open = dixa.conversation(number).await;
    // All three ways to leave the body out, and both states to find it in.
    for body in ["", "{}", "  "] {
        for (what, state) in [("close", "Closed"), ("close", "Closed"), ("reopen", "Open"), ("reopen", "Open")] {
            let reply = dixa.call("PUT", &path(what), body).await;
            assert_eq!((reply.status, reply.text.as_str()), (204, ""), "{what} {body:?}");
            assert_eq!(dixa.conversation(number).await["state"], state);
        }
    }
    let is = dixa.conversation(number).await;
    assert_eq!((&is["queue"]["id"], &is["assignment"]), (&open["queue"]["id"], &Value::Null));
    let time = |is: &Value, name: &str| is.pointer(name).unwrap().as_str().unwrap().to_owned();
    assert!(time(&is, "/stateUpdatedAt") > time(&open, "/stateUpdatedAt") && time(&is, "/queue/queuedAt") > time(&open, "/queue/queuedAt"));
    // In somebody's name, as the socket hears.
    for (what, state) in [("close", "CLOSE"), ("reopen", "OPEN"), ("close", "CLOSE"), ("reopen", "OPEN")] {
        assert_eq!(dixa.put(&path(what), &json!({"userId": ada})).await.status, 204);
        told(&mut socket, &id, |details| details["state"] == state).await;
    }
    for what in ["close", "reopen"] {
        for user in [NOBODY, &ann] {
            let said = dixa.refused("PUT", &path(what), &json!({"userId": user}), 400).await;
            assert!(said.contains("agent or admin"), "{said}");
        }
        dixa.refused("PUT", &path(what), &json!({"userId": 7}), 400).await;
        dixa.refused("PUT", &path(what), &json!([1]), 400).await;
        dixa.refused("PUT", &format!("/conversations/999/{what}"), &json!({}), 404).await;
        dixa.refused("PUT", &format!("/conversations/9x/{what}"), &json!({}), 400).await;
    }
    // Who has not joined may not.
    Dixa::with(&dixa.api, "agent-key").refused("PUT", &path("close"), &json!({}), 401).await;
    assert_eq!(Dixa::with(&dixa.api, "manager-key").put(&path("close"), &json!({})).await.status, 204);
}

/// Another account, with a default queue.
const SHOP: &str = r#"
[[accounts]]
id = "shop"
default_queue = "5"
[[accounts.apps]]
client_id = "demo-connector"
client_secret = "demo-connector-secret"
[[accounts.queues]]
id = "5"
[[accounts.api_keys]]
dialect = "dixa"
key = "shop-key"
per_second = 10000
"#;

#[tokio::test]
async fn what_nobody_put_into_a_queue_is_opened_again_in_the_default_queue() {
    let server = TestServer::with(&format!("{SHOP}{}", super::SETUP)).await;
    let (api, dixa) = (server.api(), Dixa::with(&server.api(), "shop-key"));
    let app = api.app_token_of("shop", "demo-connector").await;
    let jws = api.consumer_of("shop", &app, "ann").await;
    let ann = Speaker { api, account: "shop".into(), app, jws };
    let (_, number) = open(&dixa, &ann, "-1", "hello").await;
    let before = dixa.conversation(number).await;
    // What begins here names no queue.
    let begun = dixa.begin(&chat(before["requesterId"].as_str().unwrap(), "hello")).await;
    let default = dixa.conversation(begun).await["queue"]["id"].clone();
    assert_ne!(before["queue"]["id"], default);
    for (what, queue) in [("reopen", &before["queue"]["id"]), ("close", &before["queue"]["id"]), ("reopen", &default)] {
        assert_eq!(dixa.call("PUT", &format!("/conversations/{number}/{what}"), "").await.status, 204);
        assert_eq!(&dixa.conversation(number).await["queue"]["id"], queue, "{what}");
    }
    // Another account's conversations have numbers of their own, and are not there for this key.
    let other = Dixa::with(&dixa.api, "account-key");
    other.refused("GET", &format!("/conversations/{number}"), &Value::Null, 404).await;
    other.refused("POST", "/conversations", &chat(before["requesterId"].as_str().unwrap(), "hello"), 404).await;
}

#[tokio::test]
async fn a_transfer_puts_it_into_another_queue_without_an_agent_and_opens_it() {
    let (server, dixa) = start().await;
    let People { ada, ann, speaker, .. } = people(&dixa).await;
    let sales = dixa.queue(&speaker, "88").await;
    let (id, number) = open(&dixa, &speaker, "77", "hello").await;
    let path = format!("/conversations/{number}/transfer/queue");
    let mut socket = server.api().agent("ada", "2").await;
    follow_all(&mut socket).await;
    assert_eq!(dixa.put(&format!("/conversations/{number}/claim"), &json!({"agentId": ada})).await.status, 204);
    let before = dixa.conversation(number).await;
    let moved = dixa.put(&path, &json!({"queueId": sales, "userId": ada})).await;
    assert_eq!((moved.status, moved.text.as_str()), (204, ""));
    told(&mut socket, &id, |details| details["skillId"] == "88" && !has(details, &ada)).await;
    let is = dixa.conversation(number).await;
    assert_eq!([&is["queue"]["id"], &is["state"]], [sales.as_str(), "Open"]);
    assert!(is["assignment"].is_null() && is["queue"]["queuedAt"] != before["queue"]["queuedAt"], "{is}");
    assert_eq!(is["stateUpdatedAt"], before["stateUpdatedAt"], "its state is what it was");
    assert_eq!(dixa.call("PUT", &format!("/conversations/{number}/close"), "").await.status, 204);
    assert_eq!(dixa.put(&path, &json!({"queueId": before["queue"]["id"]})).await.status, 204);
    assert_eq!(dixa.conversation(number).await["state"], "Open");
    for (body, why) in [
        (json!({"queueId": NOBODY}), "queue"),
        (json!({"queueId": "77"}), "UUID"),
        (json!({"queueId": sales, "userId": NOBODY}), "agent or admin"),
        (json!({"queueId": sales, "userId": ann}), "agent or admin"),
        (json!({}), "queueId"),
    ] {
        let said = dixa.refused("PUT", &path, &body, 400).await;
        assert!(said.contains(why), "{body}: {said}");
    }
    dixa.refused("PUT", "/conversations/999/transfer/queue", &json!({"queueId": sales}), 404).await;
    dixa.refused("PUT", "/conversations/1.5/transfer/queue", &json!({"queueId": sales}), 400).await;
}

#[tokio::test]
async fn a_conversation_that_began_here_is_answered_on_the_socket() {
    let (server, dixa) = start().await;
    let People { ann, ada, .. } = people(&dixa).await;
    let number = dixa.begin(&chat(&ann, "hello")).await;
    assert_eq!(dixa.put(&format!("/conversations/{number}/claim"), &json!({"agentId": ada})).await.status, 204);
    let mut socket = server.api().agent("ada", "2").await;
    let list = request("s", "cqm.SubscribeExConversations", json!({"brandId": ACCOUNT, "agentIds": [ada], "convState": ["OPEN"]}));
    assert_eq!(socket.ask(&list).await["code"], 200);
    let state = socket.notification("ExConversationChangeNotification").await;
    let id = state["body"]["changes"][0]["result"]["convId"].as_str().unwrap().to_owned();
    assert_eq!(socket.ask(&publish("p", &id, "good morning")).await["code"], 200);
    let messages = dixa.data(&format!("/conversations/{number}/messages")).await;
    assert_eq!(messages[1]["attributes"]["content"], text("good morning"));
    assert_eq!(messages[1]["authorId"], ada.as_str());
}
