//! Tags (rows 13 to 15), and those that there are.

use super::{Dixa, NOBODY, People, chat, furnished, one, open, people};
use crate::support::*;
use serde_json::{Value, json};

#[tokio::test]
async fn an_active_tag_is_put_on_once_and_any_is_taken_off() {
    let (server, dixa) = furnished().await;
    let People { speaker, .. } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "77", "hello").await;
    let all = dixa.data("/tags?includeDeactivated=true").await;
    let tag = |name: &str| one(&all, "name", name)["id"].as_str().unwrap().to_owned();
    let (vip, late, old) = (tag("VIP"), tag("Late"), tag("Old"));
    let list = format!("/conversations/{number}/tags");
    let path = |tag: &str| format!("{list}/{tag}");
    assert_eq!(dixa.data(&list).await, json!([]));
    // An agent's console hears of it.
    let mut agent = server.api().agent("grace", "2").await;
    let subscribed = request("s", "cqm.SubscribeExConversations", json!({"brandId": ACCOUNT, "convState": ["OPEN"]}));
    assert_eq!(agent.ask(&subscribed).await["code"], 200);
    for _ in 0..2 {
        dixa.done("PUT", &path(&vip)).await;
    }
    let is_told = |frame: &Value| {
        let text = frame.to_string();
        frame["kind"] == "notification" && text.contains(&id) && text.contains("VIP")
    };
    agent.first(is_told).await;
    dixa.done("PUT", &path(&late)).await;
    let expected = json!([{"id": vip, "name": "VIP", "state": "Active", "color": "#1e90ff"},
        {"id": late, "name": "Late", "state": "Active", "color": "#808080"}]);
    assert_eq!(dixa.data(&list).await, expected);
    let refused = dixa.refused("PUT", &path(&old), &Value::Null, 400).await;
    assert!(refused.contains("Old"), "{refused}");
    for method in ["PUT", "DELETE"] {
        dixa.refused(method, &path(NOBODY), &Value::Null, 404).await;
        dixa.refused(method, &path("vip"), &Value::Null, 400).await;
        dixa.refused(method, &format!("/conversations/999/tags/{vip}"), &Value::Null, 404).await;
        dixa.refused(method, &format!("/conversations/x/tags/{vip}"), &Value::Null, 400).await;
    }
    dixa.refused("GET", "/conversations/999/tags", &Value::Null, 404).await;
    dixa.refused("GET", "/conversations/x/tags", &Value::Null, 400).await;
    let agents = Dixa::with(&dixa.api, "agent-key");
    agents.refused("PUT", &path(&late), &Value::Null, 401).await;
    // One that becomes inactive stays where it is, and can be taken off.
    dixa.done("PATCH", &format!("/tags/{vip}/deactivate")).await;
    assert_eq!(dixa.data(&list).await[0]["state"], "Inactive");
    for tag in [&vip, &vip, &old, &late] {
        dixa.done("DELETE", &path(tag)).await;
    }
    assert_eq!(dixa.data(&list).await, json!([]));
    dixa.refused("PUT", &path(&vip), &Value::Null, 400).await;
}

#[tokio::test]
async fn tags_are_made_switched_off_and_on_and_deleted() {
    let (server, dixa) = furnished().await;
    let People { speaker, .. } = people(&dixa).await;
    let (_, number) = open(&dixa, &speaker, "77", "hello").await;
    let names = async |path: &str| {
        let all = dixa.data(path).await;
        all.as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names("/tags").await, ["Late", "VIP"].map(str::to_owned).into());
    let made = dixa.made("POST", "/tags", &json!({"name": "New", "color": "#00ff00"}), 200).await;
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(made, json!({"id": id, "name": "New", "state": "Active", "color": "#00ff00"}));
    assert_eq!(dixa.data(&format!("/tags/{id}")).await, made);
    for (body, why) in [
        (json!({"name": "new"}), "same name"),
        (json!({"name": " "}), "1 to 256"),
        (json!({"name": "x", "color": "green"}), "color"),
        (json!({}), "name"),
    ] {
        let said = dixa.refused("POST", "/tags", &body, 400).await;
        assert!(said.contains(why), "{body}: {said}");
    }
    for _ in 0..2 {
        dixa.done("PATCH", &format!("/tags/{id}/deactivate")).await;
    }
    assert_eq!(names("/tags?includeDeactivated=false").await, ["Late", "VIP"].map(str::to_owned).into());
    assert_eq!(names("/tags?includeDeactivated=true").await, ["Late", "New", "Old", "VIP"].map(str::to_owned).into());
    dixa.refused("GET", "/tags?includeDeactivated=perhaps", &Value::Null, 400).await;
    dixa.done("PATCH", &format!("/tags/{id}/activate")).await;
    assert_eq!(dixa.data(&format!("/tags/{id}")).await["state"], "Active");
    dixa.done("PUT", &format!("/conversations/{number}/tags/{id}")).await;
    let agents = Dixa::with(&dixa.api, "agent-key");
    for (method, path) in [("POST", "/tags"), ("DELETE", &format!("/tags/{id}")), ("PATCH", &format!("/tags/{id}/deactivate"))] {
        agents.refused(method, path, &json!({"name": "Mine"}), 401).await;
    }
    dixa.done("DELETE", &format!("/tags/{id}")).await;
    for (method, path) in [("GET", ""), ("DELETE", ""), ("PATCH", "/activate"), ("PATCH", "/deactivate")] {
        dixa.refused(method, &format!("/tags/{id}{path}"), &Value::Null, 404).await;
        dixa.refused(method, &format!("/tags/new{path}"), &Value::Null, 400).await;
    }
    // A conversation says what it was, and lets it go.
    let tags = format!("/conversations/{number}/tags");
    assert_eq!(dixa.data(&tags).await, json!([{"id": id, "name": "New", "state": "Inactive", "color": "#00ff00"}]));
    dixa.refused("PUT", &format!("{tags}/{id}"), &Value::Null, 404).await;
    dixa.done("DELETE", &format!("{tags}/{id}")).await;
    assert_eq!(dixa.data(&tags).await, json!([]));
    // What was made holds over a restart.
    let kept = dixa.made("POST", "/tags", &json!({"name": "Kept"}), 200).await;
    let server = server.restart().await;
    let dixa = Dixa::with(&server.api(), "account-key");
    assert_eq!(dixa.data(&format!("/tags/{}", kept["id"].as_str().unwrap())).await, kept);
}

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_time_whatever_has_changed_meanwhile() {
    let (_server, dixa) = furnished().await;
    let People { speaker, ada, ann, .. } = people(&dixa).await;
    let (_, number) = open(&dixa, &speaker, "77", "hello").await;
    let other = dixa.begin(&chat(&ann, "hello")).await;
    let all = dixa.data("/tags").await;
    let vip = one(&all, "name", "VIP")["id"].as_str().unwrap().to_owned();
    let attributes = dixa.data("/custom-attributes").await;
    let order = one(&attributes, "identifier", "order_number")["id"].as_str().unwrap().to_owned();
    let messages = dixa.data(&format!("/conversations/{number}/messages")).await;
    let message = messages[0]["id"].as_str().unwrap().to_owned();
    let at = |rest: &str| format!("/conversations/{number}/{rest}");
    let calls = [
        ("PUT", at(&format!("tags/{vip}")), String::new()),
        ("PATCH", at("custom-attributes"), json!({order: "A-1"}).to_string()),
        ("PUT", at("claim"), json!({"agentId": ada, "force": false}).to_string()),
        ("PUT", at("link"), json!({"parentId": other, "linkType": "Related"}).to_string()),
        ("POST", at("ratings/offer"), json!({"ratingType": "Csat"}).to_string()),
        ("PATCH", at(&format!("messages/{message}/anonymize")), String::new()),
        ("POST", "/endusers".to_owned(), json!({"externalId": "E-1", "displayName": "Eve"}).to_string()),
        ("POST", at("notes"), json!({"message": "m", "createdAt": "2022-01-01T09:00:00Z"}).to_string()),
    ];
    let mut first = Vec::new();
    for (place, (method, path, body)) in calls.iter().enumerate() {
        let reply = dixa.call_with(method, path, &[("idempotency-key", &format!("k{place}"))], body.clone()).await;
        assert!((200..300).contains(&reply.status), "{method} {path}: {}", reply.text);
        first.push((reply.status, reply.text));
    }
    dixa.done("PATCH", &format!("/tags/{vip}/deactivate")).await;
    // The agent's conversation is another's now, and over.
    dixa.done("PUT", &at("close")).await;
    for (place, ((method, path, body), (status, said))) in calls.iter().zip(&first).enumerate() {
        let again = dixa.call_with(method, path, &[("idempotency-key", &format!("k{place}"))], body.clone()).await;
        assert_eq!(again.status, *status, "{method} {path}: {}", again.text);
        assert_eq!(again.headers["idempotent-replayed"], "true", "{method} {path}");
        // What is erased meanwhile says when.
        if !path.ends_with("anonymize") {
            assert_eq!(&again.text, said, "{method} {path}");
        }
    }
}
