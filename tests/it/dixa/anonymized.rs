//! What is anonymised (rows 21 and 22).

use super::{Dixa, NOBODY, People, chat, furnished, one, open, people, start, text};
use crate::support::*;
use serde_json::{Value, json};

/// Waits until a request is done.
async fn processed(dixa: &Dixa, request: &Value) -> Value {
    let path = format!("/anonymization/request/{}", request["id"].as_str().unwrap());
    let mut now = dixa.data(&path).await;
    until("the request is processed", async || {
        now = dixa.data(&path).await;
        now["processedAt"].is_string()
    })
    .await;
    let mut expected = request.clone();
    expected["processedAt"] = now["processedAt"].clone();
    assert_eq!(now, expected);
    now
}

#[tokio::test]
async fn what_was_said_in_a_closed_conversation_is_gone() {
    let (server, dixa) = furnished().await;
    let People { ada, ann, .. } = people(&dixa).await;
    let mut letter = json!({"_type": "Email", "requesterId": ann, "emailIntegrationId": "shop@shop.example", "subject": "About the secret",
        "message": {"_type": "Inbound", "content": text("a secret word")}});
    let other = dixa.begin(&letter).await;
    letter["language"] = json!("en");
    let number = dixa.begin(&letter).await;
    let path = format!("/conversations/{number}");
    dixa.made("POST", &format!("{path}/notes"), &json!({"message": "a secret note", "agentId": ada}), 200).await;
    let all = dixa.data("/custom-attributes").await;
    let order = one(&all, "identifier", "order_number")["id"].as_str().unwrap();
    dixa.made("PATCH", &format!("{path}/custom-attributes"), &json!({order: "a secret number"}), 200).await;
    assert_eq!(dixa.put(&format!("{path}/claim"), &json!({"agentId": ada})).await.status, 204);
    let message = dixa.data(&format!("{path}/messages")).await[0]["id"].as_str().unwrap().to_owned();
    let anonymize = format!("{path}/anonymize");
    let found = async || {
        let hits = dixa.data("/search/conversations?query=secret").await;
        hits.as_array().unwrap().iter().map(|hit| hit["id"].as_i64().unwrap()).collect::<std::collections::BTreeSet<_>>()
    };
    until("both are found", async || found().await == [other, number].into()).await;
    // One that is open is not.
    for query in ["", "?force=false"] {
        dixa.refused("PATCH", &format!("{anonymize}{query}"), &Value::Null, 409).await;
    }
    dixa.refused("PATCH", &format!("{anonymize}?force=perhaps"), &Value::Null, 400).await;
    dixa.refused("PATCH", "/conversations/999/anonymize", &Value::Null, 404).await;
    dixa.refused("PATCH", "/conversations/x/anonymize", &Value::Null, 400).await;
    dixa.done("PUT", &format!("{path}/close")).await;
    let reply = dixa.patch(&anonymize, &Value::Null).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    let mut request = reply.json()["data"].clone();
    // It may be done already.
    request.as_object_mut().unwrap().remove("processedAt");
    let expected = json!({"id": request["id"], "entityType": "ConversationAnonymizationType", "_type": "Conversation",
        "initiatedAt": request["initiatedAt"], "targetEntityId": number.to_string(), "requestedBy": request["requestedBy"]});
    assert_eq!(request, expected);
    processed(&dixa, &request).await;
    let shown = dixa.conversation(number).await;
    assert_eq!((&shown["_type"], &shown["anonymizedAt"]), (&json!("AnonymizedConversation"), &request["initiatedAt"]));
    assert_eq!((&shown["requesterId"], &shown["channel"], &shown["state"]), (&json!(ann), &json!("Email"), &json!("Closed")));
    for gone in ["assignment", "queue", "subject", "toEmail", "fromEmail", "language"] {
        assert_eq!(shown.get(gone), None, "{gone}");
    }
    for part in ["", "/messages", "/notes", "/activitylog", "/ratings", "/tags"] {
        let said = dixa.data(&format!("{path}{part}")).await.to_string();
        assert!(!said.contains("secret"), "{part}: {said}");
    }
    until("only the other is found", async || found().await == [other].into()).await;
    // Nothing is added or changed any more.
    for (method, call, body) in [
        ("PATCH", "/anonymize", Value::Null),
        ("PATCH", "/anonymize?force=true", Value::Null),
        ("PATCH", &format!("/messages/{message}/anonymize"), Value::Null),
        ("PUT", "/claim", json!({"agentId": ada})),
        ("PUT", "/reopen", json!({})),
        ("POST", "/notes", json!({"message": "more"})),
        ("POST", "/messages", json!({"_type": "Inbound", "content": text("more")})),
        ("PATCH", "/custom-attributes", json!({order: "more"})),
    ] {
        dixa.refused(method, &format!("{path}{call}"), &body, 409).await;
    }
    // Nor does it come back.
    let server = server.restart().await;
    let dixa = Dixa::with(&server.api(), "account-key");
    assert_eq!(dixa.conversation(number).await, shown);
    assert!(!dixa.data(&format!("{path}/messages")).await.to_string().contains("secret"));
}

#[tokio::test]
async fn an_open_conversation_is_closed_first_where_that_is_said() {
    let (_server, dixa) = start().await;
    let People { ann, .. } = people(&dixa).await;
    let number = dixa.begin(&chat(&ann, "hello")).await;
    let path = format!("/conversations/{number}/anonymize?force=true");
    let agents = Dixa::with(&dixa.api, "agent-key");
    agents.refused("PATCH", &path, &Value::Null, 401).await;
    // A repeat with its key is one request.
    let headers = [("idempotency-key", "once")];
    let first = dixa.call_with("PATCH", &path, &headers, "").await;
    assert_eq!(first.status, 202, "{}", first.text);
    let again = dixa.call_with("PATCH", &path, &headers, "").await;
    assert_eq!((again.status, &again.json()["data"]["id"]), (202, &first.json()["data"]["id"]));
    let shown = dixa.conversation(number).await;
    assert_eq!((&shown["_type"], &shown["state"]), (&json!("AnonymizedConversation"), &json!("Closed")));
    for (id, status) in [(NOBODY, 404), ("x", 400)] {
        dixa.refused("GET", &format!("/anonymization/request/{id}"), &Value::Null, status).await;
    }
}

#[tokio::test]
async fn one_message_loses_its_words_and_its_file_and_the_others_stay() {
    let (_server, dixa) = start().await;
    let People { speaker, .. } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "-1", "a secret word").await;
    speaker.say(&id, "another word").await;
    let png = include_bytes!("../../../docs/images/console.png").to_vec();
    let file = speaker.upload(png, "png").await;
    speaker.show_file(&id, &file, "PNG").await;
    let path = format!("/conversations/{number}/messages");
    let before = dixa.data(&path).await;
    let message = |place: usize| before[place]["id"].as_str().unwrap().to_owned();
    let url = before[2]["attributes"]["attachments"][0]["url"].as_str().unwrap().to_owned();
    let get = async || reqwest::Client::new().get(&url).send().await.unwrap().status().as_u16();
    assert_eq!(get().await, 200);
    for (id, status) in [(NOBODY, 404), ("x", 400), ("999", 400)] {
        dixa.refused("PATCH", &format!("{path}/{id}/anonymize"), &Value::Null, status).await;
    }
    dixa.refused("PATCH", &format!("/conversations/999/messages/{}/anonymize", message(0)), &Value::Null, 404).await;
    let agents = Dixa::with(&dixa.api, "agent-key");
    agents.refused("PATCH", &format!("{path}/{}/anonymize", message(0)), &Value::Null, 401).await;
    for (place, files) in [(0, 0), (2, 1)] {
        let reply = dixa.patch(&format!("{path}/{}/anonymize", message(place)), &json!({})).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        let mut request = reply.json()["data"].clone();
        request.as_object_mut().unwrap().remove("processedAt");
        let expected = json!({"id": request["id"], "entityType": "MessageAnonymizationType", "_type": "Message",
            "initiatedAt": request["initiatedAt"], "targetEntityId": format!("{number}_{}", message(place)),
            "requestedBy": request["requestedBy"]});
        assert_eq!(request, expected);
        processed(&dixa, &request).await;
        let log = dixa.data(&format!("/conversations/{number}/activitylog")).await;
        let redacted = log.as_array().unwrap().last().unwrap();
        let attributes = json!({"_type": "ConversationMessageRedactedAttribute", "messageId": message(place), "wasTextRedacted": true,
            "numberOfDeletedFiles": files});
        assert_eq!((&redacted["_type"], &redacted["attributes"]), (&json!("ConversationMessageRedacted"), &attributes));
    }
    let after = dixa.data(&path).await;
    assert_eq!(after[1], before[1]);
    assert_eq!(after[0]["attributes"]["content"], text(""));
    assert_eq!((after[0]["id"].as_str().unwrap(), after[2]["id"].as_str().unwrap()), (message(0).as_str(), message(2).as_str()));
    assert_eq!(after[2]["attributes"]["attachments"], json!([]));
    assert_eq!(get().await, 404);
    assert_eq!(dixa.conversation(number).await["state"], "Open");
}

#[tokio::test]
async fn whoever_followed_a_conversation_while_it_was_open_hears_that_its_words_are_gone() {
    let (server, dixa) = furnished().await;
    let People { speaker, ada, .. } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "-1", "a secret word").await;
    assert_eq!(dixa.put(&format!("/conversations/{number}/claim"), &json!({"agentId": ada})).await.status, 204);
    let follow = |body: Value| request("s", "cqm.SubscribeExConversations", body);
    // Each has its snapshot before anything happens.
    let mut own = server.api().agent("ada", "2.1").await;
    assert_eq!(own.ask(&follow(json!({"brandId": ACCOUNT, "convState": ["OPEN"], "agentIds": ["1001"]}))).await["code"], 200);
    own.notification("ExConversationChangeNotification").await;
    let mut others = server.api().agent("bea", "2.1").await;
    assert_eq!(others.ask(&follow(json!({"brandId": ACCOUNT, "convState": ["OPEN"], "agentIds": ["1003"]}))).await["code"], 200);
    others.notification("ExConversationChangeNotification").await;
    let mut consumer = speaker.consumer_socket().await;
    assert_eq!(consumer.ask(&follow(json!({"brandId": ACCOUNT, "stage": ["OPEN"], "convState": ["OPEN"]}))).await["code"], 200);
    consumer.notification("ExConversationChangeNotification").await;
    let deletes = |frame: &Value, is_it: &dyn Fn(&Value) -> bool| {
        let changes = frame["body"]["changes"].as_array().cloned().unwrap_or_default();
        changes.iter().any(|change| change["type"] == "DELETE" && change["result"]["convId"] == id.as_str() && is_it(change))
    };
    dixa.done("PUT", &format!("/conversations/{number}/close")).await;
    own.first(|frame| deletes(frame, &|_| true)).await;
    consumer.first(|frame| deletes(frame, &|_| true)).await;
    assert_eq!(dixa.patch(&format!("/conversations/{number}/anonymize"), &Value::Null).await.status, 202);
    own.first(|frame| deletes(frame, &|change| change.to_string().contains("anonymisedAt"))).await;
    consumer.first(|frame| deletes(frame, &|_| true)).await;
    // Whom it never concerned hears nothing of it, but of what comes next.
    let (next, _) = open(&dixa, &speaker, "88", "another").await;
    assert_eq!(others.ask(&add_agent("j", &next, "ASSIGNED_AGENT")).await["code"], 200);
    let heard = others.first(|frame| frame.to_string().contains("ExConversationChangeNotification")).await;
    assert!(!heard.to_string().contains(&id), "{heard}");
}
