//! Commands as tests of several modules give them.

use super::{Command, Ttr};
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::ConversationId;

/// Opens a conversation in the queue of all.
pub(crate) fn open(id: &str) -> Command {
    let ttr = Ttr { kind: "NORMAL".into(), seconds: 3600 };
    Command::Open {
        conversation: id.into(),
        consumer: None,
        queue: "-1".into(),
        ttr,
        context: None,
        campaign: None,
        features: Vec::new(),
        binding: None,
        origin: None,
    }
}

/// Writes a text into its main dialog.
pub(crate) fn publish(id: &str, text: &str) -> Command {
    let event = serde_json::value::to_raw_value(&serde_json::json!({"type": "ContentEvent", "message": text})).unwrap();
    let conversation = ConversationId::from(id);
    let dialog = conversation.main_dialog();
    Command::Publish {
        conversation,
        dialog,
        class: EventClass::Content,
        event,
        metadata: None,
        encoded_metadata: None,
        client: None,
        file: None,
        whisper: false,
    }
}
