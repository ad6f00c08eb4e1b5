//! What happened in conversations (rows 23 and 24).

use super::{Dixa, People, chat, furnished, one, open, people, start, text};
use crate::support::*;
use serde_json::{Value, json};
use std::collections::HashSet;

/// The kinds of some activities.
fn kinds(log: &[Value]) -> Vec<&str> {
    log.iter().map(|activity| activity["_type"].as_str().unwrap()).collect()
}

/// All pages of the account's log.
async fn pages(dixa: &Dixa, query: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut path = format!("/conversations/activitylog{query}");
    loop {
        let reply = dixa.get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        let page = reply.json();
        pages.push(page["data"].as_array().unwrap().clone());
        match page["meta"]["next"].as_str() {
            None => return pages,
            Some(next) => path = next.strip_prefix("/v1").expect("an address of this origin").to_owned(),
        }
    }
}

#[tokio::test]
async fn each_thing_that_happens_is_an_activity_with_its_author() {
    let (server, dixa) = furnished().await;
    let People { ada, grace, ann, speaker } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "77", "hello").await;
    let path = format!("/conversations/{number}");
    let tags = dixa.data("/tags").await;
    let vip = one(&tags, "name", "VIP")["id"].as_str().unwrap().to_owned();
    let attributes = dixa.data("/custom-attributes").await;
    let order = one(&attributes, "identifier", "order_number")["id"].as_str().unwrap().to_owned();
    let queues = dixa.data("/queues").await;
    let queue = one(&queues, "name", "88")["id"].as_str().unwrap().to_owned();
    // What an agent does natively,
    let mut socket = server.api().agent("grace", "2").await;
    assert_eq!(socket.ask(&add_agent("1", &id, "ASSIGNED_AGENT")).await["code"], 200);
    assert_eq!(socket.ask(&publish("2", &id, "hi")).await["code"], 200);
    let leave = change("3", &id, json!([{"field": "ParticipantsChange", "type": "REMOVE", "role": "ASSIGNED_AGENT"}]));
    assert_eq!(socket.ask(&leave).await["code"], 200);
    // and what programs do.
    assert_eq!(dixa.put(&format!("{path}/claim"), &json!({"agentId": grace})).await.status, 204);
    assert_eq!(dixa.put(&format!("{path}/claim"), &json!({"agentId": ada})).await.status, 204);
    dixa.made("POST", &format!("{path}/notes"), &json!({"message": "a note", "agentId": ada}), 200).await;
    dixa.done("PUT", &format!("{path}/tags/{vip}")).await;
    dixa.done("DELETE", &format!("{path}/tags/{vip}")).await;
    dixa.made("PATCH", &format!("{path}/custom-attributes"), &json!({&order: "A-17"}), 200).await;
    dixa.made("PATCH", &format!("{path}/custom-attributes"), &json!({&order: null}), 200).await;
    assert_eq!(dixa.put(&format!("{path}/transfer/queue"), &json!({"queueId": queue, "userId": grace})).await.status, 204);
    let other = dixa.begin(&chat(&ann, "aside")).await;
    let joins = json!({"parentId": number, "linkType": "SideConversation"});
    assert_eq!(dixa.put(&format!("/conversations/{other}/link"), &joins).await.status, 204);
    let offer = json!({"userId": ann, "agentId": ada, "ratingType": "Csat"});
    let rating = dixa.made("POST", &format!("{path}/ratings/offer"), &offer, 201).await["id"].as_str().unwrap().to_owned();
    let said = json!({"userId": ann, "ratingResult": {"value": 5, "_type": "Csat"}, "comment": "quick"});
    dixa.made("POST", &format!("{path}/ratings/{rating}/submit"), &said, 201).await;
    let close = json!({"userId": ada});
    assert_eq!(dixa.put(&format!("{path}/close"), &close).await.status, 204);
    assert_eq!(dixa.put(&format!("{path}/reopen"), &json!({})).await.status, 204);
    let log = dixa.data(&format!("{path}/activitylog")).await;
    let log = log.as_array().unwrap();
    let messages = dixa.data(&format!("{path}/messages")).await;
    let who = |id: &str, name: &str| json!({"id": id, "name": name, "email": format!("{name}@demo.invalid")});
    let (ada_is, grace_is) = (who(&ada, "ada"), who(&grace, "grace"));
    let ann_is = json!({"id": ann, "name": "Ann", "email": "ann@home.example", "phoneNumber": "+4587654321"});
    let key_is = log.iter().find(|activity| activity["_type"] == "TagAdded").unwrap()["author"].clone();
    let transfer = json!({"transferType": "Queue", "destinationType": "Queue", "destinationId": queue, "destinationLabel": "88"});
    let linked = json!({"child": other, "parent": number, "linkType": "SideConversation"});
    let expected = [
        ("ConversationCreatedByCustomer", &ann_is, json!({})),
        ("MessageAddedByCustomer", &ann_is, json!({"messageId": messages[0]["id"]})),
        ("ConversationAssigned", &grace_is, json!({"agentId": grace, "agentName": "grace"})),
        ("MessageAddedByAgent", &grace_is, json!({"messageId": messages[1]["id"]})),
        ("ConversationUnassigned", &grace_is, json!({"agent": grace_is})),
        ("ConversationClaimed", &grace_is, json!({"claimedFromType": "Queue", "claimedFromLabel": "88"})),
        ("ConversationAssigned", &grace_is, json!({"agentId": grace, "agentName": "grace"})),
        ("ConversationClaimed", &ada_is, json!({"claimedFromType": "Agent", "claimedFromLabel": "grace"})),
        ("ConversationAssigned", &ada_is, json!({"agentId": ada, "agentName": "ada"})),
        ("NoteAdded", &ada_is, json!({"message": "a note"})),
        ("TagAdded", &key_is, json!({"tag": "VIP"})),
        ("TagRemoved", &key_is, json!({"tag": "VIP"})),
        (
            "ConversationCustomAttributesUpdated",
            &key_is,
            json!({"updatedAttributeIds": [order], "updatedAttributeValues": {&order: "A-17"}}),
        ),
        ("ConversationCustomAttributesUpdated", &key_is, json!({"updatedAttributeIds": [order], "updatedAttributeValues": {&order: null}})),
        ("ConversationUnassigned", &grace_is, json!({"agent": ada_is})),
        ("TransferInitiated", &grace_is, transfer.clone()),
        ("TransferSuccessful", &grace_is, transfer),
        ("ConversationLinkedFromChild", &key_is, linked.clone()),
        ("ConversationRatingOffered", &key_is, json!({"agent": ada_is, "user": ann_is})),
        ("ConversationRated", &ann_is, json!({"agent": ada_is, "score": 5, "message": "quick"})),
        ("ConversationClosed", &ada_is, Value::Null),
        ("ConversationReopened", &key_is, Value::Null),
    ];
    assert_eq!(kinds(log), expected.iter().map(|(kind, ..)| *kind).collect::<Vec<_>>());
    for (activity, (kind, author, attributes)) in log.iter().zip(&expected) {
        let mut attributes = attributes.clone();
        if let Some(members) = attributes.as_object_mut() {
            members.insert("_type".into(), json!(format!("{kind}Attribute")));
        }
        assert_eq!((&activity["author"], &activity["attributes"]), (*author, &attributes), "{kind}");
        assert_eq!((&activity["conversationId"], &activity["activityType"]), (&json!(number), &json!(format!("{kind}ActivityType"))));
    }
    let ids: HashSet<&str> = log.iter().map(|activity| activity["id"].as_str().unwrap()).collect();
    assert!(ids.len() == log.len() && ids.iter().all(|id| id.parse::<uuid::Uuid>().is_ok()));
    let child = dixa.data(&format!("/conversations/{other}/activitylog")).await;
    let joined = one(&child, "_type", "ConversationLinkedToParent");
    assert_eq!(joined["attributes"]["child"], linked["child"]);
    // The account's log has the same among others.
    let all: Vec<Value> = pages(&dixa, "").await.concat();
    assert_eq!(all.iter().filter(|activity| activity["conversationId"] == number).cloned().collect::<Vec<_>>(), *log);
    for (number, status) in [("999", 404), ("x", 400)] {
        dixa.refused("GET", &format!("/conversations/{number}/activitylog"), &Value::Null, status).await;
    }
    // And it is the same after a restart.
    let server = server.restart().await;
    let dixa = Dixa::with(&server.api(), "account-key");
    assert_eq!(*dixa.data(&format!("{path}/activitylog")).await.as_array().unwrap(), *log);
}

#[tokio::test]
async fn offers_to_agents_and_how_they_end_are_activities() {
    let (server, dixa) = start().await;
    let People { speaker, ada, .. } = people(&dixa).await;
    let mut socket = server.api().agent("bea", "2").await;
    let subscribed = socket.ask(&request("r", "rs.SubscribeRoutingTasks", json!({"channelType": "MESSAGING"}))).await;
    assert_eq!(subscribed["code"], 200, "{subscribed}");
    let online = request("o", "rs.SetAgentState", json!({"channels": ["MESSAGING"], "availability": "ONLINE"}));
    let said = socket.ask(&online).await;
    assert_eq!(said["code"], 202, "{said}");
    let (_, number) = open(&dixa, &speaker, "88", "hello").await;
    let ring = socket.notification("RoutingTaskNotification").await;
    let ring_id = ring.pointer("/body/changes/0/result/ringsDetails/0/ringId").cloned().unwrap_or_else(|| panic!("{ring}"));
    let accept = request("a", "rs.UpdateRingState", json!({"ringId": ring_id, "ringState": "ACCEPTED"}));
    let accepted = socket.ask(&accept).await;
    assert_eq!(accepted["code"], 202, "{accepted}");
    let log = dixa.data(&format!("/conversations/{number}/activitylog")).await;
    let log = log.as_array().unwrap();
    let expected = [
        "ConversationCreatedByCustomer",
        "MessageAddedByCustomer",
        "ConversationOffered",
        "ConversationOfferAccepted",
        "ConversationAssigned",
    ];
    assert_eq!(kinds(log), expected);
    assert_eq!((&log[2]["attributes"]["agentNames"], &log[2]["attributes"]["queueLabel"]), (&json!(["bea"]), &json!("88")));
    assert_eq!((&log[3]["author"]["name"], log[3].get("attributes")), (&json!("bea"), None));
    assert_ne!(log[4]["attributes"]["agentId"], ada.as_str());
}

#[tokio::test]
async fn pages_of_the_accounts_log_join_without_holes_and_lead_on_by_themselves() {
    let (_server, dixa) = start().await;
    let People { ann, ada, .. } = people(&dixa).await;
    for round in 0..4 {
        let number = dixa.begin(&chat(&ann, &format!("hello {round}"))).await;
        // Three activities of one entry.
        assert_eq!(dixa.put(&format!("/conversations/{number}/claim"), &json!({"agentId": ada})).await.status, 204);
        let queue = dixa.data("/queues").await[0]["id"].clone();
        assert_eq!(dixa.put(&format!("/conversations/{number}/transfer/queue"), &json!({"queueId": queue})).await.status, 204);
    }
    let whole = pages(&dixa, "?pageLimit=10000").await;
    assert_eq!(whole.len(), 1);
    let whole = whole.concat();
    assert!(whole.len() > 25, "{}", whole.len());
    for limit in [1, 2, 3, 7] {
        let parts = pages(&dixa, &format!("?pageLimit={limit}")).await;
        assert!(parts.iter().rev().skip(1).all(|page| page.len() == limit), "{limit}");
        assert!(!parts.last().unwrap().is_empty(), "no page leads to nothing");
        assert_eq!(parts.concat(), whole, "{limit}");
    }
    let times: Vec<&str> = whole.iter().map(|activity| activity["activityTimestamp"].as_str().unwrap()).collect();
    // What happens in between is on none of the pages that follow.
    let first = dixa.get("/conversations/activitylog?pageLimit=5").await.json();
    dixa.begin(&chat(&ann, "late")).await;
    let next = first["meta"]["next"].as_str().unwrap().strip_prefix("/v1").unwrap().to_owned();
    let key = next.split_once("pageKey=").unwrap().1;
    let resent = format!("/conversations/activitylog?pageKey={key}&pageLimit=10000&fromDatetime=2020-01-01T00:00:00Z");
    for path in [next.clone(), resent] {
        let mut rest = dixa.get(&path).await.json();
        let mut all = first["data"].as_array().unwrap().clone();
        loop {
            all.extend(rest["data"].as_array().unwrap().clone());
            let Some(next) = rest["meta"]["next"].as_str() else { break };
            rest = dixa.get(next.strip_prefix("/v1").unwrap()).await.json();
        }
        assert_eq!(all, whole, "{path}");
    }
    // Both ends of a span belong to it.
    let (from, to) = (times[3], times[times.len() - 4]);
    let within: Vec<Value> =
        whole.iter().filter(|activity| (from..=to).contains(&activity["activityTimestamp"].as_str().unwrap())).cloned().collect();
    assert_eq!(pages(&dixa, &format!("?fromDatetime={from}&toDatetime={to}&pageLimit=4")).await.concat(), within);
    assert_eq!(pages(&dixa, &format!("?fromDatetime={from}&toDatetime={from}")).await.concat().first(), within.first());
    assert_eq!(pages(&dixa, "?toDatetime=2020-01-01T00:00:00Z").await, [Vec::<Value>::new()]);
    assert_eq!(pages(&dixa, "?fromDatetime=2100-01-01T00:00:00Z%5BGMT%5D").await, [Vec::<Value>::new()]);
    let foreign = &dixa.get("/agents?pageLimit=1").await.json()["meta"]["next"].as_str().unwrap()["/v1/agents?pageKey=".len()..].to_owned();
    for query in [
        "fromDatetime=2024-01-02T00:00:00Z&toDatetime=2024-01-01T00:00:00Z",
        "fromDatetime=yesterday",
        "toDatetime=7",
        "pageLimit=0",
        "pageLimit=-1",
        "pageLimit=2147483648",
        "pageLimit=many",
        "pageKey=nonsense",
        "pageKey=",
        &format!("pageKey={foreign}"),
        &format!("pageKey=A{key}"),
    ] {
        dixa.refused("GET", &format!("/conversations/activitylog?{query}"), &Value::Null, 400).await;
    }
    // An agent asks of one conversation, and is told whom it knows.
    let agents = Dixa::with(&dixa.api, "agent-key");
    agents.refused("GET", "/conversations/activitylog", &Value::Null, 401).await;
    let strangers = agents.data("/conversations/1/activitylog").await;
    assert_eq!(strangers[0]["author"], json!({"id": ann}));
    // A token is tried with parameters that mean nothing.
    assert_eq!(dixa.get("/conversations/activitylog?created_after=2024-01-01&created_before=2024-01-02").await.status, 200);
}

#[tokio::test]
async fn what_was_written_elsewhere_happened_when_it_was_written_down() {
    let (_server, dixa) = start().await;
    let People { ann, ada, .. } = people(&dixa).await;
    let import = json!({"_type": "GenericConversationImport", "genericChannelName": "Old", "requesterId": ann, "direction": "Inbound",
        "createdAt": "2022-01-01T09:00:00Z", "messages": [{"_type": "OutboundImport", "createdAt": "2022-01-01T09:00:01Z",
        "agentId": ada, "content": text("hi")}]});
    let made = dixa.made("POST", "/conversations/import", &import, 201).await;
    let log = dixa.data(&format!("/conversations/{}/activitylog", made["id"])).await;
    assert!(log.as_array().unwrap().len() >= 2);
    assert!(log.as_array().unwrap().iter().all(|activity| activity["activityTimestamp"].as_str().unwrap() > "2026"), "{log}");
}
