//! Waiting conversations are offered to agents, and what an agent's or a gateway's absence makes of that.

use crate::support::*;
use serde_json::{Value, json};
use std::time::Duration;

pub const ONLINE: &str = "ONLINE";

/// Says whether the agent of a socket takes conversations.
pub async fn goes(agent: &mut Ws, availability: &str) {
    let state = json!({"availability": availability, "channels": ["MESSAGING"]});
    let answer = agent.ask(&request("state", ".ams.routing.SetAgentState", state)).await;
    assert_eq!((&answer["code"], &answer["body"]), (&json!(202), &json!("Agent state updated successfully")), "{answer}");
}

/// Follows what is offered to the agent of a socket; what is offered now.
pub async fn watch_rings(agent: &mut Ws) -> Vec<Value> {
    let answer = agent.ask(&request("rings", "rs.SubscribeRoutingTasks", json!({"channelType": "MESSAGING"}))).await;
    assert_eq!(answer["code"], 200, "{answer}");
    agent.notification("RoutingTaskNotification").await["body"]["changes"].as_array().unwrap().clone()
}

/// The next that is said of an offer of a conversation.
pub async fn ring(agent: &mut Ws, conversation: &str, state: &str) -> Value {
    let frame = agent
        .first(|frame| {
            frame["type"].as_str().is_some_and(|kind| kind.ends_with("RoutingTaskNotification"))
                && frame["body"]["changes"].as_array().is_some_and(|changes| {
                    changes.iter().any(|change| {
                        change["result"]["conversationId"] == conversation && change["result"]["ringsDetails"][0]["ringState"] == state
                    })
                })
        })
        .await;
    let changes = frame["body"]["changes"].as_array().unwrap();
    changes.iter().find(|change| change["result"]["conversationId"] == conversation).unwrap()["result"]["ringsDetails"][0].clone()
}

pub async fn answer(agent: &mut Ws, ring: &Value, state: &str) -> Value {
    agent.ask(&request("ring", "rs.UpdateRingState", json!({"ringId": ring["ringId"], "ringState": state}))).await
}

/// The whole of a conversation, as an agent sees it now.
pub async fn details(agent: &mut Ws, conversation: &str) -> Value {
    let filter = json!({"conversationId": conversation});
    let answer = agent.ask(&request("look", "cqm.SubscribeExConversations", filter)).await;
    let subscription = answer["body"]["subscriptionId"].clone();
    let snapshot = agent.first(|frame| frame["body"]["subscriptionId"] == subscription).await;
    agent.ask(&request("enough", "cqm.UnsubscribeExConversations", json!({"subscriptionId": subscription}))).await;
    snapshot["body"]["changes"][0]["result"].clone()
}

#[tokio::test]
async fn an_offer_survives_a_restart_expires_and_goes_to_the_next() {
    let mut server = TestServer::with("[routing]\nring = \"1s\"\nabsence = \"60s\"\n").await;
    let id = {
        let api = server.api();
        let mut ada = api.agent("ada", "3").await;
        assert!(watch_rings(&mut ada).await.is_empty());
        goes(&mut ada, ONLINE).await;
        let ann = api.speaker("ann").await;
        let id = ann.open().await;
        ann.say(&id, "hello").await;
        let offered = ring(&mut ada, &id, "WAITING").await;
        assert_eq!(offered["ringExpiration"], 1000);
        id
    };
    server = server.restart().await;
    let api = server.api();
    // Whoever is online by what it said last counts as just gone, so the offer stands until it expires.
    let mut grace = api.agent("grace", "3").await;
    watch_rings(&mut grace).await;
    goes(&mut grace, ONLINE).await;
    let mut ada = api.agent("ada", "3").await;
    watch_rings(&mut ada).await;
    let offered = ring(&mut grace, &id, "WAITING").await;
    assert_eq!(answer(&mut grace, &offered, "ACCEPTED").await["code"], 202);
    assert_eq!(ring(&mut grace, &id, "ACCEPTED").await["ringId"], offered["ringId"]);
    let roles = details(&mut ada, &id).await["conversationDetails"]["participants"].clone();
    assert!(roles.as_array().unwrap().iter().any(|person| person["role"] == "ASSIGNED_AGENT"), "{roles}");
}

#[tokio::test]
async fn an_online_agent_without_a_socket_is_offered_nothing_and_may_lose_what_it_has() {
    let server = TestServer::with("[routing]\nabsence = \"100ms\"\nrelease = \"300ms\"\n").await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let mut ada = api.agent("ada", "2.1").await;
    watch_rings(&mut ada).await;
    goes(&mut ada, ONLINE).await;
    let first = ann.open().await;
    ann.say(&first, "hello").await;
    let offered = ring(&mut ada, &first, "WAITING").await;
    assert_eq!(answer(&mut ada, &offered, "ACCEPTED").await["code"], 202);
    drop(ada);
    // Its conversation goes back, and to whoever is there.
    let mut grace = api.agent("grace", "2.1").await;
    watch_rings(&mut grace).await;
    goes(&mut grace, ONLINE).await;
    let offered = ring(&mut grace, &first, "WAITING").await;
    assert_eq!(answer(&mut grace, &offered, "ACCEPTED").await["code"], 202);
    // What is new is offered to her as well, though the other has less to do.
    let second = ann.open().await;
    ann.say(&second, "and this").await;
    ring(&mut grace, &second, "WAITING").await;
    // Back again, the first is asked once the second has not taken it.
    let mut ada = api.agent("ada", "2.1").await;
    assert!(watch_rings(&mut ada).await.is_empty());
    goes(&mut grace, "AWAY").await;
    ring(&mut grace, &second, "CANCELLED").await;
    ring(&mut ada, &second, "WAITING").await;
}

#[tokio::test]
async fn a_refusal_is_forgotten_in_time() {
    let server = TestServer::with("[routing]\nrefusal = \"500ms\"\n").await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let mut ada = api.agent("ada", "3").await;
    watch_rings(&mut ada).await;
    goes(&mut ada, ONLINE).await;
    let id = ann.open().await;
    ann.say(&id, "hello").await;
    let offered = ring(&mut ada, &id, "WAITING").await;
    let before = std::time::Instant::now();
    assert_eq!(answer(&mut ada, &offered, "REJECTED").await["code"], 202);
    let again = ring(&mut ada, &id, "WAITING").await;
    assert!(before.elapsed() >= Duration::from_millis(450), "not at once");
    assert_ne!(again["ringId"], offered["ringId"]);
    let late = answer(&mut ada, &offered, "ACCEPTED").await;
    assert_eq!((&late["code"], late["body"].as_str().unwrap().contains("no longer")), (&json!(400), true), "{late}");
}

#[tokio::test]
async fn agents_states_are_told_at_once_and_on_each_change_and_a_manager_may_set_anothers() {
    let server = TestServer::start().await;
    let api = server.api();
    let mut ada = api.agent("ada", "2.1").await;
    let mut grace = api.agent("grace", "3").await;
    let both = json!({"agentIds": ["demo.1001", "1002"]});
    let answer = grace.ask(&request("s", "rs.SubscribeAgentsState", both)).await;
    assert_eq!(answer["type"], "GenericSubscribeResponse");
    let states = |frame: &Value| -> Vec<String> {
        frame["body"]["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| change["result"]["availability"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(states(&grace.notification("AgentStateNotification").await), ["OFFLINE", "OFFLINE"], "before anybody has said anything");
    goes(&mut ada, ONLINE).await;
    let told = grace.notification("AgentStateNotification").await;
    assert_eq!(states(&told), [ONLINE]);
    assert_eq!(told["type"], "rs.AgentStateNotification");
    let away = json!({"availability": "AWAY", "agentUserId": "1001", "description": "lunch"});
    assert_eq!(ada.ask(&request("x", "rs.SetAgentState", json!({"availability": "AWAY", "agentUserId": "1002"}))).await["code"], 403);
    assert_eq!(grace.ask(&request("x", "rs.SetAgentState", away)).await["code"], 202);
    let told = grace.notification("AgentStateNotification").await;
    assert_eq!((states(&told), &told["body"]["changes"][0]["result"]["description"]), (vec!["AWAY".to_owned()], &json!("lunch")));
    for wrong in [json!({}), json!({"availability": "HERE"}), json!({"availability": ONLINE, "agentUserId": "nobody"})] {
        assert_eq!(ada.ask(&request("x", "rs.SetAgentState", wrong.clone())).await["code"], 400, "{wrong}");
    }
    // A consumer has no state and is offered nothing.
    let mut ann = api.speaker("ann").await.consumer_socket().await;
    for (kind, body) in [
        ("rs.SetAgentState", json!({"availability": ONLINE})),
        ("rs.SubscribeAgentsState", json!({"agentId": "1001"})),
        ("rs.SubscribeRoutingTasks", json!({"agentId": "1001"})),
    ] {
        assert!(ann.ask(&request("x", kind, body)).await["code"].as_u64().unwrap() >= 400, "{kind}");
    }
    assert_eq!(ada.ask(&request("x", "rs.SubscribeRoutingTasks", json!({"agentId": "1002"}))).await["code"], 403, "another's offers");
}

#[tokio::test]
async fn an_invited_agent_is_asked_at_once_and_no_longer_when_the_invitation_is_taken_back() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    // Nobody is online: it waits, and so does another before it.
    let (front, id) = (ann.open().await, ann.open().await);
    ann.say(&front, "hello").await;
    ann.say(&id, "hello").await;
    let mut bea = api.agent("bea", "3").await;
    watch_rings(&mut bea).await;
    goes(&mut bea, ONLINE).await;
    let mut grace = api.agent("grace", "3").await;
    let field = |kind: &str| json!({"field": "ParticipantsChange", "type": kind, "role": "ASSIGNED_AGENT", "userId": "demo.1003"});
    assert_eq!(grace.ask(&change("s", &id, field("SUGGEST"))).await["code"], 200);
    // She does not serve the queue, and is asked by name.
    let offered = ring(&mut bea, &id, "WAITING").await;
    // Whoever is only invited may come or not, and nothing else.
    assert_eq!(bea.ask(&change("c", &id, json!({"field": "Stage", "conversationState": "CLOSE"}))).await["code"], 400);
    assert_eq!(bea.ask(&publish("p", &id, "hi")).await["code"], 400);
    assert_eq!(grace.ask(&change("r", &id, field("REMOVE"))).await["code"], 200);
    ring(&mut bea, &id, "CANCELLED").await;
    assert_eq!(answer(&mut bea, &offered, "ACCEPTED").await["code"], 400);
    // Invited again, she takes it.
    assert_eq!(grace.ask(&change("s", &id, field("SUGGEST"))).await["code"], 200);
    let offered = ring(&mut bea, &id, "WAITING").await;
    assert_eq!(answer(&mut bea, &offered, "ACCEPTED").await["code"], 202);
    assert_eq!(bea.ask(&publish("p", &id, "hi")).await["code"], 200);
}

#[tokio::test]
async fn who_waits_longest_in_any_queue_is_offered_first() {
    let server = TestServer::start().await;
    let api = server.api();
    let ann = api.speaker("ann").await;
    let open = async |queue: &str| {
        let mut batch = ann.opening();
        batch[1]["body"]["skillId"] = json!(queue);
        let id = ann.post(CONVERSATION, batch.to_string()).await.json()[1]["body"]["conversationId"].as_str().unwrap().to_owned();
        ann.say(&id, "hello").await;
        id
    };
    let mut waiting = Vec::new();
    for queue in ["77", "-1", "77", "-1"] {
        waiting.push(open(queue).await);
    }
    let mut ada = api.agent("ada", "3").await;
    watch_rings(&mut ada).await;
    goes(&mut ada, ONLINE).await;
    // She takes three at a time.
    for id in &waiting[..3] {
        ring(&mut ada, id, "WAITING").await;
    }
    let mut manager = api.agent("grace", "3").await;
    let ring = &details(&mut manager, &waiting[3]).await["conversationDetails"]["participants"];
    assert_eq!(ring.as_array().unwrap().len(), 1, "the fourth waits: {ring}");
}
