//! Durations and sizes as people write them.

use std::time::Duration;

/// Reads a duration such as `500ms`, `30s`, `5m`, `1h` or `2d`: a whole number and a unit.
///
/// # Errors
/// What is wrong, as a clause that continues "the value ...".
pub fn parse_span(text: &str) -> Result<Duration, &'static str> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        "" => return Err("has no unit"),
        _ => return Err("has an unknown unit"),
    };
    millis.map(Duration::from_millis).ok_or("is too large")
}

/// Writes a duration in the largest unit that holds it whole. Parts of a millisecond are dropped.
#[must_use]
pub fn format_span(span: Duration) -> String {
    let millis = span.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis != 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

/// Reads a size such as `512`, `64KiB`, `64MiB` or `2GiB`; `kB`, `MB` and `GB` are powers of ten.
///
/// # Errors
/// What is wrong, as a clause that continues "the value ...".
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err("has an unknown unit"),
    };
    number.checked_mul(factor).ok_or("is too large")
}

/// Writes a size in the largest binary unit that holds it whole.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (unit, size) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes != 0 && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

fn split(text: &str) -> Result<(u64, &str), &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("does not begin with a whole number");
    }
    Ok((number.parse().map_err(|_| "is too large")?, unit))
}

macro_rules! text_form {
    ($plain:ident, $optional:ident, $type:ty, $parse:path, $format:path) => {
        pub(crate) mod $plain {
            use serde::de::Error;
            use serde::{Deserialize, Deserializer, Serializer};

            use super::*;

            pub(crate) fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$format(*value))
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(&text).map_err(|problem| D::Error::custom(format_args!("{text} {problem}")))
            }
        }

        pub(crate) mod $optional {
            use serde::de::Error;
            use serde::{Deserialize, Deserializer, Serializer};

            use super::*;

            pub(crate) fn serialize<S: Serializer>(value: &Option<$type>, serializer: S) -> Result<S::Ok, S::Error> {
                match value {
                    Some(value) => serializer.serialize_str(&$format(*value)),
                    None => serializer.serialize_none(),
                }
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<$type>, D::Error> {
                let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
                $parse(&text).map(Some).map_err(|problem| D::Error::custom(format_args!("{text} {problem}")))
            }
        }
    };
}

text_form!(span, optional_span, Duration, parse_span, format_span);
text_form!(size, optional_size, u64, parse_size, format_size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("2d", 172_800_000)]
        {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(millis)));
            assert_eq!(format_span(Duration::from_millis(millis)), text);
        }
        assert_eq!(format_span(Duration::from_millis(90_500)), "90500ms");
        assert_eq!(format_span(Duration::ZERO), "0ms");
    }

    #[test]
    fn wrong_durations_say_why() {
        assert_eq!(parse_span("30"), Err("has no unit"));
        assert_eq!(parse_span("30w"), Err("has an unknown unit"));
        assert_eq!(parse_span("1.5s"), Err("has an unknown unit"));
        assert_eq!(parse_span("-1s"), Err("does not begin with a whole number"));
        assert_eq!(parse_span(""), Err("does not begin with a whole number"));
        assert_eq!(parse_span("99999999999999999999s"), Err("is too large"));
        assert_eq!(parse_span("18446744073709551615d"), Err("is too large"));
    }

    #[test]
    fn sizes_read_back() {
        for (text, bytes) in [("512", 512), ("64KiB", 64 << 10), ("64MiB", 64 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(parse_size("1MB"), Ok(1_000_000));
        assert_eq!(parse_size("1Mb"), Err("has an unknown unit"));
        assert_eq!(parse_size("99999999TiB"), Err("is too large"));
    }
}
