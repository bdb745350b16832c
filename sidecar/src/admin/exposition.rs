//! The two text formats of metrics, and which of them a scraper asks for (RFC 9110, 12.5.1).

use std::collections::HashSet;

use crate::http::fields::{Field, Fields};
use crate::http::grammar::{self, MediaType, Reader};

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own: the format of whoever asks for nothing else.
    Classic,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

/// How much a format is wanted: its quality in thousandths, then how exactly the range names it.
type Weight = (u16, u8);

impl Format {
    /// The `Content-Type` of an answer in it.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that is preferred. `OpenMetrics` must be preferred by name; who accepts neither gets the classic one, as
    /// from the client libraries: a scrape in a format that was not asked for is better than none.
    pub(super) fn preferred(fields: &Fields<'_>) -> Format {
        let ranges = grammar::list(fields.lines(Field::Accept), Reader::media_type).unwrap_or_default();
        if Format::OpenMetrics.weight(&ranges) > Format::Classic.weight(&ranges) {
            Format::OpenMetrics
        } else {
            Format::Classic
        }
    }

    const fn name(self) -> (&'static str, &'static str, &'static [u8]) {
        match self {
            Format::Classic => ("text", "plain", b"0.0.4"),
            Format::OpenMetrics => ("application", "openmetrics-text", b"1.0.0"),
        }
    }

    /// By the range that names it most exactly.
    fn weight(self, ranges: &[MediaType<'_>]) -> Weight {
        let matching = ranges.iter().filter_map(|range| Some((self.exactness(range)?, quality(range)?)));
        matching.max().map_or((0, 0), |(exactness, quality)| (quality, exactness))
    }

    fn exactness(self, range: &MediaType<'_>) -> Option<u8> {
        let (kind, subtype, version) = self.name();
        if (range.kind, range.subtype) == ("*", "*") {
            return Some(0);
        }
        if !range.kind.eq_ignore_ascii_case(kind) {
            return None;
        }
        if range.subtype == "*" {
            return Some(1);
        }
        if !range.subtype.eq_ignore_ascii_case(subtype) {
            return None;
        }
        match parameter(range, "version") {
            None => Some(2),
            Some(asked) if asked == version => Some(3),
            Some(_) => None,
        }
    }

    /// `text`, which is in `OpenMetrics`, in this format.
    pub(super) fn of(self, text: String) -> String {
        match self {
            Format::Classic => classic(&text),
            Format::OpenMetrics => text,
        }
    }
}

fn parameter<'a>(range: &'a MediaType<'_>, name: &str) -> Option<&'a [u8]> {
    range.parameters.iter().find(|p| p.name.eq_ignore_ascii_case(name))?.value.as_deref()
}

/// The quality of a range in thousandths (12.4.2); none when it is no quality, and the range then says nothing.
fn quality(range: &MediaType<'_>) -> Option<u16> {
    let Some(text) = parameter(range, "q") else { return Some(1_000) };
    let (whole, fraction) = match text {
        [whole, b'.', fraction @ ..] => (whole, fraction),
        [whole] => (whole, &[][..]),
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths = [100, 10, 1].iter().zip(fraction).map(|(place, digit)| place * u16::from(digit - b'0')).sum();
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1_000),
        _ => None,
    }
}

/// In the classic format a counter's help and type stand under the name that its samples have, and there is neither unit
/// nor end.
fn classic(open_metrics: &str) -> String {
    let counters: HashSet<&str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].iter().find_map(|kind| Some((*kind, line.strip_prefix(kind)?)));
        match described.and_then(|(kind, rest)| Some((kind, rest.split_once(' ')?))) {
            Some((kind, (name, rest))) if counters.contains(name) => {
                text.extend([kind, name, "_total ", rest, "\n"]);
            }
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

#[cfg(test)]
mod unit {
    use hyper::HeaderMap;
    use hyper::header::{ACCEPT, HeaderValue};

    use super::*;

    fn preferred(lines: &[&'static str]) -> Format {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, HeaderValue::from_static(line));
        }
        Format::preferred(&Fields::of(&headers).unwrap())
    }

    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        let classic: [&[&'static str]; 14] = [
            &[],
            &[""],
            &["*/*"],
            &["text/plain;version=0.0.4"],
            &["text/plain; version=\"0.0.4\"; charset=utf-8, */*;q=0.1"],
            &["text/*"],
            &["text/html", "*/*;q=0.8"],
            &["application/openmetrics-text;version=0.0.1,text/plain;q=0.1"],
            &["application/openmetrics-text;q=0.3, text/plain;q=0.5"],
            &["application/openmetrics-text;q=0, */*;q=0.1"],
            &["application/openmetrics-text, text/plain"],
            &["application/openmetrics-text;q=2"],
            &["image/png"],
            &["application/openmetrics-text;version=\"1.0.0"],
        ];
        for lines in classic {
            assert_eq!(preferred(lines), Format::Classic, "{lines:?}");
        }
        let open_metrics: [&[&'static str]; 7] = [
            &["application/openmetrics-text"],
            &["Application/OpenMetrics-Text; Version=1.0.0"],
            // Prometheus 3.
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            ],
            // Prometheus 2.
            &[
                "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.9,*/*;q=0.1",
            ],
            &["application/*"],
            &["text/plain;q=0.9", "application/openmetrics-text;q=0.901"],
            &["*/*, application/openmetrics-text"],
        ];
        for lines in open_metrics {
            assert_eq!(preferred(lines), Format::OpenMetrics, "{lines:?}");
        }
    }

    #[test]
    fn qualities_have_up_to_three_decimals() {
        let read = |text: &'static str| {
            let line = HeaderValue::from_str(&format!("a/b;q={text}")).unwrap();
            grammar::one(&line, Reader::media_type).as_ref().and_then(quality)
        };
        let cases = [("1", 1_000), ("1.000", 1_000), ("0", 0), ("0.", 0), ("0.5", 500), ("0.05", 50), ("0.005", 5)];
        for (text, thousandths) in cases {
            assert_eq!(read(text), Some(thousandths), "{text}");
        }
        for broken in ["2", "1.001", "0.0001", ".5", "-1", "x", "01", "0.x"] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }

    #[test]
    fn classic_describes_counters_under_the_name_of_their_samples() {
        let open_metrics = "# HELP a Help.\n# TYPE a counter\n# UNIT a bytes\na_total{b=\"# EOF\"} 1\n\
                            # HELP g Gauge.\n# TYPE g gauge\ng 2\n# EOF\n";
        let expected = "# HELP a_total Help.\n# TYPE a_total counter\na_total{b=\"# EOF\"} 1\n\
                        # HELP g Gauge.\n# TYPE g gauge\ng 2\n";
        assert_eq!(Format::Classic.of(open_metrics.to_owned()), expected);
        assert_eq!(Format::OpenMetrics.of(open_metrics.to_owned()), open_metrics);
    }
}
