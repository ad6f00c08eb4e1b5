//! Ratings (rows 17 to 20).

use super::{Dixa, NOBODY, People, chat, open, people, start};
use crate::support::*;
use serde_json::{Value, json};

#[tokio::test]
async fn a_rating_is_offered_submitted_and_listed() {
    let (_server, dixa) = start().await;
    let People { ada, ann, .. } = people(&dixa).await;
    let number = dixa.begin(&chat(&ann, "hello")).await;
    let path = format!("/conversations/{number}/ratings");
    assert_eq!(dixa.data(&path).await, json!([]));
    let offer = json!({"userId": ann, "agentId": ada, "ratingType": "Csat", "offeredAt": "2024-05-06T07:08:09Z[GMT]"});
    let offered = dixa.made("POST", &format!("{path}/offer"), &offer, 201).await;
    let id = offered["id"].as_str().unwrap().to_owned();
    let at = "2024-05-06T07:08:09.000Z";
    assert_eq!(offered, json!({"id": id, "userId": ann, "agentId": ada, "ratingType": "Csat", "offeredAt": at}));
    let waiting = json!({"id": id, "ratingType": "Csat", "conversationChannel": "WidgetChat", "agentId": ada, "userId": ann,
        "ratingStatus": "Offered", "timestamps": {"offered_at": at}});
    assert_eq!(dixa.data(&path).await, json!([waiting]));
    let submit = format!("{path}/{id}/submit");
    let said = |value: i64| json!({"userId": ann, "ratingResult": {"value": value, "_type": "Csat"}, "comment": "quick"});
    for body in [
        said(0),
        said(6),
        said(-1),
        json!({"userId": ann, "ratingResult": {"value": 4.5, "_type": "Csat"}}),
        json!({"userId": ann, "ratingResult": {"value": 1, "_type": "ThumbsUpOrDown"}}),
        json!({"userId": ann, "ratingResult": {"value": 1, "_type": "Stars"}}),
        json!({"userId": ann, "ratingResult": {"value": 4}}),
        json!({"userId": ann}),
        json!({"userId": ada, "ratingResult": {"value": 4, "_type": "Csat"}}),
        json!({"ratingResult": {"value": 4, "_type": "Csat"}}),
        json!({"userId": ann, "ratingResult": {"value": 4, "_type": "Csat"}, "comment": "x".repeat(4_001)}),
        json!({"userId": ann, "ratingResult": {"value": 4, "_type": "Csat"}, "submittedAt": "9999-01-01T00:00:00Z"}),
    ] {
        dixa.refused("POST", &submit, &body, 400).await;
    }
    dixa.refused("POST", &format!("{path}/none/submit"), &said(4), 400).await;
    dixa.refused("POST", &format!("/conversations/999/ratings/{id}/submit"), &said(4), 404).await;
    assert_eq!(dixa.data(&path).await, json!([waiting]), "what is refused leaves nothing behind");
    let submitted = dixa.made("POST", &submit, &said(4), 201).await;
    let rated = submitted["submittedAt"].clone();
    let result = json!({"value": 4, "_type": "Csat"});
    assert_eq!(submitted, json!({"ratingId": id, "userId": ann, "ratingResult": result, "comment": "quick", "submittedAt": rated}));
    let expected = json!([{"id": id, "ratingScore": 4, "ratingType": "Csat", "ratingComment": "quick",
        "conversationChannel": "WidgetChat", "agentId": ada, "userId": ann, "ratingStatus": "Rated",
        "timestamps": {"offered_at": at, "rated_at": rated}}]);
    assert_eq!(dixa.data(&path).await, expected);
    assert_eq!(dixa.data(&format!("/conversations/{number}/rating")).await, expected, "by its older name");
    // The same once more says nothing new; another does not count.
    assert_eq!(dixa.made("POST", &submit, &said(4), 201).await, submitted);
    dixa.refused("POST", &submit, &said(5), 409).await;
    assert_eq!(dixa.data(&path).await, expected);
}

#[tokio::test]
async fn every_scale_has_its_ends_and_an_offer_its_defaults() {
    let (_server, dixa) = start().await;
    let People { ada, ann, .. } = people(&dixa).await;
    let number = dixa.begin(&chat(&ann, "hello")).await;
    let path = format!("/conversations/{number}/ratings");
    assert_eq!(dixa.put(&format!("/conversations/{number}/claim"), &json!({"agentId": ada})).await.status, 204);
    for (kind, least, most) in [("Csat", 1, 5), ("ThumbsUpOrDown", 0, 1), ("Nps", 0, 10)] {
        for value in [least, most] {
            let offered = dixa.made("POST", &format!("{path}/offer"), &json!({"ratingType": kind}), 201).await;
            assert_eq!((&offered["agentId"], &offered["userId"]), (&json!(ada), &json!(ann)), "whose it is");
            let submit = format!("{path}/{}/submit", offered["id"].as_str().unwrap());
            let said = |value: i64| json!({"userId": ann, "ratingResult": {"value": value, "_type": kind}});
            dixa.refused("POST", &submit, &said(least - 1), 400).await;
            dixa.refused("POST", &submit, &said(most + 1), 400).await;
            let submitted = dixa.made("POST", &submit, &said(value), 201).await;
            assert_eq!(submitted["ratingResult"], json!({"value": value, "_type": kind}));
        }
    }
    assert_eq!(dixa.data(&path).await.as_array().unwrap().len(), 6);
    let offer = format!("{path}/offer");
    for (body, status) in [
        (json!({"userId": ann, "agentId": ada}), 400),
        (json!({"userId": ann, "agentId": ada, "ratingType": "Stars"}), 400),
        (json!({"userId": ada, "agentId": ada, "ratingType": "Csat"}), 400),
        (json!({"userId": NOBODY, "agentId": ada, "ratingType": "Csat"}), 400),
        (json!({"userId": ann, "agentId": NOBODY, "ratingType": "Csat"}), 400),
        (json!({"userId": ann, "agentId": ann, "ratingType": "Csat"}), 400),
        (json!({"userId": "ann", "agentId": ada, "ratingType": "Csat"}), 400),
        (json!({"userId": ann, "agentId": ada, "ratingType": "Csat", "offeredAt": "yesterday"}), 400),
        (json!({"userId": ann, "agentId": ada, "ratingType": "Csat", "offeredAt": "9999-01-01T00:00:00Z"}), 400),
    ] {
        dixa.refused("POST", &offer, &body, status).await;
    }
    dixa.refused("POST", "/conversations/999/ratings/offer", &json!({"ratingType": "Csat"}), 404).await;
    dixa.refused("POST", "/conversations/x/ratings/offer", &json!({"ratingType": "Csat"}), 400).await;
    for list in ["rating", "ratings"] {
        dixa.refused("GET", &format!("/conversations/999/{list}"), &Value::Null, 404).await;
        dixa.refused("GET", &format!("/conversations/x/{list}"), &Value::Null, 400).await;
    }
    let other = Dixa::with(&dixa.api, "agent-key");
    assert_eq!(other.made("POST", &offer, &json!({"ratingType": "Nps"}), 201).await["agentId"], ada.as_str(), "ada has it");
    // A repeat with its key is one offer.
    let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
    let body = json!({"ratingType": "Nps"}).to_string();
    let first = dixa.call_with("POST", &offer, &headers, body.clone()).await.json();
    assert_eq!(dixa.call_with("POST", &offer, &headers, body).await.json(), first);
    assert_eq!(dixa.data(&path).await.as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn what_a_consumer_says_on_the_native_surface_is_a_rating_too() {
    let (_server, dixa) = start().await;
    let People { speaker, ann, .. } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "-1", "hello").await;
    let path = format!("/conversations/{number}/ratings");
    let rate = change("1", &id, json!([{"field": "CSATRate", "csatRate": 3, "status": "FILLED"}]));
    let rated = speaker.post(SEND, rate.to_string()).await;
    assert_eq!(rated.status, 200, "{}", rated.text);
    let listed = dixa.data(&path).await;
    let native = &listed[0];
    let expected = json!({"id": native["id"], "ratingScore": 3, "ratingType": "Csat", "conversationChannel": "Messenger", "userId": ann,
        "ratingStatus": "Rated", "timestamps": {"rated_at": native["timestamps"]["rated_at"]}});
    assert_eq!(listed, json!([expected]));
    assert!(native["timestamps"]["rated_at"].is_string());
    assert_eq!(dixa.data(&path).await, listed, "it is always the same");
    // What it is asked for and says is no second one of the same.
    let offered = dixa.made("POST", &format!("{path}/offer"), &json!({"ratingType": "Csat"}), 201).await;
    let submit = format!("{path}/{}/submit", offered["id"].as_str().unwrap());
    dixa.made("POST", &submit, &json!({"userId": ann, "ratingResult": {"value": 5, "_type": "Csat"}}), 201).await;
    let listed = dixa.data(&path).await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["ratingScore"]), (1, &json!(5)));
}
