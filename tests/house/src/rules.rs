//! The protocol's rules and who cites them.

use std::collections::{BTreeMap, BTreeSet};

use crate::repository::SourceFile;

/// Where each rule is cited: in code that keeps it, and in tests that would fail without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Citations {
    /// Rule id to the files of the product that cite it.
    pub code: BTreeMap<String, BTreeSet<String>>,
    /// Rule id to the tests that cite it.
    pub tests: BTreeMap<String, BTreeSet<String>>,
}

/// The ids of the rules table, in order: rows that begin `| L-1 |`.
#[must_use]
pub fn of_protocol(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" |").next())
        .filter(|cell| is_id(cell))
        .map(str::to_owned)
        .collect()
}

fn is_id(text: &str) -> bool {
    let Some((letter, number)) = text.split_once('-') else { return false };
    let upper = letter.len() == 1 && letter.bytes().all(|b| b.is_ascii_uppercase());
    upper && (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
}

/// The rule-like words of a comment, among these letters: a letter, a hyphen, one or two digits, standing alone.
fn ids_in(comment: &str, letters: &BTreeSet<char>) -> Vec<String> {
    comment
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .filter(|word| is_id(word) && word.chars().next().is_some_and(|c| letters.contains(&c)))
        .map(str::to_owned)
        .collect()
}

/// The comment of a line, if it has one. Only comments cite: a table of all ids as text proves nothing.
fn comment_of(line: &str) -> Option<&str> {
    // A `//` inside a URL is no comment.
    line.match_indices("//").find(|&(at, _)| at == 0 || !line[..at].ends_with(':')).map(|(at, _)| &line[at..])
}

/// Which lines of a Rust file are in a `#[cfg(test)]` module, one flag a line.
fn test_lines(file: &SourceFile) -> Vec<bool> {
    let whole = file.path.starts_with("tests/")
        || file.path.contains("/tests/")
        || file.name() == "tests.rs"
        || file.name().ends_with("_tests.rs")
        || file.name().ends_with("_test.go");
    let mut flags = Vec::new();
    let mut inside = false;
    for line in file.text.lines() {
        inside = inside || line == "#[cfg(test)]";
        flags.push(whole || inside);
        // rustfmt closes a module of the file's top level in the first column.
        inside = inside && line != "}" && !(line.starts_with("mod ") && line.ends_with(';'));
    }
    flags
}

/// Collects the citations of the product's sources and of all tests, this crate's own apart.
#[must_use]
pub fn citations(files: &[SourceFile], rules: &[String]) -> Citations {
    let letters: BTreeSet<char> = rules.iter().filter_map(|id| id.chars().next()).collect();
    let mut found = Citations::default();
    for file in files {
        let source = file.has_extension("rs") || file.has_extension("go");
        let product = file.path.starts_with("sidecar/");
        let test = file.path.starts_with("tests/") && !file.path.starts_with("tests/house/");
        if !source || !(product || test) {
            continue;
        }
        for (line, in_test) in file.text.lines().zip(test_lines(file)) {
            let Some(comment) = comment_of(line) else { continue };
            for id in ids_in(comment, &letters) {
                let side = if in_test { &mut found.tests } else { &mut found.code };
                side.entry(id).or_default().insert(file.path.clone());
            }
        }
    }
    found
}

/// Rules that no code cites, rules that no test cites, and cited ids that are no rules.
#[must_use]
pub fn uncited(rules: &[String], found: &Citations) -> crate::Violations {
    let mut faults = Vec::new();
    for id in rules {
        if !found.code.contains_key(id) {
            faults.push(format!("{id}: no code under sidecar/ says that it keeps it"));
        }
        if !found.tests.contains_key(id) {
            faults.push(format!("{id}: no test says that it would fail without it"));
        }
    }
    for (id, files) in found.code.iter().chain(&found.tests) {
        if !rules.contains(id) {
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            faults.push(format!("{id}: cited in {} but no rule of docs/PROTOCOL.md", files.join(", ")));
        }
    }
    faults
}
