//! Every operation by everybody who might try it: nothing of another consumer's or another tenant's can be touched or
//! even known to be there.

use crate::support::*;
use serde_json::{Value, json};
use tieline_protocol::kind::RequestKind;

/// A request of each kind that names a conversation; nothing for those that name none. The match is exhaustive, so a
/// new kind without a row does not compile.
fn naming(kind: RequestKind, id: &str) -> Vec<Value> {
    let field = |field: Value| change("x", id, field);
    match kind {
        RequestKind::PublishEvent => vec![
            publish("x", id, "x"),
            request(
                "x",
                "ms.PublishEvent",
                json!({"dialogId": id, "event": {"type": "RichContentEvent", "content": {"type": "vertical"}}}),
            ),
            request(
                "x",
                "ms.PublishEvent",
                json!({"dialogId": id, "event": {"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [0]}}),
            ),
            request("x", "ms.PublishEvent", json!({"dialogId": id, "event": {"type": "ChatStateEvent", "chatState": "COMPOSING"}})),
            request(
                "x",
                "ms.PublishEvent",
                json!({"conversationId": id, "dialogId": "other", "event": {"type": "ContentEvent", "message": "x"}}),
            ),
        ],
        RequestKind::UpdateConversationField => vec![
            field(json!({"field": "ConversationStateField", "conversationState": "CLOSE"})),
            field(json!({"field": "Stage", "conversationState": "CLOSE"})),
            field(json!({"field": "DialogChange", "type": "UPDATE", "dialog": {"dialogId": id, "state": "CLOSE"}})),
            field(json!({"field": "ParticipantsChange", "type": "ADD", "role": "AGENT", "userId": "1001"})),
            field(json!({"field": "Skill", "skill": "-1"})),
            field(json!({"field": "TTRField", "ttrType": "URGENT", "value": 1})),
            field(json!({"field": "ManualETTR", "time": 1})),
            field(json!({"field": "CSATRate", "csatRate": 1})),
            field(json!({"field": "Note", "note": "x"})),
        ],
        RequestKind::SubscribeMessagingEvents => vec![follow("x", id, 0)],
        RequestKind::QueryMessages => vec![request("x", "ms.QueryMessages", json!({"dialogId": id, "newerThanSequence": 0}))],
        RequestKind::UpdateRingState => ["ACCEPTED", "REJECTED"]
            .map(|state| request("x", "rs.UpdateRingState", json!({"ringId": format!("{id}_demo_1"), "ringState": state})))
            .to_vec(),
        RequestKind::GenerateUploadToken | RequestKind::GenerateDownloadToken => {
            let form = json!({"type": "SecureForm", "dialogId": id, "invitationId": "i", "submissionId": "s"});
            vec![
                request("x", "ms.GenerateUploadToken", json!({"uploadable": form})),
                request("x", "ms.GenerateDownloadToken", json!({"downloadable": form})),
            ]
        }
        RequestKind::InitConnection
        | RequestKind::GetClock
        | RequestKind::SetAgentState
        | RequestKind::SubscribeAgentsState
        | RequestKind::SubscribeRoutingTasks
        | RequestKind::UpdateRoutingTaskSubscription
        | RequestKind::GenerateURLForUploadFile
        | RequestKind::GenerateURLForDownloadFile
        | RequestKind::GetBrandProfile
        | RequestKind::ConsumerRequestConversation
        | RequestKind::AgentRequestConversation
        | RequestKind::SubscribeExConversations
        | RequestKind::UnsubscribeExConversations
        | RequestKind::UpdateExConversationSubscription
        | RequestKind::GetUserProfile
        | RequestKind::SetUserProfile
        | RequestKind::SubscribeApplicationEvents => Vec::new(),
    }
}

fn all_naming(id: &str) -> Vec<Value> {
    RequestKind::ALL.iter().flat_map(|kind| naming(*kind, id)).collect()
}

const NOWHERE: &str = "3b241101-e2bb-4255-8caf-4136c566a962";

#[tokio::test]
async fn nobody_else_can_touch_or_know_a_conversation() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "secret").await;
    let mut cells = 0;

    // Another consumer of the same application; the same external id of another application; a web consumer; another tenant's.
    let bob = api.speaker("bob").await;
    let counting = api.app_token_of(ACCOUNT, "counting").await;
    let other_app = Speaker { jws: api.consumer_of(ACCOUNT, &counting, "ann").await, app: counting, ..bob.clone() };
    let other = api.app_token_of("other", "demo-connector").await;
    let tenant = Speaker { jws: api.consumer_of("other", &other, "ann").await, app: other, account: "other".into(), ..bob.clone() };
    let jwt = api.sign_up().await;
    let web = api.socket("/ws_api/account/demo/messaging/consumer?v=3", &[("authorization", &jwt)]).await.unwrap();
    let bearer = {
        let body = json!({"username": "ada", "password": "ada-demo"}).to_string();
        api.call("POST", "/api/account/other/login?v=1.3", &[], body).await.json()["bearer"].as_str().unwrap().to_owned()
    };
    let foreign_agent = api.socket(&format!("/ws_api/account/other/messaging/brand/{bearer}?v=3"), &[]).await.unwrap();

    for who in [&bob, &other_app, &tenant] {
        for (theirs, nowhere) in all_naming(&id).into_iter().zip(all_naming(NOWHERE)) {
            // Only changing requests can be sent over HTTP; the others are refused alike.
            let (seen, blind) = (who.post(SEND, theirs.to_string()).await, who.post(SEND, nowhere.to_string()).await);
            assert_eq!((seen.status, &seen.text), (blind.status, &blind.text), "{theirs}");
            assert!(seen.status >= 400, "{theirs}: {}", seen.text);
            if ["ms.PublishEvent", "cm.UpdateConversationField"].contains(&theirs["type"].as_str().unwrap())
                && !theirs.to_string().contains("userId")
            {
                assert_eq!((seen.status, seen.error_code()), (401, 40103), "{theirs}");
            }
            cells += 1;
        }
    }
    let sockets =
        [("bob", bob.consumer_socket().await), ("tenant", tenant.consumer_socket().await), ("web", web), ("foreign agent", foreign_agent)];
    for (who, mut socket) in sockets {
        for (theirs, nowhere) in all_naming(&id).into_iter().zip(all_naming(NOWHERE)) {
            let (seen, blind) = (socket.ask(&theirs).await, socket.ask(&nowhere).await);
            assert_eq!(seen, blind, "{who}: {theirs}");
            let code = if who == "foreign agent" { 400 } else { 401 };
            // What is for agents alone is refused before the conversation is looked at.
            let about_agents = ["userId", "ringId"].iter().any(|name| theirs.to_string().contains(name));
            assert!(seen["code"] == code || (about_agents && seen["code"] == 400), "{who} {theirs}: {seen}");
            cells += 1;
        }
        // And it is in nobody's list.
        socket.ask(&request("s", "cqm.SubscribeExConversations", json!({"conversationId": id}))).await;
        assert_eq!(socket.notification("ExConversationChangeNotification").await["body"]["changes"], json!([]), "{who}");
        cells += 1;
    }
    let mut connector = bob.connector_socket().await;
    for (mut theirs, mut nowhere) in all_naming(&id).into_iter().zip(all_naming(NOWHERE)) {
        let headers = json!([{"type": ".ams.headers.ConsumerAuthentication", "jwt": bob.jws}]);
        (theirs["headers"], nowhere["headers"]) = (headers.clone(), headers);
        let (seen, blind) = (connector.ask(&theirs).await, connector.ask(&nowhere).await);
        assert_eq!(seen, blind, "{theirs}");
        assert!(seen["code"].as_u64().is_some_and(|code| code >= 400), "{theirs}: {seen}");
        cells += 1;
    }
    // Nothing of all this left a trace, and the owner may go on.
    assert_eq!(ann.say(&id, "still mine").await, 1);
    let mut agent = api.agent("ada", "3").await;
    agent.ask(&request("s", "cqm.SubscribeExConversations", json!({"conversationId": id}))).await;
    let details =
        agent.notification("ExConversationChangeNotification").await["body"]["changes"][0]["result"]["conversationDetails"].clone();
    assert_eq!((&details["state"], &details["csat"], &details["ttr"]["ttrType"]), (&json!("OPEN"), &Value::Null, &json!("NORMAL")));
    println!("ownership: {cells} cells, 0 leaks");
}

#[tokio::test]
async fn an_agent_may_read_its_accounts_conversations_and_write_where_it_joined() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    ann.say(&id, "hello").await;
    let mut agent = server.api().agent("ada", "3").await;
    agent.follow(&id, 0).await;
    assert_eq!(agent.events(1).await.len(), 1);
    let refused = agent.ask(&publish("p", &id, "x")).await;
    assert_eq!((&refused["code"], &refused["body"]), (&json!(400), &json!("Agent does not exist in conversation")));
    let nowhere = agent.ask(&publish("p", NOWHERE, "x")).await;
    assert_eq!((&nowhere["code"], &nowhere["body"]), (&json!(400), &json!("Conversation does not exist")));
    let close = change("c", &id, json!({"field": "Stage", "conversationState": "CLOSE"}));
    assert_eq!(agent.ask(&close).await["code"], 400, "it has not joined");
    let mut manager = server.api().agent("grace", "3").await;
    assert_eq!(manager.ask(&close).await["code"], 200, "a manager may");
}
