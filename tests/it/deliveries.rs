//! Webhooks under fire: endpoints that fail in every way, side by side; what is given up, and owed again; fetching; and what
//! operators and applications see and do.

use crate::sink::{Hit, React, Sink, nobody};
use crate::support::*;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tieline::config::WebhookSignature;
use tieline::delivery::{AppWebhooks, Hook, Target};
use tieline_protocol::webhook::{CONTENT, CONVERSATION, RECEIPT, TYPING};

const KEY: (&str, &str) = ("authorization", "Bearer of my own");

/// Settings under which nothing takes long, with more of `[webhooks]` and the demo application's lines.
fn quick(more: &str, app: &str) -> String {
    format!(
        "[internal]\nadmin_key = \"of my own\"\n[webhooks]\nretry_wait = \"20ms\"\nnumber_wait = \"20ms\"\nanswer_timeout = \"400ms\"\n{more}\n# app demo-connector\n{app}"
    )
}

/// An application of its own for an endpoint that gets everybody's messages.
fn app(name: &str, url: &str) -> AppWebhooks {
    let hook =
        Hook { event: CONTENT.into(), target: Target::Post(url.parse().unwrap()), all: true, max_retries: None, headers: HeaderMap::new() };
    AppWebhooks {
        account: ACCOUNT.into(),
        client_id: name.into(),
        secret: "secret".to_owned().into(),
        signature: WebhookSignature::Sha256,
        keys: Vec::new(),
        retention: Some(Duration::from_secs(3600)),
        is_guarded: false,
        hooks: vec![hook],
        render: None,
    }
}

/// Lines that give the demo application one endpoint for its messages.
fn hook(url: &str, more: &str) -> String {
    format!("capabilities = [\"webhooks\"]\nwebhooks = [{{ event = \"{CONTENT}\", endpoint = \"{url}\"{more} }}]\n")
}

async fn conversations(api: &Api, count: usize) -> Vec<(Speaker, String)> {
    let mut all = Vec::new();
    for number in 0..count {
        let speaker = api.speaker(&format!("consumer-{number}")).await;
        let id = speaker.open().await;
        all.push((speaker, id));
    }
    all
}

/// Publishes in all conversations in turn; when each event was acked.
async fn say_all(all: &[(Speaker, String)], each: usize) -> HashMap<(String, u64), Instant> {
    let mut acked = HashMap::new();
    for number in 0..each {
        for (speaker, id) in all {
            let sequence = speaker.say(id, &format!("text {number}")).await;
            acked.insert((id.clone(), sequence), Instant::now());
        }
    }
    acked
}

/// How long after their acks events came to a path, sorted.
fn delays(hits: &[Hit], path: &str, acked: &HashMap<(String, u64), Instant>) -> Vec<Duration> {
    let came =
        hits.iter().filter(|hit| hit.path == path).filter_map(|hit| Some(hit.at.saturating_duration_since(*acked.get(&hit.event())?)));
    let mut all: Vec<_> = came.collect();
    all.sort();
    all
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).map_or(0.0, |delay| delay.as_secs_f64() * 1000.0)
}

async fn admin(api: &Api, method: &str, path: &str, body: Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    api.call(method, &format!("/admin/v1/webhooks{path}"), &[KEY], body).await
}

async fn endpoints(api: &Api) -> Vec<Value> {
    let reply = admin(api, "GET", "", Value::Null).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["endpoints"].as_array().unwrap().clone()
}

/// Waits until the one endpoint that there is passes; the endpoint.
async fn until(api: &Api, what: &str, passes: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let all = endpoints(api).await;
        if let [one] = all.as_slice()
            && passes(one)
        {
            return one.clone();
        }
        assert!(began.elapsed() < SOON, "{what}: {all:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_endpoints_do_each_gets_every_event_in_order_and_none_delays_another() {
    const CONVERSATIONS: usize = 12;
    const FIRST: usize = 2;
    const EACH: usize = 10;
    let odd = |hit: &Hit| hit.event().1 % 3 == 1;
    let mut sink = Sink::start(move |hit| match hit.path.as_str() {
        "/twice" if hit.before < 2 => React::Answer(500),
        "/hang" if odd(hit) && hit.before == 0 => React::Hang,
        "/slow" => React::Late(Duration::from_millis(120), 201),
        "/redirect" if odd(hit) && hit.before == 0 => React::Redirect,
        "/missing" if hit.before == 0 => React::Answer(404),
        "/close" if odd(hit) && hit.before == 0 => React::Close,
        "/cut" => React::Cut(200),
        "/teapot" => React::Answer(418),
        _ => React::Answer(200),
    })
    .await;
    let server = TestServer::with(&quick("", "")).await;
    let api = server.api();
    let all = conversations(&api, CONVERSATIONS).await;

    // The healthy one alone, then with the others at its side.
    server.deliveries.apply(vec![app("healthy", &sink.url("/healthy"))]).await;
    // The first make connections and fill caches.
    say_all(&all, FIRST).await;
    let acked = say_all(&all, EACH).await;
    let (before, count) = (CONVERSATIONS * (FIRST + EACH), CONVERSATIONS * EACH);
    sink.until("the healthy one gets all", SOON, |hits| hits.len() == before).await;
    let alone = delays(&sink.hits(), "/healthy", &acked);

    let paths = ["/healthy", "/twice", "/hang", "/slow", "/redirect", "/missing", "/close", "/cut", "/teapot"];
    let mut apps: Vec<_> = paths.iter().map(|path| app(&path[1..], &sink.url(path))).collect();
    apps.push(app("dead", &nobody()));
    server.deliveries.apply(apps).await;
    let acked = say_all(&all, EACH).await;
    let is_all = move |hits: &[Hit]| {
        let taken = |path: &str| hits.iter().filter(|hit| hit.path == path && hit.is_taken()).count();
        taken("/healthy") == before + count && paths[1..8].iter().all(|path| taken(path) == count)
    };
    sink.until("all but two take all", SOON * 2, is_all).await;
    let beside = delays(&sink.hits(), "/healthy", &acked);
    let (p50, p99) = ([percentile(&alone, 50), percentile(&beside, 50)], [percentile(&alone, 99), percentile(&beside, 99)]);
    println!(
        "webhooks: a healthy endpoint, ms from ack to webhook, alone and beside nine ill ones: p50 {:.1} {:.1}, p99 {:.1} {:.1}; added at p99: {:.1}",
        p50[0],
        p50[1],
        p99[0],
        p99[1],
        p99[1] - p99[0]
    );

    let hits = sink.hits();
    assert!(!hits.iter().any(|hit| hit.path == "/elsewhere"), "a redirect is not followed");
    for path in &paths[..8] {
        let taken = sink.taken(path);
        assert_eq!(taken.len(), CONVERSATIONS, "{path}");
        for (dialog, numbers) in taken {
            let from = if *path == "/healthy" { 0 } else { FIRST + EACH };
            assert_eq!(numbers, (from as u64..(FIRST + 2 * EACH) as u64).collect::<Vec<_>>(), "{path}: {dialog}: once, and in order");
        }
        // What was not taken was tried again before anything behind it in its conversation.
        let mut last: HashMap<String, u64> = HashMap::new();
        for hit in hits.iter().filter(|hit| hit.path == *path) {
            let (dialog, number) = hit.event();
            let before = last.insert(dialog, number);
            assert!(before.is_none_or(|before| before == number || before + 1 == number), "{path}: {before:?} before {number}");
        }
    }
    for hit in hits.iter().filter(|hit| hit.before > 0) {
        let first = hits.iter().find(|one| (&one.path, one.id()) == (&hit.path, hit.id())).unwrap();
        assert!(!first.is_taken(), "{}: only what was not taken, or not known to be, comes again", hit.path);
        assert_eq!((first.body == hit.body, first.header("webhook-id")), (true, hit.header("webhook-id")));
    }
    for one in endpoints(&api).await {
        let is_ill = ["teapot", "dead"].contains(&one["clientId"].as_str().unwrap());
        assert_eq!((one["owed"].as_u64().unwrap() > 0, &one["failing"]), (is_ill, &json!(is_ill)), "{one}");
    }
}

#[tokio::test]
async fn a_conversation_that_is_never_taken_holds_up_no_other() {
    let mut sink = Sink::open().await;
    let server = TestServer::with(&quick("", &format!("webhook_retention = \"1h\"\n{}", hook(&sink.url("/lp"), "")))).await;
    let api = server.api();
    let all = conversations(&api, 4).await;
    let poisoned = all[0].1.clone();
    let bad = poisoned.clone();
    sink.set(move |hit| if hit.event().0 == bad { React::Answer(500) } else { React::Answer(200) });
    say_all(&all, 30).await;
    sink.until("the others", SOON, |hits| hits.iter().filter(|hit| hit.is_taken()).count() == 90).await;
    // Also those that come when it has failed often.
    sink.until("it is tried again and again", SOON, |hits| hits.iter().filter(|hit| !hit.is_taken()).count() > 8).await;
    say_all(&all, 1).await;
    sink.until("the others still", SOON, |hits| hits.iter().filter(|hit| hit.is_taken()).count() == 93).await;
    let one = until(&api, "only the poisoned are owed", |one| one["owed"] == 31).await;
    assert_eq!((&one["failing"], &one["state"]), (&json!(false), &json!("on")));
    sink.set(|_| React::Answer(200));
    until(&api, "nothing is owed", |one| one["owed"] == 0).await;
    assert_eq!(sink.taken("/lp")[&poisoned], (0..31).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_endpoint_that_takes_nothing_is_tried_now_and_then_and_gets_all_when_it_is_well() {
    let mut sink = Sink::start(|_| React::Answer(503)).await;
    let server = TestServer::with(&quick("", &hook(&sink.url("/lp"), ""))).await;
    let api = server.api();
    let all = conversations(&api, 40).await;
    say_all(&all, 5).await;
    let one = until(&api, "it counts as failing", |one| one["failing"] == true).await;
    assert!(one["lastFailure"]["reason"].as_str().unwrap().contains("503"), "{one}");
    // By the schedule 40 conversations would be due again only after 5 s; and each look takes nothing off their tries.
    sink.until("it is looked at", SOON, |hits| hits.len() > 10).await;
    let tries = sink.hits().len();
    assert!(tries < 40, "{tries} tries for 200 events that are owed");
    sink.set(|_| React::Answer(204));
    until(&api, "nothing is owed", |one| one["owed"] == 0 && one["failing"] == false).await;
    let taken = sink.taken("/lp");
    assert_eq!(taken.len(), 40);
    for numbers in taken.values() {
        assert_eq!(*numbers, [0, 1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_left_alone_until_somebody_resumes_it() {
    let mut sink = Sink::start(|hit| if hit.event().1 == 1 { React::Answer(410) } else { React::Answer(200) }).await;
    let server = TestServer::with(&quick("", &hook(&sink.url("/lp"), ""))).await;
    let api = server.api();
    let all = conversations(&api, 1).await;
    say_all(&all, 3).await;
    let one = until(&api, "it is gone", |one| one["state"] == "gone").await;
    assert_eq!(sink.hits().len(), 2);
    let server = server.restart().await;
    let api = server.api();
    let all = vec![(api.speaker("consumer-0").await, all[0].1.clone())];
    say_all(&all, 2).await;
    let reply = admin(&api, "POST", "/1/pause", Value::Null).await;
    assert_eq!((reply.status, reply.text.contains("gone")), (409, true), "{}", reply.text);
    assert_eq!(sink.hits().len(), 2, "nothing more was tried, also after a restart");
    sink.set(|_| React::Answer(200));
    assert_eq!(admin(&api, "POST", &format!("/{}/resume", one["id"]), Value::Null).await.status, 204);
    until(&api, "it gets all of it", |one| one["owed"] == 0 && one["state"] == "on" && one["lastTaken"].is_string()).await;
    sink.until("all came", SOON, |hits| hits.len() == 6).await;
    assert_eq!(sink.taken("/lp")[&all[0].1], [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn counted_retries_end_in_a_dead_letter_and_a_replay_delivers_it() {
    let mut sink = Sink::start(|hit| if hit.event().1 == 0 { React::Answer(204) } else { React::Answer(201) }).await;
    let server = TestServer::with(&quick("", &hook(&sink.url("/lp"), ", max_retries = 2"))).await;
    let api = server.api();
    let all = conversations(&api, 1).await;
    say_all(&all, 2).await;
    // 204 is no success in the vendor's modes.
    sink.until("three tries, then the next", SOON, |hits| hits.len() == 4).await;
    let numbers: Vec<_> = sink.hits().iter().map(|hit| hit.event().1).collect();
    assert_eq!(numbers, [0, 0, 0, 1]);
    until(&api, "one dead letter", |one| one["deadLetters"] == 1 && one["owed"] == 0).await;
    let dead = admin(&api, "GET", "/1/dead", Value::Null).await.json();
    let letter = &dead["deadLetters"][0];
    assert_eq!((&letter["reason"], &letter["attempts"], &letter["last"]), (&json!("exhausted"), &json!(3), &json!("it answered 204")));
    let message = letter["message"].as_str().unwrap();
    assert_eq!(message, sink.hits()[0].id());
    let attempts = admin(&api, "GET", &format!("/1/deliveries/{message}"), Value::Null).await.json();
    let attempts = attempts["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3);
    for attempt in attempts {
        assert_eq!((&attempt["status"], &attempt["result"], &attempt["answer"]), (&json!(204), &json!("status"), &Value::Null));
        assert!(attempt["tookMs"].as_f64().unwrap() > 0.0);
    }
    sink.set(|_| React::Answer(200));
    assert_eq!(admin(&api, "POST", "/1/replay", json!({"dead": true})).await.json(), json!({"replayed": 1}));
    sink.until("it comes again", SOON, |hits| hits.len() == 5).await;
    assert_eq!((sink.hits()[4].id(), sink.hits()[4].event().1), (message, 0), "under the same id");
    until(&api, "no dead letter is left", |one| one["deadLetters"] == 0 && one["owed"] == 0).await;
    let attempts = admin(&api, "GET", &format!("/1/deliveries/{message}"), Value::Null).await.json();
    assert_eq!(attempts["attempts"][3]["answer"], "it is what it is", "{attempts}");
}

#[tokio::test]
async fn the_schedule_ends_in_a_dead_letter_and_ranges_are_replayed_by_id_and_time() {
    let mut sink = Sink::start(|hit| if hit.event().1 == 1 { React::Answer(500) } else { React::Answer(202) }).await;
    let server = TestServer::with(&quick("schedule = [\"10ms\", \"20ms\"]", &hook(&sink.url("/lp"), ""))).await;
    let api = server.api();
    let all = conversations(&api, 1).await;
    let early = jiff::Timestamp::now().to_string();
    say_all(&all, 4).await;
    until(&api, "one is given up", |one| one["deadLetters"] == 1 && one["owed"] == 0).await;
    let numbers = |hits: &[Hit]| hits.iter().map(|hit| hit.event().1).collect::<Vec<_>>();
    assert_eq!(numbers(&sink.hits()), [0, 1, 1, 1, 2, 3]);
    sink.set(|_| React::Answer(200));
    let ids: Vec<_> = sink.hits().iter().map(|hit| hit.id().to_owned()).collect();
    // From 1 to 2 by id, all by time, two by name: each behind what is owed already.
    let mut expected = vec![0, 1, 1, 1, 2, 3];
    for (wanted, again) in [
        (json!({"from": ids[1], "to": ids[4]}), vec![1, 2]),
        (json!({"from": early}), vec![0, 1, 2, 3]),
        (json!({"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}), vec![]),
        (json!({"from": ids[4]}), vec![2, 3]),
        (json!({"messages": [ids[5], ids[0]]}), vec![3, 0]),
    ] {
        let reply = admin(&api, "POST", "/1/replay", wanted.clone()).await;
        assert_eq!(reply.json(), json!({"replayed": again.len()}), "{wanted}");
        expected.extend(again);
        let count = expected.len();
        sink.until("they come again", SOON, move |hits| hits.len() == count).await;
        assert_eq!(numbers(&sink.hits()), expected, "{wanted}");
    }
    for wrong in [
        json!({}),
        json!({"dead": true, "from": early}),
        json!({"from": "yesterday"}),
        json!({"messages": ["other:1"]}),
        json!({"from": early, "to": ids[0]}),
        json!({"most": 1}),
    ] {
        let reply = admin(&api, "POST", "/1/replay", wrong.clone()).await;
        assert_eq!(reply.status, 400, "{wrong}: {}", reply.text);
    }
}

#[tokio::test]
async fn an_endpoint_that_asks_for_time_is_given_it() {
    let mut sink = Sink::start(|hit| if hit.before == 0 { React::RetryAfter(1) } else { React::Answer(200) }).await;
    let server = TestServer::with(&quick("schedule = [\"10ms\", \"1h\"]", &hook(&sink.url("/lp"), ""))).await;
    let all = conversations(&server.api(), 1).await;
    say_all(&all, 1).await;
    sink.until("it comes again", SOON, |hits| hits.len() == 2).await;
    let hits = sink.hits();
    assert!(hits[1].at - hits[0].at >= Duration::from_secs(1), "not before");

    // As a whole, too: when the fifth conversation has failed, at most seven others are under way, and the next one is
    // tried no sooner than it asked for.
    sink.set(|hit| if hit.before == 0 { React::RetryAfter(2) } else { React::Answer(200) });
    let more = conversations(&server.api(), 20).await;
    say_all(&more, 1).await;
    sink.until("all come", SOON * 2, |hits| hits.iter().filter(|hit| hit.is_taken()).count() == 21).await;
    let first: Vec<_> = sink.hits()[2..].iter().filter(|hit| hit.before == 0).map(|hit| hit.at).collect();
    assert_eq!(first.len(), 20);
    assert!(first[12] - first[4] >= Duration::from_secs(2), "not before: {:?}", first[12] - first[4]);
}

#[tokio::test]
async fn what_is_owed_is_fetched_in_order_and_acknowledged() {
    let lines = "capabilities = [\"webhooks\"]\nwebhooks = [{ event = \"*\", pull = true }]\n";
    let mut server = TestServer::with(&quick("", lines)).await;
    let mut api = server.api();
    let all = conversations(&api, 2).await;
    say_all(&all, 3).await;
    until(&api, "all is owed", |one| one["owed"] == 8 && one["pull"] == true && one["endpoint"].is_null()).await;
    let mut token = format!("Bearer {}", all[0].0.app);
    let fetch = async |api: &Api, token: &str, query: &str| {
        api.call("GET", &format!("/admin/v1/webhooks/1/events{query}"), &[("authorization", token)], "").await
    };
    let first = fetch(&api, &token, "?limit=5").await.json();
    let events = first["events"].as_array().unwrap().clone();
    assert_eq!(events.len(), 5);
    let named = |events: &[Value]| events.iter().map(|event| (event["id"].clone(), event["cursor"].clone())).collect::<Vec<_>>();
    let again = fetch(&api, &token, "?limit=5").await.json();
    assert_eq!(named(again["events"].as_array().unwrap()), named(&events), "what is not acknowledged comes again");
    assert_eq!((&events[0]["event"], &events[0]["body"]["type"]), (&json!(CONVERSATION), &json!(CONVERSATION)));
    let last = events[4]["cursor"].as_str().unwrap();
    assert_eq!(first["cursor"], last);
    // Half of them are acknowledged; a restart changes nothing.
    let second = fetch(&api, &token, &format!("?after={}", events[1]["cursor"].as_str().unwrap())).await.json();
    assert_eq!(named(&second["events"].as_array().unwrap()[..3]), named(&events[2..5]));
    assert_eq!(second["events"].as_array().unwrap().len(), 6);
    server = server.restart().await;
    api = server.api();
    let all = vec![(api.speaker("consumer-0").await, all[0].1.clone())];
    token = format!("Bearer {}", all[0].0.app);
    let rest = fetch(&api, &token, &format!("?after={last}")).await.json();
    assert_eq!(rest["events"].as_array().unwrap().len(), 3);
    let numbers: Vec<_> = events[2..]
        .iter()
        .chain(rest["events"].as_array().unwrap())
        .filter_map(|event| event["body"]["body"]["changes"][0]["sequence"].as_u64())
        .collect();
    assert_eq!(numbers, [0, 0, 1, 1, 2, 2]);

    // Nothing more: it waits, and is woken by what happens.
    let end = rest["cursor"].as_str().unwrap().to_owned();
    let nothing = fetch(&api, &token, &format!("?after={end}&wait=0")).await.json();
    assert_eq!(nothing, json!({"events": [], "cursor": end}));
    let path = format!("?after={end}&wait=60");
    let (woken, _) = tokio::join!(fetch(&api, &token, &path), say_all(&all, 1));
    assert_eq!(woken.json()["events"][0]["body"]["body"]["changes"][0]["event"]["message"], "text 0");
    until(&api, "the last is owed", |one| one["owed"] == 1).await;

    // Who may, and what makes no sense.
    let other = api.app_token_of(ACCOUNT, "counting").await;
    for (token, status) in [("Bearer nonsense", 401), (other.as_str(), 401), ("", 401), (KEY.1, 200)] {
        assert_eq!(fetch(&api, token, "?wait=0").await.status, status, "{token}");
    }
    for cursor in ["other:1", "nonsense", &format!("{}9", end)] {
        assert_eq!(fetch(&api, &token, &format!("?after={cursor}")).await.status, 409, "{cursor}");
    }
    assert_eq!(admin(&api, "POST", "/1/test", Value::Null).await.status, 409);
    assert_eq!(admin(&api, "POST", "/1/pause", Value::Null).await.status, 204);
    assert_eq!(fetch(&api, &token, "").await.status, 409, "it is paused");
    // Whoever waits when the gateway stops is told.
    assert_eq!(admin(&api, "POST", "/1/resume", Value::Null).await.status, 204);
    let end = fetch(&api, &token, "").await.json()["cursor"].as_str().unwrap().to_owned();
    let path = format!("?after={end}&wait=60");
    let path = format!("/admin/v1/webhooks/1/events{path}");
    let headers = [("authorization", token.as_str())];
    let (stopped, ()) = tokio::join!(api.try_call("GET", &path, &headers, String::new()), async { server.begin_stop() });
    // It may have come too late to be taken at all.
    match stopped {
        Ok(reply) => assert_eq!(reply.status, 503, "{}", reply.text),
        Err(error) => assert!(!error.is_timeout(), "{error}"),
    }
}

#[tokio::test]
async fn an_endpoint_waits_while_it_is_paused_or_off_and_misses_nothing() {
    let mut sink = Sink::open().await;
    let server = TestServer::with(&quick("", &hook(&sink.url("/lp"), ""))).await;
    let api = server.api();
    let all = conversations(&api, 1).await;
    say_all(&all, 2).await;
    sink.until("two", SOON, |hits| hits.len() == 2).await;
    assert_eq!(admin(&api, "POST", "/1/pause", Value::Null).await.status, 204);
    say_all(&all, 2).await;
    until(&api, "they are owed", |one| one["owed"] == 2 && one["state"] == "paused").await;
    let mut server = server.restart().await;
    let api = server.api();
    let all = vec![(api.speaker("consumer-0").await, all[0].1.clone())];
    until(&api, "it is still paused", |one| one["owed"] == 2 && one["state"] == "paused").await;
    assert_eq!(sink.hits().len(), 2);
    assert_eq!(admin(&api, "POST", "/1/resume", Value::Null).await.status, 204);
    sink.until("four", SOON, |hits| hits.len() == 4).await;

    // Nobody names it any more; then somebody does, under another address.
    server.deliveries.apply(Vec::new()).await;
    say_all(&all, 3).await;
    let one = until(&api, "it is off", |one| one["state"] == "off").await;
    assert_eq!((&one["owed"], one["id"].as_u64()), (&json!(0), Some(1)));
    for call in ["pause", "resume", "test", "replay"] {
        let reply = admin(&api, "POST", &format!("/1/{call}"), json!({"dead": true})).await;
        assert_eq!((reply.status, reply.text.contains("is off")), (409, true), "{call}: {}", reply.text);
    }
    let mut back = app("demo-connector", &sink.url("/moved"));
    back.hooks[0].all = false;
    server.deliveries.apply(vec![back]).await;
    say_all(&all, 1).await;
    sink.until("eight", SOON, |hits| hits.len() == 8).await;
    let numbers: Vec<_> = sink.hits().iter().map(|hit| (hit.path.clone(), hit.event().1)).collect();
    let expected: Vec<_> = (0..8).map(|number| (if number < 4 { "/lp" } else { "/moved" }.to_owned(), number)).collect();
    assert_eq!(numbers, expected);
    assert_eq!(admin(&api, "DELETE", "/1", Value::Null).await.status, 409, "it is wanted");
    server.deliveries.apply(Vec::new()).await;
    assert_eq!(admin(&api, "DELETE", "/1", Value::Null).await.status, 204);
    assert_eq!((endpoints(&api).await, admin(&api, "GET", "/1", Value::Null).await.status), (vec![], 404));
    server.stop().await;
}

#[tokio::test]
async fn lines_choose_types_and_conversations() {
    let mut sink = Sink::open().await;
    let at = |path: &str| sink.url(path);
    let lines = [
        format!("{{ event = \"*\", endpoint = \"{}\", all = true }}", at("/desk")),
        format!("{{ event = \"{RECEIPT}\", endpoint = \"{}\" }}", at("/receipts")),
        format!("{{ event = \"{CONVERSATION}\", endpoint = \"{}\", enabled = false }}", at("/off")),
        format!("{{ event = \"{TYPING}\", endpoint = \"{}\", all = true }}", at("/typing")),
    ];
    let server = TestServer::with(&quick("", &format!("capabilities = [\"webhooks\"]\nwebhooks = [{}]\n", lines.join(", ")))).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let app = api.app_token_of(ACCOUNT, "counting").await;
    let jws = api.consumer_of(ACCOUNT, &app, "bob").await;
    let bob = Speaker { api: api.clone(), account: ACCOUNT.into(), app, jws };
    let receipt = |id: &str| {
        request(
            "r",
            "ms.PublishEvent",
            json!({"dialogId": id, "event": {"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [0]}}),
        )
    };
    let typing =
        |id: &str| request("t", "ms.PublishEvent", json!({"dialogId": id, "event": {"type": "ChatStateEvent", "chatState": "COMPOSING"}}));
    for speaker in [&ann, &bob] {
        let id = speaker.open().await;
        let mut socket = speaker.consumer_socket().await;
        socket.ask(&typing(&id)).await;
        speaker.say(&id, "hello").await;
        speaker.post(SEND, receipt(&id).to_string()).await;
    }
    sink.until("five", SOON, |hits| hits.len() == 5).await;
    let count = |path: &str| sink.hits().iter().filter(|hit| hit.path == path).count();
    assert_eq!(["/desk", "/receipts", "/off", "/typing"].map(count), [2, 1, 0, 2]);
    let all = endpoints(&api).await;
    let events = |path: &str| {
        all.iter().find(|one| one["endpoint"].as_str().unwrap().ends_with(path)).map(|one| one["events"].as_array().unwrap().len())
    };
    assert_eq!((events("/desk"), events("/receipts"), events("/typing"), events("/off")), (Some(2), Some(1), Some(1), None));
}

#[tokio::test]
async fn an_endpoint_is_tested_on_demand_and_shown_to_its_own_application_only() {
    let sink = Sink::start(|hit| if hit.path == "/lp" { React::Answer(200) } else { React::Answer(500) }).await;
    let lines = hook(&format!("{}?key=hush", sink.url("/lp")), "");
    let server = TestServer::with(&quick("", &lines)).await;
    let api = server.api();
    let tested = admin(&api, "POST", "/1/test", Value::Null).await.json();
    assert_eq!((&tested["result"], &tested["status"], &tested["answer"]), (&json!("delivered"), &json!(200), &json!("it is what it is")));
    let body: Value = serde_json::from_slice(&sink.hits()[0].body).unwrap();
    assert_eq!((&body["type"], &body["body"]["changes"]), (&json!("tieline.WebhookTest"), &json!([])));
    server.deliveries.apply(vec![app("demo-connector", &sink.url("/elsewhere"))]).await;
    let tested = admin(&api, "POST", "/1/test", Value::Null).await.json();
    assert_eq!((&tested["result"], &tested["reason"]), (&json!("status"), &json!("it answered 500")));

    let own = format!("Bearer {}", api.app_token().await);
    let other = format!("Bearer {}", api.app_token_of(ACCOUNT, "counting").await);
    let call = async |token: &str, method: &str, path: &str| {
        api.call(method, &format!("/admin/v1/webhooks{path}"), &[("authorization", token)], "{\"dead\":true}").await
    };
    let listed = call(&own, "GET", "?account=demo").await;
    assert_eq!((listed.status, listed.json()["endpoints"].as_array().unwrap().len()), (200, 1), "{}", listed.text);
    assert!(!listed.text.contains("hush"));
    assert_eq!(call(&other, "GET", "?account=demo").await.json(), json!({"endpoints": []}));
    for (method, path) in [
        ("GET", "/1"),
        ("GET", "/1/owed"),
        ("GET", "/1/dead"),
        ("GET", "/1/deliveries/1"),
        ("POST", "/1/test"),
        ("POST", "/1/pause"),
        ("POST", "/1/resume"),
        ("POST", "/1/replay"),
    ] {
        let status = call(&own, method, path).await.status;
        assert!([200, 204].contains(&status), "{path}: {status}");
        let theirs = call(&other, method, path).await;
        let none = call(&own, method, &path.replace('1', "77")).await;
        assert_eq!((theirs.status, none.status, theirs.text == none.text), (401, 401, true), "{path}: not theirs and not there are one");
        assert_eq!(call("", method, path).await.text, none.text, "{path}");
        assert_eq!(call(KEY.1, method, &path.replace("/1", "/77")).await.status, 404, "{path}");
    }
    assert_eq!(call(&own, "DELETE", "/1").await.status, 409);
    assert_eq!(call(&own, "GET", "").await.status, 401, "of which account?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_ten_times_with_thousands_owed_it_loses_none() {
    const KILLS: usize = 10;
    const CONVERSATIONS: usize = 20;
    const ENDPOINTS: usize = 3;
    let seed = std::env::var("TIELINE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_126_u64);
    let sink = Sink::open().await;
    let dir = tempfile::tempdir().unwrap();
    // Endpoints of three applications; the first is what the conversations are opened through.
    let lines = |number: usize| hook(&sink.url(&format!("/{number}")), ", all = true") + "webhook_retention = \"1h\"\n";
    let more: String = (1..ENDPOINTS)
        .map(|number| format!("[[accounts.apps]]\nclient_id = \"more-{number}\"\nclient_secret = \"s\"\n{}", lines(number)))
        .collect();
    let secret = "client_secret = \"demo-connector-secret\"\n";
    let config = CONFIG.replacen(secret, &format!("{secret}{}{more}", lines(0)), 1);
    let config = format!("[internal]\nadmin_key = \"of my own\"\n[webhooks]\nallow = [\"127.0.0.1\"]\nretry_wait = \"50ms\"\n{config}");
    let port = free_port();
    let mut process = TestProcess::start_with(dir.path(), port, &[], &config).await;
    let mut ids = Vec::new();
    for (_, id) in conversations(&process.api(), CONVERSATIONS).await {
        ids.push(id);
    }
    // How many events of each conversation were acked.
    let mut acked = [0_u64; CONVERSATIONS];
    let (mut most, mut dice) = (0, seed);
    for kill in 0..KILLS {
        let api = process.api();
        // They refuse, so that much is owed; every third time they take, and it is killed while they do.
        let is_taking = kill % 3 == 2;
        sink.set(move |_| if is_taking { React::Answer(200) } else { React::Answer(503) });
        let mut publishing = tokio::task::JoinSet::new();
        for (number, id) in ids.clone().into_iter().enumerate() {
            let api = api.clone();
            publishing.spawn(async move {
                let speaker = api.speaker(&format!("consumer-{number}")).await;
                let mut acked = 0;
                let path = format!("/api/account/{ACCOUNT}/messaging/consumer/{SEND}?v=3");
                for text in 0..25 {
                    let body = publish("1", &id, &format!("{kill}-{text}")).to_string();
                    match speaker.api.try_call("POST", &path, &speaker.headers(), body).await {
                        Ok(reply) if reply.status == 200 => acked = reply.json()["body"]["sequence"].as_u64().unwrap() + 1,
                        // It was killed.
                        Ok(_) | Err(_) => break,
                    }
                }
                (number, acked)
            });
        }
        // Odd times it is killed in the middle of publishing, others when that is done.
        let mut done = Vec::new();
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_millis(100 + (dice >> 33) % 200);
        if kill % 2 == 1 {
            tokio::time::sleep(wait).await;
        } else {
            while let Some(one) = publishing.join_next().await {
                done.push(one.unwrap());
            }
            most = most.max(endpoints(&api).await.iter().map(|one| one["owed"].as_u64().unwrap()).sum());
        }
        process.kill();
        while let Some(one) = publishing.join_next().await {
            done.extend(one.ok());
        }
        for (number, count) in done {
            acked[number] = acked[number].max(count);
        }
        process = TestProcess::start_with(dir.path(), port, &[], &config).await;
    }
    sink.set(|_| React::Answer(200));
    let wanted: HashMap<String, u64> = ids.iter().cloned().zip(acked.iter().copied()).collect();
    let began = Instant::now();
    let api = process.api();
    while endpoints(&api).await.iter().any(|one| one["owed"] != 0) {
        assert!(began.elapsed() < SOON * 3, "all is paid: {:?}", endpoints(&api).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut repeats = 0;
    for number in 0..ENDPOINTS {
        let taken = sink.taken(&format!("/{number}"));
        for (id, count) in &wanted {
            let numbers = taken.get(id).cloned().unwrap_or_default();
            let mut seen = Vec::new();
            for number in numbers {
                if seen.contains(&number) {
                    repeats += 1;
                } else {
                    seen.push(number);
                }
            }
            assert!(seen.len() as u64 >= *count, "seed {seed}: /{number}: {id}: {count} were acked, and {} came", seen.len());
            assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>(), "seed {seed}: /{number}: {id}: in order");
        }
    }
    let events: u64 = acked.iter().sum();
    println!(
        "webhooks: seed {seed}: {KILLS} kills, {events} events acked, owed to {ENDPOINTS} endpoints, at most {most} debts at a time; lost 0, out of order 0, \
         taken twice {repeats}; paid {:.1} s after the last start",
        began.elapsed().as_secs_f64()
    );
    assert!(most > 2_000, "thousands are owed: {most}");
}
