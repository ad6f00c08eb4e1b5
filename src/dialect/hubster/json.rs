//! Objects as the vendor's client sends them: with members whose names may be in any case, and with nulls where there is nothing.

use super::error::{Code, Fault, Problem};
use serde_json::{Map, Value};
use uuid::Uuid;

/// An object. Its members are found whatever the case of their names, and null is absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'v>(&'v Map<String, Value>);

impl<'v> Object<'v> {
    /// A value that is one.
    pub(super) fn of(value: &'v Value) -> Option<Self> {
        value.as_object().map(Self)
    }

    /// A member.
    pub(super) fn get(self, name: &str) -> Option<&'v Value> {
        let alike = || self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        self.0.get(name).or_else(alike).filter(|value| !value.is_null())
    }

    /// A member that is an object.
    pub(super) fn object(self, name: &str) -> Option<Self> {
        self.get(name).and_then(Self::of)
    }

    /// A text that is not blank.
    pub(super) fn text(self, name: &str) -> Option<&'v str> {
        self.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
    }

    /// Its members.
    pub(super) fn members(self) -> impl Iterator<Item = (&'v String, &'v Value)> {
        self.0.iter().filter(|(_, value)| !value.is_null())
    }
}

/// The object that a body is.
///
/// # Errors
/// 400 with the code for a body that is missing.
pub(super) fn body(bytes: &[u8], missing: Code) -> Result<Value, Fault> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::new(missing, "The request has no body; it must be a JSON object."));
    }
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(Value::Null) => Err(Fault::new(missing, "The request has no body; it must be a JSON object.")),
        Ok(_) => Err(Fault::new(missing, "The body must be a JSON object.")),
        Err(error) => Err(Fault::new(missing, format!("The body is no JSON: {error}."))),
    }
}

/// Most that is said of what is wrong with a request.
const MOST: usize = 20;

/// What is wrong with a request, gathered until all of it is known, or enough.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes one, if there are not enough.
    pub(super) fn add(&mut self, code: Code, text: impl std::fmt::Display) {
        if !self.is_full() {
            self.0.push(Problem::new(code, text));
        }
    }

    /// Whether no more are noted.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    /// A property that must be there.
    pub(super) fn required<T>(&mut self, found: Option<T>, name: &str, missing: Code) -> Option<T> {
        if found.is_none() {
            self.add(missing, format!("Property '{name}' is required."));
        }
        found
    }

    /// A property that must be there and be a GUID.
    pub(super) fn guid(&mut self, found: Option<&Value>, name: &str, missing: Code, wrong: Code) -> Option<Uuid> {
        let value = self.required(found.filter(|value| value.as_str() != Some("")), name, missing)?;
        let read = value.as_str().and_then(|text| Uuid::try_parse(text.trim()).ok());
        if read.is_none() {
            self.add(wrong, format!("Property '{name}' must be a GUID, such as 00000000-0000-0000-0000-000000000023."));
        }
        read
    }

    /// The numbers of all that was noted.
    #[cfg(test)]
    pub(super) fn codes(&self) -> Vec<u64> {
        self.0.iter().map(|problem| serde_json::to_value(problem).unwrap()["code"].as_u64().unwrap()).collect()
    }

    /// The end of the gathering.
    ///
    /// # Errors
    /// 400, if there is anything.
    pub(super) fn none(self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::all(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_found_in_any_case_and_null_is_absent() {
        let value = json!({"IntegrationId": "a", "binding": null, "BLANK": "  ", "Properties": {"Profile": {}}});
        let object = Object::of(&value).unwrap();
        assert_eq!((object.text("integrationId"), object.text("binding"), object.text("blank")), (Some("a"), None, None));
        assert!(object.object("properties").unwrap().object("profile").is_some());
        assert_eq!(object.members().count(), 3);
    }

    #[test]
    fn a_body_is_an_object_or_is_refused() {
        assert!(body(b" {}", Code::NoRequest).is_ok());
        for wrong in ["", " \n", "null", "[]", "7", "{", "{\"a\":\"\u{1}\"}"] {
            assert_eq!(body(wrong.as_bytes(), Code::NoActivity).map_err(|_| ()), Err(()), "{wrong}");
        }
        assert!(body(&[0xff, 0xfe], Code::NoRequest).is_err());
    }
}
