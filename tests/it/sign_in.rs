//! Consumers who sign in at an identity provider: its tokens, its keys that change and fail, stepping up.

use crate::connector_api::claims;
use crate::support::*;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD as B64};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const ISSUER: &str = "https://login.example";
const DEFAULT: &str = "/api/account/shop/authenticate";
const NAMED: &str = "/api/account/shop/app/default/authenticate?v=3.0";

/// A key of the provider's.
#[derive(Clone)]
struct Key {
    kid: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
    public: String,
}

impl Key {
    fn made(kid: &'static str, algorithm: Algorithm) -> Self {
        let is_ec = algorithm == Algorithm::ES256;
        let pair = rcgen::KeyPair::generate_for(if is_ec { &rcgen::PKCS_ECDSA_P256_SHA256 } else { &rcgen::PKCS_RSA_SHA256 }).unwrap();
        let pem = pair.serialize_pem();
        let private = if is_ec { EncodingKey::from_ec_pem(pem.as_bytes()) } else { EncodingKey::from_rsa_pem(pem.as_bytes()) };
        Self { kid, algorithm, private: private.unwrap(), public: pair.public_key_pem() }
    }

    fn rsa(kid: &'static str) -> Self {
        Self::made(kid, Algorithm::RS256)
    }

    fn ec(kid: &'static str) -> Self {
        Self::made(kid, Algorithm::ES256)
    }

    fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.into());
        serde_json::to_value(jwk).unwrap()
    }

    fn header(&self) -> Value {
        json!({"alg": format!("{:?}", self.algorithm), "typ": "JWT", "kid": self.kid})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, self.algorithm).unwrap())
    }

    /// A good token.
    fn token(&self, sub: &str) -> String {
        self.sign(&self.header(), &good(sub))
    }
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn good(sub: &str) -> Value {
    json!({"iss": ISSUER, "aud": "shop", "sub": sub, "iat": now(), "exp": now() + 600})
}

/// An identity provider, that counts how often it is asked for its keys.
#[derive(Default)]
struct Idp {
    keys: Mutex<Vec<Value>>,
    fetches: AtomicU32,
    fails: AtomicBool,
}

async fn jwks(State(idp): State<Arc<Idp>>) -> Response {
    idp.fetches.fetch_add(1, Ordering::SeqCst);
    if idp.fails.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    axum::Json(json!({"keys": *idp.keys.lock().unwrap()})).into_response()
}

impl Idp {
    /// Starts one, and a gateway with accounts that trust it.
    async fn start(keys: &[&Key]) -> (Arc<Self>, TestServer) {
        let idp = Arc::new(Self::default());
        idp.publish(keys);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let routes = axum::Router::new().route("/jwks", axum::routing::get(jwks)).with_state(idp.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let entry =
            |id: &str| format!("[[accounts.sign_in]]\nid = \"{id}\"\nissuer = \"{ISSUER}\"\naudience = \"shop\"\njwks_url = \"{url}\"\n");
        let (one, two) = (entry("default"), entry("staff"));
        let ada = "[[accounts.agents]]\nuser_id = \"1\"\nlogin = \"ada\"\npassword = \"ada-demo\"\n";
        let extra = format!("[[accounts]]\nid = \"shop\"\n{ada}{one}{two}[[accounts]]\nid = \"branch\"\n{}", entry("only"));
        (idp, TestServer::with(&extra).await)
    }

    fn publish(&self, keys: &[&Key]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.jwk()).collect();
    }

    fn fetches(&self) -> u32 {
        self.fetches.load(Ordering::SeqCst)
    }
}

trait SignIn {
    async fn show(&self, path: &str, body: Value) -> Reply;
    /// A token of ours for one of theirs.
    async fn sign_in(&self, token: &str) -> String;
}

impl SignIn for Api {
    async fn show(&self, path: &str, body: Value) -> Reply {
        self.call("POST", path, &[], body.to_string()).await
    }

    async fn sign_in(&self, token: &str) -> String {
        let reply = self.show(NAMED, json!({"id_token": token})).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["token"].as_str().unwrap().to_owned()
    }
}

/// The consumer that a token of ours names.
fn sub(token: &str) -> String {
    claims(token)["sub"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_good_token_of_either_kind_is_exchanged_under_each_of_its_names() {
    let (rsa, ec) = (Key::rsa("rsa"), Key::ec("ec"));
    let (idp, server) = Idp::start(&[&rsa, &ec]).await;
    let api = server.api();
    let mut consumers = std::collections::HashSet::new();
    for key in [&rsa, &ec] {
        for (path, name, member) in [
            (DEFAULT, "authCode", "jwt"),
            (DEFAULT, "id_token", "jwt"),
            (NAMED, "id_token", "token"),
            (NAMED, "code", "token"),
            ("/api/account/shop/app/default/authenticate?v=2", "code", "token"),
        ] {
            let origin = [("origin", "https://shop.example")];
            let reply = api.call("POST", path, &origin, json!({name: key.token("ann"), "redirect_uri": "x"}).to_string()).await;
            assert_eq!(reply.status, 200, "{path} {name}: {}", reply.text);
            assert_eq!(reply.headers["access-control-allow-origin"], "*", "web pages call it");
            let jwt = reply.json()[member].as_str().unwrap().to_owned();
            let said = claims(&jwt);
            assert_eq!((&said["aud"], &said["iss"]), (&json!("acc:shop"), &json!("https://idp.liveperson.net")));
            assert_eq!(said["lp.ext"], json!({"sub": "ann"}));
            assert!(said.get("was").is_none() && said.get("lp_sdes").is_none());
            consumers.insert(sub(&jwt));
        }
    }
    assert_eq!(consumers.len(), 1, "one subject is one consumer");
    assert_eq!(idp.fetches(), 1);
    // It opens a socket, and the consumer there is the one that the token names.
    let jwt = api.sign_in(&rsa.token("ann")).await;
    let path = "/ws_api/account/shop/messaging/consumer?v=3";
    let mut socket = api.socket(path, &[("authorization", &jwt)]).await.unwrap();
    let profile = socket.ask(&request("p", "userprofile.GetUserProfile", json!({}))).await;
    assert_eq!(profile["body"]["userId"], json!(sub(&jwt)), "{profile}");
    let mut fresh = request("i", "InitConnection", json!({}));
    fresh["headers"] = json!([{"type": ".ams.headers.ConsumerAuthentication", "jwt": api.sign_in(&ec.token("ann")).await}]);
    assert_eq!(socket.ask(&fresh).await["code"], 200, "a fresh token lets it live on");
    let other = api.socket("/ws_api/account/branch/messaging/consumer?v=3", &[("authorization", &jwt)]).await;
    assert_eq!(other.unwrap().closed().await.0, 4401, "the token is none of another account");
}

#[tokio::test]
async fn what_is_no_good_token_is_refused_without_asking_for_keys_again() {
    let (rsa, ec, foreign) = (Key::rsa("rsa"), Key::ec("ec"), Key::rsa("rsa"));
    let (idp, server) = Idp::start(&[&rsa, &ec]).await;
    let api = server.api();
    api.sign_in(&rsa.token("ann")).await;
    let with = |name: &str, value: Value| {
        let mut claims = good("ann");
        claims[name] = value;
        rsa.sign(&rsa.header(), &claims)
    };
    let without = |name: &str| {
        let mut claims = good("ann");
        claims.as_object_mut().unwrap().remove(name);
        rsa.sign(&rsa.header(), &claims)
    };
    let headed = |name: &str, value: Value| {
        let mut header = rsa.header();
        header[name] = value;
        rsa.sign(&header, &good("ann"))
    };
    let message = |header: Value| format!("{}.{}", B64.encode(header.to_string()), B64.encode(good("ann").to_string()));
    let unsigned = message(json!({"alg": "none", "kid": "rsa"}));
    let confused = message(json!({"alg": "HS256", "kid": "rsa"}));
    let secret = EncodingKey::from_secret(rsa.public.as_bytes());
    let mac = jsonwebtoken::crypto::sign(confused.as_bytes(), &secret, Algorithm::HS256).unwrap();
    let ours = claims(&api.sign_in(&rsa.token("ann")).await);
    for (name, token) in [
        ("another audience", with("aud", json!("other"))),
        ("another issuer", with("iss", json!("https://evil.example"))),
        ("expired", with("exp", json!(now() - 6))),
        ("not yet valid", with("nbf", json!(now() + 60))),
        ("issued in the future", with("iat", json!(now() + 60))),
        ("no subject", without("sub")),
        ("no issuer", without("iss")),
        ("no audience", without("aud")),
        ("no end", without("exp")),
        ("no time of issue", without("iat")),
        ("too much said", with("lp_sdes", json!(["x".repeat(5000)]))),
        ("unsigned", format!("{unsigned}.")),
        ("the public key as a secret", format!("{confused}.{mac}")),
        ("signed by another key of the same name", foreign.token("ann")),
        ("the other key's algorithm", headed("kid", json!("ec"))),
        ("the other algorithm", headed("alg", json!("ES256"))),
        ("brings a place of keys", headed("jku", json!("http://127.0.0.1:1/jwks"))),
        ("brings a certificate", headed("x5u", json!("http://127.0.0.1:1/x.pem"))),
        ("brings a key", headed("jwk", rsa.jwk())),
        ("demands extensions", headed("crit", json!(["exp"]))),
        ("oversized", with("more", json!("x".repeat(20_000)))),
        ("a token of ours", rsa.sign(&rsa.header(), &ours)),
        ("text", "abc".into()),
    ] {
        for (path, member) in [(NAMED, "id_token"), (DEFAULT, "authCode")] {
            let reply = api.show(path, json!({member: token})).await;
            assert_eq!((reply.status, reply.json()), (500, json!({"internalErrorCode": "9007"})), "{name}");
        }
    }
    assert_eq!(idp.fetches(), 1, "none of these names an unknown key");
    for _ in 0..20 {
        let reply = api.show(NAMED, json!({"id_token": headed("kid", json!("unknown"))})).await;
        assert_eq!((reply.status, reply.json()["internalErrorCode"].as_str()), (500, Some("9007")));
    }
    assert_eq!(idp.fetches(), 2, "twenty unknown keys, one more fetch");
    for (path, body, status) in [
        (NAMED, json!({}), 400),
        (NAMED, json!({"id_token": ""}), 400),
        (NAMED, json!({"id_token": 5}), 400),
        (NAMED, json!(["x"]), 400),
        (DEFAULT, json!({"auth": "x"}), 400),
        ("/api/account/nobody/authenticate", json!({"authCode": "x"}), 404),
        ("/api/account/demo/authenticate", json!({"authCode": "x"}), 404),
        ("/api/account/shop/app/nobody/authenticate?v=3.0", json!({"id_token": "x"}), 404),
        ("/api/account/nobody/app/default/authenticate?v=3.0", json!({"id_token": "x"}), 404),
    ] {
        let reply = api.show(path, body.clone()).await;
        assert_eq!(reply.status, status, "{path} {body}: {}", reply.text);
        assert!(status != 404 || reply.json() == json!({"internalErrorCode": "9004"}), "{path}");
    }
}

#[tokio::test]
async fn keys_rotate_and_an_outage_keeps_those_that_are_known() {
    let (old, new, later) = (Key::rsa("old"), Key::ec("new"), Key::rsa("later"));
    let (idp, server) = Idp::start(&[&old]).await;
    let api = server.api();
    idp.fails.store(true, Ordering::SeqCst);
    let reply = api.show(NAMED, json!({"id_token": old.token("ann")})).await;
    assert_eq!((reply.status, reply.json()["internalErrorCode"].as_str()), (503, Some("9000")), "no keys yet: it may work later");
    idp.fails.store(false, Ordering::SeqCst);
    let server = server.restart().await;
    let api = server.api();
    let ann = sub(&api.sign_in(&old.token("ann")).await);
    idp.publish(&[&new, &old]);
    assert_eq!(sub(&api.sign_in(&new.token("ann")).await), ann, "a new key holds at once, for the same consumer");
    assert_eq!(idp.fetches(), 3);
    idp.fails.store(true, Ordering::SeqCst);
    idp.publish(&[&later]);
    for key in [&old, &new] {
        assert_eq!(sub(&api.sign_in(&key.token("ann")).await), ann);
    }
    assert_ne!(api.show(NAMED, json!({"id_token": later.token("ann")})).await.status, 200);
    assert_eq!(idp.fetches(), 3, "the provider is left alone for a while");
}

#[tokio::test]
async fn a_subject_is_the_same_consumer_after_a_restart_and_another_elsewhere() {
    let key = Key::ec("key");
    let (_idp, server) = Idp::start(&[&key]).await;
    let at = |api: Api, path: &'static str, name: &'static str| {
        let token = key.token(name);
        async move {
            let reply = api.show(path, json!({"id_token": token})).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text);
            let answer = reply.json();
            sub(answer["token"].as_str().or(answer["jwt"].as_str()).unwrap())
        }
    };
    let api = server.api();
    let ann = at(api.clone(), NAMED, "ann").await;
    let others = [
        at(api.clone(), NAMED, "bob").await,
        at(api.clone(), "/api/account/shop/app/staff/authenticate", "ann").await,
        at(api.clone(), "/api/account/branch/app/only/authenticate", "ann").await,
    ];
    assert!(!others.contains(&ann), "{ann} {others:?}");
    // The only provider is meant where none is named.
    assert_eq!(at(api.clone(), "/api/account/branch/authenticate", "ann").await, others[2]);
    assert_eq!(at(api, "/api/account/branch/app/default/authenticate", "ann").await, others[2]);
    let server = server.restart().await;
    assert_eq!(at(server.api(), NAMED, "ann").await, ann);
}

#[tokio::test]
async fn stepping_up_names_both_and_needs_a_token_of_this_account() {
    let key = Key::rsa("key");
    let (_idp, server) = Idp::start(&[&key]).await;
    let api = server.api();
    let anonymous = api.call("POST", "/api/account/shop/signup", &[], "").await.json()["jwt"].as_str().unwrap().to_owned();
    let step = |before: &str, name: &str, member: &str| {
        let (api, body) = (api.clone(), json!({"lp_jwt": before, member: key.token(name)}));
        async move { api.show(NAMED, body).await }
    };
    let up = step(&anonymous, "ann", "code").await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(claims(&up)["was"], json!(sub(&anonymous)));
    assert_eq!(sub(&up), sub(&api.sign_in(&key.token("ann")).await), "the consumer is the subject's");
    assert_ne!(sub(&up), sub(&anonymous));
    // Signing in again keeps it; somebody else who signs in there was never that one.
    let again = step(&up, "ann", "id_token").await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(claims(&again)["was"], json!(sub(&anonymous)));
    let other = step(&up, "bob", "id_token").await.json()["token"].as_str().unwrap().to_owned();
    assert!(claims(&other).get("was").is_none());
    let bearer = api.login("ada").await.bearer;
    for (name, before) in [
        ("another account's", api.sign_up().await),
        ("an agent's", bearer),
        ("an application's", api.app_token().await),
        ("the provider's", key.token("ann")),
        ("forged", format!("{}x", &anonymous[..anonymous.len() - 6])),
        ("nothing", String::new()),
    ] {
        let reply = step(&before, "ann", "code").await;
        assert_eq!((reply.status, reply.json()), (401, json!({"internalErrorCode": "9007"})), "{name}");
    }
    let reply = api.show(NAMED, json!({"lp_jwt": anonymous, "code": "bad"})).await;
    assert_eq!(reply.status, 500, "the external token is checked all the same");
    // Who signed in there goes on by signing in there.
    let reply = api.show("/api/account/shop/anonymous/authorize", json!({"id_token": up})).await;
    assert_eq!((reply.status, reply.json()), (401, json!({"internalErrorCode": "9007"})));
    assert_eq!(api.show("/api/account/shop/anonymous/authorize", json!({"id_token": anonymous})).await.status, 200);
}

#[tokio::test]
async fn what_the_provider_says_of_a_consumer_is_carried_and_readable_by_browsers() {
    let key = Key::ec("key");
    let (_idp, server) = Idp::start(&[&key]).await;
    let api = server.api();
    let sdes = json!([{"type": "ctmrinfo", "info": {"ctype": "vip~?>", "note": "Grüße 😀 日本"}}]);
    let mut said = good("ann?~>ü");
    said["lp_sdes"] = sdes.clone();
    let jwt = api.sign_in(&key.sign(&key.header(), &said)).await;
    let payload = jwt.split('.').nth(1).unwrap();
    assert!(!payload.contains(['-', '_']), "{payload}");
    // As `atob` and `JSON.parse` read it.
    let read: Value = serde_json::from_slice(&STANDARD_NO_PAD.decode(payload).unwrap()).unwrap();
    assert_eq!((&read["lp_sdes"], &read["lp.ext"]["sub"]), (&sdes, &json!("ann?~>ü")));
    let path = "/ws_api/account/shop/messaging/consumer?v=3";
    // The largest that is taken still makes a token that is taken.
    let mut said = good(&"é".repeat(127));
    said["lp_sdes"] = json!(["x".repeat(4092)]);
    let jwt = api.sign_in(&key.sign(&key.header(), &said)).await;
    let mut socket = api.socket(path, &[("authorization", &jwt)]).await.unwrap();
    assert_eq!(socket.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
}

#[tokio::test]
async fn connectors_are_listed_without_what_only_we_need_to_know() {
    let key = Key::ec("key");
    let (idp, server) = Idp::start(&[&key]).await;
    let api = server.api();
    let list = |account: &'static str| {
        let api = api.clone();
        async move { api.get(&format!("/api/account/{account}/configuration/le-connectors/all-connectors")).await }
    };
    let reply = list("shop").await;
    assert_eq!(reply.status, 200);
    let entry = |id: &str| json!({"id": id, "type": 1, "name": id});
    assert_eq!(reply.json(), json!([entry("default"), entry("staff")]));
    assert_eq!(list("demo").await.json(), json!([]));
    assert_eq!((list("nobody").await.status, list("nobody").await.json()), (404, json!({"internalErrorCode": "9004"})));
    assert_eq!(idp.fetches(), 0);
}

#[tokio::test]
async fn a_key_in_a_file_serves_without_a_provider_to_ask() {
    let dir = tempfile::tempdir().unwrap();
    let (key, other) = (Key::ec("unnamed"), Key::ec("unnamed"));
    let file = dir.path().join("login.pem");
    std::fs::write(&file, &key.public).unwrap();
    let extra = format!(
        "[[accounts]]\nid = \"shop\"\n[[accounts.sign_in]]\nid = \"web\"\nissuer = \"{ISSUER}\"\naudience = \"shop\"\npublic_key = \"{}\"\nalgorithm = \"ES256\"\n",
        file.display()
    );
    let server = TestServer::with(&extra).await;
    let api = server.api();
    let nameless = key.sign(&json!({"alg": "ES256"}), &good("ann"));
    assert_eq!(sub(&api.sign_in(&nameless).await), sub(&api.sign_in(&key.token("ann")).await));
    assert_eq!(api.show(NAMED, json!({"id_token": other.token("ann")})).await.status, 500);
}

#[tokio::test]
async fn sign_ins_of_one_address_are_limited() {
    let server = TestServer::with("[limits]\ntoken_calls_per_minute = 3\n\n[[accounts]]\nid = \"shop\"\n").await;
    let api = server.api();
    for _ in 0..3 {
        assert_eq!(api.show(DEFAULT, json!({"authCode": "x"})).await.status, 404);
    }
    let reply = api.show(NAMED, json!({"id_token": "x"})).await;
    assert_eq!(reply.status, 429);
    assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn a_consumer_that_signed_in_takes_over_what_it_began_before_and_leaves_nothing_behind() {
    let key = Key::rsa("key");
    let (_idp, server) = Idp::start(&[&key]).await;
    let api = server.api();
    let path = "/ws_api/account/shop/messaging/consumer?v=3";
    let jwt = |reply: Reply, name: &str| reply.json()[name].as_str().unwrap().to_owned();
    let anonymous = jwt(api.call("POST", "/api/account/shop/signup", &[], "").await, "jwt");
    let mut before = api.socket(path, &[("authorization", &anonymous)]).await.unwrap();
    before.ask(&request("s", "cqm.SubscribeExConversations", json!({"stage": ["OPEN"]}))).await;
    before.notification("ExConversationChangeNotification").await;
    let id =
        before.ask(&request("o", "cm.ConsumerRequestConversation", json!({}))).await["body"]["conversationId"].as_str().unwrap().to_owned();
    before.first(|frame| frame["body"]["changes"][0]["type"] == "UPSERT").await;
    before.ask(&publish("p", &id, "who am I?")).await;
    before.follow(&id, 0).await;
    assert_eq!(before.events(1).await.len(), 1);

    let up = jwt(api.show(NAMED, json!({"lp_jwt": anonymous, "id_token": key.token("ann")})).await, "token");
    let mut ann = api.socket(path, &[("authorization", &up)]).await.unwrap();
    // Until it takes it over, it is somebody else's; and nobody else can.
    assert_eq!(ann.ask(&publish("p", &id, "me")).await["code"], 401);
    let change_of = |from: &str, to: &str| {
        let field = |kind: &str, who: &str| json!({"field": "ParticipantsChange", "type": kind, "role": "CONSUMER", "userId": who});
        change("t", &id, json!([field("REMOVE", from), field("ADD", to)]))
    };
    let bob = jwt(api.show(NAMED, json!({"id_token": key.token("bob")})).await, "token");
    let mut other = api.socket(path, &[("authorization", &bob)]).await.unwrap();
    assert_eq!(other.ask(&change_of(&sub(&anonymous), &sub(&bob))).await["code"], 401);
    assert_eq!(other.ask(&change_of(&sub(&anonymous), &sub(&up))).await["code"], 400, "not in another's name");
    let taken = ann.ask(&change_of(&sub(&anonymous), &sub(&up))).await;
    assert_eq!(taken["code"], 200, "{taken}");
    assert_eq!(ann.ask(&publish("p", &id, "it is me")).await["body"]["sequence"], 1);
    assert_eq!(before.ask(&publish("p", &id, "and I?")).await["code"], 401);
    assert_eq!(before.ask(&follow("f", &id, 0)).await["code"], 401);
    let gone = before.first(|frame| frame["body"]["changes"][0]["type"] == "DELETE").await;
    assert_eq!(gone["body"]["changes"][0]["result"]["convId"], json!(id), "it is told that it is no longer there");
    before.ask(&request("c", "GetClock", json!({}))).await;
    before.socket.close(None).await.unwrap();
    let (_, rest) = before.closed().await;
    assert!(!rest.iter().any(|frame| frame.to_string().contains("it is me")), "{rest:?}");
    ann.ask(&change_of(&sub(&anonymous), &sub(&up))).await;

    // Whoever answers sees one consumer, and what its provider says of it.
    let body = json!({"username": "ada", "password": "ada-demo"}).to_string();
    let login = api.call("POST", "/api/account/shop/login?v=1.3", &[], body).await;
    assert_eq!(login.status, 200, "{}", login.text);
    let bearer = jwt(login, "bearer");
    let mut agent = api.socket(&format!("/ws_api/account/shop/messaging/brand/{bearer}?v=3"), &[]).await.unwrap();
    agent.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    let profile = agent.ask(&request("u", "userprofile.GetUserProfile", json!({"userId": sub(&up)}))).await["body"].clone();
    assert_eq!((&profile["userId"], &profile["claims"]["sub"]), (&json!(sub(&up)), &json!("ann")), "{profile}");
    agent.follow(&id, 0).await;
    assert_eq!(agent.events(2).await.len(), 2);
}
