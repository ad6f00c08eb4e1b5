//! What an account has set up beside people and queues: tags, attributes, contact endpoints, flows, websites, audiences, bots,
//! hubs, integrations, and the queue of those who name none. Values and their rules; where they are kept is another's matter.

use crate::domain::AttributeValue;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use tieline_protocol::ids::{self, AttributeId, QueueId, TagId, UserId};
use uuid::Uuid;

/// Longest name and label, in characters; a vendor's clients show them in one line.
const LONGEST_NAME: usize = 256;
/// Longest address of a page, and of a mailbox: what the standards of mail allow.
const LONGEST_URL: usize = 2_048;
const LONGEST_ADDRESS: usize = 254;
/// Most options of an attribute, and the deepest.
const MOST_OPTIONS: usize = 1_000;
const DEEPEST_OPTION: usize = 10;
/// Most things that a telephone number does.
const MOST_FUNCTIONS: usize = 16;
/// Longest description of a hub, in characters.
const LONGEST_DESCRIPTION: usize = 1_000;
/// Most origins of an integration.
const MOST_ORIGINS: usize = 100;

/// Names a thing: a UUID, for some dialects show only such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ThingId(Uuid);

impl ThingId {
    /// One that nobody has.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The UUID.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for ThingId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for ThingId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// As conversations name things.
macro_rules! named_by_conversations {
    ($($name:ty),+) => {
        $(impl From<ThingId> for $name {
            fn from(id: ThingId) -> Self {
                Self::from(id.to_string())
            }
        })+
    };
}
named_by_conversations!(TagId, AttributeId, ids::PlainId);

impl fmt::Display for ThingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kinds of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`Tag`].
    Tags,
    /// [`Attribute`].
    Attributes,
    /// [`ContactEndpoint`].
    ContactEndpoints,
    /// [`Flow`].
    Flows,
    /// [`Website`].
    Websites,
    /// [`Audience`].
    Audiences,
    /// [`Bot`].
    Bots,
    /// [`Hub`].
    Hubs,
    /// [`Integration`].
    Integrations,
    /// [`DefaultQueue`].
    DefaultQueue,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 10] = [
        Self::Tags,
        Self::Attributes,
        Self::ContactEndpoints,
        Self::Flows,
        Self::Websites,
        Self::Audiences,
        Self::Bots,
        Self::Hubs,
        Self::Integrations,
        Self::DefaultQueue,
    ];

    /// What it is called in addresses, and where it is kept.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Attributes => "attributes",
            Self::ContactEndpoints => "contact-endpoints",
            Self::Flows => "flows",
            Self::Websites => "websites",
            Self::Audiences => "audiences",
            Self::Bots => "bots",
            Self::Hubs => "hubs",
            Self::Integrations => "integrations",
            Self::DefaultQueue => "default-queue",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A kind of thing.
pub trait Thing: fmt::Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Which.
    const KIND: Kind;

    /// Whether it can be.
    ///
    /// # Errors
    /// What is wrong, and what it should be.
    fn check(&self) -> Result<(), String>;

    /// What no other thing of the kind and account may have while both are there.
    fn unique(&self) -> Option<String> {
        None
    }
}

/// A word that conversations are marked with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tag {
    /// Its name; no other tag has it, be it in other letters' case.
    pub name: String,
    /// `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// Whether it may be put on conversations; those that have it keep it.
    #[serde(default = "yes")]
    pub active: bool,
}

fn yes() -> bool {
    true
}

impl Thing for Tag {
    const KIND: Kind = Kind::Tags;

    fn check(&self) -> Result<(), String> {
        check_name("name", &self.name)?;
        let is_color =
            |color: &String| color.strip_prefix('#').is_some_and(|rest| rest.len() == 6 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if self.color.as_ref().is_some_and(|color| !is_color(color)) {
            return Err("color must be six hexadecimal digits behind #, such as \"#1e90ff\"".into());
        }
        Ok(())
    }

    fn unique(&self) -> Option<String> {
        Some(folded(&self.name))
    }
}

/// Whose attribute it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entity {
    /// A consumer's.
    Contact,
    /// A conversation's.
    Conversation,
}

/// What an attribute takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type", deny_unknown_fields)]
pub enum Input {
    /// Any text.
    Text {},
    /// One of these, each with what it lies under in front.
    Select {
        /// In order.
        options: Vec<Vec<String>>,
    },
}

/// The definition of an attribute that conversations or consumers may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attribute {
    /// Whose it is.
    pub entity: Entity,
    /// What programs call it; no other of the entity has it.
    pub identifier: String,
    /// What people call it.
    pub label: String,
    /// What it takes.
    pub input: Input,
    /// Whether people must fill it in.
    #[serde(default)]
    pub required: bool,
    /// Whether it is put away: shown where it has a value, and nowhere else.
    #[serde(default)]
    pub archived: bool,
    /// Whether it takes no values now.
    #[serde(default)]
    pub deactivated: bool,
}

impl Attribute {
    /// Whether it takes a value. A choice is an option, or what an option lies under; of options that lie under nothing several
    /// may be chosen.
    #[must_use]
    pub fn takes(&self, value: &AttributeValue) -> bool {
        match (&self.input, value) {
            (Input::Text {}, AttributeValue::Text(_)) => true,
            (Input::Select { options }, AttributeValue::Choices(chosen)) if !chosen.is_empty() => {
                let is_option = |choice: &String| options.iter().any(|option| option.as_slice() == std::slice::from_ref(choice));
                let is_each_once = || chosen.iter().enumerate().all(|(place, choice)| !chosen[..place].contains(choice));
                options.iter().any(|option| option.starts_with(chosen)) || (chosen.iter().all(is_option) && is_each_once())
            }
            _ => false,
        }
    }
}

impl Thing for Attribute {
    const KIND: Kind = Kind::Attributes;

    fn check(&self) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if self.identifier.is_empty() || self.identifier.len() > LONGEST_NAME || !self.identifier.chars().all(is_plain) {
            return Err(format!("identifier must be 1 to {LONGEST_NAME} letters, digits, _, - and ., such as \"order_number\""));
        }
        check_name("label", &self.label)?;
        let Input::Select { options } = &self.input else { return Ok(()) };
        if !(1..=MOST_OPTIONS).contains(&options.len()) {
            return Err(format!("a select has 1 to {MOST_OPTIONS} options"));
        }
        for (place, option) in options.iter().enumerate() {
            if !(1..=DEEPEST_OPTION).contains(&option.len()) {
                return Err(format!("an option has 1 to {DEEPEST_OPTION} steps"));
            }
            option.iter().try_for_each(|step| check_name("a step of an option", step))?;
            if options[..place].contains(option) {
                return Err(format!("the option {option:?} is there twice"));
            }
        }
        Ok(())
    }

    fn unique(&self) -> Option<String> {
        Some(format!("{:?} {}", self.entity, self.identifier))
    }
}

/// An address or a number of the account's own, at which it can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type", deny_unknown_fields)]
pub enum ContactEndpoint {
    /// A mailbox.
    Email {
        /// Its address.
        address: String,
        /// The sender's name to show.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// A telephone number.
    Telephony {
        /// The number.
        number: String,
        /// A name to show.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What it can do, in the dialect's words.
        #[serde(default)]
        functionality: Vec<String>,
    },
}

impl Thing for ContactEndpoint {
    const KIND: Kind = Kind::ContactEndpoints;

    fn check(&self) -> Result<(), String> {
        let name = match self {
            Self::Email { address, name } => {
                check_email(address).map_err(|reason| format!("address {reason}"))?;
                name
            }
            Self::Telephony { number, name, functionality } => {
                check_phone(number).map_err(|reason| format!("number {reason}"))?;
                if functionality.len() > MOST_FUNCTIONS {
                    return Err(format!("functionality has at most {MOST_FUNCTIONS} entries"));
                }
                functionality.iter().try_for_each(|function| check_name("an entry of functionality", function))?;
                name
            }
        };
        name.as_ref().map_or(Ok(()), |name| check_name("name", name))
    }

    fn unique(&self) -> Option<String> {
        Some(match self {
            Self::Email { address, .. } => folded(address),
            Self::Telephony { number, .. } => number.chars().filter(char::is_ascii_digit).collect(),
        })
    }
}

/// The way that conversations of a channel come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Flow {
    /// Its name.
    pub name: String,
    /// The channel, in the dialect's word.
    pub channel: String,
    /// Where they come in.
    pub contact_endpoint: ThingId,
}

impl Thing for Flow {
    const KIND: Kind = Kind::Flows;

    fn check(&self) -> Result<(), String> {
        check_name("name", &self.name)?;
        check_name("channel", &self.channel)
    }
}

/// A website on which consumers write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Website {
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: String,
}

impl Thing for Website {
    const KIND: Kind = Kind::Websites;

    fn check(&self) -> Result<(), String> {
        check_name("name", &self.name)?;
        let rest = self.url.strip_prefix("https://").or_else(|| self.url.strip_prefix("http://"));
        let is_fine =
            |rest: &str| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(|c: char| c.is_whitespace() || c.is_control());
        if !rest.is_some_and(is_fine) || self.url.len() > LONGEST_URL {
            return Err(format!("url must be an address of at most {LONGEST_URL} bytes, such as \"https://shop.example/\""));
        }
        Ok(())
    }
}

/// Declares kinds of things that have a name and nothing else.
macro_rules! named {
    ($($(#[$doc:meta])* $name:ident: $kind:ident,)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase", deny_unknown_fields)]
            pub struct $name {
                /// Its name.
                pub name: String,
            }

            impl Thing for $name {
                const KIND: Kind = Kind::$kind;

                fn check(&self) -> Result<(), String> {
                    check_name("name", &self.name)
                }
            }
        )+
    };
}

named!(
    /// A group of visitors.
    Audience: Audiences,
    /// A program that answers consumers.
    Bot: Bots,
);

/// A place where integrations meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hub {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Thing for Hub {
    const KIND: Kind = Kind::Hubs;

    fn check(&self) -> Result<(), String> {
        check_name("name", &self.name)?;
        match &self.description {
            Some(text) if text.chars().count() > LONGEST_DESCRIPTION => {
                Err(format!("description must have at most {LONGEST_DESCRIPTION} characters"))
            }
            _ => Ok(()),
        }
    }
}

/// Whom an integration connects to its hub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntegrationKind {
    /// Those who ask.
    #[default]
    Customer,
    /// An agent who answers.
    Agent,
    /// A program that answers.
    Bot,
    /// A program that looks on.
    System,
}

/// By what way an integration's people write, in the words of its vendor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IntegrationChannel {
    /// Programs of the account's own.
    #[default]
    Direct,
    /// A chat on a web page.
    WebChat,
    /// The vendor itself.
    Hubster,
    /// A bot.
    Bot,
    /// A program that looks on.
    System,
    /// Facebook's messenger.
    Messenger,
    /// Text messages.
    TwilioSMS,
    /// Line.
    Line,
    /// Telegram.
    Telegram,
    /// Kik.
    Kik,
    /// Slack.
    Slack,
}

/// Whether an integration is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntegrationState {
    /// It is.
    #[default]
    Active,
    /// It is not any more.
    Cancelled,
    /// Not now.
    Paused,
}

/// One way to a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Integration {
    /// Its name.
    pub name: String,
    /// The hub.
    pub hub: ThingId,
    /// Whom it connects.
    #[serde(default)]
    pub kind: IntegrationKind,
    /// By what way they write.
    #[serde(default)]
    pub channel: IntegrationChannel,
    /// The agent as whom it writes: of agents and bots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<UserId>,
    /// The queue of the conversations that begin with it: of customers. None: the account's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueId>,
    /// Whether it is in use.
    #[serde(default)]
    pub state: IntegrationState,
    /// Whether it is told of its own messages, too.
    #[serde(default)]
    pub echo: bool,
    /// Origins of the web pages on which it is used, beside those that the gateway allows everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
}

impl Integration {
    /// Whether it writes as somebody of the brand.
    #[must_use]
    pub fn is_business(&self) -> bool {
        matches!(self.kind, IntegrationKind::Agent | IntegrationKind::Bot)
    }
}

impl Thing for Integration {
    const KIND: Kind = Kind::Integrations;

    fn check(&self) -> Result<(), String> {
        check_name("name", &self.name)?;
        if self.is_business() != self.agent.is_some() {
            return Err("agent goes with the kinds agent and bot, which need it: it is as whom they write".into());
        }
        if self.queue.is_some() && self.kind != IntegrationKind::Customer {
            return Err("queue goes with the kind customer: it is where its conversations wait".into());
        }
        if !self.allowed_origins.is_empty() && self.channel != IntegrationChannel::WebChat {
            return Err("allowedOrigins goes with the channel WebChat".into());
        }
        if self.allowed_origins.len() > MOST_ORIGINS {
            return Err(format!("allowedOrigins has at most {MOST_ORIGINS} entries"));
        }
        self.allowed_origins.iter().try_for_each(|origin| check_origin(origin))
    }
}

/// Whether a text is the origin of a web page, as browsers send it.
///
/// # Errors
/// What it must be.
pub fn check_origin(origin: &str) -> Result<(), String> {
    let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    if rest.is_none_or(str::is_empty) || origin.ends_with('/') || origin.len() > LONGEST_URL {
        return Err(format!("{origin:?} is no origin; write scheme and host, such as \"https://shop.example\""));
    }
    Ok(())
}

/// The queue of conversations whose opener names none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefaultQueue {
    /// Its id.
    pub queue: QueueId,
}

impl Thing for DefaultQueue {
    const KIND: Kind = Kind::DefaultQueue;

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A name as it is compared.
fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.trim().is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(format!("{what} must have 1 to {LONGEST_NAME} characters, and no control characters"));
    }
    Ok(())
}

/// Whether a text is somebody's address in mail, as far as can be told without sending to it.
///
/// # Errors
/// What it must be.
pub fn check_email(address: &str) -> Result<(), String> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';' | '"');
    let parts = address.rsplit_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty() && !name.contains('@'));
    if parts.is_none() || address.len() > LONGEST_ADDRESS || address.contains(is_odd) {
        return Err(format!("must be a mail address of at most {LONGEST_ADDRESS} bytes, such as \"support@shop.example\""));
    }
    Ok(())
}

/// Whether a text is a telephone number.
///
/// # Errors
/// What it must be.
pub fn check_phone(number: &str) -> Result<(), String> {
    let digits = number.chars().filter(char::is_ascii_digit).count();
    let rest = number.strip_prefix('+').unwrap_or(number);
    if !(3..=20).contains(&digits) || !rest.chars().all(|c| c.is_ascii_digit() || matches!(c, ' ' | '-' | '(' | ')' | '.')) {
        return Err("must be a telephone number of 3 to 20 digits, such as \"+4512345678\"".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read<T: Thing>(value: serde_json::Value) -> Result<T, String> {
        let thing: T = serde_json::from_value(value).map_err(|error| error.to_string())?;
        thing.check().map(|()| thing)
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_it_should_be() {
        let tag = |value| read::<Tag>(value).map(drop).unwrap_err();
        for (value, said) in [
            (json!({}), "missing field `name`"),
            (json!({"name": " "}), "1 to 256 characters"),
            (json!({"name": "x".repeat(257)}), "1 to 256 characters"),
            (json!({"name": "a\nb"}), "no control characters"),
            (json!({"name": "x", "color": "blue"}), "#1e90ff"),
            (json!({"name": "x", "colour": "#1e90ff"}), "unknown field `colour`, expected one of"),
        ] {
            assert!(tag(value.clone()).contains(said), "{value}: {}", tag(value.clone()));
        }
        let attribute = |input| {
            read::<Attribute>(json!({"entity": "conversation", "identifier": "order_number", "label": "Order", "input": input})).map(drop)
        };
        assert_eq!(attribute(json!({"type": "text"})), Ok(()));
        assert_eq!(attribute(json!({"type": "select", "options": [["A"], ["A", "B"]]})), Ok(()));
        for (input, said) in [
            (json!({"type": "text", "options": []}), "unknown field `options`"),
            (json!({"type": "select", "options": []}), "1 to 1000 options"),
            (json!({"type": "select", "options": [["A"], ["A"]]}), "is there twice"),
            (json!({"type": "select", "options": [[]]}), "1 to 10 steps"),
            (json!({"type": "select", "options": [["A", ""]]}), "a step of an option"),
            (json!({"type": "date"}), "unknown variant `date`"),
        ] {
            let refused = attribute(input.clone()).unwrap_err();
            assert!(refused.contains(said), "{input}: {refused}");
        }
        for (endpoint, is_fine) in [
            (json!({"type": "email", "address": "support@shop.example"}), true),
            (json!({"type": "email", "address": "support"}), false),
            (json!({"type": "email", "address": "a@b@c"}), false),
            (json!({"type": "email", "address": "a b@c"}), false),
            (json!({"type": "email", "address": "a@b", "number": "1"}), false),
            (json!({"type": "telephony", "number": "+45 12 34 56 78", "functionality": ["Sms"]}), true),
            (json!({"type": "telephony", "number": "nine one one"}), false),
            (json!({"type": "telephony", "number": "+45 1234", "functionality": [""]}), false),
        ] {
            assert_eq!(read::<ContactEndpoint>(endpoint.clone()).is_ok(), is_fine, "{endpoint}");
        }
        for (url, is_fine) in
            [("https://shop.example/", true), ("http://localhost:1", true), ("ftp://x", false), ("https://", false), ("https://a b", false)]
        {
            assert_eq!(read::<Website>(json!({"name": "Shop", "url": url})).is_ok(), is_fine, "{url}");
        }
    }

    #[test]
    fn an_integration_has_what_goes_with_its_kind_and_nothing_else() {
        let integration = |members: serde_json::Value| {
            let mut all = json!({"name": "Shop", "hub": ThingId::random()});
            all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            read::<Integration>(all).map(drop)
        };
        for fine in [
            json!({}),
            json!({"kind": "customer", "channel": "WebChat", "queue": "77", "allowedOrigins": ["https://shop.example"]}),
            json!({"kind": "agent", "agent": "1001", "echo": true, "state": "paused"}),
            json!({"kind": "system", "channel": "System"}),
        ] {
            assert_eq!(integration(fine.clone()), Ok(()), "{fine}");
        }
        for (wrong, said) in [
            (json!({"kind": "agent"}), "agent goes with"),
            (json!({"agent": "1001"}), "agent goes with"),
            (json!({"kind": "bot", "agent": "1001", "queue": "77"}), "queue goes with"),
            (json!({"allowedOrigins": ["https://shop.example"]}), "allowedOrigins goes with"),
            (json!({"channel": "WebChat", "allowedOrigins": ["shop.example"]}), "is no origin"),
            (json!({"channel": "WebChat", "allowedOrigins": ["https://shop.example/"]}), "is no origin"),
            (json!({"channel": "Fax"}), "unknown variant `Fax`"),
            (json!({"name": ""}), "1 to 256 characters"),
        ] {
            let refused = integration(wrong.clone()).unwrap_err();
            assert!(refused.contains(said), "{wrong}: {refused}");
        }
    }

    #[test]
    fn a_value_is_a_text_or_a_way_to_an_option_or_some_of_the_options() {
        let path = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>();
        let attribute = |input| Attribute {
            entity: Entity::Conversation,
            identifier: "topic".into(),
            label: "Topic".into(),
            input,
            required: false,
            archived: false,
            deactivated: false,
        };
        let options = [path(&["Shipping", "Lost"]), path(&["Other"]), path(&["None"])];
        let select = attribute(Input::Select { options: options.to_vec() });
        for (choice, is_taken) in [
            (path(&["Shipping"]), true),
            (path(&["Shipping", "Lost"]), true),
            (path(&["Other"]), true),
            (path(&["None", "Other"]), true),
            (path(&["Other", "Other"]), false),
            (path(&["Other", "Shipping"]), false),
            (path(&["Lost"]), false),
            (path(&["Shipping", "Lost", "Found"]), false),
            (path(&[]), false),
        ] {
            assert_eq!(select.takes(&AttributeValue::Choices(choice.clone())), is_taken, "{choice:?}");
        }
        let (said, chosen) = (AttributeValue::Text("Other".into()), AttributeValue::Choices(path(&["Other"])));
        let text = attribute(Input::Text {});
        assert_eq!((text.takes(&said), text.takes(&chosen), select.takes(&said)), (true, false, false));
    }

    #[test]
    fn a_thing_is_named_in_conversations_as_it_is_found() {
        let id = ThingId::random();
        assert_eq!(TagId::from(id).as_str().parse(), Ok(id));
        assert_eq!(ids::PlainId::from(id).as_str(), AttributeId::from(id).as_str());
    }

    #[test]
    fn names_are_one_in_whatever_case_they_are_written() {
        let tag = |name: &str| Tag { name: name.into(), color: None, active: true }.unique();
        assert_eq!(tag("VIP "), tag("vip"));
        assert_ne!(tag("VIP"), tag("V.I.P."));
    }

    #[test]
    fn each_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
        }
        assert_eq!(Kind::parse("dogs"), None);
    }
}
