//! YAML out: this crate is the one that speaks it.

use serde::Serialize;

/// `value` as YAML text, fields in the order of the type.
///
/// # Errors
/// Why it has no text form.
pub fn to_yaml<T: Serialize>(value: &T) -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_yaml_would_take_for_something_else_are_quoted() {
        let value = serde_json::json!({"on": "yes", "number": "30", "text": "a: b"});
        let text = to_yaml(&value).unwrap();
        let back: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(back, value, "{text}");
    }
}
