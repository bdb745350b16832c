//! Content types of one group: a few texts that most entries share, each held once.

use std::sync::Arc;

use crate::packed::NO_TYPE;

/// Most different texts in the table; further ones are kept in their records.
pub(crate) const MOST_TYPES: usize = 64;

/// The table of one group.
#[derive(Debug, Default)]
pub(crate) struct ContentTypes {
    texts: Vec<Interned>,
}

#[derive(Debug)]
struct Interned {
    text: Arc<str>,
    /// Records that name it; zero: the place is free.
    records: u32,
}

impl ContentTypes {
    /// The number of a text, counted once more; none when the table is full of others.
    pub(crate) fn hold(&mut self, text: &Arc<str>) -> Option<u8> {
        let known = self.texts.iter().position(|held| held.records > 0 && held.text == *text);
        let place = match known.or_else(|| self.texts.iter().position(|held| held.records == 0)) {
            Some(place) => place,
            None if self.texts.len() < MOST_TYPES => {
                self.texts.push(Interned { text: Arc::clone(text), records: 0 });
                self.texts.len() - 1
            }
            None => return None,
        };
        let held = &mut self.texts[place];
        if held.records == 0 {
            held.text = Arc::clone(text);
        }
        held.records += 1;
        u8::try_from(place).ok()
    }

    /// One record less names it.
    pub(crate) fn release(&mut self, number: u8) {
        if number != NO_TYPE {
            self.texts[usize::from(number)].records -= 1;
        }
    }

    /// The text of a number.
    pub(crate) fn text(&self, number: u8) -> Option<Arc<str>> {
        (number != NO_TYPE).then(|| Arc::clone(&self.texts[usize::from(number)].text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_held_once_and_its_place_used_again() {
        let mut types = ContentTypes::default();
        let json: Arc<str> = "application/json".into();
        let first = types.hold(&json).unwrap();
        assert_eq!(types.hold(&"application/json".into()), Some(first));
        for n in 1..MOST_TYPES {
            assert!(types.hold(&format!("x/{n}").into()).is_some());
        }
        assert_eq!(types.hold(&"one/more".into()), None);
        types.release(first);
        assert_eq!(types.hold(&"one/more".into()), None, "one record still names it");
        types.release(first);
        assert_eq!(types.hold(&"one/more".into()), Some(first));
        assert_eq!(types.text(first).as_deref(), Some("one/more"));
        assert_eq!(types.text(NO_TYPE), None);
    }
}
