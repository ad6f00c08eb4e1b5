//! Ids that other vendors' programs expect, made of ours and turned back: UUIDs of events and consumers, and prefixed upper-case ids.

use crate::domain::{Actor, Consumer};
use crate::gateway::{Error, Gateway, derived_uuid};
use crate::store::ConsumersBy;
use tieline_protocol::ids::{ConsumerId, ConversationId};
use uuid::Uuid;

/// The UUID of an event of a conversation's MAIN dialog: 48 bits of it are the event's number, hidden by what the conversation is.
#[must_use]
pub fn event_uuid(conversation: &ConversationId, sequence: u64) -> Uuid {
    let mask = mask(conversation);
    let mut bytes = *mask.as_bytes();
    for (byte, number) in bytes.iter_mut().zip(&sequence.to_be_bytes()[2..]) {
        *byte ^= number;
    }
    // The first six bytes hold neither version nor variant.
    Uuid::from_bytes(bytes)
}

/// The event of a conversation's MAIN dialog that a UUID names; none, if it is no such UUID.
#[must_use]
pub fn event_of_uuid(conversation: &ConversationId, uuid: Uuid) -> Option<u64> {
    let (mask, given) = (mask(conversation), uuid.as_bytes());
    if mask.as_bytes()[6..] != given[6..] {
        return None;
    }
    let number = mask.as_bytes()[..6].iter().zip(given).fold(0_u64, |number, (mask, byte)| number << 8 | u64::from(mask ^ byte));
    Some(number)
}

fn mask(conversation: &ConversationId) -> Uuid {
    derived_uuid(&["event", conversation.as_str()])
}

/// The UUID of a consumer: its id, where that is one, else made of the id's first digits.
#[must_use]
pub fn consumer_uuid(consumer: &ConsumerId) -> Uuid {
    if let Ok(uuid) = Uuid::parse_str(consumer.as_str()) {
        return uuid;
    }
    match consumer.as_str().get(..32).and_then(|digits| u128::from_str_radix(digits, 16).ok()) {
        Some(number) => uuid::Builder::from_custom_bytes(number.to_be_bytes()).into_uuid(),
        None => derived_uuid(&["consumer", consumer.as_str()]),
    }
}

/// Consumers of one beginning of their ids that are looked at: so many share twelve digits that it never happens.
const ALIKE: usize = 100;

/// The consumer of a UUID, if the actor may know it.
///
/// # Errors
/// As [`Gateway::consumers`].
pub async fn consumer_of_uuid(gateway: &Gateway, actor: &Actor, uuid: Uuid) -> Result<Option<Consumer>, Error> {
    let own = ConsumerId::from(uuid.hyphenated().to_string());
    if let Some(itself) = gateway.known_consumer(actor, &own).await? {
        return Ok(Some(itself));
    }
    let alike = gateway.consumers(actor, ConsumersBy::Id(consumer_prefix(uuid)), None, ALIKE).await?;
    Ok(alike.into_iter().find(|consumer| consumer_uuid(&consumer.id) == uuid))
}

/// What a consumer's id begins with, if this is its UUID and is not the id itself: as many digits as a UUID leaves as they were.
fn consumer_prefix(uuid: Uuid) -> String {
    uuid.simple().to_string()[..12].to_owned()
}

/// An upper-case id with a prefix, such as `CVR-`, of a UUID.
#[must_use]
pub fn prefixed(prefix: &str, uuid: Uuid) -> String {
    // Crockford's letters: none of them can be taken for another, or for a digit.
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut number = uuid.as_u128();
    let mut digits = [b'0'; 26];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(number % 32).unwrap_or(0)];
        number /= 32;
    }
    format!("{prefix}{}", String::from_utf8_lossy(&digits))
}

/// The UUID of a prefixed id; none, if it has another prefix or is none.
#[must_use]
pub fn unprefixed(prefix: &str, id: &str) -> Option<Uuid> {
    const DIGITS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digits = id.strip_prefix(prefix).filter(|digits| digits.len() == 26)?;
    let mut number = 0_u128;
    for digit in digits.chars() {
        let value = DIGITS.find(digit)?;
        number = number.checked_mul(32)?.checked_add(value as u128)?;
    }
    let uuid = Uuid::from_u128(number);
    // 26 digits hold two bits more than a UUID has.
    (prefixed(prefix, uuid) == id).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_and_prefixed_ids_are_found_again(sequence in 0_u64..1 << 48, number: u128, other: String) {
            let conversation = ConversationId::from(Uuid::from_u128(number).to_string());
            let uuid = event_uuid(&conversation, sequence);
            prop_assert_eq!(event_of_uuid(&conversation, uuid), Some(sequence));
            prop_assert_eq!(event_of_uuid(&ConversationId::from("another"), uuid), None);
            prop_assert_eq!(uuid.get_version_num(), 8);
            let (uuid, guess) = (Uuid::from_u128(number), ["CVR-", &other].concat());
            prop_assert_eq!(unprefixed("CVR-", &prefixed("CVR-", uuid)), Some(uuid));
            prop_assert_eq!(unprefixed("CTC-", &prefixed("CVR-", uuid)), None);
            prop_assert!(unprefixed("CVR-", &guess).is_none_or(|found| prefixed("CVR-", found) == guess));
        }
    }

    #[test]
    fn a_consumer_is_found_by_what_its_uuid_begins_with() {
        let spoken_for = ConsumerId::from("0123456789abcdef".repeat(4));
        let uuid = consumer_uuid(&spoken_for);
        assert!(spoken_for.as_str().starts_with(&consumer_prefix(uuid)), "{uuid}");
        let own = ConsumerId::from("6f0c1a52-0f1e-4d0b-9a57-1f5f3f1c0a01");
        assert_eq!(consumer_uuid(&own).to_string(), own.as_str());
    }
}
