//! Places of the kind `file`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use sidegrid_core::document::Document;
use sidegrid_registry::{FileRegistry, Registry, encode};
use tempfile::TempDir;

use crate::Place;

/// A registry file in a folder of its own, which is removed with it.
#[derive(Debug)]
pub struct FilePlace {
    dir: TempDir,
}

impl FilePlace {
    /// An empty place.
    ///
    /// # Panics
    /// If no folder can be made.
    #[must_use]
    pub fn new() -> FilePlace {
        FilePlace { dir: tempfile::tempdir().expect("a folder for the test") }
    }

    /// The document's path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("state").join("registry")
    }

    /// The names of all files beside the document, sorted, the document's own too.
    ///
    /// # Panics
    /// If the folder can't be listed.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("state")).expect("the folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Default for FilePlace {
    fn default() -> FilePlace {
        FilePlace::new()
    }
}

#[async_trait]
impl Place for FilePlace {
    fn open(&self) -> Arc<dyn Registry> {
        Arc::new(FileRegistry::new(self.path()).expect("a path that names a file"))
    }

    async fn tamper(&self, document: Option<&Document>) {
        match document {
            None => fs::rename(self.path(), self.dir.path().join("away")).expect("taken away"),
            Some(document) => {
                let restored = self.dir.path().join("restored");
                fs::write(&restored, encode(document).expect("a document")).expect("written");
                fs::rename(restored, self.path()).expect("put in place");
            }
        }
    }
}
