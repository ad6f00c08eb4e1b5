//! Custom attributes of conversations (row 16), and their definitions.

use super::{Dixa, NOBODY, People, furnished, one, open, people};
use serde_json::{Value, json};

#[tokio::test]
async fn values_are_set_by_their_definitions_all_of_them_or_none() {
    let (_server, dixa) = furnished().await;
    let People { speaker, .. } = people(&dixa).await;
    let (_, number) = open(&dixa, &speaker, "77", "hello").await;
    let path = format!("/conversations/{number}/custom-attributes");
    let all = dixa.data("/custom-attributes").await;
    let id = |identifier: &str| one(&all, "identifier", identifier)["id"].as_str().unwrap().to_owned();
    let (order, topic, gone, size) = (id("order_number"), id("topic"), id("gone"), id("size"));
    let set = dixa.made("PATCH", &path, &json!({&order: "A-17", &topic: ["Shipping", "Lost"]}), 200).await;
    assert_eq!(set.as_array().unwrap().len(), 2);
    let named = |list: &Value, id: &str| one(list, "id", id).clone();
    assert_eq!(named(&set, &order), json!({"id": order, "name": "Order number", "identifier": "order_number", "value": "A-17"}));
    assert_eq!(named(&set, &topic), json!({"id": topic, "name": "Topic", "identifier": "topic", "value": ["Shipping", "Lost"]}));
    assert_eq!(dixa.conversation(number).await["customAttributes"], set);
    // What is not named stays; null takes away; a beginning of a path, and several plain options, will do.
    for choice in [json!(["Shipping"]), json!(["Other", "Praise"])] {
        let set = dixa.made("PATCH", &path, &json!({&topic: choice}), 200).await;
        assert_eq!((&named(&set, &topic)["value"], &named(&set, &order)["value"]), (&choice, &json!("A-17")));
    }
    for _ in 0..2 {
        let set = dixa.made("PATCH", &path, &json!({&topic: null}), 200).await;
        assert_eq!(set.as_array().unwrap().len(), 1);
    }
    let before = dixa.made("PATCH", &path, &json!({}), 200).await;
    for (body, status) in [
        (json!({&order: "B", &topic: "Other"}), 400),
        (json!({&order: ["B"]}), 400),
        (json!({&order: 7}), 400),
        (json!({&order: "x".repeat(4_001)}), 400),
        (json!({&order: "B", &topic: ["Lost"]}), 400),
        (json!({&order: "B", &topic: []}), 400),
        (json!({&order: "B", &topic: ["Other", "Other"]}), 400),
        (json!({&order: "B", "order_number": "C"}), 400),
        (json!({&order: "B", &gone: "C"}), 400),
        (json!({&order: "B", &size: "C"}), 404),
        (json!({&order: "B", NOBODY: "C"}), 404),
        (json!([order]), 400),
    ] {
        dixa.refused("PATCH", &path, &body, status).await;
        assert_eq!(dixa.conversation(number).await["customAttributes"], before, "{body}");
    }
    dixa.refused("PATCH", &path, &Value::Null, 400).await;
    dixa.refused("PATCH", "/conversations/999/custom-attributes", &json!({&order: "B"}), 404).await;
    dixa.refused("PATCH", "/conversations/x/custom-attributes", &json!({&order: "B"}), 400).await;
    let agents = Dixa::with(&dixa.api, "agent-key");
    agents.refused("PATCH", &path, &json!({&order: "B"}), 401).await;
    // A repeat with its key is answered as the first time.
    let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
    for replayed in [None, Some("true")] {
        let reply = dixa.call_with("PATCH", &path, &headers, json!({&order: "C"}).to_string()).await;
        assert_eq!((reply.status, reply.headers.get("idempotent-replayed").map(|value| value.to_str().unwrap())), (200, replayed));
    }
}

#[tokio::test]
async fn definitions_say_what_they_take() {
    let (_server, dixa) = furnished().await;
    let all = dixa.data("/custom-attributes").await;
    assert_eq!(all.as_array().unwrap().len(), 4);
    let topic = one(&all, "identifier", "topic");
    let option = |value: &str, nested: Value| json!({"value": value, "label": value, "nestedOptions": nested});
    let shipping = option("Shipping", json!([option("Lost", json!([])), option("Late", json!([]))]));
    let input = json!({"_type": "Select", "options": [shipping, option("Other", json!([])), option("Praise", json!([]))]});
    let expected = json!({"id": topic["id"], "entityType": "Conversation", "identifier": "topic", "label": "Topic",
        "inputDefinition": input, "isRequired": true, "isArchived": false, "isDeactivated": false, "createdAt": topic["createdAt"]});
    assert_eq!(*topic, expected);
    let size = one(&all, "identifier", "size");
    assert_eq!((&size["entityType"], &size["inputDefinition"]), (&json!("Contact"), &json!({"_type": "Text"})));
    assert_eq!(one(&all, "identifier", "gone")["isDeactivated"], true);
}
