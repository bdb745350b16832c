//! "Did you mean".

/// The candidate that `name` most likely stands for, if one is near enough: equal but for case, `-` and `_`, or a
/// typing slip or two away.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer names can't be typing slips of ours, and the distance below is quadratic.
    if name.len() > 128 {
        return None;
    }
    let plain = plain(name);
    let allowed = (plain.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (distance(&plain, &self::plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A name without what people vary.
pub(crate) fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// Edits between two texts: insertions, deletions, replacements, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut before_last = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; width];
        for j in 1..width {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[width - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["owners", "maxEntries", "maxBytes", "ttl", "mode"];
        let near = |name| nearest(name, known.into_iter());
        assert_eq!(near("owner"), Some("owners"));
        assert_eq!(near("onwers"), Some("owners"));
        assert_eq!(near("max-entries"), Some("maxEntries"));
        assert_eq!(near("MAXBYTES"), Some("maxBytes"));
        assert_eq!(near("tll"), Some("ttl"));
        assert_eq!(near("password"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"x".repeat(1000)), None);
    }
}
