//! The modules of this crate know each other in one direction only: each can be read after those that it uses.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its fixtures too")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use regex::Regex;

fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let named = Regex::new(r"crate::(?:([a-z_0-9]+)|\{([^}]*)\})").unwrap();
    let mut uses = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() || name == "lib" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let found: BTreeSet<String> = named
            .captures_iter(&text)
            .flat_map(|c| {
                c.iter().skip(1).flatten().flat_map(|m| m.as_str().split(',')).map(str::trim).collect::<Vec<_>>()
            })
            .filter_map(|path| path.split("::").next())
            .filter(|module| *module != name && folder.join(format!("{module}.rs")).exists())
            .map(str::to_owned)
            .collect();
        uses.insert(name, found);
    }
    uses
}

#[test]
fn no_module_is_in_a_circle() {
    let mut left = uses();
    assert!(left["mesh"].len() > 5, "{left:?}");
    loop {
        let free: Vec<String> =
            left.iter().filter(|(_, of)| of.iter().all(|m| !left.contains_key(m))).map(|(m, _)| m.clone()).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|module, _| !free.contains(module));
    }
    assert!(left.is_empty(), "these modules use each other in a circle, or what does: {left:#?}");
}
