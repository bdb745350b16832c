//! Which replica reconciles: a Lease, held while it is renewed.
//!
//! Clocks of machines are never compared: a replica takes a Lease over when it has not seen it change for the Lease's
//! duration by its own clock, as every Kubernetes component does.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::names::LEASE;

/// How long a Lease counts without renewal.
pub const DURATION: Duration = Duration::from_secs(15);
/// Between two renewals, or two looks at somebody else's Lease.
pub const PERIOD: Duration = Duration::from_secs(5);
/// A holder that could not renew for this long steps down, before anyone else may take over.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The Lease as this replica last saw it change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    holder: String,
    renewed: Option<MicroTime>,
    at: Instant,
}

impl Observed {
    /// What has been seen after a look at `lease` at `now`: the time moves only when the Lease did.
    #[must_use]
    pub fn after(before: Option<Observed>, lease: &LeaseSpec, now: Instant) -> Observed {
        let holder = lease.holder_identity.clone().unwrap_or_default();
        match before {
            Some(before) if before.holder == holder && before.renewed == lease.renew_time => before,
            _ => Observed { holder, renewed: lease.renew_time.clone(), at: now },
        }
    }
}

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is ours: renew it.
    Renew,
    /// It is nobody's, or its holder has not renewed it in time: take it.
    Take,
    /// It is somebody else's.
    Wait,
}

/// Decides by what was seen.
#[must_use]
pub fn decide(seen: &Observed, duration: Duration, me: &str, now: Instant) -> Decision {
    if seen.holder == me {
        Decision::Renew
    } else if seen.holder.is_empty() || now.saturating_duration_since(seen.at) >= duration {
        Decision::Take
    } else {
        Decision::Wait
    }
}

/// The Lease that follows `before` when `me` takes, renews or (with an empty name) releases it.
#[must_use]
pub fn next(before: Option<&LeaseSpec>, me: &str, now: Timestamp) -> LeaseSpec {
    let holder = before.and_then(|l| l.holder_identity.as_deref()).unwrap_or_default();
    let transitions = before.and_then(|l| l.lease_transitions).unwrap_or(0);
    let (acquired, transitions) = if holder == me {
        (before.and_then(|l| l.acquire_time.clone()), transitions)
    } else {
        (Some(MicroTime(now)), if me.is_empty() { transitions } else { transitions.saturating_add(1) })
    };
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: acquired,
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

/// Stands for election until `shutdown`, then releases the Lease. `leading` tells whether this replica is the leader.
/// Faults of the API server are logged and tried again.
pub async fn run(client: Client, own_ns: &str, me: &str, leading: watch::Sender<bool>, shutdown: CancellationToken) {
    let leases: Api<Lease> = Api::namespaced(client, own_ns);
    let mut seen = None;
    let mut renewed: Option<Instant> = None;
    loop {
        let begun = Instant::now();
        match tokio::time::timeout(PERIOD, step(&leases, me, &mut seen, begun)).await {
            Ok(Ok(true)) => renewed = Some(begun),
            Ok(Ok(false)) => renewed = None,
            Ok(Err(fault)) => tracing::warn!(%fault, "the leader's Lease can't be reached"),
            Err(_) => tracing::warn!("the leader's Lease was not answered in time"),
        }
        let leads = renewed.is_some_and(|at| at.elapsed() < DEADLINE);
        let changed = leading.send_if_modified(|was| std::mem::replace(was, leads) != leads);
        if changed {
            tracing::info!(leads, "leadership changed");
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(PERIOD.saturating_sub(begun.elapsed())) => {}
        }
    }
    let led = leading.send_replace(false);
    if led && let Ok(Err(fault)) = tokio::time::timeout(PERIOD, release(&leases, me)).await {
        tracing::warn!(%fault, "the leader's Lease could not be released; the next leader waits for its end");
    }
}

/// One look and what follows from it: whether the Lease is ours now.
async fn step(
    leases: &Api<Lease>,
    me: &str,
    seen: &mut Option<Observed>,
    now: Instant,
) -> Result<bool, Box<kube::Error>> {
    let Some(mut lease) = leases.get_opt(LEASE).await.map_err(Box::new)? else {
        let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(next(None, me, Timestamp::now())) };
        return won(leases.create(&PostParams::default(), &lease).await);
    };
    let spec = lease.spec.take().unwrap_or_default();
    let observed = Observed::after(seen.take(), &spec, now);
    let duration =
        spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).map_or(DURATION, Duration::from_secs);
    let decision = decide(&observed, duration, me, now);
    *seen = Some(observed);
    if decision == Decision::Wait {
        return Ok(false);
    }
    // The resource version that was read goes along, so that of two replicas one loses.
    lease.spec = Some(next(Some(&spec), me, Timestamp::now()));
    won(leases.replace(LEASE, &PostParams::default(), &lease).await)
}

fn won(answer: Result<Lease, kube::Error>) -> Result<bool, Box<kube::Error>> {
    match answer {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(fault) => Err(Box::new(fault)),
    }
}

async fn release(leases: &Api<Lease>, me: &str) -> Result<(), Box<kube::Error>> {
    let mut lease = leases.get(LEASE).await.map_err(Box::new)?;
    let spec = lease.spec.take().unwrap_or_default();
    if spec.holder_identity.as_deref() != Some(me) {
        return Ok(());
    }
    lease.spec = Some(next(Some(&spec), "", Timestamp::now()));
    won(leases.replace(LEASE, &PostParams::default(), &lease).await).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::{FakeApi, NS, Trouble};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn a_lease_is_taken_only_when_free_or_unchanged_for_its_duration() {
        let start = Instant::now();
        let lease = next(None, "a", at(100));
        let seen = Observed::after(None, &lease, start);
        assert_eq!(decide(&seen, DURATION, "a", start), Decision::Renew);
        assert_eq!(decide(&seen, DURATION, "b", start + DURATION - Duration::from_millis(1)), Decision::Wait);
        assert_eq!(decide(&seen, DURATION, "b", start + DURATION), Decision::Take);
        // A look that shows the same does not move the time; a renewal does, whatever its own clock says.
        let later = start + Duration::from_secs(10);
        let same = Observed::after(Some(seen.clone()), &lease, later);
        assert_eq!(same, seen);
        let renewed = Observed::after(Some(seen), &next(Some(&lease), "a", at(7)), later);
        assert_eq!(decide(&renewed, DURATION, "b", start + DURATION), Decision::Wait);
        let released = Observed::after(Some(renewed), &next(Some(&lease), "", at(120)), later);
        assert_eq!(decide(&released, DURATION, "b", later), Decision::Take);
    }

    #[test]
    fn acquisition_and_transitions_are_told() {
        let first = next(None, "a", at(1));
        assert_eq!((first.acquire_time.clone(), first.lease_transitions), (Some(MicroTime(at(1))), Some(1)));
        let again = next(Some(&first), "a", at(6));
        assert_eq!((again.acquire_time.clone(), again.lease_transitions), (Some(MicroTime(at(1))), Some(1)));
        assert_eq!(again.renew_time, Some(MicroTime(at(6))));
        let other = next(Some(&again), "b", at(30));
        assert_eq!((other.acquire_time, other.lease_transitions), (Some(MicroTime(at(30))), Some(2)));
        assert!(DEADLINE < DURATION, "the old leader must be gone before the new one comes");
    }

    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/sidegrid-system/leases";

    #[tokio::test]
    async fn one_leads_until_it_is_silent_for_the_duration_or_releases() {
        let api = FakeApi::with(&[LEASES]);
        let leases: Api<Lease> = Api::namespaced(api.client(), NS);
        let (mut a, mut b) = (None, None);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(step(&leases, "a", &mut a, start).await.unwrap(), "nobody's yet");
        assert!(!step(&leases, "b", &mut b, start).await.unwrap());
        assert!(step(&leases, "a", &mut a, after(14)).await.unwrap(), "renewed");
        assert!(!step(&leases, "b", &mut b, after(20)).await.unwrap(), "the renewal is seen only now");
        assert!(!step(&leases, "b", &mut b, after(34)).await.unwrap());
        assert!(step(&leases, "b", &mut b, after(35)).await.unwrap(), "silent for the duration");
        assert!(!step(&leases, "a", &mut a, after(36)).await.unwrap(), "the old leader sees it");
        release(&leases, "a").await.unwrap();
        assert!(!step(&leases, "a", &mut a, after(37)).await.unwrap(), "only the holder releases");
        release(&leases, "b").await.unwrap();
        assert!(step(&leases, "a", &mut a, after(38)).await.unwrap(), "free at once");
        api.done();
    }

    #[tokio::test]
    async fn of_two_that_take_it_at_once_one_loses() {
        let api = FakeApi::with(&[LEASES]);
        let leases: Api<Lease> = Api::namespaced(api.client(), NS);
        let path = format!("{LEASES}/{LEASE}");
        let (mut a, mut b) = (None, None);
        let start = Instant::now();
        assert!(step(&leases, "a", &mut a, start).await.unwrap());
        release(&leases, "a").await.unwrap();
        // Somebody else is faster between read and replacement.
        api.race(&path, api.get(&path).unwrap());
        assert!(!step(&leases, "b", &mut b, start).await.unwrap());
        api.trouble(axum::http::Method::GET, LEASE, Trouble::Status(500));
        assert!(step(&leases, "b", &mut b, start).await.is_err(), "a server that can't answer is no loss of the Lease");
        api.done();
    }
}
