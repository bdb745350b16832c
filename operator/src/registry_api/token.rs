//! Which pod a token is bound to, by the API server's word.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::{Api, Client};
use serde::Deserialize;

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

/// The token that a request brings.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    token.ok_or_else(|| {
        Problem::unauthenticated("show a member's certificate, or a pod's token to enrol (Authorization: Bearer)")
    })
}

/// What a service account's token says of itself. Not believed: it only spares the API server what can't be one.
#[derive(Deserialize)]
struct Claims {
    aud: Audiences,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Bound>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Bound {
    pod: Option<serde_json::Value>,
}

/// Whether the request brings what may be a pod's token for this audience, by its form alone.
///
/// # Errors
/// 401, with what is missing.
pub(super) fn plausible(headers: &HeaderMap) -> Result<(), Problem> {
    let token = bearer(headers)?;
    let refuse = |why: &str| Err(Problem::unauthenticated(why));
    if token.len() > MAX_TOKEN {
        return refuse("the token is too long");
    }
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return refuse("the token is no service account's");
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).ok().and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
    let Some(claims) = claims else { return refuse("the token is no service account's") };
    let is_ours = match &claims.aud {
        Audiences::One(audience) => audience == TOKEN_AUDIENCE,
        Audiences::Many(all) => all.iter().any(|audience| audience == TOKEN_AUDIENCE),
    };
    if !is_ours {
        return refuse("the token is not for the audience sidegrid");
    }
    if claims.kubernetes.and_then(|bound| bound.pod).is_none() {
        return refuse("the token is not bound to a pod; use a projected service account token");
    }
    Ok(())
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

/// For tests: a token that says this of itself.
#[cfg(test)]
pub(super) fn unsigned(claims: &serde_json::Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
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

    fn header_of(token: &str) -> HeaderMap {
        let value = format!("Bearer {token}").parse().unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[test]
    fn what_can_not_be_a_pods_token_is_told_apart_by_its_form() {
        let claims = |claims: serde_json::Value| header_of(&unsigned(&claims));
        let pod = serde_json::json!({"pod": {"name": "web-1", "uid": "u1"}});
        for aud in [serde_json::json!("sidegrid"), serde_json::json!(["x", "sidegrid"])] {
            assert_eq!(plausible(&claims(serde_json::json!({"aud": aud, "kubernetes.io": pod}))), Ok(()));
        }
        let bad = [
            HeaderMap::new(),
            header_of("garbage"),
            header_of("a.b.c"),
            header_of("a.e30.c.d"),
            header_of(&"x".repeat(MAX_TOKEN + 1)),
            claims(serde_json::json!({"kubernetes.io": pod})),
            claims(serde_json::json!({"aud": ["https://kubernetes.default.svc"], "kubernetes.io": pod})),
            claims(serde_json::json!({"aud": "sidegrid", "kubernetes.io": {"namespace": "shop"}})),
            claims(serde_json::json!({"aud": "sidegrid"})),
        ];
        for headers in bad {
            assert!(plausible(&headers).is_err(), "{headers:?}");
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
