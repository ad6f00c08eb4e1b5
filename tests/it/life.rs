//! What becomes of a conversation: found again by its name, welcomed, asked about, closed because nobody writes.

use crate::routing::{ONLINE, answer, details, goes, ring, watch_rings};
use crate::support::*;
use serde_json::{Value, json};
use std::collections::HashSet;

/// An account with everything that runs by itself.
const LIVELY: &str = r#"
[[accounts]]
id = "lively"
silence = "700ms"
welcome = "Somebody will be with you."
[accounts.survey]
time = "600ms"
thanks = "Thank you."
[[accounts.survey.questions]]
id = "score"
kind = "csat"
text = "How did we do?"
[[accounts.survey.questions]]
id = "again"
kind = "choice"
choices = ["Sure", "Never"]
text = "Would you come again?"
[[accounts.apps]]
client_id = "connector"
client_secret = "connector-secret"
[[accounts.agents]]
user_id = "1"
login = "eve"
password = "eve-demo"
"#;

const FEATURES: (&str, &str) = ("client-properties", r#"{"type":".ClientProperties","features":["AUTO_MESSAGES","MULTI_DIALOG"]}"#);

async fn speaker(api: &Api, name: &str) -> Speaker {
    let app = api.app_token_of("lively", "connector").await;
    let jws = api.consumer_of("lively", &app, name).await;
    Speaker { api: api.clone(), account: "lively".into(), app, jws }
}

async fn eve(api: &Api) -> Ws {
    let body = json!({"username": "eve", "password": "eve-demo"}).to_string();
    let login = api.call("POST", "/api/account/lively/login?v=1.3", &[], body).await.json();
    let path = format!("/ws_api/account/lively/messaging/brand/{}?v=3", login["bearer"].as_str().unwrap());
    api.socket(&path, &[]).await.unwrap()
}

async fn open(ann: &Speaker) -> String {
    let opened = ann.post_with(CONVERSATION, &[FEATURES], ann.opening().to_string()).await;
    opened.json()[1]["body"]["conversationId"].as_str().unwrap().to_owned()
}

async fn events(ann: &Speaker, conversation: &str, dialog: &str) -> Vec<Value> {
    let query = json!({"conversationId": conversation, "dialogId": dialog, "newerThanSequence": 0});
    let reply = ann.post(SEND, request("q", "ms.QueryMessages", query).to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["body"].as_array().unwrap().clone()
}

/// Waits for a state of the conversation that passes.
async fn until(agent: &mut Ws, conversation: &str, passes: impl Fn(&Value) -> bool) -> Value {
    let filter = json!({"conversationId": conversation});
    let answer = agent.ask(&request("until", "cqm.SubscribeExConversations", filter)).await;
    let subscription = answer["body"]["subscriptionId"].clone();
    let began = std::time::Instant::now();
    loop {
        assert!(began.elapsed() < SOON * 3, "it does not come to be so");
        let frame = agent.first(|frame| frame["body"]["subscriptionId"] == subscription).await;
        if let Some(result) =
            frame["body"]["changes"].as_array().unwrap().iter().map(|change| &change["result"]).find(|result| passes(result))
        {
            return result.clone();
        }
    }
}

#[tokio::test]
async fn a_consumer_is_welcomed_asked_and_heard_and_what_is_left_open_closes_by_itself() {
    let server = TestServer::with(LIVELY).await;
    let api = server.api();
    let mut eve = eve(&api).await;
    watch_rings(&mut eve).await;
    goes(&mut eve, ONLINE).await;
    let ann = speaker(&api, "ann").await;

    // Welcomed behind the first message; the welcome answers nobody, so an answer stays due.
    let id = open(&ann).await;
    ann.say(&id, "hello").await;
    let said = events(&ann, &id, &id).await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(
        (&said[1]["event"]["message"], &said[1]["originatorMetadata"]["role"]),
        (&json!("Somebody will be with you."), &json!("CONTROLLER"))
    );
    assert!(details(&mut eve, &id).await["effectiveTTR"].as_i64().unwrap() > 0);
    let offered = ring(&mut eve, &id, "WAITING").await;
    assert_eq!(answer(&mut eve, &offered, "ACCEPTED").await["code"], 202);

    // The consumer closes; the questions come in a dialog of their own.
    let close = json!({"field": "ConversationStateField", "conversationState": "CLOSE"});
    assert_eq!(ann.post(SEND, change("c", &id, close).to_string()).await.json()["body"]["msg"], "OK Conversation resolved successfully");
    let asked = details(&mut eve, &id).await["conversationDetails"].clone();
    assert_eq!((&asked["state"], &asked["stage"], &asked["closeReason"]), (&json!("CLOSE"), &json!("OPEN"), &json!("CONSUMER")));
    let dialog = asked["dialogs"][1].clone();
    assert_eq!((&dialog["dialogType"], &dialog["state"]), (&json!("POST_SURVEY"), &json!("OPEN")));
    let survey = dialog["dialogId"].as_str().unwrap().to_owned();
    let said = events(&ann, &id, &survey).await;
    assert_eq!((said.len(), &said[0]["event"]["message"], &said[0]["sequence"]), (1, &json!("How did we do?"), &json!(0)));
    assert_eq!(said[0]["event"]["quickReplies"]["replies"].as_array().unwrap().len(), 5);
    assert_eq!(ann.post(SEND, publish("x", &id, "one more thing").to_string()).await.status, 400, "the MAIN dialog is closed");
    let mut stranger = api.agent("ada", "3").await;
    assert_eq!(stranger.ask(&publish("x", &survey, "me too")).await["code"], 400);

    // What is no answer is asked again; the last answer ends it.
    let reply = |text: &str| {
        let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": text});
        request("a", "ms.PublishEvent", json!({"conversationId": id, "dialogId": survey, "event": event})).to_string()
    };
    for text in ["great", "4", "sure"] {
        assert_eq!(ann.post(SEND, reply(text)).await.status, 200, "{text}");
    }
    let said: Vec<_> =
        events(&ann, &id, &survey).await.iter().map(|event| event["event"]["message"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        said,
        ["How did we do?", "great", "How did we do?", "4", "Would you come again?", "sure", "Thank you."],
        "in one order, the gateway's words too"
    );
    let over = details(&mut eve, &id).await["conversationDetails"].clone();
    assert_eq!((&over["stage"], &over["csat"]), (&json!("CLOSE"), &json!({"csatRate": 4, "status": "FILLED"})));
    assert_eq!((&over["dialogs"][1]["closedBy"], &over["dialogs"][1]["closedCause"]), (&json!("AGENT"), &json!("Completed")));
    assert_eq!(ann.post(SEND, reply("5")).await.status, 400, "a closed survey takes no more");

    // Questions that nobody answers end by themselves.
    let id = open(&ann).await;
    ann.say(&id, "hello").await;
    let offered = ring(&mut eve, &id, "WAITING").await;
    answer(&mut eve, &offered, "ACCEPTED").await;
    let close = json!({"field": "DialogChange", "type": "UPDATE", "dialog": {"dialogId": id, "state": "CLOSE", "closedCause": "done"}});
    assert_eq!(eve.ask(&change("c", &id, close)).await["code"], 200);
    let over = until(&mut eve, &id, |result| result["conversationDetails"]["stage"] == "CLOSE").await["conversationDetails"].clone();
    assert_eq!(
        (&over["closeReason"], &over["dialogs"][1]["closedCause"], &over["csat"]),
        (&json!("AGENT"), &json!("Timeout"), &Value::Null)
    );

    // And so does a conversation in which nobody writes: no questions then, nobody is there.
    let id = open(&ann).await;
    ann.say(&id, "hello?").await;
    let over = until(&mut eve, &id, |result| result["conversationDetails"]["stage"] == "CLOSE").await["conversationDetails"].clone();
    assert_eq!((&over["closeReason"], over["dialogs"].as_array().unwrap().len()), (&json!("TIMEOUT"), 1));
    assert_eq!(over["dialogs"][0]["closedBy"], "SYSTEM");
}

#[tokio::test]
async fn a_conversation_is_found_by_its_name_while_it_is_open_however_many_ask() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let named = |name: &str, text: &str| {
        let mut batch = ann.opening();
        batch[1]["body"]["binding"] = json!(name);
        let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": text});
        batch.as_array_mut().unwrap().push(request("3", "ms.PublishEvent", json!({"dialogId": "", "event": event})));
        batch.to_string()
    };
    let asks = (0..20).map(|number| ann.post(CONVERSATION, named("+100", &number.to_string())));
    let replies = futures::future::join_all(asks).await;
    let opened: Vec<_> = replies.iter().map(|reply| reply.json()[1]["body"].clone()).collect();
    let ids: HashSet<_> = opened.iter().map(|body| body["conversationId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1, "{opened:?}");
    assert_eq!(opened.iter().filter(|body| body.get("found").is_none()).count(), 1, "one opened it, the others found it");
    let id = ids.into_iter().next().unwrap();
    assert_eq!(events(&ann, &id, &id).await.len(), 20, "and each message is in it");
    // Another name, and another consumer's same name, are other conversations.
    let other = ann.post(CONVERSATION, named("+200", "x")).await.json()[1]["body"]["conversationId"].clone();
    let bob = api.speaker("bob").await;
    let bobs = bob.post(CONVERSATION, named("+100", "x")).await.json()[1]["body"]["conversationId"].clone();
    assert!(other != json!(id) && bobs != json!(id) && other != bobs);
    // After a restart it is still found; after its end it is not.
    let server = server.restart().await;
    let ann = Speaker { api: server.api(), ..ann.clone() };
    let again = ann.post(CONVERSATION, named("+100", "again")).await.json();
    assert_eq!((&again[1]["body"], &again[2]["body"]["sequence"]), (&json!({"conversationId": id, "found": true}), &json!(20)));
    let mut typing: Value = serde_json::from_str(&named("+100", "x")).unwrap();
    typing[2]["body"]["event"] = json!({"type": "ChatStateEvent", "chatState": "COMPOSING"});
    let typed = ann.post(CONVERSATION, typing.to_string()).await;
    assert_eq!((typed.status, &typed.json()[1]["body"]["found"]), (200, &json!(true)), "{}", typed.text);
    let close = json!({"field": "Stage", "conversationState": "CLOSE"});
    assert_eq!(ann.post(SEND, change("c", &id, close).to_string()).await.status, 200);
    let fresh = ann.post(CONVERSATION, named("+100", "anew")).await.json();
    assert!(fresh[1]["body"]["conversationId"] != json!(id) && fresh[1]["body"].get("found").is_none(), "{fresh}");
}

#[tokio::test]
async fn a_secure_form_has_a_token_for_each_side_that_the_published_keys_prove() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "hello").await;
    let mut ada = api.agent("ada", "2.1").await;
    let form = json!({"type": "SecureForm", "dialogId": id, "invitationId": "inv-1", "submissionId": "sub-1"});
    let read = request("t", ".ams.ms.token.GenerateDownloadToken", json!({"downloadable": form}));
    assert_eq!(ada.ask(&read).await["body"], "Agent does not exist in conversation");
    ada.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    let answer = ada.ask(&read).await;
    assert_eq!((&answer["type"], &answer["body"]["token"]["type"]), (&json!(".ams.ms.token.DownloadToken"), &json!("SecureFormReadToken")));
    let keys = api.get("/.well-known/jwks.json").await.json();
    let claims = |token: &Value| -> Value {
        let token = token.as_str().unwrap();
        let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
        let jwk = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == json!(kid)).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(&serde_json::from_value(jwk.clone()).unwrap()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        validation.set_audience(&["demo"]);
        jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims
    };
    let said = claims(&answer["body"]["token"]["readOtk"]);
    assert_eq!((&said["use"], &said["submissionId"], &said["dialogId"]), (&json!("read"), &json!("sub-1"), &json!(id)));
    let fill =
        request("t", "ms.GenerateUploadToken", json!({"uploadable": {"type": "SecureForm", "dialogId": id, "invitationId": "inv-1"}}));
    let token = ann.post(SEND, fill.to_string()).await.json()["body"]["token"]["writeOtk"].clone();
    assert_eq!(claims(&token)["use"], "fill");
    assert_eq!(ann.post(SEND, request("t", "ms.GenerateDownloadToken", json!({"downloadable": form})).to_string()).await.status, 403);
}

#[tokio::test]
async fn a_path_of_a_file_is_good_for_who_may_see_it_and_for_nobody_else() {
    let server = TestServer::start().await;
    let api = server.api();
    let (ann, bob) = (api.speaker("ann").await, api.speaker("bob").await);
    let early = request("u", "ms.GenerateURLForUploadFile", json!({"fileSize": 70, "fileType": "PNG"}));
    assert_eq!(ann.post(SEND, early.to_string()).await.status, 400, "there is nothing to show it in");
    let id = ann.open().await;
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0".to_vec();
    let wanted = request("u", "ms.GenerateURLForUploadFile", json!({"fileSize": png.len().to_string(), "fileType": "PNG"}));
    let url = ann.post(SEND, wanted.to_string()).await.json()["body"].clone();
    let path = url["relativePath"].as_str().unwrap().to_owned();
    let signed = |url: &Value| {
        let text = |name: &str| url["queryParams"][name].as_str().unwrap().to_owned();
        format!(
            "{}?temp_url_sig={}&temp_url_expires={}",
            url["relativePath"].as_str().unwrap(),
            text("temp_url_sig"),
            text("temp_url_expires")
        )
    };
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let put = || http.put(api.url(&signed(&url))).body(png.clone()).send();
    assert_eq!(put().await.unwrap().status(), 201);
    assert_eq!(put().await.unwrap().status(), 409, "an upload is taken once");
    let download = request("d", "ms.GenerateURLForDownloadFile", json!({"relativePath": path}));
    let show = |conversation: &str, audience: &str| {
        let message = json!({"relativePath": path, "fileType": "PNG", "caption": "a dot"});
        let event = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": message});
        request("f", "ms.PublishEvent", json!({"dialogId": conversation, "event": event, "messageAudience": audience}))
    };
    // Whoever merely knows the path may neither fetch nor show it.
    assert_eq!(bob.post(SEND, download.to_string()).await.status, 400);
    let theirs = bob.open().await;
    assert_eq!(bob.post(SEND, show(&theirs, "ALL").to_string()).await.status, 400);
    let mut ada = api.agent("ada", "3").await;
    assert_eq!(ada.ask(&download).await["code"], 400, "it is not shown anywhere yet");
    assert_eq!(ann.post(SEND, show(&id, "ALL").to_string()).await.status, 200);
    let url = ada.ask(&download).await["body"].clone();
    let got = http.get(api.url(&signed(&url))).send().await.unwrap();
    assert_eq!((got.status().as_u16(), got.headers()["x-content-type-options"].to_str().unwrap()), (200, "nosniff"));
    assert_eq!(got.bytes().await.unwrap(), png);
    assert_eq!(bob.post(SEND, download.to_string()).await.status, 400, "another's conversation");
    // What an agent whispers is not the consumer's, and after a restart all of it still holds.
    ada.ask(&add_agent("j", &id, "ASSIGNED_AGENT")).await;
    let own =
        ada.ask(&request("u", "ms.GenerateURLForUploadFile", json!({"fileSize": png.len(), "fileType": "PNG"}))).await["body"].clone();
    assert_eq!(http.put(api.url(&signed(&own))).body(png.clone()).send().await.unwrap().status(), 201);
    let event = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": {"relativePath": own["relativePath"]}});
    let whisper = json!({"dialogId": id, "event": event, "messageAudience": "AGENTS_AND_MANAGERS"});
    assert_eq!(ada.ask(&request("f", "ms.PublishEvent", whisper)).await["code"], 200);
    let whispered = request("d", "ms.GenerateURLForDownloadFile", json!({"relativePath": own["relativePath"]})).to_string();
    assert_eq!(ann.post(SEND, whispered.clone()).await.status, 400);
    let server = server.restart().await;
    let ann = Speaker { api: server.api(), ..ann.clone() };
    assert_eq!(ann.post(SEND, whispered).await.status, 400);
    assert_eq!(ann.post(SEND, download.to_string()).await.status, 200);
    let mut ada = server.api().agent("ada", "3").await;
    assert_eq!(ada.ask(&download).await["code"], 200);
}

#[tokio::test]
async fn nobody_says_of_itself_what_only_others_can_say() {
    let server = TestServer::start().await;
    let api = server.api();
    let jwt = api.sign_up().await;
    let mut web = api.socket("/ws_api/account/demo/messaging/consumer?v=3", &[("authorization", &jwt)]).await.unwrap();
    let forged = json!({"firstName": "Eve", "role": "MANAGER", "acr": "loa1", "userId": "1001",
        "claims": {"sub": "ceo"}, "authenticatedData": {"lp_sdes": [{"type": "ctmrinfo"}]}});
    assert_eq!(web.ask(&request("p", "userprofile.SetUserProfile", forged.clone())).await["code"], 200);
    let own = web.ask(&request("g", "userprofile.GetUserProfile", json!({}))).await["body"].clone();
    assert_eq!((&own["firstName"], &own["role"]), (&json!("Eve"), &json!("CONSUMER")));
    assert!(own.get("claims").is_none() && own.get("acr").is_none() && own.get("authenticatedData").is_none(), "{own}");
    // An application knows its consumers, and says what it knows.
    let ann = api.speaker("ann").await;
    let mut batch = ann.opening();
    batch[0]["body"] = forged;
    ann.post(CONVERSATION, batch.to_string()).await;
    let known = ann.post(SEND, request("g", "userprofile.GetUserProfile", json!({})).to_string()).await.json()["body"].clone();
    assert_eq!(known["authenticatedData"]["lp_sdes"][0]["type"], "ctmrinfo", "{known}");
    assert!(known.get("claims").is_none() && known["role"] == "CONSUMER", "{known}");
}
