//! Conversations that begin, or are imported, or shown (rows 1 to 3).

use super::{Dixa, NOBODY, People, chat, people, start, text};
use crate::support::*;
use serde_json::{Value, json};

#[tokio::test]
async fn each_kind_of_conversation_begins_with_its_channel_and_its_first_message() {
    let (_server, dixa) = start().await;
    let People { ada, ann, speaker, .. } = people(&dixa).await;
    let queue = dixa.queue(&speaker, "77").await;
    let inbound = json!({"_type": "Inbound", "content": text("Nothing arrived"), "externalId": "first"});
    let outbound = json!({"_type": "Outbound", "content": text("On its way"), "agentId": ada});
    let browser = json!({"name": "Firefox", "version": "125.0", "ipAddress": "192.0.2.7", "originatingUrl": "https://shop.example/cart"});
    let mail = json!({"subject": "A-17", "language": "en", "toEmail": "shop@shop.example", "fromEmail": "ann@home.example",
        "integrationEmail": "shop@shop.example"});
    let from_us = json!({"subject": "A-17", "toEmail": "ann@home.example", "fromEmail": "shop@shop.example",
        "integrationEmail": "shop@shop.example"});
    let letter = |kind: &str, message: &Value| json!({"_type": kind, "requesterId": ann, "emailIntegrationId": "Shop@shop.example", "subject": "A-17", "message": message});
    let with = |mut body: Value, name: &str, value: Value| {
        body[name] = value;
        body
    };
    let chat = with(chat(&ann, "hi"), "browserInfo", browser.clone());
    let sms = json!({"_type": "Sms", "requesterId": ann, "contactEndpointId": "+4512345678", "message": outbound});
    let call = |direction: &str| json!({"_type": "Callback", "requesterId": ann, "contactEndpointId": "+45 1234 5678", "direction": direction, "queueId": queue});
    for (body, channel, kind, direction, said, shown) in [
        (
            with(chat, "language", "da".into()),
            "WidgetChat",
            "ChatConversation",
            "Inbound",
            Some("ChatAttributes"),
            json!({"language": "da", "browserInfo": browser}),
        ),
        (
            with(letter("Email", &inbound), "language", "en".into()),
            "Email",
            "EmailConversation",
            "Inbound",
            Some("EmailAttributes"),
            mail.clone(),
        ),
        (letter("Email", &outbound), "Email", "EmailConversation", "Outbound", Some("EmailAttributes"), from_us),
        (
            with(letter("ContactForm", &inbound), "language", "en".into()),
            "ContactForm",
            "ContactFormConversation",
            "Inbound",
            Some("EmailAttributes"),
            mail,
        ),
        (sms, "Sms", "SmsConversation", "Outbound", Some("SmsAttributes"), json!({"fromNumber": "+4512345678", "toNumber": "+4587654321"})),
        (call("Inbound"), "Callback", "PstnPhoneConversation", "Inbound", None, json!({})),
        (call("Outbound"), "Callback", "PstnPhoneConversation", "Outbound", None, json!({})),
    ] {
        let number = dixa.begin(&body).await;
        let is = dixa.conversation(number).await;
        assert_eq!([&is["channel"], &is["_type"], &is["direction"], &is["state"]], [channel, kind, direction, "Open"], "{is}");
        assert_eq!((&is["id"], &is["requesterId"]), (&json!(number), &json!(ann)));
        for (name, value) in shown.as_object().unwrap() {
            assert_eq!(&is[name], value, "{name} of {is}");
        }
        // Who writes first has it; a call waits for whoever makes it, in the queue that was named.
        let is_assigned = direction == "Outbound" && said.is_some();
        assert_eq!(is["assignment"]["agentId"], if is_assigned { json!(ada) } else { Value::Null }, "{is}");
        if said.is_none() {
            assert_eq!(is["queue"]["id"], queue.as_str());
        }
        let messages = dixa.data(&format!("/conversations/{number}/messages")).await;
        let messages = messages.as_array().unwrap();
        assert_eq!(messages.len(), usize::from(said.is_some()), "{messages:?}");
        if let Some(said) = said {
            let first = &messages[0];
            assert_eq!((&first["attributes"]["_type"], &first["attributes"]["direction"]), (&json!(said), &json!(direction)));
            assert_eq!(first["authorId"].as_str().unwrap(), if direction == "Inbound" { &ann } else { &ada });
        }
    }
}

#[tokio::test]
async fn an_agent_on_its_socket_sees_what_begins_here() {
    let (server, dixa) = start().await;
    let People { ann, .. } = people(&dixa).await;
    let mut ada = server.api().agent("ada", "2").await;
    let subscribed = ada.ask(&request("s", "cqm.SubscribeExConversations", json!({"brandId": ACCOUNT, "convState": ["OPEN"]}))).await;
    assert_eq!(subscribed["code"], 200, "{subscribed}");
    dixa.begin(&json!({"_type": "Chat", "requesterId": ann, "widgetId": "shop",
        "message": {"_type": "Inbound", "content": {"_type": "Html", "value": "<b>lost parcel</b>"}}}))
        .await;
    let told = ada.first(|frame| frame.to_string().contains("lost parcel")).await;
    assert!(told["type"].as_str().unwrap().contains("Notification"), "{told}");
    let conversation = told["body"]["changes"][0]["result"]["convId"]
        .as_str()
        .map(str::to_owned)
        .unwrap_or_else(|| told["body"]["changes"][0]["dialogId"].as_str().unwrap().to_owned());
    let joined = ada.ask(&add_agent("j", &conversation, "ASSIGNED_AGENT")).await;
    assert_eq!(joined["code"], 200, "{joined}");
}

#[tokio::test]
async fn what_cannot_begin_is_refused_and_leaves_nothing_behind() {
    let (_server, dixa) = start().await;
    let People { ann, ada, .. } = people(&dixa).await;
    let good = json!({"_type": "Email", "requesterId": ann, "emailIntegrationId": "shop@shop.example", "subject": "A-17",
        "message": {"_type": "Inbound", "content": text("hello")}});
    let with = |path: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        body
    };
    let without = |name: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let outbound = |agent: &str| json!({"_type": "Outbound", "content": text("hello"), "agentId": agent});
    let queue =
        json!({"_type": "Callback", "requesterId": ann, "contactEndpointId": "+4512345678", "direction": "Inbound", "queueId": NOBODY});
    for (body, status, why) in [
        (with("/requesterId", NOBODY.into()), 404, "end user"),
        (with("/requesterId", ada.clone().into()), 404, "end user"),
        (with("/emailIntegrationId", "else@shop.example".into()), 404, "mailboxes"),
        (with("/emailIntegrationId", "+4512345678".into()), 404, "mailboxes"),
        (queue.clone(), 404, "queue"),
        (with("/message", outbound(NOBODY)), 404, "agent"),
        (with("/message", outbound(&ann)), 404, "agent"),
        (with("/requesterId", "ann".into()), 400, "UUID"),
        (with("/requesterId", Value::Null), 400, ""),
        (with("/_type", "Letter".into()), 400, "Letter"),
        (without("_type"), 400, "_type"),
        (without("subject"), 400, "subject"),
        (without("message"), 400, "message"),
        (with("/subject", "x".repeat(999).into()), 400, "subject"),
        (with("/message/_type", "Sideways".into()), 400, "Sideways"),
        (with("/message/content/_type", "Song".into()), 400, "Song"),
        (with("/message/content", "hello".into()), 400, ""),
        (with("/message/content/value", "".into()), 400, "a text or an attachment"),
        (with("/message/content/value", "x".repeat(8_001).into()), 400, "the limit is 8000"),
        // The agent stands beside the message, as one client has it.
        (
            json!({"_type": "Email", "requesterId": ann, "emailIntegrationId": "shop@shop.example", "subject": "A", "agentId": ada,
            "message": {"_type": "Outbound", "content": text("hello")}}),
            400,
            "agentId",
        ),
        (
            json!({"_type": "Sms", "requesterId": ann, "contactEndpointId": "+4512345678",
            "message": {"_type": "Inbound", "content": text("hello")}}),
            400,
            "Outbound",
        ),
        (json!({"_type": "Sms", "requesterId": ann, "contactEndpointId": "+4500000000", "message": outbound(&ada)}), 404, "telephones"),
        (json!([]), 400, ""),
        (json!("x"), 400, ""),
    ] {
        let said = dixa.refused("POST", "/conversations", &body, status).await;
        assert!(said.contains(why), "{body}: {said}");
    }
    for text in ["", "{", "{\"_type\":\"Chat\"", "\u{0}"] {
        let reply = dixa.call_with("POST", "/conversations", &[("content-type", "application/json")], text).await;
        assert_eq!(reply.status, 400, "{text}");
    }
    let form = dixa.call_with("POST", "/conversations", &[("content-type", "text/plain")], good.to_string()).await;
    assert_eq!(form.status, 400, "{}", form.text);
    let large = dixa.call("POST", "/conversations", with("/subject", "x".repeat(300_000).into()).to_string()).await;
    assert_eq!(large.status, 413, "{}", large.text);
    // An agent's key begins only what is its own agent's.
    let agents = Dixa::with(&dixa.api, "agent-key");
    agents.refused("POST", "/conversations", &good, 401).await;
    agents.refused("POST", "/conversations", &with("/message", outbound(&people(&dixa).await.grace)), 401).await;
    assert_eq!(agents.post("/conversations", &with("/message", outbound(&ada))).await.status, 201);
    // Without a Content-Type, and with members that nobody knows.
    let mut more = good.clone();
    more["colour"] = "blue".into();
    let reply = dixa.call("POST", "/conversations", more.to_string()).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    // Natively opened by `people`, twice; then one by the agent's key, and this one: nothing else is there.
    assert_eq!(reply.json()["data"]["id"], 4);
}

#[tokio::test]
async fn a_repeat_with_its_key_begins_nothing_more() {
    let (_server, dixa) = start().await;
    let People { ann, .. } = people(&dixa).await;
    let post =
        async |key: &str, body: &Value| dixa.call_with("POST", "/conversations", &[("idempotency-key", key)], body.to_string()).await;
    let first = post("k1", &chat(&ann, "hello")).await;
    let again = post("k1", &chat(&ann, "hello")).await;
    assert_eq!((first.status, again.status, &again.text), (201, 201, &first.text));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(post("k1", &chat(&ann, "another")).await.status, 409);
    assert_eq!(post("", &chat(&ann, "another")).await.status, 400);
    let other = post("k2", &chat(&ann, "hello")).await;
    assert_ne!(other.json(), first.json());
}

fn import(requester: &str) -> Value {
    json!({"_type": "GenericConversationImport", "genericChannelName": "OldHelpdesk", "requesterId": requester,
        "requesterConnectionStatus": "Disconnected", "direction": "Inbound", "createdAt": "2022-01-01T09:00:00Z", "externalId": "old-7"})
}

#[tokio::test]
async fn an_import_keeps_its_times_its_order_and_who_had_it() {
    let (_server, dixa) = start().await;
    let People { ann, ada, .. } = people(&dixa).await;
    let mut body = import(&ann);
    body["assignment"] = json!({"agentId": ada, "assignedAt": "2022-01-01T09:05:00Z[GMT]"});
    body["messages"] = json!([
        {"_type": "OutboundImport", "createdAt": "2022-01-01T09:06:00Z", "externalId": "m2", "agentId": ada, "content": {"_type": "Html", "value": "<p>hi</p>"}},
        {"_type": "InboundImport", "createdAt": "2022-01-01T10:00:01+01:00", "externalId": "m1", "content": text("hello"), "attachments": []},
    ]);
    let reply = dixa.post("/conversations/import", &body).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert_eq!(reply.json()["data"]["partialErrors"], json!([]));
    let number = reply.json()["data"]["id"].as_i64().unwrap();
    let is = dixa.conversation(number).await;
    assert_eq!((&is["_type"], &is["channel"]), (&json!("GenericConversation"), &json!("OldHelpdesk")));
    assert_eq!((&is["createdAt"], &is["state"]), (&json!("2022-01-01T09:00:00.000Z"), &json!("Open")));
    assert_eq!(is["assignment"], json!({"agentId": ada, "assignedAt": "2022-01-01T09:05:00.000Z"}));
    let messages = dixa.data(&format!("/conversations/{number}/messages")).await;
    let told: Vec<_> = messages.as_array().unwrap().iter().map(|message| (&message["externalId"], &message["createdAt"])).collect();
    assert_eq!(told, [(&json!("m1"), &json!("2022-01-01T09:00:01.000Z")), (&json!("m2"), &json!("2022-01-01T09:06:00.000Z"))]);
    assert_eq!(messages[1]["attributes"]["content"], json!({"_type": "Html", "value": "<p>hi</p>"}));
    assert_eq!(messages[0]["attributes"]["_type"], "GenericAttributes");
    // One that is over, of a channel that has a name here, with nobody's assignment.
    let mut body = import(&ann);
    body["genericChannelName"] = "widgetchat".into();
    body["assignment"] = json!({"agentId": NOBODY, "assignedAt": "2022-01-01T09:05:00Z"});
    body["closing"] = json!({"closedAt": "2022-01-02T09:00:00Z", "closedBy": ada});
    let reply = dixa.post("/conversations/import", &body).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let errors = reply.json()["data"]["partialErrors"].clone();
    assert!(errors[0]["message"].as_str().unwrap().contains("assignment") && errors.as_array().unwrap().len() == 1, "{errors}");
    let is = dixa.conversation(reply.json()["data"]["id"].as_i64().unwrap()).await;
    assert_eq!([&is["channel"], &is["_type"], &is["state"]], ["WidgetChat", "ChatConversation", "Closed"]);
    assert!(is["assignment"].is_null());
}

#[tokio::test]
async fn an_import_that_cannot_be_is_refused_as_a_whole() {
    let (_server, dixa) = start().await;
    let People { ann, ada, .. } = people(&dixa).await;
    let with = |name: &str, value: Value| {
        let mut body = import(&ann);
        body[name] = value;
        body
    };
    let message = |name: &str, value: Value| {
        let mut message = json!({"_type": "OutboundImport", "createdAt": "2022-01-01T09:06:00Z", "externalId": "m", "agentId": ada, "content": text("hi")});
        message[name] = value;
        message
    };
    let twice = json!([message("externalId", "m".into()), message("externalId", "m".into())]);
    for (body, why) in [
        (with("requesterId", NOBODY.into()), "end user"),
        (with("_type", "OtherImport".into()), "OtherImport"),
        (with("genericChannelName", " ".into()), "genericChannelName"),
        (with("direction", "Sideways".into()), "Sideways"),
        (with("createdAt", "yesterday".into()), "ISO 8601"),
        (with("createdAt", "2999-01-01T00:00:00Z".into()), "createdAt lies in the future"),
        (with("closing", json!({"closedAt": "2999-01-01T00:00:00Z"})), "closedAt lies in the future"),
        (with("messages", json!([message("agentId", NOBODY.into())])), "agent"),
        (with("messages", json!([message("createdAt", "2022-13-01T00:00:00Z".into())])), "ISO 8601"),
        (with("messages", json!([message("_type", "Outbound".into())])), "Outbound"),
        (with("messages", json!([message("externalId", "".into())])), "external id"),
        (with("messages", twice), "m exists already"),
        (json!({"_type": "GenericConversationImport"}), "missing field"),
    ] {
        let said = dixa.refused("POST", "/conversations/import", &body, 400).await;
        assert!(said.contains(why), "{body}: {said}");
    }
    assert_eq!(dixa.get("/conversations/2").await.status, 404, "nothing of it is left");
    let agents = Dixa::with(&dixa.api, "agent-key");
    agents
        .refused("POST", "/conversations/import", &with("messages", json!([message("agentId", people(&dixa).await.grace.into())])), 401)
        .await;
}
