//! What the API calls people and conversations: `arn:gw:conversation:<merchant>:agent/<user id>`, `…:customer/<consumer id>`,
//! `…:conversation/<id>`.

use crate::domain::Person;
use crate::identity::Account;
use tieline_protocol::ids::{ConsumerId, ConversationId, UserId};

/// Longest name of a merchant, by some of the API's models.
const LONGEST: usize = 5;

/// What the API calls an account: the letters and digits that its id begins with, in upper case. It need not be unique, for
/// nothing is found by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merchant(String);

/// What an arn names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// An agent, by its number.
    Agent(UserId),
    /// A consumer.
    Customer(ConsumerId),
    /// A conversation.
    Conversation(ConversationId),
}

impl Merchant {
    /// Of an account.
    pub(super) fn of(account: &Account) -> Self {
        Self::named(account.id.as_str())
    }

    fn named(account: &str) -> Self {
        let letters: String = account.chars().filter(char::is_ascii_alphanumeric).take(LONGEST).collect();
        // An account may have a name of nothing but hyphens.
        Self(if letters.is_empty() { "X".to_owned() } else { letters.to_ascii_uppercase() })
    }

    /// The name.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn arn(&self, kind: &str, id: &str) -> String {
        format!("arn:gw:conversation:{}:{kind}/{id}", self.0)
    }

    /// The arn of somebody.
    pub(super) fn person(&self, person: &Person) -> String {
        match person {
            Person::Agent { user, .. } => self.arn("agent", user.as_str()),
            Person::Consumer(id) => self.arn("customer", id.as_str()),
        }
    }

    /// The arn of a conversation.
    pub(super) fn conversation(&self, id: &ConversationId) -> String {
        self.arn("conversation", id.as_str())
    }

    /// Reads an arn; nothing for one that is none, or another merchant's.
    pub(super) fn read(&self, arn: &str) -> Option<Named> {
        let (kind, id) = arn.strip_prefix("arn:gw:conversation:")?.strip_prefix(self.as_str())?.strip_prefix(':')?.split_once('/')?;
        match (kind, id) {
            (_, "") => None,
            ("agent", id) => Some(Named::Agent(id.into())),
            ("customer", id) => Some(Named::Customer(id.into())),
            ("conversation", id) => Some(Named::Conversation(id.into())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_read_as_it_is_written_and_by_its_own_merchant_alone() {
        let demo = Merchant::named("demo");
        let agent = Person::Agent { user: "1001".into(), pid: "p".into() };
        assert_eq!(demo.person(&agent), "arn:gw:conversation:DEMO:agent/1001");
        assert_eq!(demo.person(&Person::Consumer("ab".into())), "arn:gw:conversation:DEMO:customer/ab");
        assert_eq!(demo.conversation(&"c-1".into()), "arn:gw:conversation:DEMO:conversation/c-1");
        assert_eq!(demo.read(&demo.person(&agent)), Some(Named::Agent("1001".into())));
        assert_eq!(demo.read(&demo.person(&Person::Consumer("a/b".into()))), Some(Named::Customer("a/b".into())));
        assert_eq!(demo.read(&demo.conversation(&"c-1".into())), Some(Named::Conversation("c-1".into())));
        for other in [
            "",
            "1001",
            "arn:gw:conversation:DEMO:agent/",
            "arn:gw:conversation:DEMO:agent",
            "arn:gw:conversation:DEMO:queue/1",
            "arn:gw:conversation:DEMOS:agent/1001",
            "arn:gw:conversation:OTHER:agent/1001",
            "arn:gw:conversation:DEM:agent/1001",
            "ARN:gw:conversation:DEMO:agent/1001",
        ] {
            assert_eq!(demo.read(other), None, "{other}");
        }
    }

    #[test]
    fn a_merchants_name_is_short_and_of_capitals_and_digits() {
        for (account, name) in [("demo", "DEMO"), ("shop-of-4711", "SHOPO"), ("a_1", "A1"), ("--", "X"), ("K\u{f6}ln", "KLN")] {
            assert_eq!(Merchant::named(account).as_str(), name, "{account}");
        }
    }
}
