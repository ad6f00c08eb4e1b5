//! Rich content in words, for whoever shows no structure.

use serde_json::Value;

/// The words of rich content, in their order.
#[must_use]
pub fn words(content: &Value) -> String {
    fn gather(part: &Value, words: &mut Vec<String>) {
        for name in ["text", "title"] {
            words.extend(part[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
        }
        part["elements"].as_array().into_iter().flatten().for_each(|part| gather(part, words));
    }
    let mut words = Vec::new();
    gather(content, &mut words);
    words.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rich_content_is_its_words() {
        let content = json!({"type": "vertical", "elements": [
            {"type": "text", "text": "Which one?"},
            {"type": "image", "url": "https://x.example/i.png"},
            {"type": "horizontal", "elements": [{"type": "button", "title": "This"}, {"type": "button", "title": "That"}]},
        ]});
        assert_eq!(words(&content), "Which one?\nThis\nThat");
        assert_eq!(words(&json!({"type": "image"})), "");
        assert_eq!(words(&json!(null)), "");
    }
}
