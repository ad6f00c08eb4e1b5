//! What no configuration asks for: a webhook sent twice, a log of another name, a store that ends early.

use super::*;
use crate::domain::fixtures::{open, publish};
use crate::domain::{Actor, Command, decide};
use crate::store::sqlite::SqliteStore;
use crate::store::{Committed, Debts, Decision, ReadError};
use axum::Router;
use futures::future::BoxFuture;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct Plain;

impl Render for Plain {
    fn key(&self, sight: &Sight) -> Option<EventKey> {
        sight.message().map(|_| EventKey("event"))
    }
    fn test(&self, _: Millis) -> Vec<u8> {
        Vec::new()
    }
    fn entry<'r>(&'r self, _: Millis, _: &'r str, sight: &'r Sight, _: Option<&'r Conversation>) -> BoxFuture<'r, Result<Made, ReadError>> {
        let made = |message: &crate::domain::Message| Made::This((EventKey("event"), message.sequence.to_string().into_bytes()));
        Box::pin(std::future::ready(Ok(sight.message().map_or(Made::Lost, made))))
    }
    fn typing(&self, _: &Typing) -> Option<Rendered> {
        None
    }
}

fn store(dir: &std::path::Path, hub: &Arc<Hub>) -> Arc<SqliteStore> {
    let told = hub.clone();
    let announce = Box::new(move |Committed { sights, changes, .. }| told.announce(sights, changes));
    Arc::new(SqliteStore::open(dir, crate::wall_clock(), announce).unwrap())
}

async fn take(store: &SqliteStore, command: Command) {
    let actor = Actor::Consumer { account: "demo".into(), id: "ann".into(), app: Some("connector".into()), was: None };
    let scope = command.scope(&actor);
    let rule = Box::new(move |draft: &mut crate::domain::Draft<'_>| {
        decide(&actor, std::slice::from_ref(&command), &crate::domain::Policy::default(), draft)
    });
    store.decide(Decision { account: "demo".into(), scope, rule, received: 0, retry: None, resend: None }).await.unwrap().unwrap();
}

/// A receiver that takes everything; what came to it.
async fn receiver() -> (Endpoint, mpsc::UnboundedReceiver<String>) {
    let (tell, came) = mpsc::unbounded_channel();
    let routes = Router::new().fallback(move |body: String| {
        let _ = tell.send(body);
        std::future::ready(())
    });
    (serve(routes).await, came)
}

/// Serves on this machine as long as the test runs.
async fn serve(routes: Router) -> Endpoint {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(routes.clone());
            connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(stream), service));
        }
    });
    endpoint
}

/// A store, and a hub that is served.
fn begin() -> (tempfile::TempDir, Arc<Hub>, Arc<SqliteStore>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new(1);
    tokio::spawn(hub.clone().serve(0));
    let store = store(dir.path(), &hub);
    (dir, hub, store)
}

#[tokio::test]
async fn a_webhook_is_sent_twice_when_that_is_asked_for() {
    let (_dir, hub, store) = begin();
    let (endpoint, mut came) = receiver().await;
    // Wanted once, and forgotten when it was asked for.
    let is_wanted = AtomicBool::new(true);
    let (deliveries, running) =
        run(&store, &hub, Arc::new(move |account| account.as_str() == "demo" && is_wanted.swap(false, Ordering::Relaxed)));
    deliveries.apply(vec![webhooks(endpoint)]).await;
    take(&store, open("a")).await;
    for _ in 0..3 {
        take(&store, publish("a", "x")).await;
    }
    for expected in ["0", "0", "1", "2"] {
        assert_eq!(came.recv().await.unwrap(), expected);
    }
    running.end().await;
    assert!(store.owed(1, 0, 9).await.unwrap().is_empty(), "what was taken is owed no more");
    assert_eq!(
        store.cursor("webhooks".into()).await.unwrap().unwrap(),
        format!("{}:{}:3:1", store.epoch(), store.head()),
        "kept at the end"
    );
}

/// As [`Plain`], in another's manner: of the first event, and not of what was said second.
#[derive(Debug)]
struct Strict;

impl Render for Strict {
    fn manner(&self) -> Manner {
        Manner::OnceHub
    }
    fn key(&self, sight: &Sight) -> Option<EventKey> {
        Plain.key(sight)
    }
    fn test(&self, now: Millis) -> Vec<u8> {
        Plain.test(now)
    }
    fn entry<'r>(
        &'r self,
        now: Millis,
        id: &'r str,
        sight: &'r Sight,
        conversation: Option<&'r Conversation>,
    ) -> BoxFuture<'r, Result<Made, ReadError>> {
        assert!(conversation.is_some(), "it comes with the conversation");
        if sight.message().is_some_and(|message| message.sequence == 1) {
            return Box::pin(std::future::ready(Ok(Made::Untold)));
        }
        Plain.entry(now, id, sight, None)
    }
    fn typing(&self, _: &Typing) -> Option<Rendered> {
        None
    }
}

#[tokio::test]
async fn a_part_of_the_set_says_nothing_of_the_others_and_an_endpoint_that_gives_up_ends_where_that_is_the_manner() {
    let (_dir, hub, store) = begin();
    let (lenient, mut came) = receiver().await;
    let (tell, mut asked) = mpsc::unbounded_channel();
    let strict = serve(Router::new().fallback(move |headers: axum::http::HeaderMap, body: String| {
        let _ = tell.send((headers, body.clone()));
        // Another's way to end an endpoint is not this one's, and neither is what counts as taken.
        std::future::ready(if body == "0" { axum::http::StatusCode::ACCEPTED } else { axum::http::StatusCode::GONE })
    }))
    .await;
    let (deliveries, running) = run(&store, &hub, Arc::new(|_| false));
    let mut own = webhooks(strict);
    own.client_id = "strict".into();
    own.render = Some(Arc::new(Strict));
    own.retention = Some(Duration::from_millis(50));
    own.hooks.iter_mut().for_each(|hook| hook.all = true);
    deliveries.part("other").announce(vec![own.clone()]).await;
    assert!(deliveries.list().await.unwrap().is_empty(), "it holds from the next on");
    deliveries.apply(vec![webhooks(lenient.clone())]).await;
    assert_eq!(deliveries.list().await.unwrap().len(), 2);
    // The other part is said anew, and as it was.
    deliveries.apply(vec![webhooks(lenient)]).await;
    take(&store, open("a")).await;
    for _ in 0..3 {
        take(&store, publish("a", "x")).await;
    }
    for expected in ["0", "1", "2"] {
        assert_eq!(came.recv().await.unwrap(), expected);
    }
    let (headers, body) = asked.recv().await.unwrap();
    let signature = headers["oncehub-signature"].to_str().unwrap();
    let (time, hex) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",s=")).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"s");
    let tag: Vec<u8> = (0..hex.len()).step_by(2).map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap()).collect();
    aws_lc_rs::hmac::verify(&key, format!("{time}.{body}").as_bytes(), &tag).unwrap();
    assert!(body == "0" && headers.keys().all(|name| !name.as_str().contains("liveperson")), "{headers:?}");
    // What is second is not told; the third is tried until it is given up.
    assert_eq!(asked.recv().await.unwrap().1, "2");
    let state = async || {
        let all = deliveries.list().await.unwrap();
        all.into_iter().find(|view| view.row.app.as_str() == "strict").map(|view| view.row.state)
    };
    while state().await != Some(crate::store::EndpointState::Gone) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let is_strict = |row: &crate::store::EndpointRow| row.app.as_str() == "strict";
    deliveries.forget_apps(is_strict).await.unwrap();
    assert!(state().await.is_some(), "what is wanted is not forgotten");
    deliveries.part("other").apply(Vec::new()).await;
    deliveries.forget_apps(is_strict).await.unwrap();
    assert_eq!(state().await, None);
    running.end().await;
}

#[tokio::test]
async fn an_old_address_that_is_gone_says_nothing_about_the_new_one() {
    let (_dir, hub, store) = begin();
    let (asked, answer) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (tell, wait) = (asked.clone(), answer.clone());
    let old = serve(Router::new().fallback(move || {
        tell.notify_one();
        let wait = wait.clone();
        async move {
            wait.notified().await;
            axum::http::StatusCode::GONE
        }
    }))
    .await;
    let (new, mut came) = receiver().await;
    let (deliveries, running) = run(&store, &hub, Arc::new(|_| false));
    deliveries.apply(vec![webhooks(old)]).await;
    take(&store, open("a")).await;
    take(&store, publish("a", "x")).await;
    asked.notified().await;
    deliveries.apply(vec![webhooks(new)]).await;
    answer.notify_one();
    assert_eq!(came.recv().await.unwrap(), "0");
    assert_eq!(deliveries.endpoint(1).await.unwrap().state, crate::store::EndpointState::On);
    running.end().await;
}

#[tokio::test]
async fn one_replay_to_an_endpoint_is_under_way_at_a_time() {
    let (_dir, hub, store) = begin();
    let (endpoint, mut came) = receiver().await;
    let (deliveries, running) = run(&store, &hub, Arc::new(|_| false));
    deliveries.apply(vec![webhooks(endpoint)]).await;
    take(&store, open("a")).await;
    take(&store, publish("a", "x")).await;
    assert_eq!(came.recv().await.unwrap(), "0");
    // So much that the worker takes the other order long before it is through.
    let much = Replay::These(vec![u64::MAX / 2; 8_192]);
    let (first, second) = futures::join!(deliveries.replay(1, much), deliveries.replay(1, Replay::Dead));
    assert_eq!((first, second), (Ok(0), Err(DeliveryError::IsReplaying)));
    assert_eq!(deliveries.replay(1, Replay::Range { from: 0, to: u64::MAX }).await, Ok(1));
    assert_eq!(came.recv().await.unwrap(), "0");
    running.end().await;
}

#[tokio::test]
async fn a_store_that_cannot_settle_holds_no_delivery_up() {
    const EVENTS: usize = 40;
    let (dir, hub, store) = begin();
    let (tell, mut came) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let behind = gate.clone();
    let endpoint = serve(Router::new().fallback(move |body: String| {
        let (tell, behind) = (tell.clone(), behind.clone());
        async move {
            behind.acquire().await.unwrap().forget();
            let _ = tell.send(body);
        }
    }))
    .await;
    let (deliveries, running) = run(&store, &hub, Arc::new(|_| false));
    deliveries.apply(vec![webhooks(endpoint)]).await;
    take(&store, open("a")).await;
    for _ in 0..EVENTS {
        take(&store, publish("a", "x")).await;
    }
    let owed = async || store.owed(1, 0, 9_999).await.unwrap().len();
    while owed().await < EVENTS {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Another program writes, and the store waits for it.
    let other = rusqlite::Connection::open(dir.path().join(crate::store::sqlite::backup::DATABASE)).unwrap();
    other.busy_timeout(Duration::from_mins(1)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for sequence in 0..EVENTS {
        gate.add_permits(1);
        assert_eq!(came.recv().await.unwrap(), sequence.to_string());
    }
    assert_eq!(owed().await, EVENTS, "nothing is settled");
    other.execute_batch("ROLLBACK").unwrap();
    while owed().await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.end().await;
}

struct Run {
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<()>,
}

impl Run {
    async fn end(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
    }
}

fn run(store: &Arc<SqliteStore>, hub: &Arc<Hub>, twice: Twice) -> (Deliveries, Run) {
    let mut config = Config::from_parts(None, []).unwrap();
    config.webhooks.retry_wait = config::Span(Duration::from_millis(10));
    let parts = Parts {
        store: store.clone(),
        hub: hub.clone(),
        render: Arc::new(Plain),
        clock: crate::wall_clock(),
        settings: config.webhooks,
        retention: Arc::new(arc_swap::ArcSwap::from_pointee(config.retention)),
        twice,
    };
    let (deliveries, worker) = Deliveries::new(parts);
    let stop = CancellationToken::new();
    let worker = tokio::spawn(worker.run(stop.clone()));
    (deliveries, Run { stop, worker })
}

fn webhooks(endpoint: Endpoint) -> AppWebhooks {
    AppWebhooks {
        account: "demo".into(),
        client_id: "connector".into(),
        secret: "s".to_owned().into(),
        signature: WebhookSignature::Sha1,
        keys: Vec::new(),
        retention: Some(Duration::from_secs(60)),
        is_guarded: false,
        hooks: vec![Hook {
            event: "event".into(),
            target: Target::Post(endpoint),
            all: false,
            max_retries: None,
            headers: HeaderMap::new(),
        }],
        render: None,
    }
}

/// What comes to a receiver after a worker has begun with a cursor.
async fn with_cursor(cursor: impl Fn(&SqliteStore) -> Option<String>) -> Vec<String> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new(1);
    let store = store(dir.path(), &hub);
    let (endpoint, mut came) = receiver().await;
    take(&store, open("a")).await;
    // Positions are 1 and 2 for what opens it, 3 and 4 for the first events.
    let opened = store.head();
    let (deliveries, running) = run(&store, &hub, Arc::new(|_| false));
    deliveries.apply(vec![webhooks(endpoint.clone())]).await;
    running.end().await;
    for _ in 0..3 {
        take(&store, publish("a", "x")).await;
    }
    assert_eq!(store.head(), opened + 3);
    let value = cursor(&store);
    store
        .owe(Arc::new(crate::store::Owing { cursor: value.map(|value| ("webhooks".into(), value)), ..Default::default() }))
        .await
        .unwrap()
        .unwrap();
    let (deliveries, running) = run(&store, &hub, Arc::new(|_| false));
    deliveries.apply(vec![webhooks(endpoint)]).await;
    take(&store, publish("a", "x")).await;
    let mut all = Vec::new();
    while all.last().is_none_or(|last| last != "3") {
        all.push(came.recv().await.unwrap());
    }
    running.end().await;
    all
}

#[tokio::test]
async fn a_cursor_of_a_copied_log_goes_on_and_one_from_nowhere_begins_at_the_head() {
    assert_eq!(with_cursor(|_| None).await, ["0", "1", "2", "3"]);
    assert_eq!(with_cursor(|store| Some(format!("{}:{}:0:1", store.epoch(), store.head() - 1))).await, ["2", "3"]);
    assert_eq!(with_cursor(|store| Some(format!("another:{}:0:1", store.head() - 2))).await, ["1", "2", "3"]);
    assert_eq!(with_cursor(|store| Some(format!("another:{}:0:1", store.head() + 1))).await, ["3"]);
    assert_eq!(with_cursor(|_| Some("nonsense".into())).await, ["0", "1", "2", "3"], "where its endpoint began");
}
