//! Texts name nothing of one workplace, and what they point to is there.

use std::process::Command;

use sidegrid_house::assert_none;
use sidegrid_house::makefile::{targets, unexplained, unknown_targets};
use sidegrid_house::repository::{SourceFile, files, read, root};
use sidegrid_house::texts::{commands, dangling, of_one_workplace, off_the_map};

#[test]
fn nothing_of_one_workplace_is_named() {
    assert_none("names of one workplace", &of_one_workplace(&files().unwrap()));
}

#[test]
fn a_name_of_one_workplace_is_seen() {
    let host = format!("see https://{}/a\n", ["crates", "io"].join("."));
    for text in [host.as_str(), "cd /work/main\n", "open(\"/root/.cache\")\n"] {
        assert_eq!(of_one_workplace(&[SourceFile::new("a.md", text)]).len(), 1, "{text}");
    }
    let fine = "GET /v1/caches/work/entries, $HOME/work/a, target/root/b\n";
    assert_none("paths of other kinds", &of_one_workplace(&[SourceFile::new("a.md", fine)]));
}

#[test]
fn links_lead_somewhere() {
    assert_none("links", &dangling(&files().unwrap()));
}

#[test]
fn a_dangling_link_is_seen() {
    let there = SourceFile::new("docs/B.md", "# Life of a write\n");
    let good = "[b](docs/B.md) [c](docs/B.md#life-of-a-write) [d](https://example.org/x) `docs/B.md`, and see docs/.\n";
    assert_none("good links", &dangling(&[there.clone(), SourceFile::new("A.md", good)]));
    for text in ["[b](B.md)", "[b](docs/B.md#death)", "`docs/C.md`", "[b](#nowhere)"] {
        assert_eq!(dangling(&[there.clone(), SourceFile::new("A.md", text)]).len(), 1, "{text}");
    }
}

#[test]
fn the_map_leads_to_files() {
    let files = files().unwrap();
    let map = read("docs/ARCHITECTURE.md").unwrap();
    assert_none("component → file map", &off_the_map(&map, &files));
    assert!(map.matches("### `sidecar/").count() >= 6, "the map lists each crate");
    let wrong =
        "## Map\n### `sidecar/core/src`: core\n| `lib.rs`, `gone.rs` | what |\n### Around\n| `tests/sim` | `x` |\n";
    assert_eq!(off_the_map(wrong, &files), ["sidecar/core/src/gone.rs: on the map, but not there"]);
}

#[test]
fn the_readme_needs_two_commands() {
    let found = commands(&read("README.md").unwrap(), "## Set up");
    assert_eq!(found.as_deref(), Some(&["make demo".to_owned(), "make test".to_owned()][..]));
    assert_eq!(
        commands("## Set up\n```sh\na # why\n# b\nc\n```\n## Next\n```\nd\n```\n", "## Set up").unwrap(),
        ["a", "c"]
    );
}

#[test]
fn make_help_explains_every_target() {
    let makefile = read("Makefile").unwrap();
    let output = Command::new("make").args(["-s", "help"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_none("make help", &unexplained(&makefile, &String::from_utf8_lossy(&output.stdout)));
    for expected in ["demo", "test", "bench", "sim-long", "faults-long", "deny", "generate", "install", "clean"] {
        assert!(targets(&makefile).contains(expected), "no target {expected}");
    }
    assert_eq!(unexplained("a: b\n\tc\nV := 1\nd: ## says\n", "  d   says").len(), 1, "an unexplained target is seen");
}

#[test]
fn texts_name_targets_that_are_there() {
    let makefile = read("Makefile").unwrap();
    assert_none("targets named in texts", &unknown_targets(&makefile, &files().unwrap()));
    let text = "Run `make nothing`, `SEEDS=9 make test`; to make sense, `make test`\n```sh\nmake neither\n```\n";
    assert_eq!(unknown_targets("test: ## all\n", &[SourceFile::new("a.md", text)]).len(), 2);
}
