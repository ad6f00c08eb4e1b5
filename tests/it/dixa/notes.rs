//! What is noted about conversations (rows 10 to 12).

use super::{Dixa, NOBODY, People, chat, open, people, start};
use crate::support::*;
use serde_json::{Value, json};

#[tokio::test]
async fn notes_are_listed_by_the_times_when_they_were_written() {
    let (server, dixa) = start().await;
    let People { ada, grace, speaker, .. } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "77", "hello").await;
    let path = format!("/conversations/{number}/notes");
    let manager = Dixa::with(&dixa.api, "manager-key");
    let now = dixa.post(&path, &json!({"message": "called twice", "agentId": ada})).await;
    assert_eq!(now.status, 200, "{}", now.text);
    let note = now.json()["data"].clone();
    let expected = json!({"id": note["id"], "authorId": ada, "createdAt": note["createdAt"], "csid": number, "message": "called twice"});
    assert_eq!(note, expected);
    let old = dixa.post(&path, &json!({"message": "was here before", "agentId": grace, "createdAt": "2022-01-01T09:00:00.5Z[GMT]"})).await;
    assert_eq!(old.json()["data"]["createdAt"], "2022-01-01T09:00:00.500Z");
    let own = manager.post(&path, &json!({"message": "mine"})).await;
    assert_eq!((own.status, &own.json()["data"]["authorId"]), (200, &json!(grace)));
    let accounts = dixa.post(&path, &json!({"message": "the account's"})).await;
    let bot = accounts.json()["data"]["authorId"].as_str().unwrap().to_owned();
    assert!(bot.parse::<uuid::Uuid>().is_ok() && bot != ada && bot != grace);
    // An agent's own, on the native surface.
    let mut agent = server.api().agent("ada", "2").await;
    assert_eq!(agent.ask(&add_agent("1", &id, "ASSIGNED_AGENT")).await["code"], 200);
    assert_eq!(agent.ask(&change("2", &id, json!([{"field": "Note", "note": "native"}]))).await["code"], 200);
    let listed = dixa.data(&path).await;
    let listed: Vec<&str> = listed.as_array().unwrap().iter().map(|note| note["message"].as_str().unwrap()).collect();
    assert_eq!(listed, ["was here before", "called twice", "mine", "the account's", "native"]);
    // They are no messages.
    assert_eq!(dixa.data(&format!("/conversations/{number}/messages")).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_note_that_cannot_be_is_refused() {
    let (_server, dixa) = start().await;
    let People { ann, ada, grace, .. } = people(&dixa).await;
    let number = dixa.begin(&chat(&ann, "hello")).await;
    let path = format!("/conversations/{number}/notes");
    for (body, why) in [
        (json!({}), "message"),
        (json!({"message": ""}), "empty"),
        (json!({"message": 7}), "string"),
        (json!({"message": "x".repeat(10_001)}), "10000"),
        (json!({"message": "x", "agentId": NOBODY}), "agent"),
        (json!({"message": "x", "agentId": ann}), "agent"),
        (json!({"message": "x", "agentId": "ada"}), "UUID"),
        (json!({"message": "x", "createdAt": "yesterday"}), "ISO 8601"),
        (json!({"message": "x", "createdAt": "2999-01-01T00:00:00Z"}), "future"),
    ] {
        let said = dixa.refused("POST", &path, &body, 400).await;
        assert!(said.contains(why), "{body}: {said}");
    }
    assert_eq!(dixa.data(&path).await, json!([]));
    for (what, status) in [("999", 404), ("x", 400)] {
        dixa.refused("POST", &format!("/conversations/{what}/notes"), &json!({"message": "x"}), status).await;
        dixa.refused("POST", &format!("/conversations/{what}/notes/bulk"), &json!({"data": [{"message": "x"}]}), status).await;
        dixa.refused("GET", &format!("/conversations/{what}/notes"), &Value::Null, status).await;
    }
    // An agent's key notes as its agent where that one is.
    let agents = Dixa::with(&dixa.api, "agent-key");
    agents.refused("POST", &path, &json!({"message": "x"}), 401).await;
    assert_eq!(dixa.put(&format!("/conversations/{number}/claim"), &json!({"agentId": ada})).await.status, 204);
    agents.refused("POST", &path, &json!({"message": "x", "agentId": grace}), 401).await;
    assert_eq!(agents.post(&path, &json!({"message": "x"})).await.json()["data"]["authorId"], ada.as_str());
}

#[tokio::test]
async fn of_many_notes_each_has_an_outcome_in_its_place() {
    let (_server, dixa) = start().await;
    let People { ann, ada, .. } = people(&dixa).await;
    let number = dixa.begin(&chat(&ann, "hello")).await;
    let path = format!("/conversations/{number}/notes/bulk");
    let body = json!({"data": [
        {"message": "first", "agentId": ada},
        {"message": "second", "agentId": NOBODY},
        {"message": ""},
        {"message": "fourth", "createdAt": "2022-01-01T00:00:00Z"},
    ]});
    let reply = dixa.call_with("POST", &path, &[("idempotency-key", "k")], body.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let outcomes = reply.json()["data"].clone();
    let kinds: Vec<&str> = outcomes.as_array().unwrap().iter().map(|outcome| outcome["_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["BulkActionSuccess", "BulkActionFailure", "BulkActionFailure", "BulkActionSuccess"]);
    assert_eq!((&outcomes[0]["data"]["message"], &outcomes[0]["data"]["csid"]), (&json!("first"), &json!(number)));
    assert_eq!((&outcomes[0]["data"]["authorId"], &outcomes[3]["data"]["message"]), (&json!(ada), &json!("fourth")));
    assert!(outcomes[1]["error"]["message"].as_str().unwrap().contains("agent"), "{outcomes}");
    let again = dixa.call_with("POST", &path, &[("idempotency-key", "k")], body.to_string()).await;
    assert_eq!((again.status, &again.text), (200, &reply.text));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let listed = dixa.data(&format!("/conversations/{number}/notes")).await;
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(|note| (&note["message"], &note["id"])).collect();
    assert_eq!(listed, [(&json!("fourth"), &outcomes[3]["data"]["id"]), (&json!("first"), &outcomes[0]["data"]["id"])]);
    assert_eq!(dixa.post(&path, &json!({"data": []})).await.json(), json!({"data": []}));
    let said = dixa.refused("POST", &path, &json!({"data": vec![json!({"message": "x"}); 1_001]}), 400).await;
    assert!(said.contains("1001") && said.contains("1000"), "{said}");
    for body in [json!([]), json!({}), json!({"data": {}}), json!({"data": [{}]}), json!({"data": [{"message": 1}]})] {
        dixa.refused("POST", &path, &body, 400).await;
    }
}
