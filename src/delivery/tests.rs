//! What no configuration asks for: a webhook sent twice; and cursors of another log.

use super::cursor::Cursor;
use super::*;
use crate::domain::fixtures::{open, publish};
use crate::domain::{Actor, Command, decide};
use crate::store::sqlite::SqliteStore;
use crate::store::{Committed, Decision};
use axum::Router;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
struct Plain;

impl Render for Plain {
    fn entry(&self, _: Millis, sight: &Sight, _: Option<&Conversation>) -> Option<Rendered> {
        sight.message().map(|message| (EventKey("event"), message.sequence.to_string().into_bytes()))
    }
    fn typing(&self, _: &Typing) -> Option<Rendered> {
        None
    }
}

fn store(dir: &std::path::Path, hub: &Arc<Hub>) -> Arc<SqliteStore> {
    let told = hub.clone();
    let announce = Box::new(move |Committed { sights, changes }| told.announce(sights, changes));
    Arc::new(SqliteStore::open(dir, crate::wall_clock(), announce).unwrap())
}

async fn take(store: &SqliteStore, command: Command) {
    let actor = Actor::Consumer { account: "demo".into(), id: "ann".into(), app: Some("connector".into()), was: None };
    let scope = command.scope(&actor);
    let rule = Box::new(move |draft: &mut crate::domain::Draft<'_>| {
        decide(&actor, std::slice::from_ref(&command), &crate::domain::Policy::default(), draft)
    });
    store.decide(Decision { account: "demo".into(), scope, rule, retry: None, resend: None }).await.unwrap().unwrap();
}

/// A receiver that takes everything; what came to it.
async fn receiver() -> (Endpoint, mpsc::UnboundedReceiver<String>) {
    let (tell, came) = mpsc::unbounded_channel();
    let routes = Router::new().fallback(move |body: String| {
        let _ = tell.send(body);
        std::future::ready(())
    });
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
    (endpoint, came)
}

#[tokio::test]
async fn a_webhook_is_sent_twice_when_that_is_asked_for() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new(1);
    tokio::spawn(hub.clone().serve(0));
    let store = store(dir.path(), &hub);
    let (endpoint, mut came) = receiver().await;
    // Wanted once, and forgotten when it was asked for.
    let is_wanted = AtomicBool::new(true);
    let (deliveries, worker) = Deliveries::new(Parts {
        store: store.clone(),
        hub,
        render: Arc::new(Plain),
        clock: crate::wall_clock(),
        first_wait: Duration::from_millis(10),
        twice: Arc::new(move |account| account.as_str() == "demo" && is_wanted.swap(false, Ordering::Relaxed)),
    });
    let stop = CancellationToken::new();
    let worker = tokio::spawn(worker.run(stop.clone()));
    deliveries
        .apply(vec![AppWebhooks {
            account: "demo".into(),
            client_id: "connector".into(),
            secret: "s".to_owned().into(),
            signature: WebhookSignature::Sha1,
            retention: Duration::from_secs(60),
            is_guarded: false,
            hooks: vec![Hook { event: "event".into(), endpoint, max_retries: None, headers: HeaderMap::new() }],
        }])
        .await;
    take(&store, open("a")).await;
    for _ in 0..3 {
        take(&store, publish("a", "x")).await;
    }
    for expected in ["0", "0", "1", "2"] {
        assert_eq!(came.recv().await.unwrap(), expected);
    }
    stop.cancel();
    worker.await.unwrap();
    let kept = store.cursor("webhooks/demo/connector".into()).await.unwrap().unwrap();
    assert_eq!(kept, format!("{}:{}", store.epoch(), store.head()), "kept at the end");
}

#[tokio::test]
async fn a_cursor_of_a_copied_log_goes_on_and_one_from_nowhere_begins_at_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &Hub::new(1));
    take(&store, open("a")).await;
    for _ in 0..4 {
        take(&store, publish("a", "x")).await;
    }
    let (head, epoch) = (store.head(), store.epoch().to_owned());
    let key = ("demo".into(), "connector".into());
    for (kept, after) in [
        (None, head),
        (Some(format!("{epoch}:2")), 2),
        (Some("another:3".to_owned()), 3),
        (Some(format!("another:{}", head + 1)), head),
        (Some("nonsense".to_owned()), head),
    ] {
        if let Some(kept) = &kept {
            store.keep_cursor("webhooks/demo/connector".into(), kept.clone()).await.unwrap().unwrap();
        }
        let cursor = Cursor::open(store.clone(), &key, head).await.unwrap();
        assert_eq!(cursor.after(), after, "{kept:?}");
        assert_eq!(store.cursor("webhooks/demo/connector".into()).await.unwrap(), Some(format!("{epoch}:{after}")), "kept at once");
    }
}
