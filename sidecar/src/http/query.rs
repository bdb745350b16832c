//! Query parameters: each known, each given once, each of the right form.

use std::borrow::Cow;
use std::time::Duration;

use super::problem::{Problem, ProblemType};
use super::route::decode;

/// Most parameters of one request.
const MAX_PARAMETERS: usize = 16;

/// Parameters that are announced and not built.
const NOT_YET: &[&str] = &["maxIdle", "maxStaleness", "fill", "wait"];

/// Longest time to live: ten years.
pub(super) const MAX_TTL: Duration = Duration::from_secs(3_650 * 86_400);

/// The parameters of one request, as far as they are known to its handler.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    pairs: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Reads a query, of which the handler knows these `names`.
    ///
    /// # Errors
    /// An unknown name, one given twice, one that is not available yet, or a broken encoding; each is named.
    pub(crate) fn of(query: Option<&'a str>, names: &[&'static str]) -> Result<Query<'a>, Problem> {
        let mut read = Query::default();
        let Some(query) = query.filter(|q| !q.is_empty()) else { return Ok(read) };
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if NOT_YET.contains(&name) {
                return Err(Problem::new(
                    ProblemType::NotAvailableYet,
                    format!("the parameter {name} is not available yet"),
                ));
            }
            if !names.contains(&name) {
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(Problem::parameter(name, format_args!("is unknown here; known: {known}")));
            }
            if read.get(name).is_some() || read.pairs.len() >= MAX_PARAMETERS {
                return Err(Problem::parameter(name, "is given twice"));
            }
            let value = match decode(value, true) {
                Some(Cow::Borrowed(bytes)) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
                Some(Cow::Owned(bytes)) => String::from_utf8(bytes).ok().map(Cow::Owned),
                None => None,
            };
            let value = value.ok_or_else(|| Problem::parameter(name, "is not percent-encoded UTF-8"))?;
            read.pairs.push((name, value));
        }
        Ok(read)
    }

    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_ref())
    }

    /// `ttl`, between a millisecond and ten years.
    ///
    /// # Errors
    /// A value that is no duration or out of range.
    pub(crate) fn ttl(&self) -> Result<Option<Duration>, Problem> {
        let Some(text) = self.get("ttl") else { return Ok(None) };
        let give = "give a whole number and a unit, 1ms to 3650d, such as 30s";
        match sidegrid_config::parse_span(text) {
            Ok(span) if span.is_zero() || span > MAX_TTL => Err(Problem::parameter(
                "ttl",
                format_args!("{} is out of range; {give}", super::problem::shortened(text)),
            )),
            Ok(span) => Ok(Some(span)),
            Err(wrong) => {
                Err(Problem::parameter("ttl", format_args!("{:?} {wrong}; {give}", super::problem::shortened(text))))
            }
        }
    }

    /// A signed 64-bit number, or `default` when it is not given.
    ///
    /// # Errors
    /// A value that is no such number.
    pub(crate) fn number(&self, name: &str, default: i64) -> Result<i64, Problem> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().map_err(|_| Problem::parameter(name, "is not a whole number of 64 bits"))
    }

    /// Whether `return=previous` was given.
    ///
    /// # Errors
    /// Any other value of `return`.
    pub(crate) fn returns_previous(&self) -> Result<bool, Problem> {
        match self.get("return") {
            None => Ok(false),
            Some("previous") => Ok(true),
            Some(_) => Err(Problem::parameter("return", "has an unknown value; give previous")),
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn detail(query: &str, names: &[&'static str]) -> String {
        Query::of(Some(query), names).map(|q| format!("{q:?}")).unwrap_or_else(|p| p.detail.into_owned())
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(detail("tll=1s", &["ttl", "return"]), "tll: is unknown here; known: ttl, return");
        assert_eq!(detail("a", &[]), "a: is unknown here; known: none");
        assert_eq!(detail("ttl=1s&ttl=2s", &["ttl"]), "ttl: is given twice");
        assert_eq!(detail("ttl=%ff", &["ttl"]), "ttl: is not percent-encoded UTF-8");
        assert_eq!(detail("ttl=%f", &["ttl"]), "ttl: is not percent-encoded UTF-8");
        assert_eq!(detail("maxIdle=5m", &["ttl"]), "the parameter maxIdle is not available yet");
    }

    #[test]
    fn values_have_forms_and_bounds() {
        let ttl = |text: &str| Query::of(Some(text), &["ttl"]).unwrap().ttl().map_err(|p| p.detail.into_owned());
        assert_eq!(ttl("ttl=30s"), Ok(Some(Duration::from_secs(30))));
        assert_eq!(ttl(""), Ok(None));
        assert!(ttl("ttl=0s").unwrap_err().contains("ttl: 0s is out of range"));
        assert!(ttl("ttl=99999d").unwrap_err().contains("out of range"));
        assert!(ttl("ttl=30").unwrap_err().contains("has no unit"));
        assert!(ttl("ttl=").unwrap_err().contains("does not begin with a whole number"));
        let by = |text: &str| Query::of(Some(text), &["by"]).unwrap().number("by", 1).ok();
        assert_eq!(by("by=-2"), Some(-2));
        assert_eq!(by("by=9223372036854775808"), None);
        assert_eq!(by(""), Some(1));
        assert!(Query::of(Some("return=all"), &["return"]).unwrap().returns_previous().is_err());
    }
}
