//! Forms as OAuth's clients send them.

use axum::extract::Query;

/// A form's members; nothing, if it is none.
#[must_use]
pub fn members(text: &str) -> Vec<(String, String)> {
    let request = axum::http::Request::builder().method("GET").uri(format!("/?{}", text.trim())).body(());
    let Ok(request) = request else { return Vec::new() };
    Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map(|query| query.0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_also_where_values_hold_the_sign_between_name_and_value() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(members("a=1&b=x%20y\r\n"), [pair("a", "1"), pair("b", "x y")]);
        assert_eq!(members("secret=ab=="), [pair("secret", "ab==")]);
        assert!(members("{\"a\": \"b c\"}").is_empty());
    }
}
