//! What is said in conversations (rows 8 and 9).

use super::{Dixa, NOBODY, People, chat, open, people, start, text};
use crate::support::*;
use serde_json::{Value, json};

#[tokio::test]
async fn a_message_is_written_down_told_and_listed() {
    let (_server, dixa) = start().await;
    let People { ada, ann, speaker, .. } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "77", "hello").await;
    let path = format!("/conversations/{number}/messages");
    let mut consumer = speaker.consumer_socket().await;
    consumer.follow(&id, 0).await;
    let reply = dixa.post(&path, &json!({"_type": "Outbound", "agentId": ada, "content": text("On its way"), "externalId": "ext-9"})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let written = reply.json()["data"].clone();
    let expected = json!({"content": text("On its way"), "direction": "Outbound", "authorId": ada, "externalId": "ext-9",
        "messageId": written["messageId"], "createdAt": written["createdAt"]});
    assert_eq!(written, expected);
    let html = json!({"_type": "Html", "value": "<b>thanks</b>"});
    let inbound = dixa.post(&path, &json!({"_type": "Inbound", "content": html, "integrationEmail": "x@shop.example"})).await;
    assert_eq!((inbound.status, &inbound.json()["data"]["authorId"]), (200, &json!(ann)), "{}", inbound.text);
    assert!(inbound.json()["data"].get("externalId").is_none());
    let markdown = json!({"_type": "Markdown", "value": "**thanks**"});
    assert_eq!(dixa.post(&path, &json!({"_type": "Inbound", "content": markdown})).await.status, 200);
    // The consumer's own socket hears of it.
    let events = consumer.events(4).await;
    let texts: Vec<&str> = events.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["hello", "On its way", "<b>thanks</b>", "**thanks**"]);
    let listed = dixa.data(&path).await;
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 4);
    assert_eq!(listed[1]["id"], written["messageId"]);
    assert_eq!(
        listed[1],
        json!({"id": written["messageId"], "authorId": ada, "externalId": "ext-9", "createdAt": written["createdAt"], "attributes":
            {"_type": "ChatAttributes", "content": text("On its way"), "direction": "Outbound", "attachments": [], "isAutomated": false}})
    );
    assert_eq!((&listed[2]["attributes"]["content"], &listed[2]["attributes"]["direction"]), (&html, &json!("Inbound")));
    assert_eq!(listed[3]["attributes"]["content"], markdown);
    assert!(listed.iter().all(|message| message["id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok()));
}

#[tokio::test]
async fn what_connectors_and_agents_say_is_listed_and_what_is_whispered_is_not() {
    let (server, dixa) = start().await;
    let People { speaker, ada, .. } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "-1", "hello").await;
    let mut agent = server.api().agent("ada", "2").await;
    assert_eq!(agent.ask(&add_agent("1", &id, "ASSIGNED_AGENT")).await["code"], 200);
    let whisper = request(
        "2",
        "ms.PublishEvent",
        json!({"dialogId": id, "messageAudience": "AGENTS_AND_MANAGERS",
        "event": {"type": "ContentEvent", "contentType": "text/plain", "message": "a difficult one"}}),
    );
    assert_eq!(agent.ask(&whisper).await["code"], 200);
    let rich = request(
        "3",
        "ms.PublishEvent",
        json!({"dialogId": id, "event": {"type": "RichContentEvent", "content":
        {"type": "vertical", "elements": [{"type": "text", "text": "Which?"}, {"type": "button", "title": "This", "click": {"actions": []}}]}}}),
    );
    assert_eq!(agent.ask(&rich).await["code"], 200);
    let read = request(
        "4",
        "ms.PublishEvent",
        json!({"dialogId": id, "event": {"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [0]}}),
    );
    assert_eq!(agent.ask(&read).await["code"], 200);
    let png = include_bytes!("../../../docs/images/console.png").to_vec();
    let size = png.len();
    let file = speaker.upload(png, "png").await;
    speaker.show_file(&id, &file, "PNG").await;
    let listed = dixa.data(&format!("/conversations/{number}/messages")).await;
    let contents: Vec<&Value> = listed.as_array().unwrap().iter().map(|message| &message["attributes"]["content"]).collect();
    assert_eq!(contents, [&text("hello"), &text("Which?\nThis"), &Value::Null]);
    assert_eq!(listed[1]["authorId"], ada.as_str());
    // The file is there for whoever has the address.
    let url = listed[2]["attributes"]["attachments"][0]["url"].as_str().unwrap();
    let got = reqwest::Client::new().get(url).send().await.unwrap();
    assert_eq!((got.status().as_u16(), got.bytes().await.unwrap().len()), (200, size), "{url}");
}

#[tokio::test]
async fn a_message_opens_again_what_is_closed() {
    let (_server, dixa) = start().await;
    let People { ada, ann, .. } = people(&dixa).await;
    let number = dixa.begin(&chat(&ann, "hello")).await;
    for message in
        [json!({"_type": "Inbound", "content": text("again")}), json!({"_type": "Outbound", "agentId": ada, "content": text("and again")})]
    {
        assert_eq!(dixa.call("PUT", &format!("/conversations/{number}/close"), "").await.status, 204);
        let reply = dixa.post(&format!("/conversations/{number}/messages"), &message).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(dixa.conversation(number).await["state"], "Open");
    }
    assert_eq!(dixa.data(&format!("/conversations/{number}/messages")).await.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_message_that_is_refused_leaves_nothing_behind() {
    let (_server, dixa) = start().await;
    let People { ada, ann, grace, .. } = people(&dixa).await;
    let number = dixa.begin(&chat(&ann, "hello")).await;
    let path = format!("/conversations/{number}/messages");
    let named = json!({"_type": "Inbound", "content": text("one"), "externalId": "e"});
    assert_eq!(dixa.post(&path, &named).await.status, 200);
    assert_eq!(dixa.call("PUT", &format!("/conversations/{number}/close"), "").await.status, 204);
    let outbound = |agent: &str| json!({"_type": "Outbound", "agentId": agent, "content": text("x")});
    for (body, why) in [
        (named.clone(), "e exists already"),
        (json!({"_type": "Inbound", "content": text("x"), "externalId": ""}), "external id"),
        (json!({"_type": "Inbound", "content": text("x"), "externalId": "x".repeat(256)}), "external id"),
        (json!({"_type": "Inbound", "content": text("")}), "a text or an attachment"),
        (json!({"_type": "Inbound", "content": text(&"x".repeat(8_001))}), "8000"),
        (json!({"_type": "Inbound", "content": {"_type": "Html", "value": "x".repeat(15_001)}}), "15000"),
        (json!({"_type": "Inbound"}), "content"),
        (json!({"content": text("x")}), "_type"),
        (json!({"_type": "InboundImport", "content": text("x")}), "InboundImport"),
        (json!({"_type": "Outbound", "content": text("x")}), "agentId"),
        (outbound(NOBODY), "agent"),
        (outbound(&ann), "agent"),
        (outbound("ada"), "UUID"),
    ] {
        let said = dixa.refused("POST", &path, &body, 400).await;
        assert!(said.contains(why), "{body}: {said}");
    }
    assert_eq!(dixa.conversation(number).await["state"], "Closed", "what opens it again is refused with it");
    assert_eq!(dixa.data(&path).await.as_array().unwrap().len(), 2);
    dixa.refused("POST", "/conversations/999/messages", &outbound(&ada), 404).await;
    dixa.refused("POST", "/conversations/abc/messages", &outbound(&ada), 400).await;
    dixa.refused("GET", "/conversations/999/messages", &Value::Null, 404).await;
    dixa.refused("GET", "/conversations/abc/messages", &Value::Null, 400).await;
    // The same name in another conversation is another's.
    let other = dixa.begin(&chat(&ann, "hello")).await;
    assert_eq!(dixa.post(&format!("/conversations/{other}/messages"), &named).await.status, 200);
    // An agent's key writes as its agent, and as nobody else.
    let agents = Dixa::with(&dixa.api, "agent-key");
    let path = format!("/conversations/{other}/messages");
    agents.refused("POST", &path, &outbound(&grace), 401).await;
    agents.refused("POST", &path, &json!({"_type": "Inbound", "content": text("x")}), 401).await;
    agents.refused("POST", &path, &outbound(&ada), 401).await;
    assert_eq!(dixa.put(&format!("/conversations/{other}/claim"), &json!({"agentId": ada})).await.status, 204);
    assert_eq!(agents.post(&path, &outbound(&ada)).await.status, 200);
    // What it opens again it has.
    assert_eq!(agents.put(&format!("/conversations/{other}/close"), &json!({})).await.status, 204);
    assert_eq!(agents.post(&path, &outbound(&ada)).await.status, 200);
    let is = dixa.conversation(other).await;
    assert_eq!((&is["state"], &is["assignment"]["agentId"]), (&json!("Open"), &json!(ada)));
    assert_eq!(Dixa::with(&dixa.api, "manager-key").post(&path, &outbound(&ada)).await.status, 200);
}

#[tokio::test]
async fn a_channel_that_takes_no_messages_says_so() {
    let (_server, dixa) = start().await;
    let People { ada, ann, .. } = people(&dixa).await;
    let sms = json!({"_type": "Sms", "requesterId": ann, "contactEndpointId": "+4512345678",
        "message": {"_type": "Outbound", "agentId": ada, "content": text("On its way")}});
    let form = json!({"_type": "ContactForm", "requesterId": ann, "emailIntegrationId": "shop@shop.example", "subject": "A-17",
        "message": {"_type": "Inbound", "content": text("hello")}});
    for (body, channel) in [(sms, "Sms"), (form, "ContactForm")] {
        let number = dixa.begin(&body).await;
        let message = json!({"_type": "Inbound", "content": text("x")});
        let said = dixa.refused("POST", &format!("/conversations/{number}/messages"), &message, 400).await;
        assert!(said.contains(channel), "{said}");
    }
}

#[tokio::test]
async fn a_repeated_message_with_its_key_is_one_message() {
    let (_server, dixa) = start().await;
    let People { ann, .. } = people(&dixa).await;
    let number = dixa.begin(&chat(&ann, "hello")).await;
    let path = format!("/conversations/{number}/messages");
    let body = json!({"_type": "Inbound", "content": text("again"), "externalId": "e"}).to_string();
    let post = async || dixa.call_with("POST", &path, &[("idempotency-key", "k")], body.clone()).await;
    let (first, again) = (post().await, post().await);
    assert_eq!((first.status, &first.text, again.status), (200, &again.text, 200));
    assert_eq!(dixa.data(&path).await.as_array().unwrap().len(), 2);
}
