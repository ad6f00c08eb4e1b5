//! Which references are to be shown as what they refer to.

use super::error::Refused;
use std::collections::BTreeSet;

/// Fields whose references are shown as objects. Of a field within another the other is one, too.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Expand(BTreeSet<&'static str>);

/// The fields of a conversation that may be expanded.
pub(super) const CONVERSATION: [&str; 6] = ["contact", "contact.owner", "owner", "bot", "website", "audience"];

/// Those of a booking.
pub(super) const BOOKING: [&str; 6] =
    ["conversation", "conversation.contact", "conversation.owner", "conversation.bot", "conversation.website", "conversation.audience"];

/// Those of a contact.
pub(super) const CONTACT: [&str; 1] = ["owner"];

/// What lists put in front of the names, and may leave out.
const OF_A_LIST: &str = "data.";

/// Deepest field that may be named.
const LEVELS: usize = 2;

impl Expand {
    /// Reads the parameter; `known` is what may be expanded.
    ///
    /// # Errors
    /// A name that is not known, or leads too deep.
    pub(super) fn read(given: Option<&str>, known: &[&'static str]) -> Result<Self, Refused> {
        let mut expand = Self::default();
        for name in given.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let field = name.strip_prefix(OF_A_LIST).unwrap_or(name);
            if field.split('.').count() > LEVELS {
                return Err(Refused::param("expand", format!("'{field}' leads too deep: at most {LEVELS} levels can be expanded")));
            }
            let Some(found) = known.iter().find(|known| **known == field) else {
                return Err(Refused::param("expand", format!("the property '{field}' cannot be expanded")));
            };
            expand.0.insert(found);
            // Who asks for what is in it asks for it.
            expand.0.extend(known.iter().filter(|known| found.split_once('.').is_some_and(|(outer, _)| outer == **known)));
        }
        Ok(expand)
    }

    /// These.
    pub(super) fn of(fields: &[&'static str]) -> Self {
        Self(fields.iter().copied().collect())
    }

    /// Whether a field is one.
    pub(super) fn has(&self, field: &str) -> bool {
        self.0.contains(field)
    }

    /// Those within a field, by their names there.
    pub(super) fn within(&self, field: &str) -> Self {
        Self(self.0.iter().filter_map(|name| name.strip_prefix(field)?.strip_prefix('.')).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Expand, String> {
        Expand::read(Some(text), &CONVERSATION).map_err(|refused| format!("{refused:?}"))
    }

    #[test]
    fn names_are_taken_bare_or_as_a_list_has_them_and_bring_what_they_lie_in() {
        assert_eq!(read("contact,owner").unwrap(), Expand::of(&["contact", "owner"]));
        assert_eq!(read("data.contact, data.website").unwrap(), Expand::of(&["contact", "website"]));
        assert_eq!(read("contact.owner").unwrap(), Expand::of(&["contact", "contact.owner"]));
        assert_eq!(read("").unwrap(), Expand::default());
        assert_eq!(read("contact.owner").unwrap().within("contact"), Expand::of(&["owner"]));
        for (wrong, said) in [
            ("answers", "'answers' cannot be expanded"),
            ("bookings", "'bookings'"),
            ("data.status", "'status'"),
            ("data.data.contact", "'data.contact'"),
            ("owner.teams", "'owner.teams'"),
            ("contact.owner.teams", "at most 2 levels"),
            ("Contact", "'Contact'"),
        ] {
            let refused = read(wrong).unwrap_err();
            assert!(refused.contains(said) && refused.contains("param: Some(\"expand\")"), "{wrong}: {refused}");
        }
        let booking = Expand::read(Some("conversation.contact"), &BOOKING).unwrap();
        assert!(booking.has("conversation") && booking.within("conversation").has("contact"));
    }
}
