//! Where a conversation comes from, and what was known of it at its opening.

use super::Millis;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// Where a conversation comes from. One that a native connector opened has none: its application says the channel.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// By what way it came.
    pub channel: Channel,
    /// Who began.
    pub direction: Direction,
    /// What it is about, as its opener says.
    pub subject: Option<String>,
    /// As its opener says, such as `en`.
    pub language: Option<String>,
    /// The consumer's browser.
    pub browser: Option<Browser>,
    /// The address or number of who began.
    pub from: Option<String>,
    /// The address or number that was written to.
    pub to: Option<String>,
    /// The contact endpoint of the directory through which it came.
    pub endpoint: Option<String>,
    /// The opener's own name for it, shown and nothing else.
    pub external: Option<String>,
    /// When it began, where that was before it was written down here.
    pub began: Option<Millis>,
    /// Whether the consumer was connected when it was written down.
    pub is_connected: Option<bool>,
}

impl Origin {
    /// The same without what somebody could be known by.
    #[must_use]
    pub fn without_words(&self) -> Self {
        Self { began: self.began, ..Self::new(self.channel.clone(), self.direction) }
    }

    /// Of a channel and a direction, with nothing else known.
    #[must_use]
    pub fn new(channel: Channel, direction: Direction) -> Self {
        Self {
            channel,
            direction,
            subject: None,
            language: None,
            browser: None,
            from: None,
            to: None,
            endpoint: None,
            external: None,
            began: None,
            is_connected: None,
        }
    }
}

/// By what way a conversation came.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Channel {
    /// A messenger of the brand's own, such as in its app.
    Messenger,
    /// A chat on a web page.
    WebChat,
    /// E-mail. Nothing is mailed: the conversation is its record.
    Email,
    /// A form on a web page.
    ContactForm,
    /// Text messages.
    Sms,
    /// WhatsApp.
    WhatsApp,
    /// Facebook's messenger.
    Facebook,
    /// Twitter.
    Twitter,
    /// A telephone call. Nothing is dialled: the conversation is its record.
    Phone,
    /// A call that the consumer asked for.
    Callback,
    /// A message on an answering machine.
    Voicemail,
    /// Any other, by the name that its opener gave it.
    Other(String),
}

impl Channel {
    const NAMES: [(&str, Self); 11] = [
        ("messenger", Self::Messenger),
        ("web_chat", Self::WebChat),
        ("email", Self::Email),
        ("contact_form", Self::ContactForm),
        ("sms", Self::Sms),
        ("whatsapp", Self::WhatsApp),
        ("facebook", Self::Facebook),
        ("twitter", Self::Twitter),
        ("phone", Self::Phone),
        ("callback", Self::Callback),
        ("voicemail", Self::Voicemail),
    ];

    /// What the channels are called in the configuration.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().map(|(name, _)| name)
    }

    /// Reads what the configuration calls one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, channel)| channel)
    }
}

/// Who began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// The consumer.
    Inbound,
    /// The brand.
    Outbound,
}

/// A consumer's browser, as its page said.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Browser {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// The address that it came from.
    pub address: Option<String>,
    /// The page that it was on.
    pub page: Option<String>,
}
