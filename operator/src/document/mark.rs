//! The mark of the newest view: its number, and a digest by which the view is known again when somebody shows it.

use std::collections::BTreeMap;

use aws_lc_rs::digest::SHA256;
use serde_json::{Value, json};
use sidegrid_core::ViewNumber;
use sidegrid_core::view::View;

/// Annotation of the authority's Secret: the newest view that the document was seen with.
pub const VIEW_ANNOTATION: &str = "sidegrid.dev/document-view";
/// Annotation beside it: the digest of that view, after its number, so that a mark of a version that writes no digest is
/// told apart.
const DIGEST_ANNOTATION: &str = "sidegrid.dev/document-view-digest";

/// What is remembered of a view apart from the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its number.
    pub(crate) view: ViewNumber,
    /// SHA-256 of the view; none where it was marked without, which no view is known by.
    digest: Option<String>,
}

impl Mark {
    /// The mark of `view`.
    pub(super) fn of(view: &View) -> Mark {
        // A view has a text form, or it would not have come here; without one it is known by none.
        let text = serde_json::to_vec(view).ok();
        let hash = text.map(|text| aws_lc_rs::digest::digest(&SHA256, &text));
        let digest = hash.map(|hash| hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
        Mark { view: view.number, digest }
    }

    /// Whether `view` is the one that was marked, whoever shows it.
    pub(crate) fn is_of(&self, view: &View) -> bool {
        self.digest.is_some() && *self == Mark::of(view)
    }

    pub(super) fn read(annotations: &BTreeMap<String, String>) -> Option<Mark> {
        // A mark that can't be read says at least that there was a document.
        let view = ViewNumber(annotations.get(VIEW_ANNOTATION)?.parse().unwrap_or_default());
        let digest = annotations.get(DIGEST_ANNOTATION).and_then(|text| text.split_once(':'));
        let digest = digest.filter(|(number, _)| *number == view.0.to_string()).map(|(_, digest)| digest.to_owned());
        Some(Mark { view, digest })
    }

    pub(super) fn annotations(&self) -> Value {
        let digest = self.digest.as_ref().map(|digest| format!("{}:{digest}", self.view.0));
        json!({VIEW_ANNOTATION: self.view.0.to_string(), DIGEST_ANNOTATION: digest})
    }
}
