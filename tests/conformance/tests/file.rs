//! The kind `file` against the suite, within one process.

use sidegrid_conformance::{FilePlace, suite};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_is_a_registry() {
    suite(FilePlace::new).await;
}
