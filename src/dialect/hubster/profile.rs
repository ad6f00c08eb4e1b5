//! Who a customer is: what the vendor's profiles say, with what is made up where they say nothing, and the same in our words, so that
//! every desk shows it.

use super::object::channel_name;
use crate::domain::Consumer;
use crate::identity::fingerprint;
use crate::things::IntegrationChannel;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tieline_protocol::ids::ConsumerId;

const DEVICE: &str = "device";
const FULL_NAME: &str = "full name";
const USER_NAME: &str = "user name";

/// Of what names are made up.
const FIRST: [&str; 16] = [
    "Amber", "Brave", "Calm", "Clever", "Eager", "Gentle", "Golden", "Happy", "Jolly", "Lucky", "Merry", "Quiet", "Silver", "Sunny",
    "Swift", "Witty",
];
const LAST: [&str; 16] = [
    "Badger", "Beaver", "Falcon", "Finch", "Fox", "Hare", "Heron", "Lark", "Lynx", "Marten", "Otter", "Owl", "Robin", "Seal", "Swan",
    "Wren",
];

/// A name for somebody who gives none: always the same for the same customer.
fn made_up(customer: &ConsumerId) -> String {
    let hash = fingerprint(&["made-up name", customer.as_str()]);
    let pick = |words: [&'static str; 16], byte: u8| words[usize::from(byte % 16)];
    format!("{} {}", pick(FIRST, hash[0]), pick(LAST, hash[1]))
}

/// A value by its name, in whatever case that is written.
fn find<'p>(profile: &'p BTreeMap<String, String>, name: &str) -> Option<&'p str> {
    let alike = || profile.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    profile.get(name).or_else(alike).map(String::as_str).filter(|text| !text.trim().is_empty())
}

/// Fills in what a profile lacks that each has, and returns what of it is news about the customer.
pub(super) fn filled(
    profile: &mut BTreeMap<String, String>,
    channel: IntegrationChannel,
    customer: &ConsumerId,
    before: Option<&Consumer>,
) -> Option<Box<RawValue>> {
    let known_name = before.and_then(|before| before.profile.get("nickName")).and_then(Value::as_str).map(str::to_owned);
    let mut said = profile.clone();
    if find(profile, FULL_NAME).is_none() {
        let names = ["first name", "last name"].iter().filter_map(|name| find(profile, name)).collect::<Vec<_>>().join(" ");
        let given = Some(names).filter(|names| !names.is_empty());
        let login = find(profile, USER_NAME).map(str::to_owned);
        // What is made up is not written over what is known. A user name is no first and last name.
        if given.is_some() || (login.is_none() && known_name.is_none()) {
            set(&mut said, FULL_NAME, given.as_deref().unwrap_or(&made_up(customer)));
        }
        let name = given.or(login).or(known_name).unwrap_or_else(|| made_up(customer));
        set(profile, FULL_NAME, &name);
    }
    if find(profile, DEVICE).is_none() {
        set(profile, DEVICE, channel_name(channel));
    }
    news(&said, before)
}

/// Sets a value that is not there, or is blank.
fn set(profile: &mut BTreeMap<String, String>, name: &str, value: &str) {
    profile.retain(|known, _| !known.eq_ignore_ascii_case(name));
    profile.insert(name.to_owned(), value.to_owned());
}

/// What a profile says in our words, as far as that was not known.
fn news(profile: &BTreeMap<String, String>, before: Option<&Consumer>) -> Option<Box<RawValue>> {
    let nothing = Map::new();
    let known = before.map_or(&nothing, |before| &before.profile);
    let mut news = fresh(ours(profile), known);
    let private = [("mail", find(profile, "email")), ("mobileNum", find(profile, "phone"))];
    let private = fresh(members(private), known.get("privateData").and_then(Value::as_object).unwrap_or(&nothing));
    if !private.is_empty() {
        // What is not said of it stays.
        news.insert("privateData".into(), Value::Object(private));
    }
    if news.is_empty() { None } else { to_raw_value(&news).ok() }
}

/// What of some members is not known.
fn fresh(members: Map<String, Value>, known: &Map<String, Value>) -> Map<String, Value> {
    members.into_iter().filter(|(name, value)| known.get(name) != Some(value)).collect()
}

/// What is there, as members.
fn members<'t>(all: impl IntoIterator<Item = (&'static str, Option<&'t str>)>) -> Map<String, Value> {
    all.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))).collect()
}

fn ours(profile: &BTreeMap<String, String>) -> Map<String, Value> {
    let full = find(profile, FULL_NAME);
    let (first, last) = match (find(profile, "first name"), find(profile, "last name")) {
        (None, None) => {
            full.map(|full| full.trim().split_once(' ').unwrap_or((full.trim(), ""))).map_or((None, None), |(a, b)| (Some(a), Some(b)))
        }
        given => given,
    };
    members([
        ("nickName", full.or_else(|| find(profile, USER_NAME))),
        ("firstName", first),
        ("lastName", last),
        ("avatarUrl", find(profile, "imageUrl")),
        ("gender", find(profile, "gender")),
        ("timezone", find(profile, "time zone")),
        ("streetAddress", find(profile, "address")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tieline_protocol::ids::AccountId;

    fn filled_in(given: &[(&str, &str)], before: Option<&Consumer>) -> (BTreeMap<String, String>, Value) {
        let mut profile = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let news = filled(&mut profile, IntegrationChannel::Direct, &ConsumerId::from("ann"), before);
        (profile, news.map_or(Value::Null, |news| serde_json::from_str(news.get()).unwrap()))
    }

    fn known(profile: Value) -> Consumer {
        let Value::Object(profile) = profile else { panic!("{profile}") };
        Consumer { profile, ..Consumer::unknown(&AccountId::from("demo"), &ConsumerId::from("ann")) }
    }

    #[test]
    fn who_says_nothing_gets_a_name_and_a_device_and_keeps_them() {
        let (profile, news) = filled_in(&[], None);
        assert_eq!(profile["device"], "Direct");
        let name = &profile["full name"];
        assert_eq!(name.split(' ').count(), 2, "{name}");
        assert_eq!(news["nickName"], **name);
        assert_eq!(filled_in(&[], Some(&known(news))), (profile, Value::Null));
        let named = known(json!({"nickName": "Ann Other"}));
        let (profile, news) = filled_in(&[], Some(&named));
        assert_eq!((profile["full name"].as_str(), news), ("Ann Other", Value::Null), "what is known goes before what is made up");
    }

    #[test]
    fn a_user_name_is_a_name_and_no_first_or_last_one() {
        for before in [None, Some(known(json!({"nickName": "Merry Otter", "firstName": "Merry"})))] {
            let (profile, news) = filled_in(&[("User Name", "ann 81")], before.as_ref());
            assert_eq!((profile["full name"].as_str(), news), ("ann 81", json!({"nickName": "ann 81"})));
        }
        let (profile, _) = filled_in(&[("user name", "ann81"), ("first name", "Ann")], None);
        assert_eq!(profile["full name"], "Ann");
    }

    #[test]
    fn what_is_given_stands_and_is_told_in_our_words() {
        let given = [("Device", "Phone"), ("Full Name", "Ann B. Other"), ("email", "ann@shop.example"), ("tier", "gold")];
        let (profile, news) = filled_in(&given, None);
        assert_eq!(profile.len(), 4, "{profile:?}");
        assert_eq!((profile["Device"].as_str(), profile["tier"].as_str()), ("Phone", "gold"));
        let private = json!({"mail": "ann@shop.example"});
        assert_eq!(news, json!({"nickName": "Ann B. Other", "firstName": "Ann", "lastName": "B. Other", "privateData": private}));
        let (profile, news) =
            filled_in(&[("first name", "Ann"), ("last name", "Other"), ("phone", "1")], Some(&known(json!({"privateData": private}))));
        assert_eq!(profile["full name"], "Ann Other");
        assert_eq!(news["privateData"], json!({"mobileNum": "1"}), "what is known is not said again");
        let (profile, _) = filled_in(&[("full name", " "), ("device", "")], None);
        assert!(profile["full name"].len() > 3 && profile["device"] == "Direct", "{profile:?}");
    }
}
