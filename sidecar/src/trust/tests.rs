//! Admission by an operator that signs with an authority of the test's.

use std::path::PathBuf;

use async_trait::async_trait;
use parking_lot::Mutex;
use sidegrid_registry::api::Enrolment;

use super::*;

const CLUSTER: ClusterUid = ClusterUid(0xc1);

struct FakeOperator {
    authority: Authority,
    /// Certifies this one instead of the asker.
    instead: Option<MemberId>,
    renewals: Mutex<usize>,
}

#[async_trait]
impl Enrol for FakeOperator {
    async fn enrol(&self, request: EnrolRequest) -> Result<Enrolment, RegistryError> {
        let identity = MemberIdentity { cluster: CLUSTER, member: self.instead.unwrap_or(request.member) };
        let locality = Locality { site: "eu".into(), rack: "a".into(), machine: "node-1".into() };
        Ok(Enrolment {
            cluster: CLUSTER,
            certificate: self.authority.sign(&request.request, identity, DAY).unwrap(),
            authorities: self.authority.cert_pem.clone(),
            renew_after_s: 120,
            locality,
            pod_uid: "pod-1".into(),
        })
    }

    fn renewed(&self) {
        *self.renewals.lock() += 1;
    }
}

fn trust(instead: Option<MemberId>, pod_uid: &str, mode: Mode) -> (Trust, Arc<FakeOperator>) {
    let authority = Authority::generate(CLUSTER, DAY).unwrap();
    let fake = Arc::new(FakeOperator { authority, instead, renewals: Mutex::new(0) });
    let client = OperatorClient::new("localhost", 1, PathBuf::from("/nonexistent")).unwrap();
    let enrols = Arc::clone(&fake) as Arc<dyn Enrol>;
    (Trust::Operator(OperatorTrust { enrols, client, mode, pod_uid: pod_uid.into() }), fake)
}

#[tokio::test]
async fn the_operator_s_word_is_taken_for_cluster_place_and_renewal() {
    let (trust, fake) = trust(None, "pod-1", Mode::Auto);
    let admission = trust.admit(MemberId(9)).await.unwrap();
    assert_eq!(admission.cluster, CLUSTER);
    assert!(matches!(admission.tls, TlsMode::Mutual(_)));
    assert_eq!(admission.renew_after, Some(Duration::from_secs(120)));
    assert_eq!(admission.locality.unwrap().machine, "node-1");
    assert_eq!(*fake.renewals.lock(), 1, "the registry's connection shows the new leaf from now on");
}

#[tokio::test]
async fn a_certificate_of_somebody_else_or_of_another_pod_is_refused() {
    let (other, fake) = trust(Some(MemberId(8)), "pod-1", Mode::Auto);
    assert!(matches!(other.admit(MemberId(9)).await, Err(TrustError::Certificate(_))));
    assert_eq!(*fake.renewals.lock(), 0);
    let (elsewhere, _) = trust(None, "pod-2", Mode::Auto);
    let error = elsewhere.admit(MemberId(9)).await.unwrap_err().to_string();
    assert!(error.contains("member.podUid is \"pod-2\"") && error.contains("pod-1"), "{error}");
}

#[tokio::test]
async fn without_certificates_between_members_the_operator_is_still_shown_one() {
    let (trust, fake) = trust(None, "pod-1", Mode::Disabled);
    let admission = trust.admit(MemberId(9)).await.unwrap();
    assert!(matches!(admission.tls, TlsMode::Disabled));
    assert!(admission.renew_after.is_some());
    assert_eq!(*fake.renewals.lock(), 1);
}
