//! What an operator sees and does about people: sessions, conversations, consumers, accounts.

use crate::support::*;
use serde_json::{Value, json};

const SECRET: &str = "nobody but the two may read this";

async fn see(api: &Api, path: &str) -> Value {
    let reply = api.call("GET", path, &ADMIN_KEY, "").await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    assert!(!reply.text.contains(SECRET), "{path} tells what was said: {}", reply.text);
    reply.json()
}

#[tokio::test]
async fn an_operator_sees_who_is_connected_and_to_what_and_closes_one_socket() {
    let server = TestServer::with(ADMIN).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let conversation = ann.open().await;
    ann.say(&conversation, SECRET).await;
    let (mut consumer, mut ada) = (ann.consumer_socket().await, api.agent("ada", "3").await);
    let mut connector = ann.connector_socket().await;
    consumer.follow(&conversation, 0).await;
    assert_eq!(ada.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    assert_eq!(connector.ask(&request("c", "GetClock", json!({}))).await["code"], "OK");
    let all = see(&api, "/admin/v1/sessions").await;
    assert_eq!(all["count"], 3);
    let kinds: Vec<_> = all["sessions"].as_array().unwrap().iter().map(|one| one["as"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["consumer", "agent", "application"]);
    assert_eq!(see(&api, "/admin/v1/sessions?account=other").await["count"], 0);
    let agents = see(&api, "/admin/v1/sessions?kind=agent").await;
    assert_eq!((&agents["count"], &agents["sessions"][0]["id"]), (&json!(1), &json!("1001")));
    let number = |kind: &str| {
        let found = all["sessions"].as_array().unwrap().iter().find(|one| one["as"] == kind).unwrap();
        found["connection"].as_u64().unwrap()
    };
    let one = see(&api, &format!("/admin/v1/sessions/{}", number("consumer"))).await;
    assert_eq!(one["subscriptions"], json!([format!("events of dialog {conversation}")]));
    // One socket is closed, with the code that was asked for; the others do not notice.
    let kick = async |path: String| api.call("DELETE", &path, &ADMIN_KEY, "").await.status;
    assert_eq!(kick(format!("/admin/v1/sessions/{}?code=1000", number("consumer"))).await, 400);
    assert_eq!(kick(format!("/admin/v1/sessions/{}", number("consumer"))).await, 204);
    assert_eq!(consumer.closed().await.0, 1012);
    assert_eq!(kick(format!("/admin/v1/sessions/{}?code=4401", number("agent"))).await, 204);
    assert_eq!(ada.closed().await.0, 4401);
    assert_eq!(connector.ask(&request("c", "GetClock", json!({}))).await["code"], "OK");
    assert_eq!(kick("/admin/v1/sessions/999999".into()).await, 404);
    for path in ["/admin/v1/sessions", "/admin/v1/accounts", "/admin/v1/conversations?account=demo"] {
        assert_eq!(api.call("GET", path, &[("authorization", &ann.app)], "").await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn an_operator_sees_accounts_and_conversations_but_not_what_was_said() {
    let server = TestServer::with(ADMIN).await;
    let api = server.api();
    let (ann, bob) = (api.speaker("ann").await, api.speaker("bob").await);
    let (first, second) = (ann.open().await, bob.open().await);
    ann.say(&first, SECRET).await;
    let close = json!({"field": "Stage", "conversationState": "CLOSE"});
    assert_eq!(ann.post(SEND, change("x", &first, close).to_string()).await.status, 200);
    let _ada = api.agent("ada", "3").await;
    let accounts = see(&api, "/admin/v1/accounts").await;
    assert_eq!(accounts.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect::<Vec<_>>(), ["demo", "other"]);
    let ada = &accounts[0]["agents"][0];
    assert_eq!((&ada["login"], &ada["connected"], &ada["skills"]), (&json!("ada"), &json!(true), &json!(["-1", "77"])));
    assert_eq!(accounts[0]["apps"][0], json!({"clientId": "counting", "enabled": true}));
    assert!(!accounts.to_string().contains("ada-demo") && !accounts.to_string().contains("-secret"), "{accounts}");
    let ids = async |query: &str| -> Vec<String> {
        let found = see(&api, &format!("/admin/v1/conversations?account=demo{query}")).await;
        found.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("").await, [first.clone(), second.clone()]);
    assert_eq!((ids("&state=open").await, ids("&state=closed").await), (vec![second.clone()], vec![first.clone()]));
    assert_eq!(ids("&limit=1").await.len(), 1);
    let one = see(&api, &format!("/admin/v1/conversations/{first}")).await;
    assert_eq!((&one["state"], &one["dialogs"][0]["events"], &one["queue"]), (&json!("closed"), &json!(1), &json!("-1")));
    assert_eq!(ids(&format!("&consumer={}", one["consumer"].as_str().unwrap())).await, std::slice::from_ref(&first));
    for (path, status) in [
        ("/admin/v1/conversations", 400),
        ("/admin/v1/conversations?account=none", 404),
        ("/admin/v1/conversations?account=demo&state=odd", 400),
        ("/admin/v1/conversations/none", 404),
    ] {
        assert_eq!(api.call("GET", path, &ADMIN_KEY, "").await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_revoked_consumer_is_out_at_once_and_stays_out_over_a_restart_until_allowed() {
    let server = TestServer::with(ADMIN).await;
    let api = server.api();
    let (ann, bob) = (api.speaker("ann").await, api.speaker("bob").await);
    let conversation = ann.open().await;
    let (mut hers, mut his) = (ann.consumer_socket().await, bob.consumer_socket().await);
    assert_eq!(hers.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    assert_eq!(his.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    let path = "/admin/v1/accounts/demo/revoked-consumers";
    let whom = json!({"clientId": "demo-connector", "extConsumerId": "ann"}).to_string();
    let revoked = api.call("POST", path, &ADMIN_KEY, whom).await;
    assert_eq!((revoked.status, &revoked.json()["closedSockets"]), (200, &json!(1)), "{}", revoked.text);
    let id = revoked.json()["consumerId"].as_str().unwrap().to_owned();
    assert_eq!(hers.closed().await.0, 4401);
    let say = async |who: &Speaker| who.post(SEND, publish("p", &conversation, "x").to_string()).await;
    assert_eq!(say(&ann).await.error_code(), 40103);
    // A new token of hers is no better; another consumer is not touched.
    let again = api.speaker("ann").await;
    assert_eq!(say(&again).await.error_code(), 40103);
    assert_eq!(his.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    for bad in ["", "{}", "{\"consumerId\":\"a\",\"clientId\":\"b\"}", "{\"extConsumerId\":\"ann\"}"] {
        assert_eq!(api.call("POST", path, &ADMIN_KEY, bad).await.status, 400, "{bad}");
    }
    // One that signed up itself.
    let own = api.sign_up().await;
    let open = async |api: &Api, token: &str| api.socket("/ws_api/account/demo/messaging/consumer?v=3", &[("authorization", token)]).await;
    let mut socket = open(&api, &own).await.unwrap();
    assert_eq!(socket.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    let sessions = see(&api, "/admin/v1/sessions?kind=consumer").await;
    let own_id = sessions["sessions"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(api.call("POST", path, &ADMIN_KEY, json!({"consumerId": own_id}).to_string()).await.status, 200);
    assert_eq!(socket.closed().await.0, 4401);
    assert_eq!(open(&api, &own).await.unwrap().closed().await.0, 4401);
    let server = server.restart().await;
    let api = server.api();
    let ann = Speaker { api: api.clone(), ..ann };
    assert_eq!(say(&ann).await.error_code(), 40103);
    assert_eq!(see(&api, path).await.as_array().unwrap().len(), 2);
    for _ in 0..2 {
        let allowed = api.call("DELETE", &format!("{path}/{id}"), &ADMIN_KEY, "").await;
        assert_eq!(allowed.status, 200, "{}", allowed.text);
    }
    assert_eq!(say(&ann).await.status, 200);
    assert_eq!(see(&api, path).await, json!([own_id]));
    let revoked = api.call("POST", path, &ADMIN_KEY, json!({"consumerId": id}).to_string()).await;
    assert_eq!((revoked.status, say(&ann).await.error_code()), (200, 40103));
}

#[tokio::test]
async fn a_revocation_is_made_to_its_end_also_when_who_asked_for_it_hangs_up() {
    let server = TestServer::with(ADMIN).await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let mut socket = ann.consumer_socket().await;
    assert_eq!(socket.ask(&request("c", "GetClock", json!({}))).await["code"], 200);
    let whom = json!({"clientId": "demo-connector", "extConsumerId": "ann"}).to_string();
    api.call_and_leave("POST", "/admin/v1/accounts/demo/revoked-consumers", &ADMIN_KEY, &whom).await;
    assert_eq!(socket.closed().await.0, 4401);
}
