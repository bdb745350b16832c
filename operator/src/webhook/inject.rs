//! What injection makes of a pod.

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use super::refusal::keyed;
use super::{Refusal, RefusalKind, checks, container, placement};
use crate::crd::CacheCluster;
use crate::names;

/// Tells the app where the cache API is.
const URL_VARIABLE: &str = "SIDEGRID_URL";

/// What injection needs to know beside pod and CacheCluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectSettings {
    /// The sidecar's image where the CacheCluster names none.
    pub image: String,
    /// The operator's version, left in the pod's annotation.
    pub version: String,
}

impl InjectSettings {
    /// Settings of this operator's version, with this default image.
    #[must_use]
    pub fn new(image: impl Into<String>) -> InjectSettings {
        InjectSettings { image: image.into(), version: env!("CARGO_PKG_VERSION").to_owned() }
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
/// later and don't know the cache API's address. Pure: it reads no clock, network or random number.
///
/// # Errors
/// Why the sidecar can't go into this pod, with the field at fault.
pub fn inject(pod: &Pod, cluster: &CacheCluster, settings: &InjectSettings) -> Result<Pod, Refusal> {
    let Some(spec) = &pod.spec else {
        return Err(Refusal::new(RefusalKind::Unreadable, "spec", "is missing", "send a pod"));
    };
    checks::check(pod, spec, cluster)?;
    let (role, readiness) = (role(pod)?, readiness(pod)?);
    let is_injected = checks::is_injected(pod);
    let sidecar = container::container(spec, cluster, settings, role, readiness);

    let (mut pod, mut spec) = (pod.clone(), spec.clone());
    tell_apps(&mut spec.containers, spec.init_containers.iter_mut().flatten(), cluster);
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
    }
    pod.spec = Some(spec);
    Ok(pod)
}

/// Tells the app's containers, and other native sidecars, where the cache API is, unless they have been told.
fn tell_apps<'a>(
    containers: &'a mut [Container],
    init: impl Iterator<Item = &'a mut Container>,
    cluster: &CacheCluster,
) {
    let sidecars = init.filter(|container| checks::is_native_sidecar(container));
    for container in containers.iter_mut().chain(sidecars).filter(|container| container.name != names::CONTAINER) {
        if container.env.iter().flatten().any(|variable| variable.name == URL_VARIABLE) {
            continue;
        }
        let url = format!("http://127.0.0.1:{}", cluster.spec.sidecar.http.port);
        // At the end: the places of the app's own variables stay, and with them what a JSON patch says of them.
        let variable = EnvVar { name: URL_VARIABLE.to_owned(), value: Some(url), ..EnvVar::default() };
        container.env.get_or_insert_default().push(variable);
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
