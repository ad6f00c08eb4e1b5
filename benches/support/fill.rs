//! A store with a past.

use super::{ACCOUNT, APP};
use serde_json::json;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use tieline::domain::{Actor, Command, FieldChange, Policy, Ttr, decide};
use tieline::store::sqlite::SqliteStore;
use tieline::store::{Decision, Store};
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{AccountId, ClientId, ConsumerId, ConversationId};

/// Conversations of one consumer.
const EACH: usize = 10;

/// Puts closed conversations into the store of a data folder.
pub async fn fill(folder: &Path, count: usize) {
    let store = SqliteStore::open(folder, tieline::wall_clock(), Box::new(|_| {})).unwrap();
    let account = AccountId::from(ACCOUNT);
    let mut waiting = VecDeque::new();
    for number in 0..count {
        let id = ConversationId::from(uuid::Uuid::new_v4().to_string());
        let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": super::publish_text(&format!("{number}-"))});
        let open = Command::Open {
            conversation: id.clone(),
            consumer: None,
            queue: "-1".into(),
            ttr: Ttr { kind: "NORMAL".into(), seconds: 3600 },
            context: None,
            campaign: None,
            features: Vec::new(),
            binding: None,
            origin: None,
        };
        let publish = Command::Publish {
            dialog: id.main_dialog(),
            conversation: id.clone(),
            class: EventClass::Content,
            event: serde_json::value::to_raw_value(&event).unwrap(),
            metadata: None,
            encoded_metadata: None,
            client: None,
            file: None,
            whisper: false,
        };
        let commands = Arc::new([open, publish, Command::Update { conversation: id, changes: vec![FieldChange::Close] }]);
        let consumer = ConsumerId::from(format!("{:064x}", number / EACH));
        let actor = Actor::Consumer { account: account.clone(), id: consumer, app: Some(ClientId::from(APP)), was: None };
        waiting.push_back(store.decide(Decision {
            account: account.clone(),
            received: (tieline::wall_clock())(),
            scope: commands.iter().flat_map(|command| command.scope(&actor)).collect(),
            retry: None,
            resend: None,
            rule: Box::new(move |draft| decide(&actor, commands.as_slice(), &Policy::default(), draft)),
        }));
        if waiting.len() >= 4_096 {
            waiting.pop_front().unwrap().await.unwrap().unwrap();
        }
    }
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    store.close().await;
}
