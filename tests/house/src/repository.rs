//! The repository's own files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A file of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the root, with `/`.
    pub path: String,
    /// Its text; bytes that are no UTF-8 are replaced.
    pub text: String,
}

impl SourceFile {
    /// A file made up by a test.
    #[must_use]
    pub fn new(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.into(), text: text.into() }
    }

    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether the name ends in `.extension`.
    #[must_use]
    pub fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e == extension)
    }
}

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Every file that is tracked, or would be if it were added, and exists; sorted by path.
///
/// # Errors
/// If git can't list the files, or one can't be read.
pub fn files() -> Result<Vec<SourceFile>> {
    let root = root();
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()
        .context("git lists the files")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).context("paths are UTF-8")?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let full = root.join(path);
        // A file that git still knows may be gone from the work tree.
        if !full.is_file() {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| path.to_owned())?;
        files.push(SourceFile { path: path.to_owned(), text: String::from_utf8_lossy(&bytes).into_owned() });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    ensure!(files.iter().any(|f| f.path == "Cargo.toml"), "no files found under {}", root.display());
    Ok(files)
}

/// The text of one file of the repository.
///
/// # Errors
/// If it can't be read.
pub fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}
