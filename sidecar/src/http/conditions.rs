//! Conditional requests (RFC 9110, 13.1): `If-Match` and `If-None-Match`.

use hyper::header::HeaderValue;
use sidegrid_core::Version;
use sidegrid_core::operation::Condition;

use super::fields::Fields;
use super::problem::Problem;

/// Most tags of one header.
const MAX_TAGS: usize = 64;

/// A list of tags, as far as they can be ours; tags of another form match nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    /// No such header.
    None,
    /// `*`
    Any,
    /// The list. The flag: weak (`W/`).
    List(Vec<(Version, bool)>),
}

impl Tags {
    /// Reads the values of one header.
    ///
    /// # Errors
    /// A broken list, or too long a one.
    pub(crate) fn of(name: &'static str, values: &[&HeaderValue]) -> Result<Tags, Problem> {
        if values.is_empty() {
            return Ok(Tags::None);
        }
        let wrong = || Problem::header(name, "give *, or ETags in double quotes, separated by commas");
        let mut list = Vec::new();
        let mut any = false;
        for value in values {
            for part in value.to_str().map_err(|_| wrong())?.split(',').map(str::trim) {
                if part == "*" {
                    any = true;
                    continue;
                }
                let (weak, quoted) = part.strip_prefix("W/").map_or((false, part), |q| (true, q));
                let tag = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"')).ok_or_else(wrong)?;
                if tag.contains('"') || list.len() >= MAX_TAGS {
                    return Err(wrong());
                }
                list.extend(tag.parse::<Version>().ok().filter(|v| v.to_string() == tag).map(|v| (v, weak)));
            }
        }
        match (any, list.is_empty() && values.len() == 1) {
            (true, true) => Ok(Tags::Any),
            (true, false) => Err(wrong()),
            (false, _) => Ok(Tags::List(list)),
        }
    }

    fn strong(list: Vec<(Version, bool)>) -> impl Iterator<Item = Version> {
        list.into_iter().filter(|(_, weak)| !weak).map(|(version, _)| version)
    }
}

/// The condition of a write. Decided at the key's primary.
///
/// # Errors
/// Broken lists, or both headers at once.
pub(crate) fn of_write(fields: &Fields<'_>) -> Result<Condition, Problem> {
    if fields.if_match.is_empty() && fields.if_none_match.is_empty() {
        return Ok(Condition::Always);
    }
    let if_match = Tags::of("If-Match", &fields.if_match)?;
    let if_none_match = Tags::of("If-None-Match", &fields.if_none_match)?;
    Ok(match (if_match, if_none_match) {
        (Tags::None, Tags::None) => Condition::Always,
        (Tags::Any, Tags::None) => Condition::Present,
        // Compared strongly: a weak tag never matches.
        (Tags::List(list), Tags::None) => Condition::Matches(Tags::strong(list).collect()),
        (Tags::None, Tags::Any) => Condition::Absent,
        (Tags::None, Tags::List(list)) => Condition::MatchesNone(list.into_iter().map(|(v, _)| v).collect()),
        _ => return Err(Problem::header("If-None-Match", "can't be given together with If-Match")),
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
            if_match: Tags::of("If-Match", &fields.if_match)?,
            if_none_match: Tags::of("If-None-Match", &fields.if_none_match)?,
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
    use sidegrid_core::ViewNumber;

    use super::*;

    fn tags(values: &[&'static str]) -> Result<Tags, String> {
        let values: Vec<HeaderValue> = values.iter().map(|v| HeaderValue::from_static(v)).collect();
        Tags::of("If-Match", &values.iter().collect::<Vec<_>>()).map_err(|p| p.detail.into_owned())
    }

    fn version(view: u64, counter: u64) -> Version {
        Version { view: ViewNumber(view), counter }
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(tags(&[]), Ok(Tags::None));
        assert_eq!(tags(&["*"]), Ok(Tags::Any));
        assert_eq!(tags(&["\"1-2\""]), Ok(Tags::List(vec![(version(1, 2), false)])));
        assert_eq!(
            tags(&["\"1-2\", W/\"3-4\"", "\"5-6\""]),
            Ok(Tags::List(vec![(version(1, 2), false), (version(3, 4), true), (version(5, 6), false)]))
        );
    }

    #[test]
    fn foreign_tags_match_nothing_and_are_no_fault() {
        assert_eq!(tags(&["\"abc\", \"01-2\", \"+1-2\", \"\""]), Ok(Tags::List(vec![])));
    }

    #[test]
    fn broken_lists_are_faults() {
        for broken in ["1-2", "\"1-2", "", "\"1-2\",", "*, \"1-2\"", "\"a\"b\""] {
            let value = HeaderValue::from_static(broken);
            assert!(Tags::of("If-Match", &[&value]).is_err(), "{broken}");
        }
        assert!(tags(&["*", "*"]).is_err());
        let many = vec!["\"1-2\""; MAX_TAGS + 1].join(",");
        assert!(Tags::of("If-Match", &[&HeaderValue::from_str(&many).unwrap()]).is_err());
    }
}
