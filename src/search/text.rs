//! What of the journal can be found: the texts of its entries, without what only a program reads.

use crate::domain::{Change, Entry, Message, Opened, Sight};
use serde::Deserialize;
use serde_json::Value;
use tieline_protocol::event::EventClass;
use tieline_protocol::ids::{ConversationId, DialogId};

/// Stands before matched text in a fragment, until that is made safe. No indexed text holds it.
pub(super) const BEGIN: char = '\u{E000}';
/// Stands behind it.
pub(super) const END: char = '\u{E001}';

/// What an entry means to the index.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// The words of a message.
    Message { conversation: &'a ConversationId, dialog: &'a DialogId, sequence: u64, whisper: bool, text: String },
    /// The words of a conversation itself, in the place of those that it had.
    Fields { conversation: &'a ConversationId, fields: Fields },
    /// The conversation is no more, or says nothing any more.
    Removed(&'a ConversationId),
    /// Some of its messages say nothing any more: those at these places.
    Unsaid { conversation: &'a ConversationId, places: Vec<(&'a DialogId, u64)> },
}

/// The words that belong to a conversation and not to one of its messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// What it is about.
    pub(super) subject: String,
}

/// What a conversation is opened about.
fn subject_of(opened: &Opened) -> Option<&str> {
    opened.origin.as_ref()?.subject.as_deref()
}

/// What changes of a conversation take out of the index.
fn unsaid<'a>(conversation: &'a ConversationId, changes: &'a [Change]) -> Option<Piece<'a>> {
    if changes.iter().any(|change| matches!(change, Change::Anonymised { .. })) {
        return Some(Piece::Removed(conversation));
    }
    let place = |change: &'a Change| match change {
        Change::MessageAnonymised { dialog, sequence, .. } => Some((dialog, *sequence)),
        _ => None,
    };
    let places: Vec<_> = changes.iter().filter_map(place).collect();
    (!places.is_empty()).then_some(Piece::Unsaid { conversation, places })
}

/// What an entry brings to the index, if anything.
pub(super) fn piece(sight: &Sight) -> Option<Piece<'_>> {
    match &sight.entry {
        Entry::Opened(opened) => fields(&opened.conversation, subject_of(opened)),
        Entry::Published(message) => {
            let text = text_of(message)?;
            let Message { conversation, dialog, sequence, whisper, .. } = &**message;
            Some(Piece::Message { conversation, dialog, sequence: *sequence, whisper: *whisper, text })
        }
        Entry::Removed { conversation, .. } => Some(Piece::Removed(conversation)),
        Entry::Changed { conversation, changes, .. } => unsaid(conversation, changes),
        _ => None,
    }
}

/// A conversation's own words, if there is one among them.
pub(super) fn fields<'a>(conversation: &'a ConversationId, subject: Option<&str>) -> Option<Piece<'a>> {
    let subject = clean(subject?);
    subject.contains(char::is_alphanumeric).then_some(Piece::Fields { conversation, fields: Fields { subject } })
}

/// What people read of a message, if there is something: its text, HTML without its tags, what is said of a file, the texts of a card.
#[must_use]
pub fn read_of(message: &Message) -> Option<String> {
    match message.class {
        EventClass::Content => content(message.event.get()),
        EventClass::Rich => rich(message.event.get()),
        EventClass::Receipt => None,
    }
}

/// The words of a message, if it has any.
fn text_of(message: &Message) -> Option<String> {
    let text = clean(&read_of(message)?);
    (!text.is_empty()).then_some(text)
}

/// Without what would look like our marks, or end a text in C.
fn clean(text: &str) -> String {
    let clean: String = text.chars().map(|c| if matches!(c, BEGIN | END | '\0') { ' ' } else { c }).collect();
    clean.trim().to_owned()
}

/// The text of a message as it is read, and what is said of a file. Of a form, and whatever else is an object, nothing: what
/// is in it may be no words, or a secret.
fn content(event: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "contentType", default)]
        content_type: Option<String>,
        message: Value,
    }
    let Content { content_type, message } = serde_json::from_str(event).ok()?;
    let kind = content_type.as_deref().unwrap_or("text/plain");
    match (kind.split(';').next().unwrap_or(kind).trim(), message) {
        ("text/html", Value::String(text)) => Some(without_tags(&text)),
        (_, Value::String(text)) => Some(text),
        ("hosted/file", Value::Object(file)) => file.get("caption")?.as_str().map(str::to_owned),
        _ => None,
    }
}

/// Deepest nesting of a card that is looked into.
const DEEPEST: usize = 16;
/// What people see of a card's elements.
const SEEN: [&str; 4] = ["text", "title", "caption", "alt"];

fn rich(event: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Rich {
        content: Value,
    }
    let Rich { content } = serde_json::from_str(event).ok()?;
    let mut found = Vec::new();
    seen(&content, DEEPEST, &mut found);
    Some(found.join("\n"))
}

/// The texts that people see, in the order of the card's elements.
fn seen<'a>(element: &'a Value, depth: usize, found: &mut Vec<&'a str>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match element {
        Value::Array(all) => all.iter().for_each(|one| seen(one, depth, found)),
        Value::Object(members) => {
            found.extend(SEEN.iter().filter_map(|name| members.get(*name)?.as_str()));
            // What a click does is for programs, and so is what comes along.
            let inner = members.iter().filter(|(name, _)| !["click", "metadata"].contains(&name.as_str()));
            inner.for_each(|(_, value)| seen(value, depth, found));
        }
        _ => {}
    }
}

/// Tags that stand within words.
const WITHIN: [&str; 14] = ["a", "abbr", "b", "code", "em", "font", "i", "mark", "small", "span", "strong", "sub", "sup", "u"];
/// Elements whose content nobody reads.
const UNREAD: [&str; 4] = ["head", "script", "style", "title"];

/// The words of HTML: no page is shown from it, so it is read as loosely as people write it.
pub(super) fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        let (before, tag) = rest.split_at(open);
        decode(before, &mut text);
        rest = if let Some(comment) = tag.strip_prefix("<!--") {
            comment.split_once("-->").map_or("", |(_, behind)| behind)
        } else if tag[1..].starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
            let (inside, behind) = tag[1..].split_once('>').unwrap_or((&tag[1..], ""));
            let name = inside.trim_start_matches('/');
            let name = name[..name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())].to_ascii_lowercase();
            if !WITHIN.contains(&name.as_str()) {
                text.push(' ');
            }
            let is_unread = UNREAD.contains(&name.as_str()) && !inside.starts_with('/') && !inside.ends_with('/');
            if is_unread { behind_end_of(behind, &name) } else { behind }
        } else {
            text.push('<');
            &tag[1..]
        };
    }
    decode(rest, &mut text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands behind the end tag of an element; nothing, if it does not end.
fn behind_end_of<'a>(html: &'a str, name: &str) -> &'a str {
    let is_end = |place: &usize| html.get(place + 2..place + 2 + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
    let Some(end) = html.match_indices("</").map(|(place, _)| place).find(is_end) else { return "" };
    html[end..].split_once('>').map_or("", |(_, behind)| behind)
}

/// Longest name of a character, without `&` and `;`.
const LONGEST_NAME: usize = 8;

fn decode(html: &str, text: &mut String) {
    let mut rest = html;
    while let Some(start) = rest.find('&') {
        text.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let named = rest.find(';').filter(|end| *end <= LONGEST_NAME).and_then(|end| Some((character(&rest[..end])?, end)));
        match named {
            Some((c, end)) => {
                text.push(c);
                rest = &rest[end + 1..];
            }
            None => text.push('&'),
        }
    }
    text.push_str(rest);
}

fn character(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let hexadecimal = number.strip_prefix(['x', 'X']);
        let code = hexadecimal.map_or_else(|| number.parse(), |digits| u32::from_str_radix(digits, 16)).ok()?;
        return char::from_u32(code);
    }
    let all = [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("nbsp", ' ')];
    all.iter().find(|(known, _)| *known == name).map(|(_, c)| *c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn html_is_read_as_its_words() {
        for (html, words) in [
            ("plain &amp; simple", "plain & simple"),
            ("<p>one</p><p>two</p>three<br>four", "one two three four"),
            ("par<b>cel</b> <em class=\"x\">A-17</em>", "parcel A-17"),
            ("<style>p { color: red }</style><script>let parcel = 1;</script>seen", "seen"),
            ("<SCRIPT src=x>hidden</Script >seen", "seen"),
            ("<!-- <b>hidden</b> -->seen", "seen"),
            ("1 < 2 && 3 > 2 &unknown; &#65;&#x42;", "1 < 2 && 3 > 2 &unknown; AB"),
            ("never <b", "never"),
            ("<!-- never", ""),
            ("&lt;b&gt; &nbsp; &#55555555555;", "<b> &#55555555555;"),
            ("İ<style>x</style>ẞ", "İ ẞ"),
        ] {
            assert_eq!(without_tags(html), words, "{html}");
        }
    }

    #[test]
    fn contents_are_read_by_their_types_and_forms_not_at_all() {
        let read = |event: Value| content(&event.to_string());
        assert_eq!(read(json!({"message": "hello"})).as_deref(), Some("hello"));
        assert_eq!(read(json!({"contentType": "text/html; charset=utf-8", "message": "<i>hello</i>"})).as_deref(), Some("hello"));
        assert_eq!(read(json!({"contentType": "text/markdown", "message": "*hello*"})).as_deref(), Some("*hello*"));
        let file = json!({"contentType": "hosted/file", "message": {"caption": "my parcel", "relativePath": "/secret"}});
        assert_eq!(read(file).as_deref(), Some("my parcel"));
        assert_eq!(read(json!({"contentType": "hosted/file", "message": {"relativePath": "/a"}})), None);
        assert_eq!(read(json!({"contentType": "forms/secure-submission", "message": {"caption": "4111"}})), None);
    }

    #[test]
    fn cards_are_read_as_people_see_them() {
        let button = json!({"type": "button", "title": "Track it", "click": {"actions": [{"type": "publishText", "text": "hidden"}]}});
        let elements = json!([{"type": "image", "url": "https://hidden", "caption": "a map"}, button]);
        let card =
            json!({"type": "vertical", "elements": [{"type": "text", "text": "Your parcel"}, {"type": "carousel", "elements": elements}]});
        let event = json!({"type": "RichContentEvent", "content": card, "quickReplies": {"title": "not of the content"}});
        assert_eq!(rich(&event.to_string()).as_deref(), Some("Your parcel\na map\nTrack it"));
        let mut deep = json!({"text": "found"});
        for _ in 0..2 * DEEPEST {
            deep = json!({"text": "x", "elements": [deep]});
        }
        assert!(!rich(&json!({"content": deep}).to_string()).unwrap().contains("found"), "it ends somewhere");
    }

    #[test]
    fn marks_of_ours_are_not_in_what_is_indexed() {
        assert_eq!(clean(" a\u{E000}b\u{E001}c\0 "), "a b c");
        let id = ConversationId::from("a");
        assert_eq!(
            fields(&id, Some(" A-17\u{E000}")),
            Some(Piece::Fields { conversation: &id, fields: Fields { subject: "A-17".into() } })
        );
        assert!(fields(&id, Some("?!")).is_none() && fields(&id, None).is_none());
    }
}
