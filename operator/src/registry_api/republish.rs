//! A document that went missing, or went back, is put back when more than half of the newest view known have published
//! it again (G-3).
//!
//! What members published is kept in a ConfigMap, since each member talks to one replica of the operator and those see
//! different halves. It belongs to the authority's Secret, and goes when the document is back.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::DeleteParams;
use sidegrid_core::MemberId;
use sidegrid_core::ViewNumber;
use sidegrid_core::document::Document;
use sidegrid_registry::{Swap, decode, encode};

use crate::authority::{labels, post};
use crate::document::{Documents, Fault, MAX_BYTES};
use crate::kube_call::{self, CallError};
use crate::names::{self, DOCUMENT_KEY};

/// Key of who has published which view.
const MEMBERS_KEY: &str = "members";
/// What ballot and revision of a restored document jump by: more than changes could have been made of it, so that every
/// vote and swap of before is void.
const JUMP: u64 = 1 << 20;
/// Tries of one change, each after another replica was faster.
const TRIES: usize = 4;

fn config_map(uid: &str) -> String {
    format!("republished-{uid}")
}

/// What members have published since the document went missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Published {
    newest: Option<Document>,
    /// The view that each published last.
    views: BTreeMap<MemberId, ViewNumber>,
}

/// Order of a cluster's documents.
fn rank(document: &Document) -> (ViewNumber, u64, u64) {
    (document.view.number, document.ballot, document.revision)
}

impl Published {
    fn add(&mut self, member: MemberId, known: &Document) {
        if self.newest.as_ref().is_none_or(|newest| rank(newest) < rank(known)) {
            self.newest = Some(known.clone());
        }
        let Some(newest) = &self.newest else { return };
        let view = self.views.entry(member).or_default();
        *view = known.view.number.max(*view);
        // Bounded by the view's members, and nobody else counts.
        self.views.retain(|id, _| newest.view.contains(*id));
    }

    /// The document to put back, once more than half of the newest view's members have published that view.
    fn settled(&self) -> Option<Document> {
        let newest = self.newest.as_ref()?;
        let published = self.views.values().filter(|view| **view == newest.view.number).count();
        if published * 2 <= newest.view.members.len() {
            return None;
        }
        let (ballot, revision) = (newest.ballot.checked_add(JUMP)?, newest.revision.checked_add(JUMP)?);
        Some(Document { ballot, revision, ..newest.clone() })
    }

    fn of(object: &ConfigMap) -> Published {
        let value = |key: &str| object.data.as_ref().and_then(|data| data.get(key));
        // What can't be read is published again soon.
        let newest = value(DOCUMENT_KEY).and_then(|text| decode(text.as_bytes()).ok());
        let views = value(MEMBERS_KEY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Published { newest, views }
    }

    fn data(&self) -> Result<BTreeMap<String, String>, Fault> {
        let mut data = BTreeMap::new();
        if let Some(newest) = &self.newest {
            let bytes = encode(newest)?;
            if bytes.len() > MAX_BYTES {
                return Err(Fault::Invalid(format!("the document has more than {MAX_BYTES} bytes")));
            }
            data.insert(DOCUMENT_KEY.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
        }
        let views = serde_json::to_string(&self.views).map_err(|e| Fault::Invalid(e.to_string()))?;
        data.insert(MEMBERS_KEY.to_owned(), views);
        Ok(data)
    }
}

/// Takes note of what `member` knows, unless the registry knows as much. Returns whether the document was put back.
///
/// # Cancel safety
/// What was begun may be done; members publish again until the document is back.
pub(super) async fn republish(
    documents: &Documents,
    uid: &str,
    member: MemberId,
    known: &Document,
) -> Result<bool, Fault> {
    let objects = documents.documents();
    let name = config_map(uid);
    for _ in 0..TRIES {
        let stored = documents.stored(uid).await?;
        if stored.as_ref().is_some_and(|stored| rank(&stored.document) >= rank(known)) {
            return Ok(false);
        }
        let object = kube_call::read(objects.get_opt(&name)).await.map_err(unavailable)?;
        let before = object.as_ref().map(Published::of).unwrap_or_default();
        let mut published = before.clone();
        published.add(member, known);
        if let Some(settled) = published.settled() {
            let Swap::Done = documents.restore(uid, stored, &settled).await? else { continue };
            tracing::warn!(cluster = uid, view = %settled.view.number, "put the document back, as its members have it");
            forget(documents, uid).await;
            return Ok(true);
        }
        if published == before {
            return Ok(false);
        }
        let written = match object {
            Some(mut object) => {
                object.data = Some(published.data()?);
                object.metadata.managed_fields = None;
                kube_call::change(objects.replace(&name, &post(), &object)).await
            }
            None => {
                let object = new_object(documents, uid, &published).await?;
                kube_call::change(objects.create(&post(), &object)).await
            }
        };
        match written {
            Ok(_) => return Ok(false),
            Err(CallError::Conflict(_) | CallError::NotFound(_)) => {}
            Err(error) => return Err(unavailable(error)),
        }
    }
    Err(Fault::Unavailable("other members publish at the same time; try again".to_owned()))
}

async fn new_object(documents: &Documents, uid: &str, published: &Published) -> Result<ConfigMap, Fault> {
    let secret = names::authority_secret(uid);
    let found = kube_call::read(documents.secrets().get_metadata_opt(&secret)).await.map_err(unavailable)?;
    let owner = found.ok_or_else(|| Fault::UnknownCluster(uid.to_owned()))?;
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
    Ok(ConfigMap { metadata, data: Some(published.data()?), ..ConfigMap::default() })
}

/// Left over, it does no harm: only what is published of the newest view counts.
async fn forget(documents: &Documents, uid: &str) {
    let objects = documents.documents();
    if let Err(error) = kube_call::change(objects.delete(&config_map(uid), &DeleteParams::default())).await {
        tracing::debug!(cluster = uid, %error, "what members had published could not be deleted");
    }
}

/// A note that may or may not have been taken is taken again.
fn unavailable(error: CallError) -> Fault {
    Fault::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::document_of;

    #[test]
    fn more_than_half_of_the_newest_view_put_it_back_with_numbers_that_go_on() {
        let old = document_of(&[1, 2, 3], 4);
        let new = document_of(&[1, 2, 3], 5);
        let mut published = Published::default();
        published.add(MemberId(1), &new);
        assert_eq!(published.settled(), None);
        // Of an older view, a stranger, and the same again: none makes it more.
        published.add(MemberId(2), &old);
        published.add(MemberId(9), &new);
        published.add(MemberId(1), &new);
        assert_eq!(published.settled(), None);
        published.add(MemberId(2), &new);
        let settled = published.settled().unwrap();
        assert_eq!(settled.view, new.view);
        assert_eq!((settled.ballot, settled.revision), (new.ballot + JUMP, new.revision + JUMP));
        // A newer view that shows up late has its own majority.
        let newer = document_of(&[1, 2, 3], 6);
        published.add(MemberId(3), &newer);
        assert_eq!(published.settled(), None);
        let read_back = ConfigMap { data: Some(published.data().unwrap()), ..ConfigMap::default() };
        assert_eq!(Published::of(&read_back), published);
    }

    #[test]
    fn half_is_not_enough() {
        let two = document_of(&[1, 2], 3);
        let mut published = Published::default();
        published.add(MemberId(1), &two);
        assert_eq!(published.settled(), None);
        published.add(MemberId(2), &two);
        assert!(published.settled().is_some());
    }
}
