//! Starts and reloads of an identity with a store on disk: what the file says, what was changed since, and who is let in.

use super::*;
use crate::store::sqlite::SqliteStore;
use crate::things::{Audience, Bot, ContactEndpoint, Flow, Tag, Thing, ThingId};
use std::sync::atomic::{AtomicI64, Ordering};

/// An identity on a folder, as a start makes it.
struct Gate {
    identity: Identity,
    store: Arc<SqliteStore>,
    dir: tempfile::TempDir,
    /// How much later it is than each look at the clock makes it.
    later: Arc<AtomicI64>,
}

fn config(dir: &tempfile::TempDir, more: &str) -> Config {
    let text = format!("[limits]\nlogins_per_minute = 2\n[[accounts]]\nid = \"a\"\n{more}\n[[accounts]]\nid = \"b\"\n{more}");
    let set = ("TIELINE__SERVER__DATA_DIR".to_owned(), dir.path().display().to_string());
    Config::from_parts(Some(("test", &text)), [set]).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

impl Gate {
    async fn start(more: &str) -> Self {
        Self::on(tempfile::tempdir().unwrap(), more).await
    }

    async fn on(dir: tempfile::TempDir, more: &str) -> Self {
        static NOW: AtomicI64 = AtomicI64::new(1);
        let later = Arc::new(AtomicI64::new(0));
        let clock: Clock = Arc::new({
            let later = later.clone();
            move || NOW.fetch_add(1, Ordering::SeqCst) + later.load(Ordering::SeqCst)
        });
        let config = config(&dir, more);
        let store = Arc::new(SqliteStore::open(dir.path(), clock.clone(), Box::new(|_| {})).unwrap());
        let identity = Identity::new(Issuer::open(&config, clock).unwrap(), store.clone(), &config).unwrap();
        assert_eq!(identity.take_things(&config).await, Ok(Vec::new()));
        Self { identity, store, dir, later }
    }

    async fn restart(self, more: &str) -> Self {
        self.store.close().await;
        drop((self.identity, self.store));
        Self::on(self.dir, more).await
    }

    /// What was left out.
    async fn reload(&self, more: &str) -> Vec<String> {
        let config = config(&self.dir, more);
        let prepared = self.identity.prepare(&config).unwrap();
        self.identity.take(prepared, &config);
        self.identity.take_things(&config).await.unwrap()
    }

    fn account(&self) -> Arc<Account> {
        self.identity.directory().account("a").unwrap()
    }

    /// The names of the tags, each with where it comes from.
    fn tags(&self) -> Vec<(String, Source)> {
        let mut all: Vec<_> = self.account().things().tags.live().iter().map(|tag| (tag.thing.name.clone(), tag.source())).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    fn tag(&self, name: &str) -> ThingId {
        self.account().things().tags.by_name(name).unwrap_or_else(|| panic!("there is a tag {name}")).id
    }

    async fn rename(&self, id: ThingId, name: &str) {
        let name = name.to_owned();
        let renamed = self.identity.edit_thing(&self.account(), id, None, move |tag: &Tag| Ok(Tag { name, ..tag.clone() })).await;
        renamed.unwrap();
    }
}

const AGENT: &str = "[[accounts.agents]]\nuser_id = \"1\"\nlogin = \"ada\"\npassword = \"x\"\n";

fn tag(id: &str, name: &str) -> String {
    format!("[[accounts.tags]]\nid = \"{id}\"\nname = \"{name}\"\n")
}

fn new_tag(name: &str) -> Tag {
    Tag { name: name.into(), color: None, active: true }
}

fn list(all: &[(&str, Source)]) -> Vec<(String, Source)> {
    all.iter().map(|(name, source)| ((*name).to_owned(), *source)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_holds_when_it_changed_and_what_was_changed_since_holds_when_it_did_not() {
    use Source::{Changed, File, Running};
    let gate = Gate::start(&(tag("vip", "VIP") + &tag("late", "Late"))).await;
    assert_eq!(gate.tags(), list(&[("Late", File), ("VIP", File)]));
    let vip = gate.tag("VIP");
    gate.identity.create_thing(&gate.account(), new_tag("Own")).await.unwrap();
    gate.rename(vip, "Very").await;
    assert_eq!(gate.tags(), list(&[("Late", File), ("Own", Running), ("Very", Changed)]));
    // The same in other words.
    let gate = gate.restart(&(tag("late", "Late") + "# nothing\nactive = true\n" + &tag("vip", "VIP"))).await;
    assert_eq!(gate.tags(), list(&[("Late", File), ("Own", Running), ("Very", Changed)]));
    // Its entry changes, to what the file never said and back.
    assert!(gate.reload(&(tag("late", "Late") + &tag("vip", "V.I.P."))).await.is_empty());
    assert_eq!(gate.tags(), list(&[("Late", File), ("Own", Running), ("V.I.P.", File)]));
    let gate = gate.restart(&(tag("vip", "VIP") + &tag("late", "Late"))).await;
    assert_eq!(gate.tags(), list(&[("Late", File), ("Own", Running), ("VIP", File)]));
    assert_eq!(gate.tag("VIP"), vip, "the UUID is that of the entry");
    // What is deleted stays deleted until the entry changes.
    gate.identity.delete_thing::<Tag>(&gate.account(), vip, None).await.unwrap();
    let gate = gate.restart(&(tag("vip", "VIP") + &tag("late", "Late"))).await;
    assert_eq!(gate.tags(), list(&[("Late", File), ("Own", Running)]));
    let gone = gate.account().things().tags.resolve(vip).unwrap();
    assert_eq!((gone.is_deleted, gone.thing.name.as_str(), gone.source()), (true, "VIP", Changed));
    assert!(gate.account().things().tags.get(vip).is_none());
    gate.reload(&(tag("vip", "VIP again") + &tag("late", "Late"))).await;
    assert_eq!(gate.tags(), list(&[("Late", File), ("Own", Running), ("VIP again", File)]));
    // Without its entry it is no more, and what was set up while running does not care.
    gate.reload("").await;
    assert_eq!(gate.tags(), list(&[("Own", Running)]));
    let gate = gate.restart(&tag("late", "Late")).await;
    assert_eq!(gate.tags(), list(&[("Late", File), ("Own", Running)]));
    // The other account has had its own all the time.
    let other = gate.identity.directory().account("b").unwrap();
    let names: Vec<_> = other.things().tags.live().iter().map(|tag| tag.thing.name.clone()).collect();
    assert_eq!(names, ["Late"]);
    assert_ne!(other.things().tags.live()[0].id, gate.tag("Late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integration_stays_at_its_hub_whatever_the_file_says() {
    let hubs = "[[accounts.hubs]]\nid = \"one\"\nname = \"One\"\n[[accounts.hubs]]\nid = \"two\"\nname = \"Two\"\n";
    let at = |hub: &str, name: &str| format!("{hubs}[[accounts.integrations]]\nid = \"app\"\nname = \"{name}\"\nhub = \"{hub}\"\n");
    let gate = Gate::start(&at("one", "App")).await;
    let integration = || gate.account().things().integrations.live()[0].clone();
    let before = integration();
    for _ in 0..2 {
        let left_out = gate.reload(&at("two", "Moved")).await;
        assert!(left_out.len() == 2 && left_out[0].contains("stays at its hub"), "{left_out:?}");
        assert_eq!(integration().thing, before.thing);
    }
    assert!(gate.reload(&at("one", "Renamed")).await.is_empty());
    assert_eq!((integration().thing.name.as_str(), integration().id), ("Renamed", before.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_may_exchange_their_names_but_not_take_those_of_what_was_set_up_while_running() {
    use Source::{File, Running};
    let gate = Gate::start(&(tag("one", "One") + &tag("two", "Two"))).await;
    let one = gate.tag("One");
    assert!(gate.reload(&(tag("one", "Two") + &tag("two", "One"))).await.is_empty());
    assert_eq!(gate.tag("Two"), one);
    let own = gate.identity.create_thing(&gate.account(), new_tag("Own")).await.unwrap().id;
    // With it, whatever would take the name that it keeps.
    let left_out = gate.reload(&(tag("one", "own") + &tag("two", "Two"))).await;
    assert!(left_out.len() == 2 && left_out.iter().all(|said| said.starts_with("accounts.a: tags")), "{left_out:?}");
    assert_eq!(gate.tags(), list(&[("One", File), ("Own", Running), ("Two", File)]));
    gate.rename(own, "Other").await;
    assert!(gate.reload(&(tag("one", "own") + &tag("two", "Two"))).await.is_empty());
    assert_eq!(gate.tags(), list(&[("Other", Running), ("Two", File), ("own", File)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_refused_that_cannot_be_or_was_made_to_something_else() {
    let gate = Gate::start(&tag("vip", "VIP")).await;
    let (identity, account) = (&gate.identity, gate.account());
    let vip = gate.tag("VIP");
    assert_eq!(identity.create_thing(&account, new_tag("vip")).await, Err(ThingError::Taken(vip)));
    assert!(matches!(identity.create_thing(&account, new_tag("")).await, Err(ThingError::Invalid(_))));
    let own = identity.create_thing(&account, new_tag("Own")).await.unwrap();
    assert_eq!((own.revision, own.created), (1, own.updated));
    let rename = |revision, name: &str| {
        let name = name.to_owned();
        identity.edit_thing(&account, own.id, revision, move |tag: &Tag| Ok(Tag { name, ..tag.clone() }))
    };
    assert_eq!(rename(None, "VIP").await, Err(ThingError::Taken(vip)));
    assert_eq!(rename(Some(1), "OWN").await.unwrap().revision, 2);
    assert_eq!(rename(Some(1), "Mine").await, Err(ThingError::OtherRevision(2)));
    let said = identity.edit_thing(&account, own.id, None, |_: &Tag| Err("no".to_owned())).await;
    assert_eq!(said, Err(ThingError::Invalid("no".into())));
    assert_eq!(identity.delete_thing::<Tag>(&account, own.id, Some(9)).await, Err(ThingError::OtherRevision(2)));
    identity.delete_thing::<Tag>(&account, own.id, None).await.unwrap();
    for gone in [own.id, ThingId::random()] {
        assert_eq!(identity.delete_thing::<Tag>(&account, gone, None).await, Err(ThingError::NotFound));
        assert_eq!(identity.edit_thing(&account, gone, None, |tag: &Tag| Ok(tag.clone())).await, Err(ThingError::NotFound));
    }
    // The name is free again, and an id is one of its kind and account alone.
    identity.create_thing(&account, new_tag("Own")).await.unwrap();
    assert_eq!(identity.delete_thing::<Audience>(&account, vip, None).await, Err(ThingError::NotFound));
    let other = identity.directory().account("b").unwrap();
    assert_eq!(identity.delete_thing::<Tag>(&other, vip, None).await, Err(ThingError::NotFound));
    // A flow needs its contact endpoint.
    let lost = Flow { name: "Mail".into(), channel: "Email".into(), contact_endpoint: vip };
    assert!(
        matches!(identity.create_thing(&account, lost.clone()).await, Err(ThingError::Invalid(said)) if said.contains(&vip.to_string()))
    );
    let mail = ContactEndpoint::Email { address: "support@shop.example".into(), name: None };
    let mail = identity.create_thing(&account, mail).await.unwrap().id;
    let flow = identity.create_thing(&account, Flow { contact_endpoint: mail, ..lost }).await.unwrap().id;
    assert!(matches!(identity.delete_thing::<ContactEndpoint>(&account, mail, None).await, Err(ThingError::Needed(_))));
    identity.delete_thing::<Flow>(&account, flow, None).await.unwrap();
    identity.delete_thing::<ContactEndpoint>(&account, mail, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_at_once_are_both_kept_and_one_name_is_given_once() {
    let gate = Gate::start("").await;
    let account = gate.account();
    let create = |name: String| gate.identity.create_thing(&account, Bot { name });
    let made = futures::future::join_all((0..20).map(|number| create(format!("bot {number}")))).await;
    assert!(made.iter().all(Result::is_ok));
    let tags = futures::future::join_all((0..20).map(|_| gate.identity.create_thing(&account, new_tag("One")))).await;
    assert_eq!(tags.iter().filter(|made| made.is_ok()).count(), 1);
    let ids = |gate: &Gate| gate.account().things().bots.live().iter().map(|bot| bot.id).collect::<Vec<_>>();
    let before = ids(&gate);
    let gate = gate.restart("").await;
    assert_eq!((ids(&gate).len(), ids(&gate)), (20, before));
    assert_eq!(gate.tags().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_sets_up_holds_also_when_it_cannot_be_kept() {
    let gate = Gate::start("").await;
    gate.store.close().await;
    assert!(gate.reload(&tag("vip", "VIP")).await.is_empty());
    assert_eq!(gate.tags(), list(&[("VIP", Source::File)]));
    // Nobody is told that a change holds which does not.
    let vip = gate.tag("VIP");
    assert!(matches!(gate.identity.delete_thing::<Tag>(&gate.account(), vip, None).await, Err(ThingError::Store(_))));
    assert_eq!(gate.tag("VIP"), vip);
    let gate = gate.restart(&tag("vip", "VIP")).await;
    assert_eq!((gate.tags(), gate.tag("VIP")), (list(&[("VIP", Source::File)]), vip));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_not_taken_for_nothing() {
    let gate = Gate::start("").await;
    let odd = |account: &str, id: &str, body: &str| Document {
        account: account.into(),
        collection: Tag::KIND.name().into(),
        id: id.into(),
        revision: 1,
        body: body.into(),
    };
    // What is kept of an account that is gone does not matter.
    gate.store.keep_document(odd("gone", "x", "{}")).await.unwrap().unwrap();
    let config = config(&gate.dir, "");
    assert_eq!(gate.identity.take_things(&config).await, Ok(Vec::new()));
    gate.store.keep_document(odd("a", &ThingId::random().to_string(), "{}")).await.unwrap().unwrap();
    assert_eq!(gate.identity.take_things(&config).await, Err(Denied::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_queue_is_the_one_that_was_set_last_as_long_as_it_is_there() {
    let queues = "[[accounts.queues]]\nid = \"77\"\n[[accounts.queues]]\nid = \"88\"\n";
    let with = |queue: &str| format!("default_queue = \"{queue}\"\n{queues}");
    let gate = Gate::start(queues).await;
    let default = |gate: &Gate| gate.account().default_queue().to_string();
    assert_eq!((default(&gate), gate.account().default_queue_setting()), ("-1".into(), None));
    let set = async |gate: &Gate, queue: Option<&str>| {
        gate.identity.set_default_queue(&gate.account(), queue.map(Into::into), None).await.map(|kept| kept.source())
    };
    assert_eq!(set(&gate, None).await, Err(ThingError::NotFound));
    assert!(matches!(set(&gate, Some("99")).await, Err(ThingError::Invalid(_))));
    assert_eq!((set(&gate, Some("88")).await, default(&gate)), (Ok(Source::Running), "88".into()));
    let gate = gate.restart(queues).await;
    assert_eq!(default(&gate), "88");
    gate.reload(&with("77")).await;
    assert_eq!(default(&gate), "77");
    assert_eq!((set(&gate, Some("-1")).await, default(&gate)), (Ok(Source::Changed), "-1".into()));
    assert_eq!((set(&gate, None).await, default(&gate)), (Ok(Source::Changed), "-1".into()));
    assert_eq!((set(&gate, Some("77")).await, default(&gate)), (Ok(Source::File), "77".into()));
    assert_eq!((set(&gate, Some("88")).await, default(&gate)), (Ok(Source::Changed), "88".into()));
    // Its queue is gone from the file, and comes back.
    gate.reload("default_queue = \"77\"\n[[accounts.queues]]\nid = \"77\"\n").await;
    assert_eq!(default(&gate), "-1");
    let gate = gate.restart(&with("77")).await;
    assert_eq!(default(&gate), "88");
    gate.reload(queues).await;
    assert_eq!(default(&gate), "-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_agents_and_the_account_have_uuids_that_stay() {
    let agents = "[[accounts.queues]]\nid = \"77\"\n[[accounts.agents]]\nuser_id = \"1\"\nlogin = \"ada\"\npassword = \"x\"\n\
                  [[accounts.agents]]\nuser_id = \"2\"\nlogin = \"grace@shop.example\"\npassword = \"x\"\n\
                  [[accounts.agents]]\nuser_id = \"3\"\nlogin = \"bea b\"\npassword = \"x\"\nemail = \"Bea@shop.example\"\nphone = \"+45 1234\"\n\
                  [[accounts.agents]]\nuser_id = \"4\"\nlogin = \"zoe z\"\npassword = \"x\"\n";
    let gate = Gate::start(agents).await;
    let (account, other) = (gate.account(), gate.identity.directory().account("b").unwrap());
    let queue = |account: &Account, id: &str| account.queue_uuid(&id.into());
    for id in ["77", "-1"] {
        assert_eq!(account.queue_by_uuid(queue(&account, id)), Some(&id.into()));
        assert_eq!(account.queue_by_uuid(queue(&other, id)), None);
    }
    assert_eq!(account.queue_by_uuid(queue(&account, "99")), None);
    assert_ne!(account.uuid(), other.uuid());
    let emails: Vec<_> = account.agents().iter().map(|agent| agent.email.clone()).collect();
    assert_eq!(emails, ["ada@a.invalid", "grace@shop.example", "Bea@shop.example", "4@a.invalid"]);
    let bea = account.agent_by_email("bea@SHOP.example").unwrap();
    assert_eq!((bea.user.as_str(), bea.phone.as_deref()), ("3", Some("+45 1234")));
    assert!(account.agent_by_email("nobody@shop.example").is_none());
    let uuids = (account.uuid(), queue(&account, "77"));
    let gate = gate.restart("").await;
    let account = gate.account();
    assert_eq!((account.uuid(), queue(&account, "77")), uuids, "the queue is gone, its UUID is not");
    assert_eq!(account.queue_by_uuid(uuids.1), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_guesses_at_keys_is_not_listened_to_but_for_those_that_were_good_from_there() {
    let gate = Gate::start("").await;
    let key = |key: &str| format!("[[accounts.api_keys]]\ndialect = \"dixa\"\nkey = \"{key}\"\n");
    let take = |text: &str| {
        let text = format!("[limits]\nlogins_per_minute = 1\n[[accounts]]\nid = \"a\"\n{text}");
        let set = ("TIELINE__SERVER__DATA_DIR".to_owned(), gate.dir.path().display().to_string());
        let config = Config::from_parts(Some(("test", &text)), [set]).unwrap();
        let prepared = gate.identity.prepare(&config).unwrap();
        gate.identity.take(prepared, &config);
    };
    take(&(key("one") + &key("two")));
    let (here, there): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let check = |given: Option<&str>, from| gate.identity.check_key(Dialect::Dixa, given, from).map(|(key, _)| key.account.id.to_string());
    assert_eq!(check(Some("one"), here), Ok("a".into()));
    // Missing and wrong are one.
    assert_eq!((check(None, here), check(Some("three"), there)), (Err(KeyRefused::Unknown), Err(KeyRefused::Unknown)));
    assert!(matches!((check(None, there), check(Some("three"), here)), (Err(KeyRefused::TooMany(_)), Err(KeyRefused::TooMany(_)))));
    assert!(matches!(check(Some("two"), here), Err(KeyRefused::TooMany(_))), "a good guess is not told from a bad one");
    assert_eq!((check(Some("one"), here), check(Some("two"), "10.0.0.3".parse().unwrap())), (Ok("a".into()), Ok("a".into())));
    // A key that is revoked is worthless at once, and the other goes on.
    take(&key("two"));
    let elsewhere = "10.0.0.4".parse().unwrap();
    assert_eq!((check(Some("one"), elsewhere), check(Some("two"), elsewhere)), (Err(KeyRefused::Unknown), Ok("a".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_is_good_for_what_it_says_as_long_as_it_says_and_its_account_is_there() {
    let gate = Gate::start(AGENT).await;
    let account = gate.account();
    let issue = |kind, bound| gate.identity.issue_pass(kind, &account, "1", bound, Duration::from_secs(60)).unwrap();
    let (socket, engine) = (issue(PassKind::UltraCartSocket, None), issue(PassKind::HubsterEngine, Some("key")));
    let pass = gate.identity.check_pass(PassKind::HubsterEngine, &engine).unwrap();
    assert_eq!((pass.account.id.as_str(), pass.subject.as_str(), pass.bound.as_deref()), ("a", "1", Some("key")));
    assert!(pass.remaining <= Duration::from_secs(60) && pass.remaining > Duration::from_secs(50));
    assert_ne!(pass.id, gate.identity.check_pass(PassKind::UltraCartSocket, &socket).unwrap().id);
    for kind in [PassKind::UltraCartAccess, PassKind::UltraCartRefresh, PassKind::UltraCartCode, PassKind::HubsterWebChat] {
        assert_eq!(gate.identity.check_pass(kind, &engine).unwrap_err(), Denied::Invalid, "{kind:?}");
    }
    assert_eq!(gate.identity.check_pass(PassKind::UltraCartSocket, &engine).unwrap_err(), Denied::Invalid);
    let mut other = engine.clone();
    let last = other.len() - 10;
    other.replace_range(last..=last, if &other[last..=last] == "A" { "B" } else { "A" });
    assert_eq!(gate.identity.check_pass(PassKind::HubsterEngine, &other).unwrap_err(), Denied::Invalid);
    // An agent's bearer is none, and a pass is no bearer.
    let bearer = gate.identity.issuer.agent(&account, account.agents()[0], Duration::from_secs(60)).unwrap();
    assert_eq!(gate.identity.check_pass(PassKind::UltraCartAccess, &bearer).unwrap_err(), Denied::Invalid);
    assert!(gate.identity.check_agent(&account, &engine).await.is_err());
    gate.later.store(50_000, Ordering::SeqCst);
    assert!(gate.identity.check_pass(PassKind::HubsterEngine, &engine).is_ok());
    gate.later.store(60_000, Ordering::SeqCst);
    assert_eq!(gate.identity.check_pass(PassKind::HubsterEngine, &engine).unwrap_err(), Denied::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_is_said_to_hold_no_longer_than_its_grant() {
    let gate = Gate::start(AGENT).await;
    let uri = "https://crm.example/".to_owned();
    let app = OAuthApp { client_id: "crm".into(), name: String::new(), redirect_uris: vec![uri.clone()], secret: None };
    let asked = Asked { redirect_uri: uri.clone(), challenge: None, scopes: Scopes::ALL };
    let code = gate.identity.grant(&gate.account(), "ada", "x", &app, &asked).await.unwrap();
    let given = gate.identity.redeem(&app, &code, &uri, None).await.unwrap();
    assert_eq!(given.access_time, Duration::from_secs(3_600));
    gate.later.store(30 * 86_400_000 - 600_000, Ordering::SeqCst);
    let last = gate.identity.renew(&app, &given.refresh).await.unwrap().access_time;
    assert!(last <= Duration::from_secs(600) && last > Duration::from_secs(590), "{last:?}");
}
