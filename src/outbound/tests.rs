//! Names that lead where a test says, traps, and what is checked of names at each connection.

use super::*;
use crate::config::Config;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

/// Gives one answer for every name, whatever it is, and the next one when it is asked again; the last one remains.
#[derive(Debug)]
pub(crate) struct Answers(Vec<Vec<SocketAddr>>, AtomicUsize);

impl Answers {
    pub(crate) fn new(answers: &[&[&str]]) -> Self {
        let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
        Self(answers.iter().map(|answer| answer.iter().map(address).collect()).collect(), AtomicUsize::new(0))
    }

    /// The same from the beginning.
    fn again(&self) -> Self {
        Self(self.0.clone(), AtomicUsize::new(0))
    }
}

impl Resolve for Answers {
    fn resolve(&self, _: Name) -> Resolving {
        let asked = self.1.fetch_add(1, Ordering::Relaxed);
        let answer = self.0[asked.min(self.0.len() - 1)].clone();
        Box::pin(std::future::ready(Ok(Box::new(answer.into_iter()) as Addrs)))
    }
}

impl Clients {
    /// Whose names lead where they are told to, guarded or not.
    pub(crate) fn answering(answers: &Answers, connect_timeout: Duration, guard: Guard) -> Self {
        let clients = Self::new(connect_timeout, guard);
        let free = build(builder(connect_timeout).dns_resolver(answers.again()));
        let guarded = build(builder(connect_timeout).dns_resolver(Guarded(answers.again(), clients.guard.clone())));
        Self { free: OnceLock::from(free), guarded: OnceLock::from(guarded), ..clients }
    }
}

/// A listener on loopback that hangs up: its port, and how often it was called.
pub(crate) async fn trap() -> (u16, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (port, calls)
}

fn guard() -> Guard {
    Guard::of_webhooks(&Config::from_parts(None, []).unwrap().webhooks)
}

#[tokio::test]
async fn every_address_of_a_name_is_checked_at_each_connection() {
    let asked = |resolver: &Guarded<Answers>| resolver.resolve("shop.example".parse().unwrap());
    // An answer that changes, and some that hide the one that is meant behind others.
    let resolver = Guarded(
        Answers::new(&[
            &["1.1.1.1", "2606:4700::1111"],
            &["127.0.0.1"],
            &["1.1.1.1", "::ffff:10.0.0.1"],
            &["2606:4700::1111", "1.1.1.1", "169.254.169.254"],
            &[],
        ]),
        Arc::new(guard()),
    );
    let found: Vec<String> = asked(&resolver).await.unwrap().map(|address| address.ip().to_string()).collect();
    assert_eq!(found, ["1.1.1.1", "2606:4700::1111"]);
    for because in ["loopback", "private", "link-local"] {
        let Err(error) = asked(&resolver).await else { panic!("{because} is taken") };
        assert_eq!(error.downcast_ref::<Refusal>().map(|refusal| refusal.rule()), Some(because));
    }
    assert_eq!(asked(&resolver).await.unwrap().count(), 0);
}

#[tokio::test]
async fn the_systems_names_are_guarded() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (port, calls) = trap().await;
    let clients = Clients::new(Duration::from_secs(5), guard());
    let url = format!("http://localhost:{port}/");
    // Past the check of what an endpoint names, as a name would be that the system knows from its own table.
    let guarded = clients.guarded(&"https://shop.example/".parse().unwrap()).unwrap();
    let refused = Unanswered::from(guarded.get(&url).send().await.unwrap_err());
    assert!(matches!(refused, Unanswered::Refused(refusal) if refusal.rule() == "loopback"), "{refused}");
    let failure = Unanswered::from(clients.free().unwrap().get(&url).send().await.unwrap_err());
    assert!(matches!(failure, Unanswered::Unreachable(_) | Unanswered::Broken(_)), "{failure}");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}
