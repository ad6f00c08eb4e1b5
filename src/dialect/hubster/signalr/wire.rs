//! SignalR's hub protocol, as far as a hub needs it that only calls its clients: JSON messages, each of which ends with one byte.

use super::super::object::Activity;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_with::skip_serializing_none;

/// What ends a message.
pub(super) const END: char = '\u{1e}';
/// A sign of life.
pub(super) const PING: &str = "{\"type\":6}\u{1e}";
/// The answer to a good handshake.
pub(super) const WELCOME: &str = "{}\u{1e}";
/// What is called at a client for each activity.
const TARGET: &str = "ReceiveDirectActivities";
/// The protocol and its version.
const PROTOCOL: (&str, u64) = ("json", 1);

/// What a client begins with.
#[derive(Debug, Deserialize)]
struct Handshake {
    protocol: String,
    version: u64,
}

/// Reads a handshake.
///
/// # Errors
/// What the client is told.
pub(super) fn shake(text: &str) -> Result<(), String> {
    let (protocol, version) = PROTOCOL;
    let wanted = format!("{{\"protocol\":\"{protocol}\",\"version\":{version}}} and the byte 0x1E");
    let handshake: Handshake = serde_json::from_str(text).map_err(|_| format!("This is no handshake; send {wanted}."))?;
    if handshake.protocol != protocol {
        return Err(format!("The protocol '{}' is not spoken here; use '{protocol}'.", handshake.protocol));
    }
    if handshake.version != version {
        return Err(format!("Version {} of the protocol is not spoken here; use {version}.", handshake.version));
    }
    Ok(())
}

/// The answer to a handshake that is not good.
pub(super) fn turned(why: &str) -> String {
    ended(&json!({"error": why}))
}

/// A message, as far as it is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    r#type: u64,
    invocation_id: Option<String>,
    target: Option<String>,
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing that is to be answered.
    Nothing,
    /// It calls a method, or goes on with a call, and wants to be told the outcome.
    Call {
        /// The call's id.
        id: String,
        /// The method, where it is named.
        method: String,
    },
}

/// Reads a message without its end.
///
/// # Errors
/// Why it is none.
pub(super) fn read(text: &str) -> Result<Said, String> {
    let Message { r#type, invocation_id, target } =
        serde_json::from_str(text).map_err(|error| format!("this is no message of the hub protocol: {error}"))?;
    // Invocation, StreamItem, StreamInvocation, CancelInvocation. Kinds that are not known here are to be passed over.
    Ok(match (r#type, invocation_id) {
        (1 | 2 | 4 | 5, Some(id)) => Said::Call { id, method: target.unwrap_or_default() },
        _ => Said::Nothing,
    })
}

/// A call of the client's method with an activity.
#[derive(Serialize)]
struct Invocation<'a> {
    r#type: u8,
    target: &'static str,
    arguments: [&'a Activity; 1],
}

/// An activity, as clients are told of it.
pub(super) fn pushed(activity: &Activity) -> String {
    ended(&Invocation { r#type: 1, target: TARGET, arguments: [activity] })
}

/// The outcome of a call: clients have nothing to call here.
pub(super) fn unknown(id: &str, method: &str) -> String {
    let named = if method.is_empty() { String::new() } else { format!(" '{method}'") };
    let error = format!("There is no method{named} to call; activities are sent by POST to /inbound.");
    ended(&json!({"type": 3, "invocationId": id, "error": error}))
}

/// That the connection is over.
#[skip_serializing_none]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Close<'a> {
    r#type: u8,
    error: &'a str,
    allow_reconnect: Option<bool>,
}

/// Says that the connection is over, and whether the client should come back by itself.
pub(super) fn closing(error: &str, may_come_back: bool) -> String {
    ended(&Close { r#type: 7, error, allow_reconnect: may_come_back.then_some(true) })
}

fn ended(message: &impl Serialize) -> String {
    // What is ours has only texts for keys, which is all that could go wrong.
    let mut text = serde_json::to_string(message).unwrap_or_else(|_| "{\"type\":6}".to_owned());
    text.push(END);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_names_the_one_protocol_in_the_one_version() {
        assert_eq!(shake(r#"{"protocol":"json","version":1}"#), Ok(()));
        for (text, says) in [
            (r#"{"protocol":"messagepack","version":1}"#, "messagepack"),
            (r#"{"protocol":"json","version":2}"#, "Version 2"),
            (r#"{"protocol":"json"}"#, "no handshake"),
            (r#"{"protocol":7,"version":1}"#, "no handshake"),
            ("", "no handshake"),
        ] {
            assert!(shake(text).unwrap_err().contains(says), "{text}");
        }
        assert_eq!(turned("no"), "{\"error\":\"no\"}\u{1e}");
    }

    #[test]
    fn a_message_is_a_call_nothing_or_unreadable() {
        let call = |id: &str, method: &str| Ok(Said::Call { id: id.into(), method: method.into() });
        assert_eq!(read(r#"{"type":1,"invocationId":"0","target":"Send","arguments":[1]}"#), call("0", "Send"));
        assert_eq!(read(r#"{"type":4,"invocationId":"1","target":"Flow","arguments":[]}"#), call("1", "Flow"));
        assert_eq!(read(r#"{"type":2,"invocationId":"2","item":{}}"#), call("2", ""));
        assert_eq!(read(r#"{"type":5,"invocationId":"3"}"#), call("3", ""));
        for nothing in [
            r#"{"type":6}"#,
            r#"{"type":7}"#,
            r#"{"type":1,"target":"Send","arguments":[]}"#,
            r#"{"type":1,"invocationId":null,"target":"Send","arguments":[]}"#,
            r#"{"type":3,"invocationId":"9","result":1}"#,
            r#"{"type":99,"invocationId":"9"}"#,
        ] {
            assert_eq!(read(nothing), Ok(Said::Nothing), "{nothing}");
        }
        for bad in ["", "{}", "[6]", r#"{"type":"6"}"#, r#"{"type":1,"invocationId":7}"#, "{\"type\":6}\u{1e}{}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_said_to_a_client_is_as_the_protocol_has_it() {
        assert_eq!(
            unknown("7", "Send"),
            "{\"error\":\"There is no method 'Send' to call; activities are sent by POST to /inbound.\",\"invocationId\":\"7\",\"type\":3}\u{1e}"
        );
        assert!(unknown("7", "").contains("no method to call"));
        assert_eq!(closing("why", true), "{\"type\":7,\"error\":\"why\",\"allowReconnect\":true}\u{1e}");
        assert_eq!(closing("why", false), "{\"type\":7,\"error\":\"why\"}\u{1e}");
    }
}
