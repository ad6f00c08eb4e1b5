//! The three sockets: replies, notifications, subscriptions, replay and the seam to live events.

use crate::support::*;
use serde_json::{Value, json};
use std::time::Instant;

fn numbers(events: &[(u64, String)]) -> Vec<u64> {
    events.iter().map(|(number, _)| *number).collect()
}

#[tokio::test]
async fn pipelined_publishes_are_stored_and_answered_in_order() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut socket = ann.consumer_socket().await;
    for number in 0..1000 {
        // Numeric ids and equal ids occur; each is answered with a string.
        let mut frame = publish("", &id, &format!("text {number}"));
        frame["id"] = if number % 2 == 0 { json!(number) } else { json!("1,") };
        socket.send(&frame).await;
    }
    for number in 0..1000 {
        let answer = socket.frame().await;
        let id = if number % 2 == 0 { number.to_string() } else { "1,".to_owned() };
        assert_eq!(
            answer,
            json!({"kind": "resp", "reqId": id, "code": 200, "type": "ms.PublishEventResponse", "body": {"sequence": number}})
        );
    }
    let mut agent = server.api().agent("ada", "3").await;
    agent.follow(&id, 0).await;
    let events = agent.events(1000).await;
    assert!(events.iter().enumerate().all(|(place, (number, text))| *number == place as u64 && *text == format!("text {place}")));
}

#[tokio::test]
async fn replies_keep_the_order_of_requests_of_every_kind() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut socket = ann.consumer_socket().await;
    let frames = [
        publish("a", &id, "x"),
        request("b", "GetClock", json!({})),
        request("c", "ms.QueryMessages", json!({"dialogId": id})),
        request("d", "no.Such", json!({})),
        follow("e", &id, 0),
        request("f", "userprofile.GetUserProfile", json!({})),
        publish("g", &id, "y"),
        request("h", ".GetClock", Value::Null),
    ];
    for frame in &frames {
        socket.send(frame).await;
    }
    let mut replied = Vec::new();
    while replied.len() < frames.len() {
        let frame = socket.frame().await;
        if frame["kind"] == "resp" {
            replied.push(frame["reqId"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(replied, ["a", "b", "c", "d", "e", "f", "g", "h"]);
}

#[tokio::test]
async fn replay_then_live_without_a_gap_from_every_number() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let texts: Vec<String> = (0..250).map(|number| format!("t{number}")).collect();
    let mut publisher = ann.consumer_socket().await;
    for text in &texts[..200] {
        publisher.ask(&publish("p", &id, text)).await;
    }
    let mut followers = Vec::new();
    for from in [0, 1, 99, 100, 101, 199, 200] {
        let mut agent = server.api().agent("ada", "3").await;
        let answer = agent.follow(&id, from).await;
        assert_eq!(
            (&answer["type"], &answer["body"]["headSeq"], &answer["body"]["oldestSeq"]),
            (&json!("GenericSubscribeResponse"), &json!(199), &json!(0))
        );
        followers.push((from, agent));
    }
    for text in &texts[200..] {
        publisher.ask(&publish("p", &id, text)).await;
    }
    for (from, mut agent) in followers {
        let events = agent.events(250 - usize::try_from(from).unwrap()).await;
        let expected: Vec<_> = (from..250).zip(texts[usize::try_from(from).unwrap()..].iter().cloned()).collect();
        assert_eq!(events, expected, "from {from}");
    }
}

#[tokio::test]
async fn beyond_the_head_the_replay_is_empty_and_the_next_event_is_live() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut agent = server.api().agent("ada", "3").await;
    let answer = agent.follow(&id, 1_000_000_000).await;
    assert_eq!(answer["body"]["headSeq"], -1, "an empty dialog has no head");
    let replay = agent.notification("ms.MessagingEventNotification").await;
    assert_eq!(replay["body"]["changes"], json!([]));
    ann.say(&id, "live").await;
    assert_eq!(agent.events(1).await, [(0, "live".to_owned())]);
}

#[tokio::test]
async fn a_number_of_another_log_is_refused_with_what_there_is() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "x").await;
    let mut agent = server.api().agent("ada", "3").await;
    let answer = agent.ask(&request("f", "ms.SubscribeMessagingEvents", json!({"dialogId": id, "fromSeq": 0, "epoch": "another"}))).await;
    assert_eq!(answer["code"], 409);
    let epoch = agent.follow(&id, 0).await["body"]["epoch"].as_str().unwrap().to_owned();
    assert!(answer["body"].as_str().unwrap().contains(&epoch), "{answer}");
    let again = request("g", "ms.SubscribeMessagingEvents", json!({"dialogId": id, "fromSeq": 0, "epoch": epoch}));
    assert_eq!(agent.ask(&again).await["code"], 200);
}

#[tokio::test]
async fn subscribing_twice_replays_again_and_hears_live_once() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "a").await;
    let mut agent = server.api().agent("ada", "3").await;
    agent.follow(&id, 0).await;
    assert_eq!(numbers(&agent.events(1).await), [0]);
    agent.follow(&id, 0).await;
    assert_eq!(numbers(&agent.events(1).await), [0]);
    ann.say(&id, "b").await;
    ann.say(&id, "c").await;
    assert_eq!(numbers(&agent.events(2).await), [1, 2]);
}

#[tokio::test]
async fn subscribing_while_publishes_commit_never_loses_or_repeats() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let total = 400;
    let publishing = tokio::spawn({
        let (ann, id) = (ann.clone(), id.clone());
        async move {
            let mut socket = ann.consumer_socket().await;
            for number in 0..total {
                socket.ask(&publish("p", &id, &number.to_string())).await;
            }
        }
    });
    let bearer = api.login("ada").await.bearer;
    let mut followers = Vec::new();
    for _ in 0..20 {
        let mut agent = api.agent_by(&bearer, "3").await;
        agent.follow(&id, 0).await;
        followers.push(agent);
    }
    publishing.await.unwrap();
    for mut agent in followers {
        assert_eq!(numbers(&agent.events(total).await), (0..total as u64).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_reply_comes_first_and_its_notification_behind_a_pause() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "x").await;
    let mut agent = server.api().agent("ada", "3").await;
    for (frame, kind) in [
        (request("s", "cqm.SubscribeExConversations", json!({})), "cqm.ExConversationChangeNotification"),
        (follow("f", &id, 0), "ms.MessagingEventNotification"),
    ] {
        // The pause counts from the reply, which comes after the request: however late this client reads, it is behind both.
        let asked = Instant::now();
        agent.send(&frame).await;
        assert_eq!(agent.frame().await["kind"], "resp");
        assert_eq!(agent.frame().await["type"], kind);
        assert!(asked.elapsed().as_millis() >= 50, "{kind} came {:?} behind the request", asked.elapsed());
    }
    let mut consumer = ann.consumer_socket().await;
    consumer.ask(&request("s", "cqm.SubscribeExConversations", json!({}))).await;
    consumer.notification("ExConversationChangeNotification").await;
    let asked = Instant::now();
    consumer.send(&request("o", "cm.ConsumerRequestConversation", json!({}))).await;
    let answer = consumer.frame().await;
    assert_eq!(answer["type"], "cm.RequestConversationResponse", "the reply is first");
    let upsert = consumer.frame().await;
    assert_eq!(upsert["body"]["changes"][0]["result"]["convId"], answer["body"]["conversationId"]);
    assert!(asked.elapsed().as_millis() >= 50);
}

#[tokio::test]
async fn nothing_else_waits_for_the_pause() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let (one, two) = (ann.open().await, ann.open().await);
    let mut agent = server.api().agent("ada", "3").await;
    agent.follow(&one, 0).await;
    agent.notification("ms.MessagingEventNotification").await;
    // While the second subscription is held, requests are answered and the first dialog's events come.
    agent.send(&follow("two", &two, 0)).await;
    agent.send(&request("clock", "GetClock", json!({}))).await;
    assert_eq!(agent.frame().await["reqId"], "two");
    assert_eq!(agent.frame().await["reqId"], "clock");
}

#[tokio::test]
async fn a_v3_conversation_subscription_sees_opening_change_and_closing() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let mut agent = server.api().agent("ada", "3").await;
    let answer = agent.ask(&request("s", "cqm.SubscribeExConversations", json!({"stage": ["OPEN"]}))).await;
    assert_eq!((&answer["code"], &answer["type"]), (&json!(200), &json!("cqm.SubscribeExConversationsResponse")));
    let subscription = answer["body"]["subscriptionId"].clone();
    let snapshot = agent.notification("cqm.ExConversationChangeNotification").await;
    assert_eq!((&snapshot["body"]["subscriptionId"], &snapshot["body"]["changes"]), (&subscription, &json!([])), "always, also empty");
    let id = ann.open().await;
    let opened = agent.notification("cqm.ExConversationChangeNotification").await;
    assert_eq!(opened["body"]["subscriptionId"], subscription);
    let change = &opened["body"]["changes"][0];
    let details = &change["result"]["conversationDetails"];
    assert_eq!((&change["type"], &change["result"]["convId"]), (&json!("UPSERT"), &json!(id)));
    assert_eq!(
        (&details["state"], &details["stage"], &details["skillId"], &details["brandId"]),
        (&json!("OPEN"), &json!("OPEN"), &json!("-1"), &json!("demo"))
    );
    assert_eq!(details["participants"][0]["role"], "CONSUMER");
    assert!(details.get("participantsPId").is_none() && change["result"].get("lastUpdateTime").is_none(), "v2 only");
    assert_eq!(
        (&details["firstConversation"], &details["appInstId"], &details["ttr"]),
        (&json!(true), &json!("demo-connector"), &json!({"ttrType": "NORMAL", "value": 3600}))
    );
    let answer = agent.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    assert_eq!((&answer["type"], &answer["body"]), (&json!("StringResponse"), &json!("OK Agent added successfully")));
    let joined = agent.notification("cqm.ExConversationChangeNotification").await;
    let after = &joined["body"]["changes"][0]["result"]["conversationDetails"];
    assert!(after["metaDataLastUpdateTs"].as_i64() > details["metaDataLastUpdateTs"].as_i64());
    assert_eq!(after["participants"].as_array().unwrap().len(), 2);
    ann.post(SEND, change_text(&id)).await;
    let closed = agent.notification("cqm.ExConversationChangeNotification").await;
    let change = &closed["body"]["changes"][0];
    assert_eq!((&change["type"], &change["result"]["convId"]), (&json!("DELETE"), &json!(id)));
    let details = &change["result"]["conversationDetails"];
    assert_eq!((&details["state"], &details["stage"], &details["closeReason"]), (&json!("CLOSE"), &json!("CLOSE"), &json!("CONSUMER")));
    assert!(details["endTs"].is_i64() && details["dialogs"][0]["endTs"].is_i64() && details["dialogs"][0]["closedBy"] == "CONSUMER");
    assert_eq!(details["participants"].as_array().unwrap().len(), 2, "a DELETE carries it all");
}

fn change_text(id: &str) -> String {
    change("c", id, json!({"field": "ConversationStateField", "conversationState": "CLOSE"})).to_string()
}

#[tokio::test]
async fn regression_a_socket_with_room_for_one_request_reads_on_when_that_is_answered() {
    // Where one request fills what may wait, by number or by bytes. A ping would wake the socket, too, and comes late.
    for limits in ["pending = 1", "message = \"1MiB\"\nbatch = \"1MiB\""] {
        let server = TestServer::with(&format!("[limits]\nping = \"80s\"\n{limits}")).await;
        let ann = server.api().speaker("ann").await;
        let id = ann.open().await;
        let mut socket = ann.consumer_socket().await;
        let long = |number: u64| format!("{}{}", publish(&number.to_string(), &id, "x"), " ".repeat(300 * 1024));
        for number in 0..10 {
            if limits.contains("pending") {
                socket.send(&publish(&number.to_string(), &id, "x")).await;
            } else {
                socket.send_text(&long(number)).await;
            }
            assert_eq!(socket.response(&number.to_string()).await["body"]["sequence"], number);
        }
        for number in 10..20 {
            socket.send(&publish(&number.to_string(), &id, "x")).await;
        }
        for number in 10..20 {
            assert_eq!(socket.response(&number.to_string()).await["body"]["sequence"], number);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_encoded_once_for_all_who_follow_it() {
    const AGENTS: usize = 20;
    const CHANGES: u64 = 10;
    // A process of its own: the count is of all its sockets.
    let dir = tempfile::tempdir().unwrap();
    let process = TestProcess::start(dir.path(), free_port(), &[]).await;
    let ann = process.api().speaker("ann").await;
    let id = ann.open().await;
    let bearer = process.api().login("ada").await.bearer;
    let mut agents = Vec::new();
    for _ in 0..AGENTS {
        let mut agent = process.api().agent_by(&bearer, "3").await;
        agent.ask(&request("s", "cqm.SubscribeExConversations", json!({"stage": ["OPEN"]}))).await;
        agent.notification("cqm.ExConversationChangeNotification").await;
        agents.push(agent);
    }
    let encoded = async || {
        let metrics = process.api().get("/metrics").await.text;
        let count = metrics.lines().find_map(|line| line.strip_prefix("tieline_conversation_encodings_total "));
        count.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let before = encoded().await;
    for number in 0..CHANGES {
        let field = json!({"field": "TTRField", "ttrType": "CUSTOM", "value": 1_000 + number});
        ann.post(SEND, change("t", &id, field).to_string()).await;
        for agent in &mut agents {
            let heard = agent.notification("cqm.ExConversationChangeNotification").await;
            assert_eq!(heard["body"]["changes"][0]["result"]["conversationDetails"]["ttr"]["value"], 1_000 + number);
        }
    }
    assert_eq!(encoded().await - before, CHANGES, "each for {AGENTS} sockets");
}

#[tokio::test]
async fn an_agent_on_v2_hears_its_conversations_unasked_and_by_both_ids() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "before").await;
    let login = api.login("ada").await;
    let mut agent = api.agent_by(&login.bearer, "2.1").await;
    let old = format!("{ACCOUNT}.{}", login.user);
    let answer = agent.ask(&request("s", ".ams.aam.SubscribeExConversations", json!({"agentIds": [old]}))).await;
    assert_eq!(answer["type"], ".ams.aam.SubscribeExConversations$Response");
    let snapshot = agent.notification(".ams.aam.ExConversationChangeNotification").await;
    assert_eq!(snapshot["body"]["changes"], json!([]), "it takes part in none yet");
    let answer = agent.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    assert_eq!((&answer["type"], &answer["code"]), (&json!(".ReqBody$StringResp"), &json!(200)));
    let joined = agent.notification("ExConversationChangeNotification").await;
    let details = &joined["body"]["changes"][0]["result"]["conversationDetails"];
    assert_eq!(details["participants"]["ASSIGNED_AGENT"], json!([old]));
    assert_eq!(details["participantsPId"]["ASSIGNED_AGENT"], json!([login.pid]));
    assert_eq!(details["participants"]["CONSUMER"], details["participantsPId"]["CONSUMER"]);
    assert_eq!(details["dialogs"][0]["participantsDetails"][1], json!({"id": old, "role": "ASSIGNED_AGENT", "state": "ACTIVE"}));
    assert!(joined["body"]["changes"][0]["result"]["lastUpdateTime"].is_i64());
    let answer = agent.ask(&request("q", ".ams.ms.QueryMessages", json!({"dialogId": id, "newerThanSequence": 0}))).await;
    assert_eq!((answer["type"].as_str().unwrap(), answer["body"].as_array().unwrap().len()), (".ams.ms.QueryMessages$Response", 1));
    assert_eq!(answer["body"][0]["originatorPId"], answer["body"][0]["originatorId"], "a consumer has one id");
    ann.say(&id, "live").await;
    let heard = agent.notification(".ams.ms.OnlineEventDistribution").await;
    assert_eq!((&heard["body"]["sequence"], &heard["body"]["event"]["message"]), (&json!(1), &json!("live")), "the body is one change");
    let answer = agent.ask(&request("p", ".ams.ms.PublishEvent", publish("", &id, "answer")["body"].clone())).await;
    assert_eq!((&answer["type"], &answer["body"]), (&json!(".ams.ms.PublishEvent$Response"), &json!({"sequence": 2})));
    let own = agent.notification(".ams.ms.OnlineEventDistribution").await;
    let body = &own["body"];
    assert_eq!((&body["originatorId"], &body["originatorPId"]), (&json!(old), &json!(login.pid)), "the sender hears it, too");
    assert_eq!(body["originatorMetadata"], json!({"id": login.pid, "role": "ASSIGNED_AGENT"}));
    assert_eq!((&body["conversationId"], &body["dialogId"], &body["messageAudience"]), (&json!(id), &json!(id), &json!("ALL")));
}

#[tokio::test]
async fn receipts_are_numbered_and_typing_is_not() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut agent = server.api().agent("ada", "3").await;
    agent.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    agent.follow(&id, 0).await;
    agent.notification("ms.MessagingEventNotification").await;
    let mut consumer = ann.consumer_socket().await;
    consumer.follow(&id, 0).await;
    consumer.notification("ms.MessagingEventNotification").await;
    // Where each message is acknowledged by one receipt, a connector sees 0, 2, 4.
    for expected in [0, 2, 4] {
        assert_eq!(ann.say(&id, "x").await, expected);
        let receipt = request(
            "r",
            "ms.PublishEvent",
            json!({"dialogId": id, "event": {"type": "AcceptStatusEvent", "status": "ACCEPT", "sequenceList": [expected]}}),
        );
        assert_eq!(agent.ask(&receipt).await["body"]["sequence"], expected + 1);
    }
    let typing = request("t", "ms.PublishEvent", json!({"dialogId": id, "event": {"type": "ChatStateEvent", "chatState": "COMPOSING"}}));
    assert_eq!(agent.ask(&typing).await["body"], json!({"sequence": 0}));
    let seen = consumer.first(|frame| frame["body"]["changes"][0]["event"]["type"] == "ChatStateEvent").await;
    let change = &seen["body"]["changes"][0];
    assert!(change.get("sequence").is_none() && change.get("serverTimestamp").is_none(), "{change}");
    // Closed: no message, no typing, but a late receipt.
    consumer.ask(&change_frame(&id)).await;
    let refused = consumer.ask(&publish("p", &id, "late")).await;
    assert_eq!((&refused["code"], &refused["body"]), (&json!(400), &json!("Dialog is closed; open a new conversation")));
    assert_eq!(agent.ask(&typing).await["code"], 400);
    let late = request(
        "r",
        "ms.PublishEvent",
        json!({"dialogId": id, "event": {"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [4]}}),
    );
    assert_eq!(agent.ask(&late).await["body"]["sequence"], 6);
    // Typing was not stored.
    let all = consumer.ask(&request("q", "ms.QueryMessages", json!({"dialogId": id}))).await;
    assert_eq!(all["body"].as_array().unwrap().len(), 7);
}

fn change_frame(id: &str) -> Value {
    change("close", id, json!([{"field": "Stage", "conversationState": "CLOSE"}]))
}

#[tokio::test]
async fn a_whisper_reaches_the_brands_side_only() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut agent = server.api().agent("ada", "3").await;
    agent.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    let mut manager = server.api().agent("grace", "3").await;
    manager.follow(&id, 0).await;
    let mut consumer = ann.consumer_socket().await;
    consumer.follow(&id, 0).await;
    let mut whisper = publish("w", &id, "between us");
    whisper["body"]["messageAudience"] = json!("AGENTS_AND_MANAGERS");
    agent.ask(&whisper).await;
    agent.ask(&publish("p", &id, "for all")).await;
    assert_eq!(numbers(&manager.events(2).await), [0, 1]);
    assert_eq!(consumer.events(1).await, [(1, "for all".to_owned())], "the number jumps");
    // In replay and query, too.
    let mut again = ann.consumer_socket().await;
    again.follow(&id, 0).await;
    assert_eq!(numbers(&again.events(1).await), [1]);
    let all = again.ask(&request("q", "ms.QueryMessages", json!({"dialogId": id}))).await;
    assert_eq!(all["body"].as_array().unwrap().len(), 1);
    whisper["id"] = json!("x");
    assert_eq!(consumer.ask(&whisper).await["code"], 400, "a consumer cannot whisper");
    // Typing between agents is theirs, too.
    let mut typing =
        request("t", "ms.PublishEvent", json!({"dialogId": id, "event": {"type": "ChatStateEvent", "chatState": "COMPOSING"}}));
    typing["body"]["messageAudience"] = json!("AGENTS_AND_MANAGERS");
    assert_eq!(agent.ask(&typing).await["code"], 200);
    let seen = manager.first(|frame| frame["body"]["changes"][0]["event"]["type"] == "ChatStateEvent").await;
    assert_eq!(seen["body"]["changes"][0]["messageAudience"], "AGENTS_AND_MANAGERS");
    agent.ask(&publish("p", &id, "after")).await;
    let next = consumer.notification("ms.MessagingEventNotification").await;
    assert_eq!(next["body"]["changes"][0]["event"]["message"], "after", "the consumer saw no typing in between");
}

#[tokio::test]
async fn queries_are_inclusive_ascending_and_bounded() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut socket = ann.consumer_socket().await;
    for number in 0..120 {
        socket.send(&publish(&format!("p{number}"), &id, "x")).await;
    }
    socket.response("p119").await;
    for (body, expected) in [
        (json!({"newerThanSequence": 5, "olderThanSequence": 7}), vec![5, 6, 7]),
        (json!({"newerThanSequence": 118}), vec![118, 119]),
        (json!({"newerThanSequence": -1, "maxQuantity": 2}), vec![0, 1]),
        (json!({"olderThanSequence": 3, "maxQuantity": 2}), vec![2, 3]),
        (json!({}), (20..120).collect()),
        (json!({"maxQuantity": 1000}), (0..120).collect()),
        (json!({"newerThanSequence": 500}), vec![]),
    ] {
        let mut body = body;
        body["dialogId"] = json!(id);
        let answer = socket.ask(&request("q", "ms.QueryMessages", body.clone())).await;
        let found: Vec<i64> = answer["body"].as_array().unwrap().iter().map(|change| change["sequence"].as_i64().unwrap()).collect();
        assert_eq!(found, expected, "{body}");
    }
    assert_eq!(socket.ask(&request("q", "ms.QueryMessages", json!({"dialogId": id, "maxQuantity": 0}))).await["code"], 400);
    // An agent on v2 that does not say how many gets up to a thousand.
    let mut agent = server.api().agent("ada", "2").await;
    let answer = agent.ask(&request("q", ".ams.ms.QueryMessages", json!({"dialogId": id}))).await;
    assert_eq!(answer["body"].as_array().unwrap().len(), 120);
}

#[tokio::test]
async fn every_field_of_a_conversation_can_be_changed_by_who_may() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut agent = server.api().agent("ada", "2.1").await;
    let mut consumer = ann.consumer_socket().await;
    let field = |field: Value| change("f", &id, field);
    assert_eq!(agent.ask(&field(json!({"field": "Note", "note": "x"}))).await["body"], "Agent does not exist in conversation");
    agent.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    for (body, text) in [
        (json!({"field": "Note", "note": "vip"}), "OK Update note success"),
        (json!({"field": "Skill", "type": "UPDATE", "skill": 77}), "Skill changed successfully"),
        (json!({"field": "TTRField", "ttrType": "URGENT", "value": 60}), "Update TTR ended successfully"),
        (json!({"field": "ManualETTR", "time": 1_924_992_000_000_i64}), "Update manual Ettr ended successfully"),
        (json!({"field": "ParticipantsChange", "type": "ADD", "role": "AGENT", "userId": "demo.1002"}), "OK Agent added successfully"),
        (json!({"field": "ParticipantsChange", "type": "REMOVE", "role": "AGENT", "userId": "1002"}), "OK Agent removed successfully"),
    ] {
        let answer = agent.ask(&field(body.clone())).await;
        assert_eq!((&answer["code"], &answer["body"]), (&json!(200), &json!(text)), "{body}");
    }
    agent.ask(&request("s", ".ams.aam.SubscribeExConversations", json!({"conversationId": id}))).await;
    let snapshot = agent.notification("ExConversationChangeNotification").await;
    let result = &snapshot["body"]["changes"][0]["result"];
    let details = &result["conversationDetails"];
    assert_eq!(
        (&details["note"], &details["skillId"], &details["ttr"]),
        (&json!("vip"), &json!("77"), &json!({"ttrType": "URGENT", "value": 60}))
    );
    assert_eq!((&details["manualETTR"], &result["effectiveTTR"]), (&json!(1_924_992_000_000_i64), &json!(1_924_992_000_000_i64)));
    let rate = consumer.ask(&field(json!([{"field": "CSATRate", "csatRate": "4", "status": "FILLED"}]))).await;
    assert_eq!(rate["body"], "OK CSAT processed successfully");
    let rated = agent.notification("ExConversationChangeNotification").await;
    assert_eq!(rated["body"]["changes"][0]["result"]["conversationDetails"]["csat"], json!({"csatRate": 4, "status": "FILLED"}));
    for (who, body, reason) in [
        ("consumer", json!({"field": "Note", "note": "x"}), "only the brand's side"),
        ("consumer", json!({"field": "Skill", "skill": "77"}), "only the brand's side"),
        ("agent", json!({"field": "CSATRate", "csatRate": 1}), "only the consumer"),
        ("agent", json!({"field": "Skill", "skill": "nowhere"}), "Skill nowhere does not exist"),
        ("agent", json!({"field": "ParticipantsChange", "type": "ADD", "role": "AGENT", "userId": "9"}), "Agent does not exist"),
        (
            "agent",
            json!({"field": "ParticipantsChange", "type": "ADD", "role": "ASSIGNED_AGENT", "userId": "1002"}),
            "already has an assigned agent",
        ),
        ("agent", json!({"field": "ParticipantsChange", "type": "REMOVE", "role": "MANAGER"}), "Agent does not exist in conversation"),
        ("agent", json!({"field": "ParticipantsChange", "type": "SUGGEST", "role": "ASSIGNED_AGENT"}), "Agent already exist"),
        ("agent", json!({"field": "Weather"}), "\"Weather\" is not known"),
        ("consumer", json!({"field": "CSATRate", "csatRate": 6}), "0 to 5"),
        ("consumer", json!([]), "conversationField is missing"),
    ] {
        let socket = if who == "agent" { &mut agent } else { &mut consumer };
        let answer = socket.ask(&field(body.clone())).await;
        assert!(answer["code"].as_u64().unwrap() >= 400 && answer["body"].as_str().unwrap().contains(reason), "{body}: {answer}");
    }
    // Several together are all or nothing.
    let answer = agent.ask(&field(json!([{"field": "Note", "note": "changed"}, {"field": "Skill", "skill": "nowhere"}]))).await;
    assert_eq!(answer["code"], 400);
    // A transfer to an agent: the one invited first, then the one who leaves; back to the queue with REMOVE.
    let transfer = json!([
        {"field": "ParticipantsChange", "type": "REMOVE", "role": "ASSIGNED_AGENT"},
        {"field": "ParticipantsChange", "type": "SUGGEST", "role": "ASSIGNED_AGENT", "userId": "1002"},
    ]);
    assert_eq!(agent.ask(&field(transfer)).await["body"], "OK Agent removed successfully");
    let last = agent
        .first(|frame| {
            frame["body"]["changes"][0]["result"]["conversationDetails"]["participants"].get("ASSIGNED_AGENT").is_none()
                && frame["kind"] == "notification"
        })
        .await;
    let details = &last["body"]["changes"][0]["result"]["conversationDetails"];
    assert_eq!(details["note"], "vip", "the refused change left no trace");
    assert_eq!(details["dialogs"][0]["participantsDetails"][1], json!({"id": "demo.1002", "role": "ASSIGNED_AGENT", "state": "SUGGESTED"}));
    consumer
        .ask(&change(
            "c",
            &id,
            json!({"field": "DialogChange", "type": "UPDATE", "dialog": {"dialogId": id, "state": "CLOSE", "closedCause": "done"}}),
        ))
        .await;
    assert_eq!(consumer.ask(&change_frame(&id)).await["code"], 200, "what is closed already stays so");
}

#[tokio::test]
async fn subscriptions_can_be_changed_and_ended() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let mut agent = server.api().agent("ada", "3").await;
    let subscription =
        agent.ask(&request("s", "cqm.SubscribeExConversations", json!({"stage": ["CLOSE"]}))).await["body"]["subscriptionId"].clone();
    agent.notification("ExConversationChangeNotification").await;
    let id = ann.open().await;
    let changed =
        agent.ask(&request("u", "cqm.UpdateExConversationSubscription", json!({"subscriptionId": subscription, "stage": ["OPEN"]}))).await;
    assert_eq!(changed["code"], 200);
    let snapshot = agent.notification("ExConversationChangeNotification").await;
    assert_eq!(snapshot["body"]["changes"][0]["result"]["convId"], json!(id));
    assert_eq!(agent.ask(&request("e", "cqm.UnsubscribeExConversations", json!({"subscriptionId": subscription}))).await["code"], 200);
    ann.open().await;
    assert_eq!(agent.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    let other = ann.open().await;
    agent.follow(&other, 0).await;
    // The next notification is of the dialog: none came for the ended subscription.
    assert_eq!(agent.frame().await["type"], "ms.MessagingEventNotification");
    for kind in ["cqm.UnsubscribeExConversations", "cqm.UpdateExConversationSubscription"] {
        assert_eq!(agent.ask(&request("x", kind, json!({"subscriptionId": subscription}))).await["code"], 400, "{kind}");
    }
}

#[tokio::test]
async fn profiles_are_ones_own_or_of_whom_one_has_met() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let mut consumer = ann.consumer_socket().await;
    let own = consumer.ask(&request("p", "userprofile.GetUserProfile", json!({}))).await;
    let ann_id = own["body"]["userId"].as_str().unwrap().to_owned();
    assert_eq!((ann_id.len(), &own["body"]["firstName"]), (64, &json!("Ann")));
    let set = consumer.ask(&request("s", "userprofile.SetUserProfile", json!({"lastName": "Example", "authenticatedData": {}}))).await;
    assert_eq!(set["body"], "OK User Profile set successfully");
    let own = consumer.ask(&request("p", "userprofile.GetUserProfile", json!({"userId": ann_id}))).await;
    assert_eq!(
        (&own["body"]["firstName"], &own["body"]["lastName"], &own["body"]["authenticatedData"]),
        (&json!("Ann"), &json!("Example"), &json!({"lp_sdes": []}))
    );
    let login = api.login("ada").await;
    let mut agent = api.agent_by(&login.bearer, "2.1").await;
    // A client asks for its own old id first of all.
    let me = agent.ask(&request("p", ".ams.userprofile.GetUserProfile", json!({"userId": "demo.1001"}))).await;
    assert_eq!((&me["code"], &me["body"]["userId"]), (&json!(200), &json!(login.pid)));
    assert_eq!(agent.ask(&request("p", ".ams.userprofile.GetUserProfile", json!(ann_id))).await["code"], 400, "not met yet");
    assert_eq!(consumer.ask(&request("p", "userprofile.GetUserProfile", json!({"userId": login.pid}))).await["code"], 400);
    agent.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    let met = agent.ask(&request("p", ".ams.userprofile.GetUserProfile", json!(ann_id))).await;
    assert_eq!((&met["type"], &met["body"]["lastName"]), (&json!(".ams.userprofile.GetUserProfile$Response"), &json!("Example")));
    assert_eq!(consumer.ask(&request("p", "userprofile.GetUserProfile", json!({"userId": login.pid}))).await["body"]["nickName"], "ada");
    let mut manager = api.agent("grace", "3").await;
    assert_eq!(manager.ask(&request("p", "userprofile.GetUserProfile", json!({"userId": ann_id}))).await["code"], 200, "a manager may");
}

#[tokio::test]
async fn an_agent_can_open_a_conversation_with_a_consumer_it_knows_of() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let mut consumer = ann.consumer_socket().await;
    let ann_id = consumer.ask(&request("p", "userprofile.GetUserProfile", json!({}))).await["body"]["userId"].clone();
    let mut agent = server.api().agent("ada", "2.1").await;
    let answer =
        agent.ask(&request("o", ".ams.cm.AgentRequestConversation", json!({"consumerId": ann_id, "channelType": "MESSAGING"}))).await;
    assert_eq!((&answer["code"], &answer["type"]), (&json!(200), &json!(".ams.cm.RequestConversation$Response")));
    let id = answer["body"]["conversationId"].as_str().unwrap().to_owned();
    assert_eq!(agent.ask(&publish("p", &id, "good news")).await["body"]["sequence"], 0);
    consumer.follow(&id, 0).await;
    assert_eq!(consumer.events(1).await, [(0, "good news".to_owned())]);
    assert_eq!(agent.ask(&request("o", ".ams.cm.AgentRequestConversation", json!({"consumerId": "nobody"}))).await["code"], 400);
    assert_eq!(consumer.ask(&request("o", "cm.AgentRequestConversation", json!({"consumerId": ann_id}))).await["code"], 400);
}

#[tokio::test]
async fn the_connector_socket_speaks_for_many_and_hears_of_all() {
    let server = TestServer::start().await;
    let api = server.api();
    let (ann, bob) = (api.speaker("ann").await, api.speaker("bob").await);
    let mut socket = ann.connector_socket().await;
    let answer = socket.ask(&request("f", "ms.SubscribeApplicationEvents", json!({}))).await;
    assert_eq!((&answer["kind"], &answer["code"]), (&json!("resp"), &json!("OK")));
    let start = answer["body"]["cursor"].as_str().unwrap().to_owned();
    let speaking = |mut frame: Value, jws: &str| {
        frame["headers"] = json!([{"type": ".ams.headers.ConsumerAuthentication", "jwt": jws}]);
        frame
    };
    // An array is one request: all or nothing, answered by an array.
    let mut opening = ann.opening();
    opening[0] = speaking(opening[0].clone(), &ann.jws);
    opening.as_array_mut().unwrap().push(publish("3,", "", "hello"));
    socket.send(&opening).await;
    let answers = socket.first(Value::is_array).await;
    let id = answers[1]["body"]["conversationId"].as_str().unwrap().to_owned();
    assert_eq!(answers[2], json!({"kind": "resp", "code": "OK", "body": {"sequence": 0}, "reqId": "3,"}));
    // The token is remembered for the conversation; another consumer's does not fit it.
    assert_eq!(socket.ask(&publish("4", &id, "again")).await, json!({"kind": "resp", "code": "OK", "body": {"sequence": 1}, "reqId": "4"}));
    let refused = socket.ask(&speaking(publish("5", &id, "intruder"), &bob.jws)).await;
    assert_eq!(
        (&refused["code"], &refused["body"]["errorCode"], &refused["type"]),
        (&json!(401), &json!(40103), &json!(".ReqBody$ErrorResp"))
    );
    let missing = socket.ask(&publish("6", "nowhere", "x")).await;
    assert_eq!(missing["body"]["errorCode"], 40104);
    assert_eq!(socket.ask(&publish("7", &id, "mine")).await["body"]["errorCode"], Value::Null, "and the refused token is not kept");
    bob.open().await;
    // It hears everything in journal order, each with a cursor, and resumes behind any of them.
    let mut heard = Vec::new();
    while heard.len() < 5 {
        let frame = socket.notification("Notification").await;
        heard.push((frame["type"].as_str().unwrap().to_owned(), frame["body"]["cursor"].as_str().unwrap().to_owned()));
    }
    let kinds: Vec<&str> = heard.iter().map(|(kind, _)| kind.as_str()).collect();
    let (event, state) = ("ms.MessagingEventNotification", "cqm.ExConversationChangeNotification");
    assert_eq!(kinds, [state, event, event, event, state]);
    for (after, expected) in [(&start, 5), (&heard[0].1, 4), (&heard[3].1, 1)] {
        let mut again = ann.connector_socket().await;
        again.ask(&request("f", "ms.SubscribeApplicationEvents", json!({"after": after}))).await;
        for (_, cursor) in &heard[5 - expected..] {
            assert_eq!(again.notification("Notification").await["body"]["cursor"], json!(cursor));
        }
    }
    let other = request("f", "ms.SubscribeApplicationEvents", json!({"after": "another:3"}));
    assert_eq!(socket.ask(&other).await["body"]["errorCode"], 40902);
    assert_eq!(socket.ask(&request("f", "ms.SubscribeApplicationEvents", json!({"after": "x"}))).await["code"], 400);
    // The feed outlives a restart, also of what is only on disk then.
    let server = server.restart().await;
    let ann = server.api().speaker("ann").await;
    let mut later = ann.connector_socket().await;
    later.ask(&request("f", "ms.SubscribeApplicationEvents", json!({"after": heard[1].1}))).await;
    for (_, cursor) in &heard[2..] {
        assert_eq!(later.notification("Notification").await["body"]["cursor"], json!(cursor));
    }
}

#[tokio::test]
async fn a_consumer_socket_opens_by_each_of_its_credentials() {
    let server = TestServer::start().await;
    let api = server.api();
    let jwt = api.sign_up().await;
    let path = "/ws_api/account/demo/messaging/consumer?v=3";
    for value in [jwt.clone(), format!("jwt {jwt}"), format!("Bearer {jwt}")] {
        let mut socket = api.socket(path, &[("authorization", &value)]).await.unwrap();
        assert_eq!(socket.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
        // InitConnection is answered also where the upgrade said it all.
        let answer = socket.ask(&request("0", "InitConnection", json!({}))).await;
        assert_eq!(answer["body"], "Connection initialized successfully");
    }
    let mut socket = api.socket(path, &[]).await.unwrap();
    let early = socket.ask(&request("c", "GetClock", json!({}))).await;
    assert_eq!((&early["code"], &early["type"]), (&json!(401), &json!("StringResponse")));
    let mut init = request("0", "InitConnection", json!({}));
    init["headers"] =
        json!([{"type": ".ams.headers.ClientProperties", "os": "LINUX"}, {"type": ".ams.headers.ConsumerAuthentication", "jwt": jwt}]);
    // The next request comes without waiting for the answer.
    socket.send(&init).await;
    socket.send(&request("1", "userprofile.GetUserProfile", json!({}))).await;
    let answer = socket.frame().await;
    assert_eq!(
        answer,
        json!({"kind": "resp", "reqId": "0", "code": 200, "type": "StringResponse", "body": "Connection initialized successfully"})
    );
    let sub = crate::connector_api::claims(&jwt)["sub"].clone();
    assert_eq!(socket.response("1").await["body"]["userId"], sub, "its user id is the token's subject");
    // A bad token: a code that a browser can see.
    let mut bad = api.socket(path, &[("authorization", "jwt x")]).await.unwrap();
    assert_eq!(bad.closed().await.0, 4401);
    let mut bad = api.socket(path, &[]).await.unwrap();
    init["headers"] = json!([{"type": ".ams.headers.ConsumerAuthentication", "jwt": "x"}]);
    bad.send(&init).await;
    assert_eq!(bad.closed().await.0, 4401);
    let mut connector = api.socket("/ws_api/account/demo/messaging/connector?v=3", &[]).await.unwrap();
    assert_eq!(connector.ask(&request("c", "GetClock", json!({}))).await["body"]["errorCode"], 40105);
    init["headers"] = json!([{"type": ".ams.headers.AppAuthentication", "jwt": api.app_token().await}]);
    assert_eq!(connector.ask(&init).await["code"], "OK");
    assert_eq!(connector.ask(&request("c", "GetClock", json!({}))).await["code"], "OK");
}

#[tokio::test]
async fn each_spelling_of_a_type_is_understood_on_each_side() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut agent = server.api().agent("ada", "2").await;
    let mut consumer = ann.consumer_socket().await;
    for (kind, v2, v3) in [
        ("ms.QueryMessages", ".ams.ms.QueryMessages$Response", "ms.QueryMessagesResponse"),
        (".ams.ms.QueryMessages", ".ams.ms.QueryMessages$Response", "ms.QueryMessagesResponse"),
        ("GetClock", ".GetClock$Response", "GetClockResponse"),
        (".GetClock", ".GetClock$Response", "GetClockResponse"),
        ("KeepAlive", ".GetClock$Response", "GetClockResponse"),
    ] {
        let frame = request("x", kind, json!({"dialogId": id}));
        assert_eq!(agent.ask(&frame).await["type"], v2, "{kind}");
        assert_eq!(consumer.ask(&frame).await["type"], v3, "{kind}");
    }
    for (socket, kind) in [(&mut agent, ".ReqBody$StringResp"), (&mut consumer, "StringResponse")] {
        let answer = socket.ask(&request("x", "cm.SubscribeConversations", json!({}))).await;
        assert_eq!((&answer["code"], &answer["type"]), (&json!(400), &json!(kind)));
        assert!(answer["body"].as_str().unwrap().contains("cm.SubscribeConversations"), "the type is named");
    }
}
