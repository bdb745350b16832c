//! Conditional requests (RFC 9110, 13.1): `If-Match` and `If-None-Match`.

use hyper::header::HeaderValue;
use sidegrid_core::Version;
use sidegrid_core::operation::Condition;

use super::fields::{Field, Fields};
use super::grammar::{self, Reader};
use super::problem::Problem;

/// Most tags of one field that can be ours.
const MAX_TAGS: usize = 64;

/// The tags of one field, as far as they can be ours; tags of another form match nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    /// No such field.
    None,
    /// `*`
    Any,
    /// The list. The flag: weak (`W/`).
    List(Vec<(Version, bool)>),
}

impl Tags {
    /// Reads a field.
    ///
    /// # Errors
    /// A broken list, or too long a one.
    pub(crate) fn of(fields: &Fields<'_>, field: Field) -> Result<Tags, Problem> {
        if !fields.has(field) {
            return Ok(Tags::None);
        }
        let mut lines = fields.lines(field);
        // `*` stands alone: with anything beside it, it is no list.
        if let (Some(line), None) = (lines.next(), lines.next())
            && is_star(line)
        {
            return Ok(Tags::Any);
        }
        let tags = grammar::list(fields.lines(field), Reader::entity_tag)
            .ok_or_else(|| Problem::header(field.name(), "give *, or ETags in double quotes, separated by commas"))?;
        let ours: Vec<_> = tags.iter().filter_map(|tag| Some((version(tag.opaque)?, tag.weak))).collect();
        if ours.len() > MAX_TAGS {
            return Err(Problem::header(field.name(), format_args!("give at most {MAX_TAGS} ETags")));
        }
        Ok(Tags::List(ours))
    }

    fn strong(list: Vec<(Version, bool)>) -> impl Iterator<Item = Version> {
        list.into_iter().filter(|(_, weak)| !weak).map(|(version, _)| version)
    }
}

fn is_star(line: &HeaderValue) -> bool {
    grammar::one(line, |reader| reader.take(b'*').then_some(())).is_some()
}

/// The version that a tag of ours stands for; each has one spelling.
fn version(opaque: &[u8]) -> Option<Version> {
    let text = std::str::from_utf8(opaque).ok()?;
    text.parse::<Version>().ok().filter(|version| version.to_string() == text)
}

/// The condition of a write: `If-Match` first, then `If-None-Match` (RFC 9110, 13.2.2). Decided at the key's primary.
///
/// # Errors
/// Broken lists.
pub(crate) fn of_write(fields: &Fields<'_>) -> Result<Condition, Problem> {
    let if_match = Tags::of(fields, Field::IfMatch)?;
    let none_of = Tags::of(fields, Field::IfNoneMatch)?;
    // Compared strongly: a weak tag never matches.
    let must_match = match if_match {
        Tags::None => None,
        Tags::Any => Some(None),
        Tags::List(list) => Some(Some(Tags::strong(list))),
    };
    Ok(match (must_match, none_of) {
        (None, Tags::None) => Condition::Always,
        (None, Tags::Any) => Condition::Absent,
        (None, Tags::List(none_of)) => match none_of.is_empty() {
            true => Condition::Always,
            false => Condition::MatchesNone(none_of.into_iter().map(|(v, _)| v).collect()),
        },
        (Some(None), Tags::None) => Condition::Present,
        (Some(Some(list)), Tags::None) => Condition::Matches(list.collect()),
        // There and not there: no entry fits.
        (Some(_), Tags::Any) => Condition::Matches(Default::default()),
        (Some(None), Tags::List(none_of)) => Condition::PresentNone(none_of.into_iter().map(|(v, _)| v).collect()),
        (Some(Some(list)), Tags::List(none_of)) => {
            Condition::Matches(list.filter(|v| !none_of.iter().any(|(other, _)| other == v)).collect())
        }
    })
}

/// What a read's conditions come to for an entry of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadVerdict {
    /// Answer with the entry.
    Send,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// The conditions of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadConditions {
    if_match: Tags,
    if_none_match: Tags,
}

impl ReadConditions {
    /// Reads them.
    ///
    /// # Errors
    /// Broken lists.
    pub(crate) fn of(fields: &Fields<'_>) -> Result<ReadConditions, Problem> {
        Ok(ReadConditions {
            if_match: Tags::of(fields, Field::IfMatch)?,
            if_none_match: Tags::of(fields, Field::IfNoneMatch)?,
        })
    }

    /// Decides them for an entry of this version.
    pub(crate) fn verdict(&self, current: Version) -> ReadVerdict {
        // `If-Match` compares strongly, `If-None-Match` weakly.
        if let Tags::List(list) = &self.if_match
            && !list.iter().any(|&(v, weak)| !weak && v == current)
        {
            return ReadVerdict::Failed;
        }
        match &self.if_none_match {
            Tags::Any => ReadVerdict::NotModified,
            Tags::List(list) if list.iter().any(|&(v, _)| v == current) => ReadVerdict::NotModified,
            Tags::List(_) | Tags::None => ReadVerdict::Send,
        }
    }
}

#[cfg(test)]
mod unit {
    use hyper::HeaderMap;
    use sidegrid_core::ViewNumber;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn tags(values: &[&str]) -> Result<Tags, String> {
        let headers = headers(&values.iter().map(|v| ("if-match", *v)).collect::<Vec<_>>());
        Tags::of(&Fields::of(&headers).unwrap(), Field::IfMatch).map_err(|p| p.detail.into_owned())
    }

    fn version(view: u64, counter: u64) -> Version {
        Version { view: ViewNumber(view), counter }
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(tags(&[]), Ok(Tags::None));
        assert_eq!(tags(&["*"]), Ok(Tags::Any));
        assert_eq!(tags(&["\t* "]), Ok(Tags::Any));
        assert_eq!(tags(&["\"1-2\","]), Ok(Tags::List(vec![(version(1, 2), false)])));
        assert_eq!(
            tags(&["\"1-2\", W/\"3-4\"", "\"5-6\""]),
            Ok(Tags::List(vec![(version(1, 2), false), (version(3, 4), true), (version(5, 6), false)]))
        );
    }

    #[test]
    fn foreign_tags_match_nothing_and_are_no_error() {
        assert_eq!(tags(&["\"abc\", \"01-2\", \"+1-2\", \"\", \"1-2,*\""]), Ok(Tags::List(vec![])));
        assert_eq!(tags(&[""]), Ok(Tags::List(vec![])));
    }

    #[test]
    fn broken_lists_are_errors() {
        for broken in ["1-2", "\"1-2", "*, \"1-2\"", "*,", "**", "\"a\"b\"", "w/\"1-2\""] {
            assert!(tags(&[broken]).is_err(), "{broken}");
        }
        assert!(tags(&["*", "*"]).is_err());
        assert!(tags(&["*", ""]).is_err());
        let many = |count| tags(&[&vec!["\"1-2\""; count].join(",")]);
        assert!(many(MAX_TAGS).is_ok());
        assert_eq!(many(MAX_TAGS + 1).unwrap_err(), "If-Match: give at most 64 ETags");
    }

    /// RFC 9110, 13.2.2: each pair comes to what evaluating one field after the other comes to.
    #[test]
    fn both_fields_of_a_write_are_one_after_the_other() {
        let (a, b) = (version(1, 1), version(1, 2));
        let values =
            [None, Some("*"), Some(""), Some("\"1-1\""), Some("\"1-1\", \"1-2\""), Some("W/\"1-1\""), Some("\"x\"")];
        let matches = |value: &str, current: Option<Version>, strong: bool| {
            current.is_some_and(|v| {
                value == "*"
                    || value.split(", ").any(|t| t == format!("\"{v}\"") || (!strong && t == format!("W/\"{v}\"")))
            })
        };
        for if_match in values {
            for if_none_match in values {
                let lines = [("if-match", if_match), ("if-none-match", if_none_match)];
                let lines: Vec<_> = lines.iter().filter_map(|(n, v)| Some((*n, (*v)?))).collect();
                let headers = headers(&lines);
                let condition = of_write(&Fields::of(&headers).unwrap()).unwrap();
                for current in [None, Some(a), Some(b)] {
                    let expected = if_match.is_none_or(|v| matches(v, current, true))
                        && !if_none_match.is_some_and(|v| matches(v, current, false));
                    let holds = match &condition {
                        Condition::Always => true,
                        Condition::Absent => current.is_none(),
                        Condition::Present => current.is_some(),
                        Condition::Matches(tags) => current.is_some_and(|v| tags.contains(&v)),
                        Condition::MatchesNone(tags) => !current.is_some_and(|v| tags.contains(&v)),
                        Condition::PresentNone(tags) => current.is_some_and(|v| !tags.contains(&v)),
                    };
                    assert_eq!(holds, expected, "{if_match:?} {if_none_match:?} {current:?} {condition:?}");
                }
            }
        }
    }
}
