//! What injection makes of a pod.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{LocalObjectReference, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::refusal::keyed;
use super::{Refusal, RefusalKind, apps, checks, container, images, mesh, placement};
use crate::crd::{CacheCluster, PullSecret};
use crate::names;

/// What injection needs to know beside pod and CacheCluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectSettings {
    /// The sidecar's image where the CacheCluster names none.
    pub image: String,
    /// Further images that a CacheCluster may name, as [`images::check`] reads them.
    pub images: Vec<String>,
    /// The operator's version, left in the pod's annotation.
    pub version: String,
    /// The address of the operator's Service, for pods that can't resolve its name; none: by name alone.
    pub service_address: Option<IpAddr>,
}

impl InjectSettings {
    /// Settings of this operator's version, with this default image.
    #[must_use]
    pub fn new(image: impl Into<String>) -> InjectSettings {
        InjectSettings {
            image: image.into(),
            images: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            service_address: None,
        }
    }
}

/// Whether a pod holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It does.
    Member,
    /// It only uses the caches.
    Client,
}

impl Role {
    /// As in the label and the sidecar's settings.
    pub(super) fn word(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Client => "client",
        }
    }
}

/// What takes the app out of its Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// The cache not serving, at any time.
    Strict,
    /// The cache not having served yet.
    Joined,
}

/// The pod with the sidecar in it. A pod that has it already is the same again, except for app containers that came in
/// later and don't know the cache API's address, and for a mesh that is seen only now. `namespace` is the metadata of
/// the pod's Namespace, where [`super::asks_namespace`] says that it is needed. Pure: it reads no clock, network or
/// random number.
///
/// # Errors
/// Why the sidecar can't go into this pod, with the field at fault.
pub fn inject(
    pod: &Pod,
    cluster: &CacheCluster,
    namespace: Option<&ObjectMeta>,
    settings: &InjectSettings,
) -> Result<Pod, Refusal> {
    let Some(spec) = &pod.spec else {
        return Err(Refusal::new(RefusalKind::Unreadable, "spec", "is missing", "send a pod"));
    };
    checks::check(pod, spec, cluster)?;
    if !checks::is_injected(pod) {
        images::check(cluster, settings)
            .map_err(|problem| Refusal::new(RefusalKind::ImageNotAllowed, images::FIELD, problem, images::FIX))?;
    }
    let (role, readiness) = (role(pod)?, readiness(pod)?);
    let is_injected = checks::is_injected(pod);
    let sidecar = container::container(spec, cluster, settings, role, readiness);

    let (mut pod, mut spec) = (pod.clone(), spec.clone());
    let shares_socket = !is_injected || checks::shares_socket(&spec);
    apps::tell(&mut spec, cluster, shares_socket);
    add_pull_secrets(&mut spec, cluster);
    if role == Role::Member {
        placement::place(&mut spec, cluster);
    } else {
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(names::ROLE_LABEL.to_owned(), role.word().to_owned());
    }
    placement::reserve_ports(&mut spec, cluster);
    if !is_injected {
        spec.init_containers.get_or_insert_default().insert(0, sidecar);
        spec.volumes.get_or_insert_default().extend(container::volumes(cluster));
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(names::INJECTED_ANNOTATION.to_owned(), settings.version.clone());
        annotations.insert(names::SETTINGS_ANNOTATION.to_owned(), crate::settings::digest(&cluster.spec));
    }
    pod.spec = Some(spec);
    mesh::keep_out(&mut pod, cluster, namespace);
    Ok(pod)
}

/// Adds the CacheCluster's pull secrets that the pod doesn't have. The service account's are there already: the API
/// server adds them before it asks webhooks, to pods without any.
fn add_pull_secrets(spec: &mut PodSpec, cluster: &CacheCluster) {
    for PullSecret { name } in &cluster.spec.sidecar.image_pull_secrets {
        if spec.image_pull_secrets.iter().flatten().all(|secret| secret.name != *name) {
            spec.image_pull_secrets.get_or_insert_default().push(LocalObjectReference { name: name.clone() });
        }
    }
}

/// The role that the label names; without one, a Job's pod is a client, since it would take its share away again.
fn role(pod: &Pod) -> Result<Role, Refusal> {
    match checks::label(pod, names::ROLE_LABEL) {
        Some("member") => Ok(Role::Member),
        Some("client") => Ok(Role::Client),
        Some(other) => Err(unknown_word(keyed("labels", names::ROLE_LABEL), other, "member or client")),
        None => {
            let is_job = |owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
                owner.kind == "Job" && owner.api_version.starts_with("batch/")
            };
            let of_job = pod.metadata.owner_references.iter().flatten().any(is_job);
            Ok(if of_job { Role::Client } else { Role::Member })
        }
    }
}

fn readiness(pod: &Pod) -> Result<Readiness, Refusal> {
    let annotations = pod.metadata.annotations.as_ref();
    match annotations.and_then(|all| all.get(names::READINESS_ANNOTATION)).map(String::as_str) {
        None | Some("strict") => Ok(Readiness::Strict),
        Some("joined") => Ok(Readiness::Joined),
        Some(other) => Err(unknown_word(keyed("annotations", names::READINESS_ANNOTATION), other, "strict or joined")),
    }
}

fn unknown_word(field: String, word: &str, known: &str) -> Refusal {
    Refusal::new(RefusalKind::UnknownWord, field, format!("{word:?} is unknown"), format!("set it to {known}"))
}
