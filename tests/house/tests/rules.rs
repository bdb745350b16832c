//! Each MUST of docs/PROTOCOL.md is cited by the code that keeps it and by a test that would fail without it.

use sidegrid_house::assert_none;
use sidegrid_house::repository::{SourceFile, files, read};
use sidegrid_house::rules::{citations, of_protocol, uncited};

#[test]
fn each_rule_is_cited_by_code_and_by_a_test() {
    let rules = of_protocol(&read("docs/PROTOCOL.md").unwrap());
    assert!(rules.len() >= 40, "only {} rules found in the table", rules.len());
    assert_none("rules", &uncited(&rules, &citations(&files().unwrap(), &rules)));
}

#[test]
fn no_rule_is_stated_twice() {
    let rules = of_protocol(&read("docs/PROTOCOL.md").unwrap());
    for (index, id) in rules.iter().enumerate() {
        assert!(!rules[..index].contains(id), "{id} is in the table twice");
    }
}

#[test]
fn only_comments_cite_and_each_on_its_own_side() {
    let rules = of_protocol("| id | MUST |\n| --- | --- |\n| L-1 | serve |\n| L-2 | echo |\nL-3 in a sentence\n");
    assert_eq!(rules, ["L-1", "L-2"]);

    let code = SourceFile::new(
        "sidecar/core/src/a.rs",
        "/// Keeps it (L-1).\nfn a() { url(\"http://L-2\") }\n#[cfg(test)]\nmod tests {\n    // L-2\n}\n// after: L-2x\n",
    );
    let listed = SourceFile::new("tests/sim/src/coverage.rs", "const ALL: [&str; 1] = [\"L-1\"];\n");
    let own = SourceFile::new("tests/house/src/a.rs", "// L-1\n");
    let found = citations(&[code, listed, own], &rules);
    assert_eq!(found.code.keys().collect::<Vec<_>>(), ["L-1"]);
    assert_eq!(found.tests.keys().collect::<Vec<_>>(), ["L-2"]);
    assert_eq!(uncited(&rules, &found).len(), 2);
}

#[test]
fn a_rule_that_is_not_there_is_seen() {
    let rules = vec!["L-1".to_owned()];
    let files = [
        SourceFile::new("sidecar/core/src/a.rs", "// L-1, L-9; curve P-256\n"),
        SourceFile::new("tests/faults/a_test.go", "// L-1\n"),
    ];
    let faults = uncited(&rules, &citations(&files, &rules));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("L-9"));
}
