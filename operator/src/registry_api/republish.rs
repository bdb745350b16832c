//! A document that went missing, or went back, is put back when more than half of the newest view known have said what
//! they know (G-4; the rule itself is in [`sidegrid_core::recovery`]).
//!
//! That view is the one that was marked, known again by its digest: a view that is only claimed proves nothing, and a
//! statement counts once for each member of the marked view that was certified as it.
//!
//! What members said is kept in a ConfigMap, since each member talks to one replica of the operator and those see
//! different halves. It belongs to the authority's Secret, and goes when the document is back. It holds no times: each
//! replica counts what it has itself seen being said, by its own clock.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::DeleteParams;
use sidegrid_core::document::Document;
use sidegrid_core::recovery::{self, Statements};
use sidegrid_core::rights::{Caller, is_in_view};
use sidegrid_registry::Swap;
use sidegrid_registry::api::RepublishRequest;

use crate::authority::{labels, post};
use crate::document::{DocumentError, Documents, MAX_BYTES, Mark};
use crate::kube_call::{self, CallError};
use crate::names;

/// Key of what members have said.
const STATEMENTS_KEY: &str = "statements";
/// Tries of one change, each after another replica was faster.
const TRIES: usize = 4;

fn config_map(uid: &str) -> String {
    format!("republished-{uid}")
}

/// What can't be read is said again soon.
fn statements_of(object: &ConfigMap) -> Statements {
    let text = object.data.as_ref().and_then(|data| data.get(STATEMENTS_KEY));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn data_of(statements: &Statements) -> Result<BTreeMap<String, String>, DocumentError> {
    let text = serde_json::to_string(statements).map_err(|e| DocumentError::Invalid(e.to_string()))?;
    if text.len() > MAX_BYTES {
        return Err(DocumentError::Invalid(format!("the document has more than {MAX_BYTES} bytes")));
    }
    Ok(BTreeMap::from([(STATEMENTS_KEY.to_owned(), text)]))
}

/// Takes note of what `caller` knows, unless the registry knows as much. Returns whether the document was put back.
///
/// # Cancel safety
/// What was begun may be done; members publish again until the document is back.
pub(super) async fn republish(
    documents: &Documents,
    uid: &str,
    caller: &Caller,
    known: &RepublishRequest,
) -> Result<bool, DocumentError> {
    let objects = documents.documents();
    let name = config_map(uid);
    for _ in 0..TRIES {
        // Without a mark it is a person who knows which view was the newest.
        let Some(mark) = documents.newest_mark(uid).await? else { return Ok(false) };
        let stored = documents.stored(uid).await?;
        let present = stored.as_ref().map(|stored| &stored.document);
        if !recovery::is_behind(present, known.view, &known.document) {
            return Ok(false);
        }
        let shown = present.filter(|stored| stored.view.number >= mark.view && is_in_view(caller, stored));
        if let Some(next) = shown.and_then(|stored| recovery::caught_up(stored, known.view, &known.document)) {
            let Swap::Done = documents.restore(uid, stored, &next).await? else { continue };
            tracing::warn!(cluster = uid, view = %next.view.number, "the document had been put back within its view: mended");
            return Ok(true);
        }
        let object = kube_call::read(objects.get_opt(&name)).await.map_err(unavailable)?;
        let mut statements = object.as_ref().map(statements_of).unwrap_or_default();
        if !counts(&mark, &statements, caller, known) {
            tracing::debug!(cluster = uid, member = %caller.member, "what it says is of no view that was marked");
            return Ok(false);
        }
        let settled = documents.observe(uid, |observed, now| {
            observed.look(&statements, now);
            statements.add(observed, caller.member, known.view, &known.document, now);
            statements.settled(observed, now, mark.view)
        });
        if let Some(settled) = settled {
            let Swap::Done = documents.restore(uid, stored, &settled).await? else { continue };
            tracing::warn!(cluster = uid, view = %settled.view.number, "put the document back, as its members have it");
            forget(documents, uid).await;
            return Ok(true);
        }
        let written = match object {
            Some(mut object) => {
                object.data = Some(data_of(&statements)?);
                object.metadata.managed_fields = None;
                kube_call::change(objects.replace(&name, &post(), &object)).await
            }
            None => {
                let object = new_object(documents, uid, &statements).await?;
                kube_call::change(objects.create(&post(), &object)).await
            }
        };
        match written {
            Ok(_) => return Ok(false),
            Err(CallError::Conflict(_) | CallError::NotFound(_)) => {}
            Err(error) => return Err(unavailable(error)),
        }
    }
    Err(DocumentError::Unavailable("other members publish at the same time; try again".to_owned()))
}

/// Whether a statement is one of the marked view: the caller says that it is the newest, and is in it as who it was
/// certified. That view is known once one of its members has shown it; who only heard of it is heard from then on, and says
/// it again each second.
fn counts(mark: &Mark, statements: &Statements, caller: &Caller, known: &RepublishRequest) -> bool {
    let is_newest = |document: &&Document| mark.is_of(&document.view);
    let own = Some(&known.document).filter(is_newest);
    let marked = own.or(statements.newest().filter(is_newest));
    known.view == mark.view
        && known.document.view.number <= mark.view
        && (own.is_some() || known.document.view.number < mark.view)
        && marked.is_some_and(|document| is_in_view(caller, document))
}

async fn new_object(documents: &Documents, uid: &str, statements: &Statements) -> Result<ConfigMap, DocumentError> {
    let secret = names::authority_secret(uid);
    let found = kube_call::read(documents.secrets().get_metadata_opt(&secret)).await.map_err(unavailable)?;
    let owner = found.ok_or_else(|| DocumentError::UnknownCluster(uid.to_owned()))?;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        name: secret,
        uid: owner.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta {
        name: Some(config_map(uid)),
        labels: Some(labels(uid)),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    Ok(ConfigMap { metadata, data: Some(data_of(statements)?), ..ConfigMap::default() })
}

/// Left over, it does no harm: what was said counts for seconds.
async fn forget(documents: &Documents, uid: &str) {
    let objects = documents.documents();
    if let Err(error) = kube_call::change(objects.delete(&config_map(uid), &DeleteParams::default())).await {
        tracing::debug!(cluster = uid, %error, "what members had published could not be deleted");
    }
}

/// A note that may or may not have been taken is taken again.
fn unavailable(error: CallError) -> DocumentError {
    DocumentError::Unavailable(error.to_string())
}
