//! What activities say: read and checked as the vendor has it, in words for those who know nothing of its kinds of messages, and made
//! of what is said elsewhere.
//!
//! Each message is written down as a text that everybody can read. What that leaves out stands beside it in its metadata, so that
//! whoever reads it by this dialect gets back what was sent.

use super::error::Code;
use super::json::{Object, Problems};
use super::object::Scene;
use crate::dialect::rich;
use crate::domain::Message;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use serde_with::skip_serializing_none;
use tieline_protocol::event::EventClass;

/// Names of members of messages and events, as they are written.
const NAMES: [&str; 34] = [
    "type",
    "text",
    "items",
    "actions",
    "url",
    "label",
    "mimeType",
    "size",
    "length",
    "fallbackImageUrl",
    "urlAnchor",
    "alt",
    "title",
    "titleColor",
    "address",
    "latitude",
    "longitude",
    "imageUrl",
    "subtitle",
    "properties",
    "key",
    "value",
    "urlType",
    "content",
    "channels",
    "metadata",
    "payload",
    "payloadType",
    "urlIcon",
    "urlImage",
    "isDefault",
    "channelData",
    "command",
    "parameters",
];

/// The kinds of messages.
const KINDS: [&str; 12] =
    ["text", "youtube", "vimeo", "video", "audio", "image", "attachment", "location", "contact", "card", "carousel", "list"];

/// The same value with members named as the vendor writes them, and without nulls. What is in a payload is its sender's own.
pub(super) fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(members.iter().filter(|(_, value)| !value.is_null()).map(member).collect()),
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

fn member((name, value): (&String, &Value)) -> (String, Value) {
    let known = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name)).map_or_else(|| name.clone(), str::to_owned);
    let value = if known == "payload" { value.clone() } else { canonical(value) };
    (known, value)
}

/// Whether the writer is a customer or of the brand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Customer,
    Brand,
}

/// Reads a message, and notes what is wrong with it.
pub(super) fn read(message: &Value, writer: Writer, problems: &mut Problems) -> Value {
    let mut message = canonical(message);
    check(&mut message, (&Place { at: "message".into(), depth: 1 }, writer), problems);
    message
}

/// How deep messages lie in each other at most.
const DEEPEST: usize = 8;

/// Where something stands in a message.
struct Place {
    /// As it is called in what is said of it.
    at: String,
    /// In how many messages it lies, itself included.
    depth: usize,
}

impl Place {
    fn of(&self, list: &str) -> Self {
        Self { at: format!("{}.{list}", self.at), depth: self.depth + 1 }
    }
}

/// Checks a message, the kind of which is written as the vendor does from then on.
fn check(message: &mut Value, (place, writer): (&Place, Writer), problems: &mut Problems) {
    let at = &place.at;
    let Value::Object(members) = message else {
        problems.add(Code::ActivityUnsupported, format!("Property '{at}' must be an object."));
        return;
    };
    let Some(kind) = members.get("type").and_then(Value::as_str).map(str::to_lowercase) else {
        problems.add(Code::ActivityMissing, format!("Property '{at}.type' is required."));
        return;
    };
    let is_brands = matches!(kind.as_str(), "carousel" | "list");
    if !KINDS.contains(&kind.as_str()) || (is_brands && writer == Writer::Customer) {
        let who = if is_brands { " of a customer" } else { "" };
        problems.add(Code::ActivityUnsupported, format!("A message{who} cannot be of the type {kind:?}; there are {}.", KINDS.join(", ")));
        return;
    }
    members.insert("type".into(), kind.as_str().into());
    let mut checking = Checking { members, place, problems };
    match kind.as_str() {
        "text" => checking.text(writer),
        "youtube" | "vimeo" | "video" | "audio" | "image" => checking.texts(&["url"]),
        "attachment" => checking.texts(&["label", "mimeType", "url"]),
        "contact" => checking.texts(&["title"]),
        "location" => checking.location(),
        "card" => checking.card(),
        _ => checking.items(),
    }
    checking.actions();
}

/// Members of a message that are being checked.
struct Checking<'c> {
    members: &'c mut Map<String, Value>,
    place: &'c Place,
    problems: &'c mut Problems,
}

impl Checking<'_> {
    fn missing(&mut self, name: &str) {
        self.problems.add(Code::ActivityMissing, format!("Property '{}.{name}' is required.", self.place.at));
    }

    fn has_text(&self, name: &str) -> bool {
        self.members.get(name).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty())
    }

    fn texts(&mut self, names: &[&str]) {
        for name in names {
            if !self.has_text(name) {
                self.missing(name);
            }
        }
    }

    /// Checks each object of a list, which must not be empty, if there is one.
    fn each(&mut self, name: &str, check: impl Fn(&mut Value, &Place, &mut Problems)) {
        let Some(list) = self.members.get_mut(name) else { return };
        let place = self.place.of(name);
        match list {
            Value::Array(items) if items.is_empty() => {
                self.problems.add(Code::EmptyCollection, format!("Collection '{}' is empty.", place.at));
            }
            Value::Array(items) if items.iter().all(Value::is_object) => {
                for item in items {
                    if self.problems.is_full() {
                        return;
                    }
                    check(item, &place, self.problems);
                }
            }
            _ => self.problems.add(Code::ActivityUnsupported, format!("Property '{}' must be a list of objects.", place.at)),
        }
    }

    fn text(&mut self, writer: Writer) {
        let is_odd = self.members.get("text").is_some_and(|text| !text.is_string());
        if is_odd {
            self.problems.add(Code::ActivityUnsupported, format!("Property '{}.text' must be a text.", self.place.at));
        } else if !self.has_text("text") && !self.members.contains_key("items") && !self.members.contains_key("actions") {
            self.problems.add(Code::EmptyMessage, format!("A text needs '{0}.text', '{0}.items' or '{0}.actions'.", self.place.at));
        }
        if self.place.depth == DEEPEST && self.members.contains_key("items") {
            self.problems.add(Code::ActivityUnsupported, format!("Messages lie in each other at most {DEEPEST} deep."));
            return;
        }
        self.each("items", |item, place, problems| check(item, (place, writer), problems));
    }

    fn location(&mut self) {
        let places = ["latitude", "longitude"].map(|name| self.members.get(name));
        if places.iter().flatten().any(|place| !place.is_number()) {
            self.problems.add(Code::NoDecimal, format!("Properties '{0}.latitude' and '{0}.longitude' must be numbers.", self.place.at));
        } else if !self.has_text("address") && places.iter().any(Option::is_none) {
            self.problems.add(Code::NoPlace, "A location needs an address, or latitude and longitude.");
        }
    }

    fn card(&mut self) {
        if self.has_text("url") && !self.has_text("urlType") {
            self.missing("urlType");
        }
        if !["url", "title", "subtitle", "content"].iter().any(|name| self.has_text(name)) {
            self.problems.add(Code::EmptyMessage, "A card needs a title, a subtitle, a content or a url.");
        }
    }

    fn items(&mut self) {
        if !self.members.contains_key("items") {
            self.missing("items");
        }
        self.each("items", |item, place, problems| {
            let Value::Object(members) = item else { return };
            let mut checking = Checking { members, place, problems };
            checking.card();
            checking.actions();
        });
    }

    fn actions(&mut self) {
        self.each("actions", |action, place, problems| {
            let Some(action) = Object::of(action) else { return };
            let needed = match action.text("type").map(str::to_lowercase).as_deref() {
                None => Some("type"),
                Some("link") => action.text("url").is_none().then_some("url"),
                Some("postback" | "reply") => action.get("payload").is_none().then_some("payload"),
                Some(other) => {
                    let why = format!("An action cannot be of the type {other:?}; there are link, postback, reply.");
                    problems.add(Code::ActivityUnsupported, why);
                    None
                }
            };
            if let Some(name) = needed {
                problems.add(Code::ActivityMissing, format!("Property '{}.{name}' is required.", place.at));
            }
        });
    }
}

/// A message in words, a line for each thing that it says.
pub(super) fn words(message: &Value) -> String {
    let mut lines = Vec::new();
    gather(message, &mut lines);
    lines.join("\n")
}

fn gather(message: &Value, lines: &mut Vec<String>) {
    let text = |name: &str| message[name].as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let names: &[&str] = match message["type"].as_str() {
        Some("text") => &["text"],
        Some("image") if text("title").is_none() => &["alt", "url"],
        Some("image") => &["title", "url"],
        Some("location") => &["address"],
        Some("contact") => &["title", "subtitle"],
        Some("youtube" | "vimeo" | "video" | "audio" | "attachment") => &["label", "url"],
        // A card, an item of a list, or an action.
        _ => &["title", "subtitle", "content", "url"],
    };
    lines.extend(names.iter().filter_map(|name| text(name)));
    if let (Some(latitude), Some(longitude)) = (message["latitude"].as_number(), message["longitude"].as_number()) {
        lines.push(format!("{latitude}, {longitude}"));
    }
    let properties = message["properties"].as_array().into_iter().flatten();
    lines.extend(properties.filter_map(|one| Some(format!("{}: {}", one["key"].as_str()?, plain(&one["value"])))));
    for list in ["items", "actions"] {
        message[list].as_array().into_iter().flatten().for_each(|item| gather(item, lines));
    }
}

/// A value as people write it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether a message is a text and nothing else, so that the text is all of it.
pub(super) fn is_plain(message: &Value) -> bool {
    message["type"] == "text" && message["text"].is_string() && message.as_object().is_some_and(|members| members.len() == 2)
}

/// What stands beside a text in its metadata.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Note {
    /// Its writer's own name for the activity.
    pub(super) external_id: Option<String>,
    /// The message.
    pub(super) message: Option<Value>,
    /// The event, if it is one.
    pub(super) event: Option<Value>,
}

/// Says whose note it is.
const MARK: &str = "hubster";

#[derive(Deserialize)]
struct Marked {
    #[serde(default)]
    r#type: String,
    #[serde(flatten)]
    note: Note,
}

impl Note {
    /// As metadata; nothing, if there is nothing to note.
    pub(super) fn metadata(&self) -> Option<Box<RawValue>> {
        if *self == Self::default() {
            return None;
        }
        let Ok(Value::Object(mut members)) = serde_json::to_value(self) else { return None };
        members.insert("type".into(), MARK.into());
        to_raw_value(&json!([members])).ok()
    }
}

/// What stands beside a message of the journal.
pub(super) fn note_of(message: &Message) -> Note {
    let read = |raw: &RawValue| serde_json::from_str::<Vec<Marked>>(raw.get()).ok();
    let all = message.metadata.as_deref().and_then(read).unwrap_or_default();
    let Note { external_id, message, event } = all.into_iter().find(|one| one.r#type == MARK).map(|one| one.note).unwrap_or_default();
    // Clients of other dialects may write any metadata; a message without a type is none to the vendor's client.
    let is_one = |value: &Value| value["type"].is_string();
    Note { external_id, message: message.filter(is_one), event: event.filter(is_one) }
}

/// What was said by another desk, as a message.
pub(super) fn from_event(scene: &Scene<'_>, message: &Message) -> Value {
    let said: Value = serde_json::from_str(message.event.get()).unwrap_or_default();
    if message.class == EventClass::Rich {
        return json!({"type": "text", "text": rich::words(&said["content"])});
    }
    match &message.file {
        Some(path) => file(scene, path, &said["message"]),
        None => json!({"type": "text", "text": plain(&said["message"])}),
    }
}

/// A file of ours, at an address that is good for a short time.
fn file(scene: &Scene<'_>, path: &str, shown: &Value) -> Value {
    let kind = shown["fileType"].as_str().unwrap_or_default().to_uppercase();
    let name = path.rsplit('/').next().unwrap_or_default();
    let label = shown["caption"].as_str().filter(|caption| !caption.trim().is_empty()).unwrap_or(name);
    let Ok(signed) = scene.files.download_url(path, scene.now) else {
        return json!({"type": "text", "text": label});
    };
    let url = format!("{}{}", scene.origin, signed.relative_url());
    let (kind, mime) = match kind.as_str() {
        "JPG" | "JPEG" | "PNG" | "GIF" => return json!({"type": "image", "url": url, "title": label}),
        "MP4" => ("video", "video/mp4"),
        "MP3" => ("audio", "audio/mpeg"),
        "PDF" => ("attachment", "application/pdf"),
        "TXT" => ("attachment", "text/plain"),
        _ => ("attachment", "application/octet-stream"),
    };
    json!({"type": kind, "label": label, "mimeType": mime, "url": url})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes of what is wrong with a message.
    fn codes(message: &Value, writer: Writer) -> Vec<u64> {
        let mut problems = Problems::default();
        read(message, writer, &mut problems);
        problems.codes()
    }

    #[test]
    fn members_are_named_as_the_vendor_names_them_and_payloads_are_left_alone() {
        let sent = json!({"Type": "text", "Text": "hi", "Items": null, "Own": {"MimeType": "x"}, "Actions": [
            {"Type": "postback", "Title": "Buy", "Payload": {"Url": 7, "Text": null}}]});
        let wanted = json!({"type": "text", "text": "hi", "Own": {"mimeType": "x"}, "actions": [
            {"type": "postback", "title": "Buy", "payload": {"Url": 7, "Text": null}}]});
        assert_eq!(canonical(&sent), wanted);
        assert_eq!(canonical(&canonical(&sent)), wanted);
    }

    #[test]
    fn each_type_has_what_it_must_have() {
        for (message, wrong) in [
            (json!({"type": "text", "text": "hi"}), vec![]),
            (json!({"type": "TEXT", "text": "hi"}), vec![]),
            (json!({"text": "hi"}), vec![5_001]),
            (json!({"type": "fax"}), vec![5_002]),
            (json!([]), vec![5_002]),
            (json!({"type": "text"}), vec![5_023]),
            (json!({"type": "text", "text": " "}), vec![5_023]),
            (json!({"type": "text", "text": 7}), vec![5_002]),
            (json!({"type": "text", "items": []}), vec![5_015]),
            (json!({"type": "text", "items": [{"type": "image"}, {"type": "text", "text": "a"}]}), vec![5_001]),
            (json!({"type": "text", "items": ["a"]}), vec![5_002]),
            (json!({"type": "text", "actions": [{"type": "link", "url": "https://a.example"}]}), vec![]),
            (
                json!({"type": "text", "actions": [{"type": "link"}, {"type": "reply"}, {"type": "jump"}, {}]}),
                vec![5_001, 5_001, 5_002, 5_001],
            ),
            (json!({"type": "youtube", "url": "https://a.example"}), vec![]),
            (json!({"type": "vimeo"}), vec![5_001]),
            (json!({"type": "video", "label": "x"}), vec![5_001]),
            (json!({"type": "audio", "url": "https://a.example", "mimeType": "audio/mpeg"}), vec![]),
            (json!({"type": "image", "url": ""}), vec![5_001]),
            (json!({"type": "attachment"}), vec![5_001, 5_001, 5_001]),
            (json!({"type": "attachment", "label": "Bill", "mimeType": "application/pdf", "url": "https://a.example"}), vec![]),
            (json!({"type": "location"}), vec![5_024]),
            (json!({"type": "location", "latitude": 1.5}), vec![5_024]),
            (json!({"type": "location", "latitude": "north", "longitude": 2}), vec![5_021]),
            (json!({"type": "location", "latitude": 1.5, "longitude": 2}), vec![]),
            (json!({"type": "location", "address": "1 Main Street"}), vec![]),
            (json!({"type": "contact", "subtitle": "x"}), vec![5_001]),
            (json!({"type": "contact", "title": "Ann", "properties": [{"key": "phone", "value": "1"}]}), vec![]),
            (json!({"type": "card", "url": "https://a.example"}), vec![5_001]),
            (json!({"type": "card"}), vec![5_023]),
            (json!({"type": "card", "title": "Shoes", "url": "https://a.example", "urlType": "image"}), vec![]),
        ] {
            assert_eq!(codes(&message, Writer::Customer), wrong, "{message}");
        }
        let list = json!({"type": "list", "items": [{"title": "One"}, {"title": "Two", "actions": [{"type": "reply", "payload": "2"}]}]});
        assert_eq!((codes(&list, Writer::Brand), codes(&list, Writer::Customer)), (vec![], vec![5_002]));
        assert_eq!(codes(&json!({"type": "carousel"}), Writer::Brand), vec![5_001]);
        assert_eq!(codes(&json!({"type": "carousel", "items": [{}]}), Writer::Brand), vec![5_023]);
    }

    #[test]
    fn of_many_things_that_are_wrong_some_are_said_and_messages_lie_in_each_other_so_deep() {
        let many = json!({"type": "text", "items": vec![json!({}); 10_000]});
        assert_eq!(codes(&many, Writer::Customer), vec![5_001; 20]);
        let actions = json!({"type": "text", "actions": vec![json!({}); 10_000]});
        assert_eq!(codes(&actions, Writer::Customer), vec![5_001; 20]);
        let nested =
            |depth: usize| (1..depth).fold(json!({"type": "text", "text": "a"}), |inner, _| json!({"type": "text", "items": [inner]}));
        assert_eq!((codes(&nested(DEEPEST), Writer::Brand), codes(&nested(DEEPEST + 1), Writer::Brand)), (vec![], vec![5_002]));
        // A kind is written as the vendor does, however deep.
        let mut problems = Problems::default();
        let message = read(&json!({"type": "TEXT", "items": [{"Type": "Text", "Text": "a"}]}), Writer::Brand, &mut problems);
        assert_eq!(message, json!({"type": "text", "items": [{"type": "text", "text": "a"}]}));
    }

    #[test]
    fn everybody_can_read_what_a_message_says() {
        for (message, said) in [
            (json!({"type": "text", "text": "hi"}), "hi"),
            (json!({"type": "image", "url": "https://a.example/i.png", "alt": "A shoe"}), "A shoe\nhttps://a.example/i.png"),
            (json!({"type": "attachment", "label": "Bill", "mimeType": "x", "url": "https://a.example"}), "Bill\nhttps://a.example"),
            (json!({"type": "location", "latitude": 1.5, "longitude": -2}), "1.5, -2"),
            (json!({"type": "contact", "title": "Ann", "properties": [{"key": "phone", "value": "1"}]}), "Ann\nphone: 1"),
            (
                json!({"type": "carousel", "items": [{"title": "One", "content": "Red"}, {"title": "Two", "actions": [{"type": "reply", "title": "Buy"}]}]}),
                "One\nRed\nTwo\nBuy",
            ),
        ] {
            assert_eq!(words(&message), said);
        }
    }

    #[test]
    fn what_is_noted_is_found_again() {
        let note = Note { external_id: Some("order-17".into()), message: Some(json!({"type": "image", "url": "u"})), event: None };
        let raw = note.metadata().unwrap();
        let all: Vec<Marked> = serde_json::from_str(raw.get()).unwrap();
        assert_eq!((all[0].r#type.as_str(), &all[0].note), (MARK, &note));
        assert!(Note::default().metadata().is_none());
        assert!(is_plain(&json!({"type": "text", "text": "a"})) && !is_plain(&json!({"type": "text", "text": "a", "actions": []})));
    }
}
