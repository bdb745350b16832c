//! Durations and sizes as people write them.

use std::borrow::Cow;
use std::time::Duration;

/// Why a text is no duration or size, as a clause that continues "the value ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(Cow<'static, str>);

const fn wrong(what: &'static str) -> TextError {
    TextError(Cow::Borrowed(what))
}

/// Reads a duration such as `500ms`, `30s`, `5m`, `1h`, `2d` or `1h30m`: whole numbers, each with its unit, from the
/// largest unit to the smallest.
///
/// # Errors
/// What is wrong with it.
pub fn parse_span(text: &str) -> Result<Duration, TextError> {
    let (mut rest, mut total, mut before) = (text, 0_u64, u64::MAX);
    loop {
        let (number, after) = whole(rest)?;
        let (unit, after) = after.split_at(after.bytes().take_while(u8::is_ascii_alphabetic).count());
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if after.is_empty() => {
                return Err(TextError(Cow::Owned(format!("has no unit (in seconds it is {text}s)"))));
            }
            _ => return Err(wrong("has an unknown unit")),
        };
        if millis >= before {
            return Err(wrong("has a unit twice or a smaller one before a larger"));
        }
        before = millis;
        total = number.checked_mul(millis).and_then(|n| total.checked_add(n)).ok_or(wrong("is too large"))?;
        if after.is_empty() {
            return Ok(Duration::from_millis(total));
        }
        rest = after;
    }
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

/// Reads a size such as `512`, `64KiB`, `64MiB` or `2GiB` (powers of 1,024), `kB`, `MB` or `GB` (powers of 1,000), or a
/// quantity of Kubernetes: `64Mi`, `1.5Gi`, `500M`, `1e9`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_size(text: &str) -> Result<u64, TextError> {
    let (whole_part, after) = digits(text)?;
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => digits(after)?,
        None => ("", after),
    };
    // In steps of a tenth, hundredth, ... of a byte, so that 1.5Gi is exact.
    let number = [whole_part, fraction].concat().parse::<u128>().map_err(|_| wrong("is too large"))?;
    let places = i32::try_from(fraction.len()).map_err(|_| wrong("is too large"))?;
    let exponent = after.strip_prefix(['e', 'E']).and_then(|text| text.parse::<i32>().ok());
    let (factor, tens) = match exponent {
        Some(exponent) => (1, exponent),
        None => size_unit(after).ok_or(wrong("has an unknown unit"))?,
    };
    let number = number.checked_mul(factor).ok_or(wrong("is too large"))?;
    let power = tens.saturating_sub(places);
    let scale = 10_u128.checked_pow(power.unsigned_abs());
    let bytes = match scale {
        _ if number == 0 => 0,
        Some(scale) if power >= 0 => number.checked_mul(scale).ok_or(wrong("is too large"))?,
        None if power >= 0 => return Err(wrong("is too large")),
        Some(scale) if number.is_multiple_of(scale) => number / scale,
        _ => return Err(wrong("is not a whole number of bytes")),
    };
    u64::try_from(bytes).map_err(|_| wrong("is too large"))
}

/// What a unit of size multiplies by, and by which power of ten beside it.
fn size_unit(unit: &str) -> Option<(u128, i32)> {
    Some(match unit {
        "" | "B" => (1, 0),
        "Ki" | "KiB" => (1 << 10, 0),
        "Mi" | "MiB" => (1 << 20, 0),
        "Gi" | "GiB" => (1 << 30, 0),
        "Ti" | "TiB" => (1 << 40, 0),
        "Pi" | "PiB" => (1 << 50, 0),
        "Ei" | "EiB" => (1 << 60, 0),
        "m" => (1, -3),
        "k" | "kB" | "KB" => (1, 3),
        "M" | "MB" => (1, 6),
        "G" | "GB" => (1, 9),
        "T" | "TB" => (1, 12),
        "P" | "PB" => (1, 15),
        "E" | "EB" => (1, 18),
        _ => return None,
    })
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

/// The digits that a text begins with, and what follows them.
fn digits(text: &str) -> Result<(&str, &str), TextError> {
    let parts = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    if parts.0.is_empty() { Err(wrong("does not begin with a whole number")) } else { Ok(parts) }
}

/// The number that a text begins with, and what follows it.
fn whole(text: &str) -> Result<(u64, &str), TextError> {
    let (number, after) = digits(text)?;
    Ok((number.parse().map_err(|_| wrong("is too large"))?, after))
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

    fn span(text: &str) -> Result<u128, String> {
        parse_span(text).map(|span| span.as_millis()).map_err(|wrong| wrong.to_string())
    }

    fn size(text: &str) -> Result<u64, String> {
        parse_size(text).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn durations_may_be_of_several_units() {
        assert_eq!(span("1h30m"), Ok(5_400_000));
        assert_eq!(span("1d2h3m4s5ms"), Ok(93_784_005));
        assert_eq!(span("0h90s"), Ok(90_000));
        for disordered in ["30m1h", "1h1h", "5ms1s"] {
            assert_eq!(span(disordered), Err("has a unit twice or a smaller one before a larger".into()));
        }
        assert_eq!(span("1h30"), Err("has no unit (in seconds it is 1h30s)".into()));
    }

    #[test]
    fn wrong_durations_say_why() {
        assert_eq!(span("30"), Err("has no unit (in seconds it is 30s)".into()));
        for unknown in ["30w", "1.5s", "30S", "30 s", "30µs"] {
            assert_eq!(span(unknown), Err("has an unknown unit".into()), "{unknown}");
        }
        for no_number in ["-1s", "", "s", " 1s", "1h-1m"] {
            assert_eq!(span(no_number), Err("does not begin with a whole number".into()), "{no_number}");
        }
        for large in ["99999999999999999999s", "18446744073709551615d", "213503982334d300000000000h"] {
            assert_eq!(span(large), Err("is too large".into()), "{large}");
        }
    }

    #[test]
    fn sizes_read_back() {
        for (text, bytes) in [("512", 512), ("64KiB", 64 << 10), ("64MiB", 64 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(size("1MB"), Ok(1_000_000));
        for unknown in ["1Mb", "1K", "1mi", "1MI", "64 MiB", "1e", "15e-1k", "1.5Gi ", "1E1.5"] {
            assert_eq!(size(unknown), Err("has an unknown unit".into()), "{unknown}");
        }
        for large in ["99999999TiB", "16Ei", "1e20", "1e99999", "99999999999999999999999999999999999999999"] {
            assert_eq!(size(large), Err("is too large".into()), "{large}");
        }
    }

    #[test]
    fn quantities_of_kubernetes_are_sizes() {
        let cases = [
            ("64Mi", 64 << 20),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("500M", 500_000_000),
            ("1k", 1_000),
            ("1e9", 1_000_000_000),
            ("12E2", 1_200),
            ("1.5e3", 1_500),
            ("1E", 1_000_000_000_000_000_000),
            ("128974848000m", 128_974_848),
            ("1000m", 1),
            ("0.5Ki", 512),
            ("0", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for broken in ["1.5", "500m", "0.1Ki", "1e-1"] {
            assert_eq!(size(broken), Err("is not a whole number of bytes".into()), "{broken}");
        }
        for no_number in ["", ".5Gi", "1.Gi", "-1Mi", "Mi"] {
            assert_eq!(size(no_number), Err("does not begin with a whole number".into()), "{no_number}");
        }
    }
}
