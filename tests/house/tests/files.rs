//! Files keep to their size, and their names say what they hold.

use sidegrid_house::assert_none;
use sidegrid_house::repository::{SourceFile, files};
use sidegrid_house::sizes::{LINES_AT_MOST, MAIN_LINES_AT_MOST, badly_named, past_the_habit, too_long, unfinished};

#[test]
fn no_file_is_too_long() {
    let files = files().unwrap();
    for file in past_the_habit(&files) {
        println!("past the habit of 500 lines: {file}");
    }
    assert_none("file sizes", &too_long(&files));
}

#[test]
fn a_file_that_is_too_long_is_seen() {
    let long = "//\n".repeat(LINES_AT_MOST + 1);
    assert_eq!(too_long(&[SourceFile::new("a/b.rs", &long)]).len(), 1);
    let story = "//\n".repeat(MAIN_LINES_AT_MOST + 1);
    assert_eq!(too_long(&[SourceFile::new("a/main.rs", &story), SourceFile::new("a/b.rs", &story)]).len(), 1);
}

#[test]
fn names_say_what_files_hold() {
    assert_none("file names", &badly_named(&files().unwrap()));
}

#[test]
fn an_empty_name_is_seen() {
    let paths = ["a/mod.rs", "a/utils.rs", "a/helpers/b.rs", "a/view_manager.rs", "a/test-helper.sh"];
    for path in paths {
        assert_eq!(badly_named(&[SourceFile::new(path, "")]).len(), 1, "{path}");
    }
    assert_none("a good name", &badly_named(&[SourceFile::new("a/commonality.rs", "")]));
}

#[test]
fn nothing_is_left_unfinished() {
    assert_none("unfinished work", &unfinished(&files().unwrap()));
}

#[test]
fn unfinished_work_is_seen() {
    let put_off = format!("// {}: later\n", ["TO", "DO"].concat());
    for text in [put_off.as_str(), "// let old = value();\n", "    // self.send(old);\n"] {
        assert_eq!(unfinished(&[SourceFile::new("a.rs", text)]).len(), 1, "{text}");
    }
    assert_none(
        "a comment",
        &unfinished(&[SourceFile::new("a.rs", "// let the old one go first;\n// use it: rarely\n")]),
    );
}
