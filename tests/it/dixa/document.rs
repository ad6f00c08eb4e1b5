//! The document says what is served.

use serde_json::{Value, json};
use tieline::dialect::dixa::openapi;

fn document() -> Value {
    serde_json::from_str(&openapi().to_json().unwrap()).unwrap()
}

#[test]
fn each_operation_says_how_it_answers_and_how_it_refuses() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let mut operations = Vec::new();
    for (path, item) in paths {
        assert!(path.starts_with("/v1/"), "{path}");
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            let responses = operation["responses"].as_object().unwrap();
            for status in ["400", "401", "429", "500", "503"] {
                assert!(responses.contains_key(status), "{name} may answer {status}");
                let body = &responses[status]["content"]["application/json"]["schema"];
                assert_eq!(body, &json!({"$ref": "#/components/schemas/Error"}), "{name}: {status}");
            }
            assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
            assert_eq!(
                responses.contains_key("404"),
                path.contains('{') || *path == "/v1/conversations" || path.ends_with("/import"),
                "{name}"
            );
            assert_eq!(method == "get", !responses.contains_key("409"), "{name}");
            assert!(operation["summary"].as_str().is_some_and(|said| !said.is_empty()), "{name}");
            operations.push(name);
        }
    }
    operations.sort();
    for expected in [
        "delete /v1/conversations/{conversationId}/tags/{tagId}",
        "delete /v1/tags/{tagId}",
        "get /v1/agents",
        "get /v1/agents/{agentId}",
        "get /v1/anonymization/request/{requestId}",
        "get /v1/contact-endpoints",
        "get /v1/conversations/activitylog",
        "get /v1/conversations/flows",
        "get /v1/conversations/{conversationId}/activitylog",
        "get /v1/conversations/{conversationId}/rating",
        "get /v1/conversations/{conversationId}/ratings",
        "get /v1/conversations/{conversationId}/tags",
        "get /v1/custom-attributes",
        "get /v1/endusers",
        "get /v1/endusers/{userId}",
        "get /v1/endusers/{userId}/conversations",
        "get /v1/organization",
        "get /v1/queues",
        "get /v1/queues/{queueId}",
        "get /v1/search/conversations",
        "get /v1/tags",
        "get /v1/tags/{tagId}",
        "patch /v1/conversations/{conversationId}/anonymize",
        "patch /v1/conversations/{conversationId}/custom-attributes",
        "patch /v1/conversations/{conversationId}/messages/{messageId}/anonymize",
        "patch /v1/endusers/bulk",
        "patch /v1/endusers/{userId}",
        "patch /v1/tags/{tagId}/activate",
        "patch /v1/tags/{tagId}/deactivate",
        "post /v1/conversations/{conversationId}/ratings/offer",
        "post /v1/conversations/{conversationId}/ratings/{ratingId}/submit",
        "post /v1/endusers",
        "post /v1/endusers/bulk",
        "post /v1/search/conversations",
        "post /v1/tags",
        "put /v1/conversations/{conversationId}/tags/{tagId}",
        "put /v1/endusers",
        "put /v1/endusers/bulk",
        "put /v1/endusers/{userId}",
        "get /v1/conversations/{conversationId}",
        "get /v1/conversations/{conversationId}/linked",
        "get /v1/conversations/{conversationId}/messages",
        "get /v1/conversations/{conversationId}/notes",
        "post /v1/conversations",
        "post /v1/conversations/import",
        "post /v1/conversations/{conversationId}/messages",
        "post /v1/conversations/{conversationId}/notes",
        "post /v1/conversations/{conversationId}/notes/bulk",
        "put /v1/conversations/{conversationId}/claim",
        "put /v1/conversations/{conversationId}/close",
        "put /v1/conversations/{conversationId}/link",
        "put /v1/conversations/{conversationId}/reopen",
        "put /v1/conversations/{conversationId}/transfer/queue",
    ] {
        assert!(operations.iter().any(|operation| operation == expected), "{expected} is not served: {operations:?}");
    }
}

#[test]
fn every_schema_that_is_named_is_there() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    let named: Vec<&str> = text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(named.len() > 30, "{}", named.len());
    for name in named {
        assert!(schemas.contains_key(name), "{name}");
    }
    // Members are called as they are sent.
    fn members<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        if let Some(properties) = value["properties"].as_object() {
            found.extend(properties.keys().map(String::as_str));
        }
        match value {
            Value::Object(parts) => parts.values().for_each(|part| members(part, found)),
            Value::Array(parts) => parts.iter().for_each(|part| members(part, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    members(&document["components"]["schemas"], &mut found);
    assert!(found.contains(&"messageId") && found.len() > 200, "{}", found.len());
    found.retain(|name| *name != "_type" && name.contains('_'));
    assert_eq!(found, Vec::<&str>::new());
    assert_eq!(document["security"], json!([{"ApiKeyAuth": []}]));
    let bodies = ["Conversation", "Message", "Content"].map(|name| &schemas[name]);
    for body in bodies {
        assert!(body["oneOf"].is_array() || body["properties"].is_object(), "{body}");
    }
}
