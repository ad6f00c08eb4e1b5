//! The Connector API over HTTP: the seed's replies, its errors, retries, tokens and the domain lookup.

use crate::support::*;
use serde_json::{Value, json};

#[tokio::test]
async fn the_seeds_two_requests_are_answered_byte_for_byte() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let publish = format!(
        r#"{{"kind":"req","id":"1","type":"ms.PublishEvent","body":{{"dialogId":"{id}","event":{{"type":"ContentEvent","contentType":"text/plain","message":"hello"}}}}}}"#
    );
    let reply = ann.post(SEND, publish).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"code":"OK","body":{"sequence":0},"reqId":"1"}"#));
    assert_eq!(reply.headers["content-type"], "application/json");
    let rate = format!(
        r#"{{"kind":"req","id":5,"type":"cm.UpdateConversationField","body":{{"conversationId":"{id}","conversationField":{{"field":"CSATRate","csatRate":5,"csatResolutionConfirmation":true,"status":"FILLED"}}}}}}"#
    );
    let reply = ann.post(SEND, rate).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"code":"OK","body":{"msg":"OK CSAT processed successfully"},"reqId":"5"}"#));
}

#[tokio::test]
async fn a_batch_sets_the_profile_opens_and_publishes_in_order() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let mut batch = ann.opening();
    batch.as_array_mut().unwrap().push(publish("3,", "", "first"));
    let reply = ann.post(CONVERSATION, batch.to_string()).await;
    let id = reply.json()[1]["body"]["conversationId"].as_str().unwrap().to_owned();
    let expected = format!(
        r#"[{{"code":"OK","body":{{"msg":"OK User Profile set successfully"}},"reqId":"1,"}},{{"code":"OK","body":{{"conversationId":"{id}"}},"reqId":"2,"}},{{"code":"OK","body":{{"sequence":0}},"reqId":"3,"}}]"#
    );
    assert_eq!((reply.status, reply.text), (200, expected));
    assert_eq!(ann.say(&id, "second").await, 1);
}

#[tokio::test]
async fn a_batch_with_a_bad_element_in_the_middle_changes_nothing() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    ann.open().await;
    let mut batch = ann.opening();
    batch[0]["body"] = json!({"firstName": "Changed"});
    let bad = [
        request(
            "bad",
            "cm.UpdateConversationField",
            json!({"conversationId": "nowhere", "conversationField": {"field": "Note", "note": "x"}}),
        ),
        request("bad", "ms.PublishEvent", json!({"dialogId": "", "event": {"type": "ContentEvent"}})),
        request("bad", "ms.PublishEvent", json!({"dialogId": "nowhere", "event": {"type": "ContentEvent", "message": "x"}})),
        json!({"kind": "req", "id": "bad", "type": "no.Such"}),
        json!({"kind": "resp", "id": "bad", "type": "ms.PublishEvent"}),
    ];
    for bad in bad {
        let mut batch = batch.clone();
        let list = batch.as_array_mut().unwrap();
        list.push(bad.clone());
        list.push(publish("4,", "", "after"));
        let reply = ann.post(CONVERSATION, batch.to_string()).await;
        assert!((400..500).contains(&reply.status), "{bad}: {}", reply.text);
        assert_eq!(reply.json()["reqId"], "bad", "the error names the request at fault: {}", reply.text);
    }
    let mut socket = ann.consumer_socket().await;
    let profile = socket.ask(&request("p", "userprofile.GetUserProfile", json!({}))).await;
    assert_eq!(profile["body"]["firstName"], "Ann", "the profile is as it was");
    socket.ask(&request("s", "cqm.SubscribeExConversations", json!({}))).await;
    let snapshot = socket.notification("ExConversationChangeNotification").await;
    assert_eq!(snapshot["body"]["changes"].as_array().unwrap().len(), 1, "nothing was opened");
}

#[tokio::test]
async fn a_batch_must_hold_a_profile_a_conversation_and_a_brand() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let opening = ann.opening();
    let mut without_brand = opening.clone();
    without_brand[1]["body"] = json!({});
    for (body, details) in [
        (json!([opening[1]]), "userprofile.SetUserProfile is missing"),
        (json!([opening[0]]), "cm.ConsumerRequestConversation is missing"),
        (without_brand, "Brand Id is missing"),
    ] {
        let reply = ann.post(CONVERSATION, body.to_string()).await;
        assert_eq!((reply.status, reply.error_code()), (400, 40001), "{}", reply.text);
        assert_eq!(reply.json()["body"]["details"], details);
    }
    let reply = ann.post(CONVERSATION, opening[0].to_string()).await;
    assert_eq!((reply.status, reply.error_code()), (400, 40002), "{}", reply.text);
}

#[tokio::test]
async fn missing_and_bad_tokens_are_told_apart() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    let body = publish("1", &id, "x").to_string();
    let path = format!("/api/account/{ACCOUNT}/messaging/consumer/{SEND}?v=3");
    let other_app = api.app_token_of("other", "demo-connector").await;
    let other_jws = api.consumer_of("other", &other_app, "ann").await;
    let bearer = format!("Bearer {}", ann.app);
    let sign_up = api.sign_up().await;
    let (app, jws) = (ann.app.as_str(), ann.jws.as_str());
    for (headers, status, code, challenge) in [
        (vec![], 401, 40105, true),
        (vec![("x-lp-on-behalf", jws)], 401, 40105, true),
        (vec![("authorization", "nonsense"), ("x-lp-on-behalf", jws)], 401, 40102, true),
        (vec![("authorization", other_app.as_str()), ("x-lp-on-behalf", jws)], 401, 40102, true),
        (vec![("authorization", jws), ("x-lp-on-behalf", app)], 401, 40102, true),
        (vec![("authorization", sign_up.as_str()), ("x-lp-on-behalf", jws)], 401, 40102, true),
        (vec![("authorization", app)], 401, 40104, false),
        (vec![("authorization", app), ("x-lp-on-behalf", "nonsense")], 401, 40103, false),
        (vec![("authorization", app), ("x-lp-on-behalf", app)], 401, 40103, false),
        (vec![("authorization", app), ("x-lp-on-behalf", other_jws.as_str())], 401, 40103, false),
        (vec![("authorization", app), ("x-lp-on-behalf", jws)], 200, 0, false),
        (vec![("authorization", bearer.as_str()), ("lp-on-behalf", jws)], 200, 0, false),
    ] {
        let reply = api.call("POST", &path, &headers, body.clone()).await;
        assert_eq!(reply.status, status, "{headers:?}: {}", reply.text);
        if status != 200 {
            assert_eq!(reply.error_code(), code, "{headers:?}: {}", reply.text);
            assert_eq!(reply.json()["type"], ".ReqBody$ErrorResp");
        }
        assert_eq!(reply.headers.contains_key("www-authenticate"), challenge, "{headers:?}");
    }
    // A token call with scopes that do not include the connector's gives a token that opens nothing.
    let scopeless = api.app_token_of(ACCOUNT, "scopeless").await;
    let reply = api.call("POST", &path, &[("authorization", &scopeless), ("x-lp-on-behalf", jws)], body).await;
    assert_eq!(reply.error_code(), 40102);
}

#[tokio::test]
async fn the_exact_error_body_of_anothers_conversation() {
    let server = TestServer::start().await;
    let api = server.api();
    let (ann, bob) = (api.speaker("ann").await, api.speaker("bob").await);
    let id = ann.open().await;
    let theirs = bob.post(SEND, publish("1", &id, "x").to_string()).await;
    let nowhere = bob.post(SEND, publish("1", "3b241101-e2bb-4255-8caf-4136c566a962", "x").to_string()).await;
    let expected = r#"{"kind":"resp","code":401,"type":".ReqBody$ErrorResp","body":{"title":"Invalid ConsumerJWS","details":"ConsumerJWS is invalid","errorCode":40103},"reqId":"1"}"#;
    assert_eq!((theirs.status, theirs.text.as_str()), (401, expected));
    assert_eq!((nowhere.status, nowhere.text.as_str()), (401, expected), "not yours and not there look the same");
}

#[tokio::test]
async fn other_versions_and_paths_are_not_there() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    for path in ["conversation/send?v=2", "conversation/send", "conversation?v=4"] {
        let reply = ann.api.call("POST", &format!("/api/account/{ACCOUNT}/messaging/consumer/{path}"), &ann.headers(), "{}").await;
        assert_eq!((reply.status, reply.error_code()), (404, 40401), "{path}");
    }
    assert_eq!(ann.api.get("/api/nothing").await.status, 404);
    assert_eq!(ann.api.get(&format!("/api/account/{ACCOUNT}/messaging/consumer/conversation/send?v=3")).await.status, 405);
}

#[tokio::test]
async fn a_key_makes_a_repeat_harmless_and_the_id_does_not() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let body = publish("1", &id, "once").to_string();
    let key = [("idempotency-key", "key-1")];
    let first = ann.post_with(SEND, &key, body.clone()).await;
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let again = ann.post_with(SEND, &key, body.clone()).await;
    assert_eq!((again.status, &again.text), (200, &first.text), "the same answer");
    assert_eq!(again.headers["idempotent-replayed"], "true");
    // Members in another order and other white space are the same request; over a socket too.
    let event = json!({"message": "once", "contentType": "text/plain", "type": "ContentEvent"});
    let mut frame = request("9", "ms.PublishEvent", json!({"event": event, "dialogId": id}));
    frame["headers"] = json!([{"type": "IdempotencyKey", "key": "key-1"}, {"type": ".ams.headers.ConsumerAuthentication", "jwt": ann.jws}]);
    let mut socket = ann.connector_socket().await;
    let replayed = socket.ask(&frame).await;
    assert_eq!(replayed, json!({"kind": "resp", "code": "OK", "body": {"sequence": 0}, "reqId": "9", "replayed": true}));
    let mut consumer = ann.consumer_socket().await;
    frame["headers"] = json!([{"type": "IdempotencyKey", "key": "key-1"}]);
    assert_eq!(consumer.ask(&frame).await["replayed"], true, "over each transport");
    // Another body under the key is refused, another consumer's key is its own.
    let other = ann.post_with(SEND, &key, publish("1", &id, "twice").to_string()).await;
    assert_eq!((other.status, other.error_code()), (409, 40901));
    let bob = server.api().speaker("bob").await;
    let bobs = bob.open().await;
    let theirs = bob.post_with(SEND, &key, publish("1", &bobs, "once").to_string()).await;
    assert_eq!((theirs.status, theirs.headers.contains_key("idempotent-replayed")), (200, false));
    // Without a key, equal requests are messages of their own.
    for number in 1..4 {
        let reply = ann.post(SEND, body.clone()).await;
        assert_eq!(reply.json()["body"]["sequence"], number);
    }
    // A refusal is not remembered.
    let refused = ann.post_with(SEND, &[("idempotency-key", "key-2")], publish("1", "nowhere", "x").to_string()).await;
    assert_eq!(refused.status, 401);
    assert_eq!(ann.post_with(SEND, &[("idempotency-key", "key-2")], body.clone()).await.json()["body"]["sequence"], 4);
    for bad in ["", &"k".repeat(256)] {
        assert_eq!(ann.post_with(SEND, &[("idempotency-key", bad)], body.clone()).await.error_code(), 40002);
    }
}

#[tokio::test]
async fn opening_with_a_key_opens_once_also_across_a_restart() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let key = [("idempotency-key", "open-1")];
    let open = |reply: Reply| reply.json()[1]["body"]["conversationId"].as_str().unwrap().to_owned();
    let first = open(ann.post_with(CONVERSATION, &key, ann.opening().to_string()).await);
    assert_eq!(open(ann.post_with(CONVERSATION, &key, ann.opening().to_string()).await), first);
    let server = server.restart().await;
    let ann = server.api().speaker("ann").await;
    assert_eq!(open(ann.post_with(CONVERSATION, &key, ann.opening().to_string()).await), first);
    assert_ne!(ann.open().await, first, "without the key it is another");
}

#[tokio::test]
async fn racing_repeats_make_one_entry() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let body = publish("1", &id, "raced").to_string();
    let racing = (0..32).map(|_| {
        let (ann, body) = (ann.clone(), body.clone());
        tokio::spawn(async move { ann.post_with(SEND, &[("idempotency-key", "race")], body).await })
    });
    let replies = futures::future::join_all(racing).await;
    let mut replayed = 0;
    for reply in replies {
        let reply = reply.unwrap();
        assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"code":"OK","body":{"sequence":0},"reqId":"1"}"#));
        replayed += usize::from(reply.headers.contains_key("idempotent-replayed"));
    }
    assert_eq!(replayed, 31);
    assert_eq!(ann.say(&id, "next").await, 1);
}

#[tokio::test]
async fn an_application_can_ask_for_the_documented_counter() {
    let server = TestServer::start().await;
    let api = server.api();
    let app = api.app_token_of(ACCOUNT, "counting").await;
    let jws = api.consumer_of(ACCOUNT, &app, "ann").await;
    let ann = Speaker { api, account: ACCOUNT.into(), app, jws };
    let id = ann.open().await;
    for expected in [0, 2, 4] {
        assert_eq!(ann.say(&id, "same").await, expected);
    }
    assert_eq!(ann.say(&id, "another").await, 0);
    // Each was stored, under its position.
    let mut agent = ann.api.agent("ada", "3").await;
    agent.follow(&id, 0).await;
    let events = agent.events(4).await;
    assert_eq!(events.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn the_domain_lookup_leads_back_here_in_all_its_forms() {
    let server = TestServer::start().await;
    let api = server.api();
    let host = server.address.to_string();
    for front in ["/api", "/csdr"] {
        let all = api.get(&format!("{front}/account/demo/service/baseURI.json?version=1.0")).await.json();
        let services: Vec<&str> = all["baseURIs"].as_array().unwrap().iter().map(|entry| entry["service"].as_str().unwrap()).collect();
        for service in
            ["agentVep", "asyncMessagingEnt", "facadeMsg", "idp", "sentinel", "swift", "accountConfigReadWrite", "msgHist", "acCdnDomain"]
        {
            assert!(services.contains(&service), "{service}");
        }
        assert!(all["baseURIs"].as_array().unwrap().iter().all(|entry| entry["baseURI"] == host.as_str() && entry["account"] == "demo"));
        let one = api.get(&format!("{front}/account/demo/service/idp/baseURI.json?version=1.0")).await.json();
        assert_eq!(one, json!({"service": "idp", "account": "demo", "baseURI": host}));
        let script = api.get(&format!("{front}/account/demo/service/idp/baseURI.lpCsds?version=1.0&cb=a.b_1")).await;
        assert_eq!(script.text, format!(r#"/**/a.b_1({{"ResultSet":{{"lpData":[{{"lpServer":"{host}"}}]}}}})"#));
        assert_eq!(api.get(&format!("{front}/account/demo/service/idp/baseURI.lpCsds?cb=alert(1)//")).await.status, 400);
        assert_eq!(api.get(&format!("{front}/account/nobody/service/baseURI.json")).await.status, 400);
        assert_eq!(api.get(&format!("{front}/account/demo/service/nonsense/baseURI.json")).await.status, 404);
    }
    let server = TestServer::with("[server]\npublic_url = \"https://chat.example:8443/\"").await;
    let one = server.api().get("/api/account/demo/service/idp/baseURI.json").await.json();
    assert_eq!(one["baseURI"], "chat.example:8443");
}

#[tokio::test]
async fn an_app_token_is_given_for_the_secret_in_form_or_query() {
    let server = TestServer::start().await;
    let api = server.api();
    let path = "/sentinel/api/account/demo/app/token?v=1.0";
    let good = "client_id=demo-connector&client_secret=demo-connector-secret";
    for (path, body, status) in [
        (format!("{path}&grant_type=client_credentials"), good.to_owned(), 200),
        (path.to_owned(), format!("{good}&grant_type=client_credentials"), 200),
        (format!("{path}&grant_type=client_credentials&{good}"), String::new(), 200),
        (path.to_owned(), good.replace("-secret", "-guess"), 401),
        (path.to_owned(), good.replace("id=demo", "id=other"), 401),
        (path.replace("demo/", "nobody/"), good.to_owned(), 401),
        (path.to_owned(), "client_id=demo-connector".to_owned(), 400),
        (path.to_owned(), String::new(), 400),
        (format!("{path}&grant_type=password"), good.to_owned(), 400),
    ] {
        let reply = api.call("POST", &path, &[], body.clone()).await;
        assert_eq!(reply.status, status, "{path} {body}: {}", reply.text);
        assert_eq!(reply.json().get("access_token").is_some(), status == 200);
    }
    let token = api.app_token().await;
    let claims = claims(&token);
    assert_eq!(
        (&claims["aud"], &claims["azp"], &claims["iss"], &claims["scope"]),
        (&json!("demo"), &json!("demo-connector"), &json!("Sentinel"), &json!("msg.consumer"))
    );
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600, "60 minutes exactly");
}

pub fn claims(token: &str) -> Value {
    use base64::Engine;
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn the_same_external_id_is_the_same_consumer_of_one_application() {
    let server = TestServer::start().await;
    let api = server.api();
    let app = api.app_token().await;
    let counting = api.app_token_of(ACCOUNT, "counting").await;
    let (one, again) = (api.consumer_of(ACCOUNT, &app, "shop-4711").await, api.consumer_of(ACCOUNT, &app, "shop-4711").await);
    let other = api.consumer_of(ACCOUNT, &counting, "shop-4711").await;
    let claims = claims(&one);
    let id = claims["lp_consumer_id"].as_str().unwrap();
    assert!(id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    assert_eq!((&claims["account_id"], &claims["ext_consumer_id"]), (&json!("demo"), &json!("shop-4711")));
    assert!(claims.get("exp").is_none(), "it never expires");
    assert_eq!(id, self::claims(&again)["lp_consumer_id"].as_str().unwrap());
    assert_ne!(id, self::claims(&other)["lp_consumer_id"].as_str().unwrap(), "another application's is another consumer");
    // And after a restart.
    let server = server.restart().await;
    let api = server.api();
    let later = api.consumer_of(ACCOUNT, &api.app_token().await, "shop-4711").await;
    assert_eq!(id, self::claims(&later)["lp_consumer_id"].as_str().unwrap());
    for (headers, body, code) in [
        (vec![], json!({"ext_consumer_id": "x"}), 40105),
        (vec![("authorization", "x")], json!({"ext_consumer_id": "x"}), 40102),
        (vec![("authorization", app.as_str())], json!({}), 40001),
        (vec![("authorization", app.as_str())], json!(["x"]), 40002),
    ] {
        assert_eq!(api.call("POST", "/api/account/demo/consumer?v=1.0", &headers, body.to_string()).await.error_code(), code);
    }
}

#[tokio::test]
async fn published_keys_check_our_tokens() {
    let server = TestServer::start().await;
    let api = server.api();
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&api.get("/.well-known/jwks.json").await.text).unwrap();
    let token = api.app_token().await;
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(set.find(&kid).unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_audience(&["demo"]);
    assert!(jsonwebtoken::decode::<Value>(&token, &key, &validation).is_ok());
    assert!(!api.get("/.well-known/jwks.json").await.text.contains("\"d\""), "no private halves");
}

#[tokio::test]
async fn web_pages_may_sign_up_from_any_origin() {
    let server = TestServer::start().await;
    let api = server.api();
    let reply = api.call("POST", "/api/account/demo/signup", &[("origin", "https://shop.example")], "").await;
    assert_eq!((reply.status, reply.headers["access-control-allow-origin"].to_str().unwrap()), (200, "*"));
    let jwt = reply.json()["jwt"].as_str().unwrap().to_owned();
    assert_eq!(claims(&jwt)["aud"], "acc:demo");
    assert!(!jwt.split('.').nth(1).unwrap().contains(['-', '_']), "browsers decode it with plain base64");
    let script = api.get("/api/account/demo/signup.jsonp?callback=cb").await;
    assert!(script.text.starts_with("/**/cb({\"jwt\":"), "{}", script.text);
    let again = api.call("POST", "/api/account/demo/anonymous/authorize", &[], json!({"id_token": jwt}).to_string()).await;
    assert_eq!(claims(again.json()["token"].as_str().unwrap())["sub"], claims(&jwt)["sub"], "a fresh token for the same consumer");
    assert_eq!(api.call("POST", "/api/account/demo/anonymous/authorize", &[], "{\"id_token\":\"x\"}").await.status, 401);
    assert_eq!(api.call("POST", "/api/account/nobody/signup", &[], "").await.status, 404);
}

#[tokio::test]
async fn events_can_be_queried_over_send() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "a").await;
    ann.say(&id, "b").await;
    let reply = ann.post(SEND, request("7", "ms.QueryMessages", json!({"dialogId": id, "newerThanSequence": 1})).to_string()).await;
    let answer = reply.json();
    assert_eq!((reply.status, &answer["code"], &answer["reqId"]), (200, &json!("OK"), &json!("7")), "{}", reply.text);
    assert_eq!(answer["body"][0]["event"]["message"], "b");
    let bob = server.api().speaker("bob").await;
    let reply = bob.post(SEND, request("7", "ms.QueryMessages", json!({"dialogId": id})).to_string()).await;
    assert_eq!((reply.status, reply.error_code()), (401, 40103));
}
