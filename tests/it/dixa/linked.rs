//! Conversations that belong to others (row 25, and what makes it say something).

use super::{Dixa, People, chat, people, start};
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_linked_is_listed_under_what_it_belongs_to() {
    let (_server, dixa) = start().await;
    let People { ann, .. } = people(&dixa).await;
    let mut numbers = Vec::new();
    for text in ["one", "two", "three", "four"] {
        numbers.push(dixa.begin(&chat(&ann, text)).await);
    }
    let [parent, side, related, other] = numbers.try_into().unwrap();
    let linked = async |number: i64| dixa.data(&format!("/conversations/{number}/linked")).await;
    assert_eq!(linked(parent).await, json!([]));
    let link = |number: i64| format!("/conversations/{number}/link");
    let joins = |kind: &str| json!({"parentId": parent, "linkType": kind});
    assert_eq!(dixa.put(&link(side), &joins("SideConversation")).await.status, 204);
    assert_eq!(dixa.put(&link(side), &joins("SideConversation")).await.status, 204, "it is so already");
    assert_eq!(dixa.put(&link(related), &joins("Related")).await.status, 204);
    let children = linked(parent).await;
    let told: Vec<_> = children.as_array().unwrap().iter().map(|child| (&child["id"], &child["link"])).collect();
    let of = |kind: &str| json!({"parentId": parent, "_type": kind});
    assert_eq!(told, [(&json!(side), &of("SideConversation")), (&json!(related), &of("FollowUp"))]);
    assert_eq!(children[0], dixa.conversation(side).await);
    // One parent, two levels, and not itself.
    dixa.refused("PUT", &link(side), &json!({"parentId": other, "linkType": "Related"}), 409).await;
    dixa.refused("PUT", &link(other), &json!({"parentId": side, "linkType": "Related"}), 409).await;
    dixa.refused("PUT", &link(parent), &json!({"parentId": other, "linkType": "Related"}), 409).await;
    dixa.refused("PUT", &link(other), &json!({"parentId": other, "linkType": "Related"}), 400).await;
    dixa.refused("PUT", &link(other), &json!({"parentId": parent, "linkType": "EmailForward"}), 400).await;
    dixa.refused("PUT", &link(other), &json!({"parentId": "1", "linkType": "Related"}), 400).await;
    dixa.refused("PUT", &link(other), &json!({"parentId": 999, "linkType": "Related"}), 404).await;
    dixa.refused("PUT", &link(999), &joins("Related"), 404).await;
    dixa.refused("PUT", "/conversations/x/link", &joins("Related"), 400).await;
    dixa.refused("GET", "/conversations/999/linked", &Value::Null, 404).await;
    dixa.refused("GET", "/conversations/x/linked", &Value::Null, 400).await;
    Dixa::with(&dixa.api, "agent-key").refused("PUT", &link(other), &joins("Related"), 401).await;
}
