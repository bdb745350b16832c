//! What the Makefile offers, what it says of it, and what texts take it to offer.

use std::collections::BTreeSet;

use crate::Violations;
use crate::repository::SourceFile;

/// The targets that a person may ask for: rules whose name is a word.
#[must_use]
pub fn targets(makefile: &str) -> BTreeSet<String> {
    let rules = makefile.lines().filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        // `NAME := value` is no rule.
        (!rest.starts_with('=')).then_some(name)
    });
    rules.filter(|name| is_word(name)).map(str::to_owned).collect()
}

fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Targets that the help doesn't show, or shows without a word on what they do.
#[must_use]
pub fn unexplained(makefile: &str, help: &str) -> Violations {
    let shown = |target: &str| {
        help.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(target) && words.next().is_some()
        })
    };
    let missing = targets(makefile).into_iter().filter(|target| !shown(target));
    missing.map(|target| format!("make help says nothing of `{target}`: give it a `##` comment")).collect()
}

/// Texts that tell a reader to run a target that isn't there: `make NAME` in backquotes or in a code block.
#[must_use]
pub fn unknown_targets(makefile: &str, files: &[SourceFile]) -> Violations {
    let targets = targets(makefile);
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| f.has_extension("md")) {
        let mut in_code = false;
        for line in file.text.lines() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
                continue;
            }
            let pieces: Vec<&str> =
                if in_code { vec![line.trim()] } else { line.split('`').skip(1).step_by(2).collect() };
            for piece in pieces {
                let mut words = piece.split_whitespace().skip_while(|word| word.contains('='));
                let target = (words.next() == Some("make")).then(|| words.next()).flatten();
                if let Some(target) = target.filter(|t| is_word(t) && !targets.contains(*t)) {
                    faults.push(format!("{}: `make {target}` is not there", file.path));
                }
            }
        }
    }
    faults
}
