//! Which pod a token is bound to, by the API server's word.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::{Api, Client};

use super::problem::Problem;
use crate::authority::post;
use crate::kube_call;
use crate::names::TOKEN_AUDIENCE;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// Tokens of service accounts have one or two thousand bytes.
const MAX_TOKEN: usize = 16 << 10;

/// The pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodClaim {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// Asks the API server whose token this is.
pub(super) async fn review(client: &Client, token: &str) -> Result<PodClaim, Problem> {
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(Problem::unauthenticated("the token is empty or too long"));
    }
    let review = TokenReview {
        spec: TokenReviewSpec { audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]), token: Some(token.to_owned()) },
        ..TokenReview::default()
    };
    let reviews: Api<TokenReview> = Api::all(client.clone());
    // It stores nothing, so a lost answer leaves nothing open.
    let reviewed = kube_call::read(reviews.create(&post(), &review)).await?;
    claim(&reviewed.status.unwrap_or_default())
}

/// The pod of a reviewed token: authenticated, for our audience, a service account's, and bound to a pod.
fn claim(status: &TokenReviewStatus) -> Result<PodClaim, Problem> {
    let refuse = |why: &str| Err(Problem::unauthenticated(why));
    if status.authenticated != Some(true) {
        return refuse("the token is not valid");
    }
    if !status.audiences.iter().flatten().any(|audience| audience == TOKEN_AUDIENCE) {
        return refuse("the token is not for the audience sidegrid");
    }
    let none = UserInfo::default();
    let user = status.user.as_ref().unwrap_or(&none);
    let account = user.username.as_deref().unwrap_or_default().strip_prefix(SERVICE_ACCOUNT);
    let Some((namespace, _)) = account.and_then(|account| account.split_once(':')) else {
        return refuse("the token is not a service account's");
    };
    let extra = user.extra.as_ref();
    let bound = |key: &str| extra.and_then(|extra| one(extra, key));
    let (Some(name), Some(uid)) = (bound(POD_NAME), bound(POD_UID)) else {
        return refuse("the token is not bound to a pod; use a projected service account token");
    };
    Ok(PodClaim { namespace: namespace.to_owned(), name, uid })
}

/// The only value of a key.
fn one(extra: &BTreeMap<String, Vec<String>>, key: &str) -> Option<String> {
    match extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> TokenReviewStatus {
        let extra = BTreeMap::from([
            (POD_NAME.to_owned(), vec!["web-1".to_owned()]),
            (POD_UID.to_owned(), vec!["u1".to_owned()]),
        ]);
        TokenReviewStatus {
            audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
            authenticated: Some(true),
            error: None,
            user: Some(UserInfo {
                username: Some("system:serviceaccount:shop:default".to_owned()),
                extra: Some(extra),
                ..UserInfo::default()
            }),
        }
    }

    type Spoil = fn(&mut TokenReviewStatus);

    #[test]
    fn only_a_pods_own_token_for_our_audience_tells_the_pod() {
        let pod = PodClaim { namespace: "shop".into(), name: "web-1".into(), uid: "u1".into() };
        assert_eq!(claim(&good()), Ok(pod));
        let spoil: [(&str, Spoil); 8] = [
            ("not valid", |s| s.authenticated = None),
            ("not valid", |s| s.authenticated = Some(false)),
            ("audience", |s| s.audiences = None),
            ("audience", |s| s.audiences = Some(vec!["https://kubernetes.default.svc".into()])),
            ("service account", |s| s.user = None),
            ("service account", |s| s.user.as_mut().unwrap().username = Some("system:node:a".into())),
            ("bound", |s| s.user.as_mut().unwrap().extra = None),
            ("bound", |s| drop(s.user.as_mut().unwrap().extra.as_mut().unwrap().insert(POD_UID.into(), vec![]))),
        ];
        for (says, spoil) in spoil {
            let mut bad = good();
            spoil(&mut bad);
            assert!(format!("{:?}", claim(&bad).unwrap_err()).contains(says), "{says}");
        }
    }
}
