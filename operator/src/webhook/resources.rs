//! What the sidecar asks of its node: as much as keeps the pod in its quality-of-service class, and limits where each
//! of the pod's containers has them, as a quota on limits wants. So no CPU limit where the pod is admitted without.
//!
//! See <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sidegrid_config::parse_size;

use crate::crd::CacheCluster;

/// Requests in a Burstable pod.
const BURSTABLE: (&str, &str) = ("50m", "64Mi");
/// CPU in a Guaranteed pod, request and limit: more than is asked for elsewhere, since here it is also the bound.
const GUARANTEED_CPU: &str = "250m";
/// CPU limit in a Burstable pod whose containers all have one.
const LIMIT_CPU: &str = "500m";
/// Memory limit beside the bounds of the caches, in MiB.
const LIMIT_BASE_MIB: u64 = 128;
/// Least memory limit, in MiB.
const LIMIT_LEAST_MIB: u64 = 256;
/// Resource of what a container writes on its node. The sidecar writes nothing; its log counts.
const STORAGE: &str = "ephemeral-storage";
/// Request and limit of it where all containers have them.
const STORAGE_BYTES: (&str, &str) = ("16Mi", "128Mi");

/// A pod's quality-of-service class, or that its resources are set for the pod as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Every container has limits of CPU and memory, and requests the same.
    Guaranteed,
    /// Between the two.
    Burstable,
    /// No container asks for anything.
    BestEffort,
    /// `spec.resources` of the pod decides; containers share it.
    PodLevel,
}

/// The sidecar's resources: those of the CacheCluster as they are, else those that keep the pod's class.
pub(super) fn sidecar(spec: &PodSpec, cluster: &CacheCluster) -> Option<ResourceRequirements> {
    if let Some(resources) = &cluster.spec.sidecar.resources {
        return Some(resources.clone());
    }
    let memory = format!("{}Mi", limit_mib(cluster));
    let (mut requests, mut limits) = match class(spec) {
        // Under pod-level resources the sum of the containers' requests must stay below the pod's: ask for nothing.
        Class::PodLevel => return None,
        Class::BestEffort => <(Quantities, Quantities)>::default(),
        Class::Burstable => {
            let mut limits = quantities(LIMIT_CPU, &memory);
            limits.retain(|kind, _| all_have(spec, kind, Side::Limits));
            (quantities(BURSTABLE.0, BURSTABLE.1), limits)
        }
        Class::Guaranteed => {
            let both = quantities(GUARANTEED_CPU, &memory);
            (both.clone(), both)
        }
    };
    let storage = |text: &str| (STORAGE.to_owned(), Quantity(text.to_owned()));
    requests.extend(all_have(spec, STORAGE, Side::Requests).then(|| storage(STORAGE_BYTES.0)));
    limits.extend(all_have(spec, STORAGE, Side::Limits).then(|| storage(STORAGE_BYTES.1)));
    if requests.is_empty() && limits.is_empty() {
        return None;
    }
    let some = |all: Quantities| (!all.is_empty()).then_some(all);
    Some(ResourceRequirements { requests: some(requests), limits: some(limits), ..ResourceRequirements::default() })
}

type Quantities = BTreeMap<String, Quantity>;

/// What a container says of a resource. What has a limit and no request requests as much.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Requests,
    Limits,
}

/// Whether each of the pod's containers has this of a resource.
fn all_have(spec: &PodSpec, kind: &str, side: Side) -> bool {
    let has = |all: &Option<Quantities>| {
        all.as_ref().and_then(|all| all.get(kind)).is_some_and(|quantity| nanos(&quantity.0) != Some(0))
    };
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.all(|container| {
        let resources = container.resources.as_ref();
        resources.is_some_and(|of| has(&of.limits) || (side == Side::Requests && has(&of.requests)))
    })
}

/// Memory of a sidecar that has a limit, in MiB: what its caches may hold, and room beside it. A cache without
/// `maxBytes` counts for nothing: where pods have memory limits, bound the caches or set `spec.sidecar.resources`.
fn limit_mib(cluster: &CacheCluster) -> u64 {
    let bounds = cluster.spec.caches.values().filter_map(|cache| cache.max_bytes.as_deref());
    // A size that can't be read is told by the CacheCluster's own validation.
    let bytes = bounds.filter_map(|text| parse_size(text).ok()).fold(0_u64, u64::saturating_add);
    bytes.div_ceil(1 << 20).saturating_add(LIMIT_BASE_MIB).max(LIMIT_LEAST_MIB)
}

/// The pod's class without the sidecar.
pub(super) fn class(spec: &PodSpec) -> Class {
    let asks = |resources: &ResourceRequirements| {
        resources.requests.iter().chain(&resources.limits).any(|all| kinds(all).next().is_some())
    };
    if spec.resources.as_ref().is_some_and(asks) {
        return Class::PodLevel;
    }
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if !all.clone().filter_map(|c| c.resources.as_ref()).any(asks) {
        Class::BestEffort
    } else if all.all(is_bounded_evenly) {
        Class::Guaranteed
    } else {
        Class::Burstable
    }
}

/// Whether a container has limits of CPU and memory, and requests the same; what isn't requested is as the limit.
fn is_bounded_evenly(container: &Container) -> bool {
    let Some(resources) = &container.resources else { return false };
    let Some(limits) = &resources.limits else { return false };
    kinds(limits).count() == 2
        && kinds(limits).all(|(kind, limit)| {
            let request = resources.requests.as_ref().and_then(|requests| requests.get(kind));
            request.is_none_or(|request| is_same(request, limit))
        })
}

/// CPU and memory of these, where they are more than nothing: no other resource decides the class.
fn kinds(all: &Quantities) -> impl Iterator<Item = (&'static str, &Quantity)> {
    let found = ["cpu", "memory"].into_iter().filter_map(|kind| Some((kind, all.get(kind)?)));
    found.filter(|(_, quantity)| nanos(&quantity.0) != Some(0))
}

fn is_same(left: &Quantity, right: &Quantity) -> bool {
    match (nanos(&left.0), nanos(&right.0)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn quantities(cpu: &str, memory: &str) -> Quantities {
    [("cpu", cpu), ("memory", memory)].map(|(kind, text)| (kind.to_owned(), Quantity(text.to_owned()))).into()
}

/// A quantity in billionths, rounded towards nothing; none when it can't be read or is too large.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+' && c != '-').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let exponent = match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        _ => match suffix.strip_prefix(['e', 'E']) {
            Some(exponent) => exponent.parse().ok()?,
            None => return binary(suffix).and_then(|unit| Some(mantissa.checked_mul(unit)? / scale)),
        },
    };
    let exponent: i32 = exponent;
    let power = 10_i128.checked_pow(exponent.checked_add(9)?.unsigned_abs())?;
    if exponent >= -9 { Some(mantissa.checked_mul(power)? / scale) } else { Some(mantissa / power / scale) }
}

/// A binary suffix in billionths.
fn binary(suffix: &str) -> Option<i128> {
    let power = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|unit| *unit == suffix)? + 1;
    1024_i128.checked_pow(u32::try_from(power).ok()?)?.checked_mul(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_compared_by_value() {
        for (left, right) in [
            ("1", "1000m"),
            ("0.1", "100m"),
            ("1Gi", "1024Mi"),
            ("1e3", "1k"),
            ("1.5Ki", "1536"),
            ("0", "0m"),
            ("2E3", "2k"),
        ] {
            assert!(is_same(&Quantity(left.into()), &Quantity(right.into())), "{left} {right}");
        }
        assert!(!is_same(&Quantity("1".into()), &Quantity("1m".into())));
        for odd in ["", "x", "1.2.3", "1Zi", "999999999999999999999999999999999999999", "1e999", "1e-999", "--1", "é"]
        {
            assert_eq!(nanos(odd), None, "{odd}");
        }
    }
}
