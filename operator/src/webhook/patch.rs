//! What injection changes, as a JSON patch.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use crate::names;

/// The patch that makes the one pod of the other.
///
/// Both are compared as the types here know them, so a field that a newer API server has and these don't is in neither
/// and stays as it is. That holds as long as no element of a list is written over with another one, which is what a
/// plain difference of lists makes of an insertion at the front: so the sidecar is left out of the comparison and put
/// in by an operation of its own.
///
/// # Errors
/// When a pod can't be written as JSON.
pub(super) fn between(before: &Pod, after: &Pod) -> Result<Patch, serde_json::Error> {
    let mut compared = after.clone();
    let sidecar = take_new_sidecar(before, &mut compared);
    let mut patch = json_patch::diff(&serde_json::to_value(before)?, &serde_json::to_value(&compared)?);
    if let Some(sidecar) = sidecar {
        let has_list = before.spec.as_ref().is_some_and(|spec| spec.init_containers.is_some());
        let mut path = PointerBuf::from_tokens(["spec", "initContainers"]);
        let mut value: Value = serde_json::to_value(sidecar)?;
        if has_list {
            path.push_back("0");
        } else {
            value = json!([value]);
        }
        patch.0.push(PatchOperation::Add(AddOperation { path, value }));
    }
    Ok(patch)
}

/// Takes out the sidecar at the front when it wasn't there before.
fn take_new_sidecar(before: &Pod, after: &mut Pod) -> Option<Container> {
    let had = before.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    if had.is_some_and(|all| all.iter().any(|container| container.name == names::CONTAINER)) {
        return None;
    }
    let spec = after.spec.as_mut()?;
    let list = spec.init_containers.as_mut()?;
    if list.first()?.name != names::CONTAINER {
        return None;
    }
    let sidecar = list.remove(0);
    if had.is_none() {
        spec.init_containers = None;
    }
    Some(sidecar)
}
