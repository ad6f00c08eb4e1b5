//! End users: made and changed here, and the same people as on the native surface.

use super::{Dixa, NOBODY, People, chat, open, people, start};
use crate::support::*;
use serde_json::{Value, json};

#[tokio::test]
async fn an_end_user_is_made_found_and_changed_and_native_agents_see_the_same_person() {
    let (server, dixa) = start().await;
    let People { ann, ada, .. } = people(&dixa).await;
    let given = json!({"displayName": "Bob B.", "email": "Bob@home.example", "phoneNumber": "+4511111111", "firstName": "Bob",
        "lastName": "Bobson", "middleNames": ["B."], "avatarUrl": "https://home.example/b.png", "additionalEmails": ["b@work.example"],
        "additionalPhoneNumbers": ["+4522222222"], "externalId": "crm-7"});
    let made = dixa.made("POST", "/endusers", &given, 201).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let mut expected = given.clone();
    (expected["id"], expected["createdAt"]) = (json!(id), made["createdAt"].clone());
    assert_eq!(made, expected);
    let created = made["createdAt"].as_str().unwrap();
    assert!(created > "2026" && created.ends_with('Z'), "{created}");
    let path = format!("/endusers/{id}");
    assert_eq!(dixa.data(&path).await, made);
    for query in ["email=bob@HOME.example", "phone=%2B4511111111", "externalId=crm-7", "externalId=crm-7&email=bob@home.example"] {
        assert_eq!(dixa.data(&format!("/endusers?{query}")).await, json!([made]), "{query}");
    }
    for query in ["email=b@work.example", "phone=%2B4522222222", "externalId=crm", "externalId=crm-7&email=ann@home.example"] {
        assert_eq!(dixa.data(&format!("/endusers?{query}")).await, json!([]), "{query}");
    }
    let refused = dixa.refused("POST", "/endusers", &json!({"externalId": "crm-7"}), 400).await;
    assert!(refused.contains("crm-7"), "{refused}");
    // One that a connector knows is there, too, and by its name.
    let known = dixa.data(&format!("/endusers/{ann}")).await;
    assert_eq!((&known["displayName"], &known["email"], &known["externalId"]), (&json!("Ann"), &json!("ann@home.example"), &json!("ann")));
    dixa.refused("POST", "/endusers", &json!({"externalId": "ann"}), 400).await;
    // A conversation of the new one, and its profile on an agent's socket.
    let number = dixa.begin(&chat(&id, "hello")).await;
    assert_eq!(dixa.conversation(number).await["requesterId"], id.as_str());
    let mut socket = server.api().agent("grace", "2").await;
    let subscribed = socket.ask(&request("s", "cqm.SubscribeExConversations", json!({"brandId": ACCOUNT, "convState": ["OPEN"]}))).await;
    assert_eq!(subscribed["code"], 200);
    let listed = socket.first(|frame| frame.to_string().contains("hello")).await;
    let details = listed["body"]["changes"].as_array().unwrap().iter().map(|change| &change["result"]["conversationDetails"]);
    let consumers: Vec<String> = details
        .flat_map(|details| details["participants"]["CONSUMER"].as_array().cloned().unwrap_or_default())
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    let mut profiles = Vec::new();
    for (place, consumer) in consumers.iter().enumerate() {
        let asked = request(&format!("p{place}"), "userprofile.GetUserProfile", json!({"userId": consumer}));
        profiles.push(socket.ask(&asked).await["body"].clone());
    }
    let bob = profiles.iter().find(|profile| profile["nickName"] == "Bob B.").unwrap_or_else(|| panic!("{profiles:?}"));
    assert_eq!((&bob["firstName"], &bob["privateData"]["mail"]), (&json!("Bob"), &json!("Bob@home.example")));
    // Some of it changes, then all of it.
    let patched = dixa.made("PATCH", &path, &json!({"displayName": "Robert", "email": null, "lastName": null, "unknown": 7}), 200).await;
    expected["displayName"] = json!("Robert");
    for gone in ["email", "lastName"] {
        expected.as_object_mut().unwrap().remove(gone);
    }
    assert_eq!(patched, expected);
    assert_eq!(dixa.data("/endusers?email=bob@home.example").await, json!([]));
    let put = dixa.made("PUT", &path, &json!({"firstName": "Rob"}), 200).await;
    let expected = json!({"id": id, "createdAt": created, "displayName": "Rob", "firstName": "Rob", "externalId": "crm-7",
        "middleNames": [], "additionalEmails": [], "additionalPhoneNumbers": []});
    assert_eq!(put, expected);
    for method in ["PUT", "PATCH"] {
        for (body, status) in [
            (json!({"email": "nobody"}), 400),
            (json!({"phoneNumber": "call me"}), 400),
            (json!({"displayName": 7}), 400),
            (json!({"externalId": "crm-8"}), 400),
            (json!({"middleNames": vec!["x"; 21]}), 400),
        ] {
            dixa.refused(method, &path, &body, status).await;
        }
        dixa.refused(method, &format!("/endusers/{NOBODY}"), &json!({}), 404).await;
        dixa.refused(method, "/endusers/bob", &json!({}), 400).await;
        Dixa::with(&dixa.api, "agent-key").refused(method, &path, &json!({"firstName": "x"}), 404).await;
    }
    assert_eq!(dixa.made("PATCH", &path, &json!({"externalId": "crm-7"}), 200).await, expected);
    // An agent knows with whom it has to do, and changes nobody.
    let agents = Dixa::with(&dixa.api, "agent-key");
    assert_eq!(agents.data("/endusers?externalId=crm-7").await, json!([]));
    agents.refused("GET", "/endusers", &Value::Null, 401).await;
    agents.refused("GET", &path, &Value::Null, 404).await;
    assert_eq!(dixa.put(&format!("/conversations/{number}/claim"), &json!({"agentId": ada})).await.status, 204);
    assert_eq!(agents.data("/endusers?externalId=crm-7").await, json!([expected]));
    assert_eq!(agents.data(&path).await, expected);
    agents.refused("PATCH", &path, &json!({"firstName": "x"}), 401).await;
    Dixa::with(&dixa.api, "agent-key").refused("POST", "/endusers", &json!({"externalId": "new"}), 401).await;
    assert_eq!(dixa.data("/endusers?externalId=new").await, json!([]), "what is refused leaves nobody behind");
    for (path, status) in [(format!("/endusers/{NOBODY}"), 404), ("/endusers/ann".to_owned(), 400), ("/endusers?pageKey=x".to_owned(), 400)]
    {
        dixa.refused("GET", &path, &Value::Null, status).await;
    }
    // All of it holds over a restart.
    let server = server.restart().await;
    assert_eq!(Dixa::with(&server.api(), "account-key").data(&path).await, expected);
}

#[tokio::test]
async fn several_are_made_and_changed_at_once_each_with_its_outcome() {
    let (_server, dixa) = start().await;
    let several = json!({"data": [{"displayName": "One"}, {"email": "nobody"}, {"displayName": "Two", "externalId": "two"}]});
    let outcomes = dixa.made("POST", "/endusers/bulk", &several, 200).await;
    let kinds: Vec<&Value> = outcomes.as_array().unwrap().iter().map(|outcome| &outcome["_type"]).collect();
    assert_eq!(kinds, ["BulkActionSuccess", "BulkActionFailure", "BulkActionSuccess"]);
    assert!(outcomes[1]["error"]["message"].as_str().unwrap().contains("email"), "{outcomes}");
    let (one, two) = (outcomes[0]["data"]["id"].clone(), outcomes[2]["data"]["id"].clone());
    assert_eq!(dixa.data("/endusers").await.as_array().unwrap().len(), 2);
    let changes = json!({"data": [{"id": one, "firstName": "O."}, {"id": NOBODY, "firstName": "N."}, {"id": two, "externalId": "three"}]});
    for (method, path, name) in [("PATCH", "/endusers/bulk", "One"), ("PUT", "/endusers/bulk", "O."), ("PUT", "/endusers", "O.")] {
        let outcomes = dixa.made(method, path, &changes, 200).await;
        let kinds: Vec<&Value> = outcomes.as_array().unwrap().iter().map(|outcome| &outcome["_type"]).collect();
        assert_eq!(kinds, ["BulkActionSuccess", "BulkActionFailure", "BulkActionFailure"], "{method} {path}");
        assert_eq!((&outcomes[0]["data"]["firstName"], &outcomes[0]["data"]["displayName"]), (&json!("O."), &json!(name)));
    }
    let many = json!({"data": vec![json!({"id": one}); 1_001]});
    for (body, why) in [(json!([]), ""), (json!({"data": [{"id": "x"}]}), ""), (many, "1000")] {
        let said = dixa.refused("PUT", "/endusers/bulk", &body, 400).await;
        assert!(said.contains(why), "{said}");
    }
    dixa.refused("POST", "/endusers/bulk", &json!({}), 400).await;
    dixa.refused("POST", "/endusers/bulk", &json!({"data": [{"displayName": 7}]}), 400).await;
}

#[tokio::test]
async fn end_users_and_their_conversations_are_listed_in_pages() {
    let (_server, dixa) = start().await;
    let People { ann, speaker, .. } = people(&dixa).await;
    let mut expected = vec![ann.clone()];
    for number in 0..6 {
        expected
            .push(dixa.made("POST", "/endusers", &json!({"displayName": format!("U{number}")}), 201).await["id"].as_str().unwrap().into());
    }
    expected.sort();
    for limit in [1, 3, 7, 50] {
        let (mut seen, mut path) = (Vec::new(), format!("/endusers?pageLimit={limit}"));
        loop {
            let page = dixa.get(&path).await.json();
            let data = page["data"].as_array().unwrap_or_else(|| panic!("{page}")).clone();
            assert!(!data.is_empty() && data.len() <= limit);
            seen.extend(data.iter().map(|user| user["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["meta"]["next"].as_str() else { break };
            path = next.strip_prefix("/v1").unwrap().to_owned();
        }
        seen.sort();
        assert_eq!(seen, expected, "{limit}");
    }
    let mut numbers = vec![1];
    for text in ["one", "two", "three"] {
        numbers.push(open(&dixa, &speaker, "-1", text).await.1);
    }
    dixa.begin(&chat(&expected[if expected[0] == ann { 1 } else { 0 }], "another's")).await;
    let (mut seen, mut path) = (Vec::new(), format!("/endusers/{ann}/conversations?pageLimit=2"));
    loop {
        let page = dixa.get(&path).await.json();
        for shown in page["data"].as_array().unwrap_or_else(|| panic!("{page}")) {
            let number = shown["id"].as_i64().unwrap();
            assert_eq!(*shown, dixa.conversation(number).await);
            seen.push(number);
        }
        let Some(next) = page["meta"]["next"].as_str() else { break };
        path = next.strip_prefix("/v1").unwrap().to_owned();
    }
    assert_eq!(seen, numbers);
    dixa.refused("GET", &format!("/endusers/{NOBODY}/conversations"), &Value::Null, 404).await;
    dixa.refused("GET", &format!("/endusers/{ann}/conversations?pageLimit=0"), &Value::Null, 400).await;
    // A repeat with its key is one person.
    let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
    let body = json!({"displayName": "Once"}).to_string();
    let first = dixa.call_with("POST", "/endusers", &headers, body.clone()).await;
    let again = dixa.call_with("POST", "/endusers", &headers, body).await;
    assert_eq!((first.status, again.status, &first.json()), (201, 201, &again.json()));
    assert_eq!(dixa.data("/endusers").await.as_array().unwrap().len(), 8);
}
