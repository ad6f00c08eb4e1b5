//! What all calls have in common: who is let in and how often, what a refusal looks like, which ids are none; and a conversation as
//! it is shown.

use super::{Dixa, SETUP, open, start};
use crate::support::*;
use serde_json::json;

#[tokio::test]
async fn a_key_lets_in_by_itself_and_behind_bearer_and_nothing_else_does() {
    let (server, dixa) = start().await;
    let ann = server.api().speaker("ann").await;
    let (_, number) = open(&dixa, &ann, "-1", "hello").await;
    let path = format!("/v1/conversations/{number}");
    let api = server.api();
    for given in ["account-key", "Bearer account-key", "bearer account-key"] {
        assert_eq!(api.call("GET", &path, &[("authorization", given)], "").await.status, 200, "{given}");
    }
    let missing = api.get(&path).await;
    assert_eq!(missing.status, 401, "{}", missing.text);
    for given in ["wrong", "Bearer wrong", "oncehub-key", "", "Basic account-key"] {
        let wrong = api.call("GET", &path, &[("authorization", given)], "").await;
        assert_eq!((wrong.status, &wrong.text), (401, &missing.text), "{given}");
    }
    assert!(missing.json()["message"].is_string());
    assert!(!missing.text.contains("account-key"));
}

#[tokio::test]
async fn a_key_that_is_used_too_often_is_told_how_long_to_wait() {
    let (server, _) = start().await;
    let slow = Dixa::with(&server.api(), "slow-key");
    let mut refused = None;
    for _ in 0..20 {
        let reply = slow.get("/conversations/1").await;
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
        assert_eq!(reply.status, 404, "{}", reply.text);
    }
    let refused = refused.expect("two at once and one in a second are fewer than twenty");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn every_refusal_is_one_sentence() {
    let (_server, dixa) = start().await;
    for (method, path, status) in [
        ("GET", "/conversations/7", 404),
        ("GET", "/conversations/-7", 404),
        ("GET", "/conversations/9223372036854775807", 404),
        ("GET", "/conversations/9223372036854775808", 400),
        ("GET", "/conversations/seven", 400),
        ("GET", "/conversations/7.0", 400),
        ("GET", "/conversations/%20", 400),
        ("GET", "/conversations/%ff", 400),
        ("GET", "/conversations/", 404),
        ("GET", "", 404),
        ("GET", "/nothing/here", 404),
        ("POST", "/conversations/7", 405),
    ] {
        let reply = dixa.call(method, path, "").await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        assert_eq!(reply.headers["content-type"], "application/json", "{method} {path}");
    }
    let reply = dixa.call("POST", "/conversations/7", "").await;
    assert!(reply.headers["allow"].to_str().unwrap().contains("GET"), "{:?}", reply.headers);
}

#[tokio::test]
async fn the_dialect_can_be_switched_off() {
    let server = TestServer::with(&format!("[server]\ndialects = [\"liveperson\"]\n{SETUP}")).await;
    let reply = Dixa::with(&server.api(), "account-key").get("/conversations/7").await;
    assert_eq!(reply.status, 404);
    assert!(reply.text.contains("server.dialects"), "{}", reply.text);
}

#[tokio::test]
async fn a_connectors_conversation_is_shown_with_what_is_known_of_it() {
    let (server, dixa) = start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let (id, number) = open(&dixa, &ann, "77", "hello").await;
    let shown = dixa.conversation(number).await;
    assert_eq!(shown["id"], number);
    assert_eq!((&shown["channel"], &shown["_type"]), (&json!("Messenger"), &json!("MessengerConversation")));
    assert_eq!((&shown["direction"], &shown["state"]), (&json!("Inbound"), &json!("Open")));
    assert_eq!((&shown["assignment"], &shown["link"], &shown["customAttributes"]), (&json!(null), &json!(null), &json!([])));
    for uuid in [&shown["requesterId"], &shown["queue"]["id"]] {
        assert!(uuid.as_str().unwrap().parse::<uuid::Uuid>().is_ok(), "{shown}");
    }
    for time in [&shown["createdAt"], &shown["stateUpdatedAt"], &shown["queue"]["queuedAt"]] {
        let time = time.as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{shown}");
    }
    // Another conversation of the same end user in another queue.
    let (_, other) = open(&dixa, &ann, "-1", "again").await;
    let again = dixa.conversation(other).await;
    assert_eq!(again["requesterId"], shown["requesterId"]);
    assert_ne!(again["queue"]["id"], shown["queue"]["id"]);
    // What an agent does on its socket is shown, too.
    let mut ada = api.agent("ada", "2").await;
    let ada_pid = api.login("ada").await.pid;
    assert_eq!(ada.ask(&add_agent("1", &id, "ASSIGNED_AGENT")).await["code"], 200);
    assert_eq!(dixa.conversation(number).await["assignment"]["agentId"], ada_pid.as_str());
    let closed = change("2", &id, json!([{"field": "ConversationStateField", "conversationState": "CLOSE"}]));
    assert_eq!(ada.ask(&closed).await["code"], 200);
    let shown = dixa.conversation(number).await;
    assert_eq!((&shown["state"], &shown["assignment"]["agentId"]), (&json!("Closed"), &json!(ada_pid)));
    // An application that says its channel.
    let app = api.app_token_of(ACCOUNT, "counting").await;
    let jws = api.consumer_of(ACCOUNT, &app, "ann").await;
    let (_, number) = open(&dixa, &Speaker { app, jws, ..ann }, "-1", "hello").await;
    let shown = dixa.conversation(number).await;
    assert_eq!((&shown["channel"], &shown["_type"]), (&json!("WhatsApp"), &json!("WhatsAppConversation")));
}
