//! Agents, queues, contact endpoints, flows (row 26), and the organisation.

use super::{Dixa, NOBODY, People, furnished, one, open, people, start};
use serde_json::{Value, json};

#[tokio::test]
async fn agents_are_listed_in_pages_and_found_by_their_ids_and_addresses() {
    let (_server, dixa) = start().await;
    let People { ada, grace, ann, .. } = people(&dixa).await;
    let all = dixa.data("/agents").await;
    let expected = json!({"id": ada, "createdAt": "1970-01-01T00:00:00.000Z", "displayName": "ada", "email": "ada@demo.invalid",
        "roles": ["Agent"]});
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(all[0], expected);
    assert_eq!((&all[1]["id"], &all[1]["roles"]), (&json!(grace), &json!(["Manager"])));
    assert_eq!(dixa.data(&format!("/agents/{ada}")).await, expected);
    let (mut seen, mut path) = (Vec::new(), "/agents?pageLimit=2".to_owned());
    loop {
        let page = dixa.get(&path).await.json();
        seen.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["meta"]["next"].as_str() else { break };
        path = next.strip_prefix("/v1").unwrap().to_owned();
    }
    assert_eq!(json!(seen), all);
    assert_eq!(dixa.data("/agents?email=GRACE@demo.invalid").await, json!([all[1]]));
    assert_eq!(dixa.data("/agents?phone=123").await, json!([]));
    for (path, status) in [
        (format!("/agents/{NOBODY}"), 404),
        (format!("/agents/{ann}"), 404),
        ("/agents/1001".to_owned(), 400),
        ("/agents?pageLimit=0".to_owned(), 400),
        ("/agents?pageKey=x".to_owned(), 400),
    ] {
        dixa.refused("GET", &path, &Value::Null, status).await;
    }
}

#[tokio::test]
async fn queues_are_those_that_conversations_say_they_are_in() {
    let (_server, dixa) = start().await;
    let People { speaker, .. } = people(&dixa).await;
    let all = dixa.data("/queues").await;
    let organization = dixa.data("/organization").await;
    assert_eq!(organization, json!({"id": organization["id"], "name": "demo", "subdomain": "demo", "status": "Active"}));
    assert_eq!(all.as_array().unwrap().len(), 3);
    for (queue, name, is_default) in [("77", "77", false), ("-1", "Unassigned", true)] {
        let (_, number) = open(&dixa, &speaker, queue, "hello").await;
        let id = dixa.conversation(number).await["queue"]["id"].clone();
        let expected = json!({"id": id, "name": name, "isDefault": is_default, "organizationId": organization["id"]});
        assert_eq!(*one(&all, "name", name), expected);
        assert_eq!(dixa.data(&format!("/queues/{}", id.as_str().unwrap())).await, expected);
    }
    dixa.refused("GET", &format!("/queues/{NOBODY}"), &Value::Null, 404).await;
    dixa.refused("GET", "/queues/77", &Value::Null, 400).await;
}

#[tokio::test]
async fn flows_are_of_the_telephone_unless_another_channel_is_named() {
    let (_server, dixa) = furnished().await;
    let calls = dixa.data("/conversations/flows").await;
    let id = calls[0]["id"].clone();
    assert_eq!(calls, json!([{"id": id, "name": "Calls", "channel": "PstnPhone", "contactEndpointId": "+4512345678"}]));
    assert!(id.as_str().unwrap().parse::<uuid::Uuid>().is_ok());
    assert_eq!(dixa.data("/conversations/flows?channel=PstnPhone").await, calls);
    let letters = dixa.data("/conversations/flows?channel=Email").await;
    assert_eq!((&letters[0]["name"], &letters[0]["contactEndpointId"]), (&json!("Letters"), &json!("shop@shop.example")));
    for channel in ["WhatsApp", "Voicemail", "WidgetChat", "FacebookMessenger", "Twitter", "ContactForm", "Callback", "Sms", "Messenger"] {
        assert_eq!(dixa.data(&format!("/conversations/flows?channel={channel}")).await, json!([]), "{channel}");
    }
    for channel in ["", "Pigeon"] {
        dixa.refused("GET", &format!("/conversations/flows?channel={channel}"), &Value::Null, 400).await;
    }
    let endpoints = dixa.data("/contact-endpoints").await;
    let phone = json!({"_type": "TelephonyEndpoint", "number": "+4512345678", "functionality": []});
    let mail = json!({"_type": "EmailEndpoint", "address": "shop@shop.example", "name": "Shop"});
    assert_eq!(endpoints.as_array().unwrap().len(), 2);
    assert_eq!((one(&endpoints, "_type", "TelephonyEndpoint"), one(&endpoints, "_type", "EmailEndpoint")), (&phone, &mail));
    let nobody = Dixa::with(&dixa.api, "wrong");
    for path in
        ["/queues", "/organization", "/contact-endpoints", "/conversations/flows", "/custom-attributes", "/agents", "/endusers", "/tags"]
    {
        nobody.refused("GET", path, &Value::Null, 401).await;
    }
}
