//! What texts may not say, and whether what they point to is there.

use std::collections::BTreeSet;

use crate::Violations;
use crate::repository::SourceFile;

/// Lock files are written by tools, which name where things came from.
fn is_written_by_tools(file: &SourceFile) -> bool {
    ["Cargo.lock", "go.sum"].contains(&file.name())
}

/// Host names of package registries, and other names of one workplace. A mirror may stand in for any registry, so a
/// text that names one is wrong somewhere.
///
/// Put together from parts, so that this file keeps the rule itself.
fn foreign_names() -> Vec<String> {
    let hosts: [&[&str]; 12] = [
        &["crates", "io"],
        &["static", "crates", "io"],
        &["proxy", "golang", "org"],
        &["sum", "golang", "org"],
        &["pypi", "org"],
        &["registry", "npmjs", "org"],
        &["repo1", "maven", "org"],
        &["repo", "maven", "apache", "org"],
        &["deb", "debian", "org"],
        &["security", "debian", "org"],
        &["archive", "ubuntu", "com"],
        &["ftp", "debian", "org"],
    ];
    let mut names: Vec<String> = hosts.iter().map(|parts| parts.join(".")).collect();
    names.push(["farm", "studio"].join("-"));
    names
}

/// Roots of absolute paths that exist on one machine only.
const PRIVATE_ROOTS: [&str; 4] = ["/work/", "/root/", "/home/", "/Users/"];

/// Registry hosts and absolute paths of one machine.
#[must_use]
pub fn of_one_workplace(files: &[SourceFile]) -> Violations {
    let names = foreign_names();
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| !is_written_by_tools(f)) {
        // The list above is exempt from itself.
        let lists_roots = file.path == "tests/house/src/texts.rs" || file.path == "tests/house/tests/texts.rs";
        for (number, line) in file.text.lines().enumerate() {
            if let Some(name) = names.iter().find(|name| line.contains(name.as_str())) {
                faults.push(format!("{}:{}: names {name}", file.path, number + 1));
            }
            if let Some(root) = PRIVATE_ROOTS.iter().find(|root| !lists_roots && has_path(line, root)) {
                faults.push(format!("{}:{}: a path of one machine under {root}", file.path, number + 1));
            }
        }
    }
    faults
}

/// Whether an absolute path under `root` begins somewhere in the line, rather than a part of a longer path or URL.
fn has_path(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "})]*._-/~$".contains(c)))
    })
}

/// Markdown links to files or headings that are not there, and mentions of `docs/…` files that are not there.
#[must_use]
pub fn dangling(files: &[SourceFile]) -> Violations {
    let paths: BTreeSet<&str> = files.iter().map(|f| f.path.as_str()).collect();
    let is_there = |path: &str| paths.contains(path) || paths.iter().any(|p| p.starts_with(&format!("{path}/")));
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| !is_written_by_tools(f) && !f.path.starts_with("tests/house/")) {
        for mention in mentions_of_docs(&file.text) {
            if !is_there(&mention) {
                faults.push(format!("{}: {mention} is not there", file.path));
            }
        }
        if !file.has_extension("md") {
            continue;
        }
        for link in links(&file.text) {
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = if target.is_empty() { file.path.clone() } else { resolve(&file.path, target) };
            if !is_there(&path) {
                faults.push(format!("{}: link to {link}: {path} is not there", file.path));
            } else if !anchor.is_empty() && !has_heading(files, &path, anchor) {
                faults.push(format!("{}: link to {link}: no such heading in {path}", file.path));
            }
        }
    }
    faults
}

/// Targets of inline Markdown links that lead into the repository.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty() {
                links.push(target.to_owned());
            }
        }
    }
    links
}

/// Paths like `docs/NAME.md` in any text.
fn mentions_of_docs(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("docs/") {
        let before = text[..at].chars().next_back();
        // A part of a longer path or of a URL is somebody else's.
        if before.is_some_and(|c| c.is_alphanumeric() || "/._-$}".contains(c)) {
            continue;
        }
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c))).unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches(['.', '-', '/']);
        if path.contains('.') {
            found.insert(path.to_owned());
        }
    }
    found
}

fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn has_heading(files: &[SourceFile], path: &str, anchor: &str) -> bool {
    let Some(file) = files.iter().find(|f| f.path == path) else { return false };
    file.text.lines().filter(|l| l.starts_with('#')).any(|l| slug(l.trim_start_matches('#').trim()) == anchor)
}

/// A heading as an anchor: lower case, spaces to hyphens, other punctuation dropped.
fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Entries of a component → file map that are not there: in tables below a heading like "### `folder`: …", the names in
/// backquotes of each first column, which lie in that folder; without a folder in the heading they are whole paths.
#[must_use]
pub fn off_the_map(map: &str, files: &[SourceFile]) -> Violations {
    let is_there = |path: &str| files.iter().any(|f| f.path == path || f.path.starts_with(&format!("{path}/")));
    let mut folder = None;
    let mut faults = Vec::new();
    for line in map.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            folder = Some(quoted(heading).next().map(|name| format!("{name}/")).unwrap_or_default());
        } else if line.starts_with("## ") {
            folder = None;
        }
        let (Some(folder), Some(row)) = (&folder, line.strip_prefix("| ")) else { continue };
        for name in quoted(row.split(" | ").next().unwrap_or_default()) {
            let path = format!("{folder}{}", name.trim_end_matches('/'));
            if !is_there(&path) {
                faults.push(format!("{path}: on the map, but not there"));
            }
        }
    }
    faults
}

/// What a line has in backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The commands of a section's code blocks, one a line; none if the section isn't there.
#[must_use]
pub fn commands(text: &str, heading: &str) -> Option<Vec<String>> {
    let mut lines = text.lines().skip_while(|l| l.trim() != heading);
    lines.next()?;
    let mut commands = Vec::new();
    let mut in_code = false;
    for line in lines.take_while(|l| !l.starts_with("## ")) {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if in_code && !line.trim().is_empty() && !line.trim().starts_with('#') {
            commands.push(line.split('#').next().unwrap_or(line).trim().to_owned());
        }
    }
    Some(commands)
}
