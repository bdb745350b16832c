//! New certificates for a running incarnation, asked for beside the turns.

use std::sync::Arc;
use std::time::Duration;

use sidegrid_core::{ClusterUid, MemberId, Time};
use sidegrid_net::TlsMode;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::spawner::Spawner;
use crate::trust::{Admission, Trust, TrustError};

/// A certificate that could not be renewed is tried again after this at most; there is longer left.
const RETRY_MAX: Duration = Duration::from_secs(600);
/// And after this part of the time between two renewals, where that is shorter.
const RETRIES: u32 = 20;
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Renews one incarnation's certificate.
pub(super) struct Renewal {
    pub(super) trust: Arc<Trust>,
    pub(super) me: MemberId,
    pub(super) cluster: ClusterUid,
    pub(super) spawner: Spawner,
    /// How long after the last one the next is due; none: never.
    pub(super) period: Option<Duration>,
    due: Option<Time>,
    asked: Option<oneshot::Receiver<Result<Admission, TrustError>>>,
}

impl Renewal {
    pub(super) fn new(
        trust: Arc<Trust>,
        me: MemberId,
        cluster: ClusterUid,
        spawner: Spawner,
        period: Option<Duration>,
        now: Time,
    ) -> Renewal {
        Renewal { trust, me, cluster, spawner, period, due: period.map(|period| now + period), asked: None }
    }

    /// Asks when it is time, without waiting; gives how connections are secured from now on once there is an answer.
    pub(super) fn keep(&mut self, now: Time) -> Option<TlsMode> {
        if let Some(asked) = &mut self.asked {
            let answer = match asked.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Closed) => None,
                Ok(answer) => Some(answer),
            };
            self.asked = None;
            return self.answered(now, answer);
        }
        if self.due.is_some_and(|due| now >= due) {
            let (answer, asked) = oneshot::channel();
            let (trust, me) = (Arc::clone(&self.trust), self.me);
            self.spawner.spawn("certificate renewal", async move {
                let _over = answer.send(trust.admit(me).await);
            });
            self.asked = Some(asked);
        }
        None
    }

    fn answered(&mut self, now: Time, answer: Option<Result<Admission, TrustError>>) -> Option<TlsMode> {
        let fault = match answer {
            Some(Ok(admission)) if admission.cluster == self.cluster => {
                self.period = admission.renew_after;
                self.due = self.period.map(|period| now + period);
                tracing::info!("renewed this member's certificate");
                return Some(admission.tls);
            }
            Some(Ok(admission)) => format!("it would be for cluster {}, this is {}", admission.cluster, self.cluster),
            Some(Err(error)) => error.to_string(),
            None => "the attempt ended early".to_owned(),
        };
        tracing::error!("can't renew this member's certificate: {fault}");
        let retry = self.period.map_or(RETRY_MAX, |period| (period / RETRIES).clamp(RETRY_MIN, RETRY_MAX));
        self.due = Some(now + retry);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use async_trait::async_trait;
    use sidegrid_config::TlsMode as Mode;
    use sidegrid_net::OperatorClient;
    use sidegrid_registry::api::{EnrolRequest, Enrolment};
    use sidegrid_registry::{Enrol, RegistryError};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::trust::OperatorTrust;

    /// Answers when it is let, and then refuses.
    struct Slow(Semaphore);

    #[async_trait]
    impl Enrol for Slow {
        async fn enrol(&self, _request: EnrolRequest) -> Result<Enrolment, RegistryError> {
            self.0.acquire().await.unwrap().forget();
            Err(RegistryError::Invalid { fault: "no".into() })
        }

        fn renewed(&self) {}
    }

    #[tokio::test]
    async fn an_operator_that_does_not_answer_holds_nothing_up_and_a_refusal_is_tried_again() {
        let slow = Arc::new(Slow(Semaphore::new(0)));
        let client = OperatorClient::new("localhost", 1, PathBuf::from("/nonexistent")).unwrap();
        let enrols = Arc::clone(&slow) as Arc<dyn Enrol>;
        let trust = Arc::new(Trust::Operator(OperatorTrust { enrols, client, mode: Mode::Auto, pod_uid: "p".into() }));
        let spawner = Spawner::new(tokio::runtime::Handle::current());
        let period = Some(Duration::from_secs(100));
        let second = |s: u64| Time::from_nanos(s * 1_000_000_000);
        let mut renewal = Renewal::new(trust, MemberId(1), ClusterUid(1), spawner, period, second(0));
        assert!(renewal.keep(second(99)).is_none() && renewal.asked.is_none(), "not due yet");
        assert!(renewal.keep(second(100)).is_none());
        assert!(renewal.asked.is_some(), "asked");
        assert!(renewal.keep(second(101)).is_none() && renewal.asked.is_some(), "waits without blocking");
        slow.0.add_permits(1);
        while renewal.asked.is_some() {
            assert!(renewal.keep(second(102)).is_none());
            tokio::task::yield_now().await;
        }
        assert_eq!(renewal.due, Some(second(107)), "tried again long before the leaf expires");
    }
}
