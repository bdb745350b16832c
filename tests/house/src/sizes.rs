//! How large a file may be, and what it may be called.

use crate::Violations;
use crate::repository::SourceFile;

/// Lines that no source file passes.
pub const LINES_AT_MOST: usize = 800;
/// Lines that a source file keeps to as a habit.
pub const LINES_BY_HABIT: usize = 500;
/// Lines that no `main.rs` passes: it reads as a story.
pub const MAIN_LINES_AT_MOST: usize = 130;

/// Words that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "helpers", "helper", "manager", "managers", "misc", "common"];

fn is_source(file: &SourceFile) -> bool {
    ["rs", "go", "sh"].iter().any(|extension| file.has_extension(extension))
}

/// Files past the hard bounds.
#[must_use]
pub fn too_long(files: &[SourceFile]) -> Violations {
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| is_source(f)) {
        let lines = file.text.lines().count();
        let bound = if file.name() == "main.rs" { MAIN_LINES_AT_MOST } else { LINES_AT_MOST };
        if lines > bound {
            faults.push(format!("{}: {lines} lines, at most {bound}; split it by meaning", file.path));
        }
    }
    faults
}

/// Files past the habit but not the hard bound, as `path: lines`.
#[must_use]
pub fn past_the_habit(files: &[SourceFile]) -> Vec<String> {
    files
        .iter()
        .filter(|f| is_source(f))
        .map(|f| (f, f.text.lines().count()))
        .filter(|&(_, lines)| lines > LINES_BY_HABIT)
        .map(|(f, lines)| format!("{}: {lines}", f.path))
        .collect()
}

/// Source files and folders with a name that says nothing, and `mod.rs`.
#[must_use]
pub fn badly_named(files: &[SourceFile]) -> Violations {
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| is_source(f)) {
        if file.name() == "mod.rs" {
            faults.push(format!("{}: name the module's file after the module", file.path));
        }
        for part in file.path.split('/') {
            let stem = part.split('.').next().unwrap_or(part);
            if stem.split(['_', '-']).any(|word| EMPTY_NAMES.contains(&word)) {
                faults.push(format!("{}: `{stem}` doesn't say what it holds", file.path));
            }
        }
    }
    faults
}

/// Source files that put work off, or leave code commented out.
#[must_use]
pub fn unfinished(files: &[SourceFile]) -> Violations {
    // Taken apart, so that this file doesn't name them itself.
    let marks =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X:"].concat(), ["unimpl", "emented!("].concat()];
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| is_source(f) || f.name() == "Makefile") {
        for (number, line) in file.text.lines().enumerate() {
            let commented_code = file.has_extension("rs") && is_commented_code(line);
            if commented_code || marks.iter().any(|mark| line.contains(mark.as_str())) {
                faults.push(format!("{}:{}: unfinished or commented out: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    faults
}

/// A plain comment that ends like a statement and begins like one.
fn is_commented_code(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("// ") else { return false };
    let begins =
        ["let ", "use ", "pub ", "fn ", "return ", "self.", "if let "].iter().any(|word| comment.starts_with(word));
    // Prose may begin with these words too, and end in a semicolon.
    let looks_like_code = [" = ", "(", "::"].iter().any(|mark| comment.contains(mark));
    begins && looks_like_code && (comment.ends_with(';') || comment.ends_with('{'))
}
