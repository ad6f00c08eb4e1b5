//! What is searched for (row 27).

use super::{Dixa, NOBODY, People, chat, furnished, one, open, people, start, text};
use crate::support::*;
use serde_json::{Value, json};

const PATH: &str = "/search/conversations";

/// The numbers that are found, once so many are.
async fn found(dixa: &Dixa, query: &str, count: usize) -> Vec<Value> {
    let mut hits = Vec::new();
    until(&format!("{query} finds {count}"), async || {
        hits = dixa.data(&format!("{PATH}?{query}")).await.as_array().unwrap().clone();
        hits.len() == count
    })
    .await;
    hits
}

fn numbers(hits: &[Value]) -> Vec<i64> {
    hits.iter().map(|hit| hit["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_conversation_is_found_by_its_messages_and_its_subject_with_what_matches_marked() {
    let (_server, dixa) = start().await;
    let People { ada, ann, speaker, .. } = people(&dixa).await;
    let (_, number) = open(&dixa, &speaker, "-1", "my parcel is late").await;
    let letter = json!({"_type": "Email", "requesterId": ann, "emailIntegrationId": "shop@shop.example", "subject": "Where is parcel A-17?",
        "message": {"_type": "Inbound", "content": text("Nothing arrived")}});
    let mailed = dixa.begin(&letter).await;
    let answer = json!({"_type": "Outbound", "agentId": ada, "content": text("late, but the parcel comes")});
    assert_eq!(dixa.post(&format!("/conversations/{mailed}/messages"), &answer).await.status, 200);
    let hits = found(&dixa, "query=parcel", 2).await;
    let message = |listed: &Value, place: usize| listed[place]["id"].clone();
    let (of_mail, of_chat) =
        (dixa.data(&format!("/conversations/{mailed}/messages")).await, dixa.data(&format!("/conversations/{number}/messages")).await);
    let marked = "<em class=\"highlight\">parcel</em>";
    let by_mail = json!({"id": mailed, "_type": "ConversationSearchHit", "highlights": {"subject": [format!("Where is {marked} A-17?")]},
        "innerHits": [{"id": message(&of_mail, 1), "highlight": {"text": format!("late, but the {marked} comes")}}]});
    let by_chat = json!({"id": number, "_type": "ConversationSearchHit", "highlights": {},
        "innerHits": [{"id": message(&of_chat, 0), "highlight": {"text": format!("my {marked} is late")}}]});
    assert_eq!(hits, [by_mail, by_chat]);
    // Words anywhere, or as they stand.
    assert_eq!(numbers(&found(&dixa, "query=late+parcel", 2).await), [mailed, number]);
    assert_eq!(numbers(&found(&dixa, "query=parcel+is+late&exactMatch=true", 1).await), [number]);
    assert_eq!(numbers(&found(&dixa, "query=late+parcel&exactMatch=true", 0).await), Vec::<i64>::new());
    for query in
        ["", "query=", "query=%20", "query=x&exactMatch=perhaps", "query=x&pageLimit=0", "query=x&pageLimit=x", "query=x&pageKey=x"]
    {
        dixa.refused("GET", &format!("{PATH}?{query}"), &Value::Null, 400).await;
    }
    dixa.refused("GET", &format!("{PATH}?query={}", "x".repeat(1_001)), &Value::Null, 400).await;
    let nobody = Dixa::with(&dixa.api, "wrong");
    nobody.refused("GET", &format!("{PATH}?query=x"), &Value::Null, 401).await;
}

#[tokio::test]
async fn what_agents_whisper_and_what_is_another_accounts_is_not_found() {
    let (server, dixa) = start().await;
    let People { speaker, .. } = people(&dixa).await;
    let (id, _) = open(&dixa, &speaker, "-1", "a plain word").await;
    let mut agent = server.api().agent("ada", "2").await;
    assert_eq!(agent.ask(&add_agent("1", &id, "ASSIGNED_AGENT")).await["code"], 200);
    let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": "a difficult word"});
    let whisper = request("2", "ms.PublishEvent", json!({"dialogId": id, "messageAudience": "AGENTS_AND_MANAGERS", "event": event}));
    assert_eq!(agent.ask(&whisper).await["code"], 200);
    speaker.say(&id, "a last word").await;
    assert_eq!(found(&dixa, "query=last", 1).await.len(), 1);
    let hits = found(&dixa, "query=word", 1).await;
    assert_eq!(hits[0]["innerHits"].as_array().unwrap().len(), 2);
    assert_eq!(found(&dixa, "query=difficult", 0).await.len(), 0);
    // The other account has the same ids.
    let app = server.api().app_token_of("other", "demo-connector").await;
    let jws = server.api().consumer_of("other", &app, "ann").await;
    let stranger = Speaker { api: server.api(), account: "other".into(), app, jws };
    let foreign = stranger.open().await;
    stranger.say(&foreign, "a foreign word").await;
    speaker.say(&id, "one more").await;
    assert_eq!(found(&dixa, "query=more", 1).await.len(), 1);
    assert_eq!(found(&dixa, "query=foreign", 0).await.len(), 0);
}

#[tokio::test]
async fn pages_of_hits_lead_on_by_themselves_and_each_conversation_is_on_one() {
    let (_server, dixa) = start().await;
    let People { ann, .. } = people(&dixa).await;
    let mut all = Vec::new();
    for round in 0..7 {
        all.insert(0, dixa.begin(&chat(&ann, &format!("hello number {round}"))).await);
    }
    assert_eq!(numbers(&found(&dixa, "query=hello+number", 7).await), all);
    for (limit, method) in [(1, "GET"), (3, "GET"), (2, "POST"), (50, "POST")] {
        let (mut seen, mut count) = (Vec::new(), 0);
        let asked = json!({"query": {"value": "hello number"}});
        let mut path =
            if method == "GET" { format!("{PATH}?query=hello+number&pageLimit={limit}") } else { format!("{PATH}?pageLimit={limit}") };
        loop {
            // What leads on says all: neither words nor a body are needed.
            let body = if method == "POST" && count == 0 { asked.to_string() } else { String::new() };
            let page = dixa.call_with(method, &path, &[("content-type", "application/json")], body).await.json();
            count += 1;
            seen.extend(numbers(page["data"].as_array().unwrap_or_else(|| panic!("{page}"))));
            let Some(next) = page["meta"]["next"].as_str() else { break };
            path = next.strip_prefix("/v1").unwrap().to_owned();
        }
        assert_eq!(seen, all, "{method} {limit}");
        assert!(count >= all.len().div_ceil(limit), "{count}");
    }
}

#[tokio::test]
async fn conversations_are_found_by_what_they_are_like_with_words_and_without() {
    let (_server, dixa) = furnished().await;
    let People { ada, ann, speaker, .. } = people(&dixa).await;
    let (_, messenger) = open(&dixa, &speaker, "77", "hello word").await;
    let chatted = dixa.begin(&chat(&ann, "hello word")).await;
    let closed = dixa.begin(&chat(&ann, "hello there")).await;
    let tags = dixa.data("/tags").await;
    let tag = |name: &str| one(&tags, "name", name)["id"].clone();
    for (number, tag) in [(messenger, tag("VIP")), (chatted, tag("VIP")), (chatted, tag("Late"))] {
        dixa.done("PUT", &format!("/conversations/{number}/tags/{}", tag.as_str().unwrap())).await;
    }
    assert_eq!(dixa.put(&format!("/conversations/{messenger}/claim"), &json!({"agentId": ada})).await.status, 204);
    dixa.done("PUT", &format!("/conversations/{closed}/close")).await;
    let queue = dixa.conversation(messenger).await["queue"]["id"].clone();
    let began = dixa.conversation(messenger).await["createdAt"].clone();
    assert_eq!(found(&dixa, "query=hello", 3).await.len(), 3);
    // The first was opened to know who is who.
    let (all, first) = (vec![closed, chatted, messenger, 1], 1);
    let field = |kind: &str, operator: Value| json!({"field": {"_type": kind, "operator": operator}});
    let values = |kind: &str, values: Value| json!({"_type": kind, "values": values});
    let vip = field("TagId", values("IncludesOne", json!([tag("VIP")])));
    let both = field("TagId", values("IncludesAll", json!([tag("VIP"), tag("Late")])));
    let neither = field("TagId", values("IncludesNone", json!([tag("VIP"), tag("Late")])));
    let is_closed = field("Status", values("IncludesOne", json!(["Closed"])));
    for (strategy, conditions, expected) in [
        ("All", json!([]), all.clone()),
        ("Any", json!([]), all.clone()),
        ("All", json!([vip]), vec![chatted, messenger]),
        ("All", json!([both]), vec![chatted]),
        ("All", json!([neither]), vec![closed, first]),
        ("All", json!([is_closed]), vec![closed]),
        ("Any", json!([is_closed, both]), vec![closed, chatted]),
        ("All", json!([is_closed, both]), vec![]),
        ("All", json!([field("QueueId", values("IncludesOne", json!([queue])))]), vec![messenger]),
        ("All", json!([field("AssigneeId", values("IncludesOne", json!([ada])))]), vec![messenger]),
        ("All", json!([field("RequesterId", values("IncludesOne", json!([ann])))]), all.clone()),
        ("All", json!([field("RequesterId", values("IncludesNone", json!([ann])))]), vec![]),
        ("All", json!([field("Channel", values("IncludesNone", json!(["WidgetChat"])))]), vec![messenger, first]),
        ("All", json!([field("CreationDate", json!({"_type": "Between", "from": began, "to": began}))]), vec![messenger]),
    ] {
        let filters = json!({"strategy": strategy, "conditions": conditions});
        let data = dixa.made("POST", PATH, &json!({"filters": filters}), 200).await;
        assert_eq!(numbers(data.as_array().unwrap()), expected, "{filters}");
        let with_words = dixa.made("POST", PATH, &json!({"filters": filters, "query": {"value": "word", "exactMatch": true}}), 200).await;
        let narrowed: Vec<i64> = expected.into_iter().filter(|number| [messenger, chatted].contains(number)).collect();
        assert_eq!(numbers(with_words.as_array().unwrap()), narrowed, "{filters}");
        assert!(with_words.as_array().unwrap().iter().all(|hit| hit.get("innerHits").is_none()));
    }
    assert_eq!(numbers(dixa.made("POST", PATH, &json!({}), 200).await.as_array().unwrap()), all);
    // Pages of what is found without words, and with its own filter all the way.
    let filters = json!({"filters": {"strategy": "All", "conditions": [vip]}});
    let page = dixa.post(&format!("{PATH}?pageLimit=1"), &filters).await.json();
    let next = page["meta"]["next"].as_str().unwrap().strip_prefix("/v1").unwrap().to_owned();
    assert_eq!(numbers(page["data"].as_array().unwrap()), [chatted]);
    assert_eq!(numbers(dixa.post(&next, &json!({})).await.json()["data"].as_array().unwrap()), [messenger]);
    // What leads to the next page must fit into an address.
    let many: Vec<Value> = (0..8).map(|_| field("TagId", values("IncludesNone", json!(vec![NOBODY; 150])))).collect();
    let said = dixa.refused("POST", PATH, &json!({"filters": {"strategy": "All", "conditions": many}}), 400).await;
    assert!(said.contains("1200 values") && said.contains("10000 bytes"), "{said}");
    let fits = [
        field("TagId", values("IncludesNone", json!(vec![NOBODY; 200]))),
        field("QueueId", values("IncludesNone", json!(vec![NOBODY; 40]))),
    ];
    let page = dixa.post(&format!("{PATH}?pageLimit=1"), &json!({"filters": {"strategy": "All", "conditions": fits}})).await.json();
    let next = page["meta"]["next"].as_str().unwrap().strip_prefix("/v1").unwrap().to_owned();
    assert_eq!(dixa.post(&next, &json!({})).await.status, 200);
    for body in [
        json!({"filters": {"strategy": "All", "conditions": [field("Channel", values("IncludesOne", json!(["x".repeat(10_000)])))]}}),
        json!({"query": {"value": ""}}),
        json!({"query": {}}),
        json!({"query": "word"}),
        json!({"filters": {"strategy": "Some", "conditions": []}}),
        json!({"filters": {"conditions": []}}),
        json!({"filters": {"strategy": "All", "conditions": [field("Mood", values("IncludesOne", json!([])))]}}),
        json!({"filters": {"strategy": "All", "conditions": [field("TagId", values("IncludesOne", json!(["vip"])))]}}),
        json!({"filters": {"strategy": "All", "conditions": [field("TagId", values("Is", json!([])))]}}),
        json!({"filters": {"strategy": "All", "conditions": vec![vip; 51]}}),
    ] {
        dixa.refused("POST", PATH, &body, 400).await;
    }
}
