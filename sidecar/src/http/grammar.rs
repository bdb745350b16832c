//! The grammar of field values (RFC 9110, 5.6 and 8.8.3): the one place where they are taken apart, so that a comma
//! within quotes, an empty element or a second line means the same in every field.

use std::borrow::Cow;

use hyper::header::HeaderValue;

/// Reads one line of a field from its beginning to its end.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// An entity tag (8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag<'a> {
    /// Whether it begins with `W/`.
    pub(crate) weak: bool,
    /// What stands between the quotes. A backslash in it is a character like any other.
    pub(crate) opaque: &'a [u8],
}

/// A name and its value, in quotes or not (5.6.6; also a directive of `Cache-Control`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter<'a> {
    /// As it stands there; compared whatever its case.
    pub(crate) name: &'a str,
    /// Without its quotes; none where no `=` follows the name.
    pub(crate) value: Option<Cow<'a, [u8]>>,
}

/// A media type or a range of them (8.3.1, 12.5.1), with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType<'a> {
    /// `*` for any.
    pub(crate) kind: &'a str,
    /// `*` for any.
    pub(crate) subtype: &'a str,
    /// In their order.
    pub(crate) parameters: Vec<Parameter<'a>>,
}

impl<'a> Reader<'a> {
    /// At the beginning of a line.
    pub(crate) fn of(line: &'a HeaderValue) -> Reader<'a> {
        Reader { rest: line.as_bytes() }
    }

    /// Whether nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Passes optional whitespace: spaces and tabs (5.6.3).
    pub(crate) fn skip_whitespace(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// Takes this byte if it is the next one.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn take_while(&mut self, fits: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !fits(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// A token (5.6.2); none where there is none.
    pub(crate) fn token(&mut self) -> Option<&'a str> {
        let token = self.take_while(is_token_byte);
        // Token bytes are ASCII.
        std::str::from_utf8(token).ok().filter(|token| !token.is_empty())
    }

    /// A quoted string (5.6.4) without its quotes and escapes; none where there is none or its end is missing.
    pub(crate) fn quoted_string(&mut self) -> Option<Cow<'a, [u8]>> {
        if !self.take(b'"') {
            return None;
        }
        let mut text = Cow::Borrowed(self.take_while(is_quoted_byte));
        loop {
            if self.take(b'"') {
                return Some(text);
            }
            if !self.take(b'\\') {
                return None;
            }
            let (&escaped, rest) = self.rest.split_first()?;
            self.rest = rest;
            let whole = text.to_mut();
            // Of what may not stand there the server's parser has refused all but these.
            if escaped == 0x7f || (escaped < 0x20 && escaped != b'\t') {
                return None;
            }
            whole.push(escaped);
            whole.extend_from_slice(self.take_while(is_quoted_byte));
        }
    }

    /// An entity tag (8.8.3); none where there is none.
    pub(crate) fn entity_tag(&mut self) -> Option<EntityTag<'a>> {
        // The `W` is of this case alone.
        let weak = self.take(b'W');
        if weak && !self.take(b'/') {
            return None;
        }
        if !self.take(b'"') {
            return None;
        }
        let opaque = self.take_while(|byte| byte == b'!' || (b'#'..=b'~').contains(&byte) || byte >= 0x80);
        self.take(b'"').then_some(EntityTag { weak, opaque })
    }

    /// A name, and its value where `=` follows without a space.
    pub(crate) fn parameter(&mut self) -> Option<Parameter<'a>> {
        let name = self.token()?;
        if !self.take(b'=') {
            return Some(Parameter { name, value: None });
        }
        let value = match self.token() {
            Some(token) => Cow::Borrowed(token.as_bytes()),
            None => self.quoted_string()?,
        };
        Some(Parameter { name, value: Some(value) })
    }

    /// A media type or range with its parameters.
    pub(crate) fn media_type(&mut self) -> Option<MediaType<'a>> {
        let kind = self.token()?;
        if !self.take(b'/') {
            return None;
        }
        let subtype = self.token()?;
        let mut parameters = Vec::new();
        loop {
            let before = self.clone();
            self.skip_whitespace();
            if !self.take(b';') {
                *self = before;
                return Some(MediaType { kind, subtype, parameters });
            }
            self.skip_whitespace();
            // A semicolon may stand with nothing behind it.
            if self.rest.first().is_some_and(|&byte| is_token_byte(byte)) {
                parameters.push(self.parameter()?);
            }
        }
    }
}

/// The elements of a list field over all its lines, in their order (5.3); empty elements are passed over (5.6.1.2).
/// None when an element is not what `element` reads, or something else than a comma follows one.
pub(crate) fn list<'a, T>(
    lines: impl IntoIterator<Item = &'a HeaderValue>,
    mut element: impl FnMut(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut elements = Vec::new();
    for line in lines {
        let mut reader = Reader::of(line);
        loop {
            reader.skip_whitespace();
            if reader.is_at_end() {
                break;
            }
            if reader.take(b',') {
                continue;
            }
            elements.push(element(&mut reader)?);
            reader.skip_whitespace();
            if !reader.is_at_end() && !reader.take(b',') {
                return None;
            }
        }
    }
    Some(elements)
}

/// A line that is one element and nothing else.
pub(crate) fn one<'a, T>(line: &'a HeaderValue, element: impl FnOnce(&mut Reader<'a>) -> Option<T>) -> Option<T> {
    let mut reader = Reader::of(line);
    reader.skip_whitespace();
    let read = element(&mut reader)?;
    reader.skip_whitespace();
    reader.is_at_end().then_some(read)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What a quoted string holds without an escape.
fn is_quoted_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f)
}

#[cfg(test)]
mod unit {
    use proptest::prelude::*;

    use super::*;

    fn lines(texts: &[&[u8]]) -> Vec<HeaderValue> {
        texts.iter().map(|text| HeaderValue::from_bytes(text).unwrap()).collect()
    }

    fn tags(texts: &[&[u8]]) -> Option<Vec<(bool, Vec<u8>)>> {
        let lines = lines(texts);
        let read = list(&lines, Reader::entity_tag);
        read.map(|tags| tags.into_iter().map(|tag| (tag.weak, tag.opaque.to_vec())).collect())
    }

    #[test]
    fn lists_of_entity_tags_are_read_as_such() {
        let strong = |tag: &[u8]| (false, tag.to_vec());
        type Case<'a> = (&'a [&'a [u8]], Vec<(bool, Vec<u8>)>);
        let cases: [Case<'_>; 9] = [
            (&[b""], vec![]),
            (&[b" , ,\t,"], vec![]),
            (&[b"\"a\","], vec![strong(b"a")]),
            (&[b", \"a\""], vec![strong(b"a")]),
            (&[b"\"x\",, ,\"a\"", b"", b"W/\"b\""], vec![strong(b"x"), strong(b"a"), (true, b"b".to_vec())]),
            (&[b"\"a,b\"\t,\t\"*\""], vec![strong(b"a,b"), strong(b"*")]),
            // There are no escapes in them.
            (&[b"\"a\\\", \"b\""], vec![strong(b"a\\"), strong(b"b")]),
            (&[b"\"\xff\x80\""], vec![strong(b"\xff\x80")]),
            (&[b"\"\""], vec![strong(b"")]),
        ];
        for (texts, expected) in cases {
            assert_eq!(tags(texts), Some(expected), "{texts:?}");
        }
        let broken: [&[u8]; 10] = [
            b"a",
            b"\"a",
            b"a\"",
            b"w/\"a\"",
            b"W\"a\"",
            b"W/ \"a\"",
            b"\"a\"\"b\"",
            b"\"a\" \"b\"",
            b"\"a b\"",
            b"\"a\tb\"",
        ];
        for broken in broken {
            assert_eq!(tags(&[broken]), None, "{}", String::from_utf8_lossy(broken));
        }
        assert_eq!(tags(&[b"\"a", b"b\""]), None, "a tag does not go on in the next line");
    }

    #[test]
    fn words_in_quotes_lose_quotes_and_escapes() {
        let read = |text: &[u8]| {
            let line = HeaderValue::from_bytes(text).unwrap();
            one(&line, Reader::quoted_string).map(Cow::into_owned)
        };
        assert_eq!(read(b"\"a, b\"").unwrap(), b"a, b");
        assert_eq!(read(b" \"a\\\"\\b\\\\\xe9\" ").unwrap(), b"a\"b\\\xe9");
        assert_eq!(read(b"\"\"").unwrap(), b"");
        for broken in [&b"\"a"[..], b"\"a\\", b"\"a\\\"", b"a", b"\"a\"b", b""] {
            assert_eq!(read(broken), None, "{}", String::from_utf8_lossy(broken));
        }
    }

    #[test]
    fn media_types_have_parameters_in_any_spacing_that_is_allowed() {
        let read = |text: &'static str| {
            let line = HeaderValue::from_static(text);
            one(&line, Reader::media_type).map(|read| {
                let parameters = read.parameters.iter().map(|p| {
                    let value = p.value.as_deref().map_or("-".into(), |v| String::from_utf8_lossy(v).into_owned());
                    format!("{}={value}", p.name)
                });
                format!("{}/{}:{}", read.kind, read.subtype, parameters.collect::<Vec<_>>().join("&"))
            })
        };
        assert_eq!(read("text/plain").unwrap(), "text/plain:");
        assert_eq!(read("*/*;q=0.1").unwrap(), "*/*:q=0.1");
        assert_eq!(read("text/plain ;\tversion=\"0.0.4\" ; ;q=1;").unwrap(), "text/plain:version=0.0.4&q=1");
        for broken in
            ["text", "text/", "/plain", "text/plain, text/css", "text/plain;a=", "text/plain;a=\"", "text /plain"]
        {
            assert_eq!(read(broken), None, "{broken}");
        }
    }

    proptest! {
        /// Nothing that arrives makes it fail otherwise than by saying none.
        #[test]
        fn any_bytes_are_read_or_refused(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..4)) {
            let lines: Vec<_> = texts.iter().filter_map(|text| HeaderValue::from_bytes(text).ok()).collect();
            let _tags = list(&lines, Reader::entity_tag);
            let _parameters = list(&lines, Reader::parameter);
            let _types = list(&lines, Reader::media_type);
            for line in &lines {
                let _string = one(line, Reader::quoted_string);
            }
        }

        /// However elements are spread over lines, spaced and padded with empty ones, they are the same list.
        #[test]
        fn a_list_is_the_same_however_it_is_written(
            elements in prop::collection::vec(("[a-z,*\\\\\\x80-\\xff]{0,6}", any::<bool>(), 0..4usize, any::<bool>()), 0..8),
        ) {
            let padding = ["", " ", ",", " ,\t, "];
            let mut texts = vec![String::new()];
            for (tag, weak, pad, breaks) in &elements {
                let last = texts.last_mut().unwrap();
                let prefix = if *weak { "W/" } else { "" };
                last.push_str(&format!("{}{prefix}\"{tag}\"{}", padding[*pad], [" ,", ","][pad % 2]));
                if *breaks {
                    texts.push(String::new());
                }
            }
            let texts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
            let expected: Vec<_> = elements.iter().map(|(tag, weak, ..)| (*weak, tag.as_bytes().to_vec())).collect();
            prop_assert_eq!(tags(&texts), Some(expected));
        }

        /// What is put in quotes comes out again.
        #[test]
        fn a_quoted_string_survives(text in prop::collection::vec(prop_oneof![Just(b'\t'), 0x20..0x7fu8, 0x80..=0xffu8], 0..32)) {
            let mut quoted = vec![b'"'];
            for byte in &text {
                if matches!(byte, b'"' | b'\\') {
                    quoted.push(b'\\');
                }
                quoted.push(*byte);
            }
            quoted.push(b'"');
            let line = HeaderValue::from_bytes(&quoted).unwrap();
            prop_assert_eq!(one(&line, Reader::quoted_string).unwrap().into_owned(), text);
        }
    }
}
