//! Where a key lives, and what its copies survive.

use std::collections::BTreeSet;

use serde::Serialize;
use sidegrid_core::MemberId;
use sidegrid_core::member::{Locality, Member};
use sidegrid_core::view::View;
use utoipa::ToSchema;

use crate::grid::Place;
use crate::http::api::Api;
use crate::http::openapi::responses::{AnyProblems, NoCacheProblem};
use crate::http::problem::{Problem, ProblemType};
use crate::http::query::Query;
use crate::http::route::{self, encode};
use crate::http::{Reply, answer};

/// Where a key lives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Explanation {
    /// The cache.
    cache: String,
    /// The key, percent-encoded.
    key: String,
    /// Its segment; none in a local cache.
    segment: Option<u16>,
    /// Its replica group: one segment of the caches with one number of owners. None in a local cache.
    group: Option<u32>,
    /// The view that says so; none in a local cache or without a view.
    view: Option<u64>,
    /// Where its copies are, the primary's first.
    copies: Vec<Copy>,
    /// What failures they survive.
    survives: Survival,
    /// The same in a sentence.
    summary: String,
}

/// A copy of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Copy {
    /// The member's name.
    member: String,
    /// The member's id.
    id: String,
    /// `primary`, `owner` (in sync), or `incoming` (being filled; does not serve).
    role: &'static str,
    /// Region or data centre.
    site: String,
    /// Rack or zone.
    rack: String,
    /// Machine.
    machine: String,
    /// Whether it is at this member.
    this: bool,
}

/// What failures the in-sync copies survive.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Survival {
    /// Members that may fail before copies are made anew.
    members: usize,
    /// Whether the loss of any one machine leaves a copy.
    any_machine: bool,
    /// Whether the loss of any one rack leaves a copy.
    any_rack: bool,
    /// Whether the loss of any one site leaves a copy.
    any_site: bool,
}

/// Explains where a key lives: segment, owners, where each copy is, and what failures it survives.
#[utoipa::path(
    get, path = "/v1/cluster/explain", tag = "cluster",
    params(
        ("cache" = String, Query, description = "Name of the cache"),
        ("key" = String, Query, description = "1 to 1,024 bytes, percent-encoded"),
    ),
    responses(
        (status = 200, description = "Where the key lives, whether or not there is such an entry", body = Explanation),
        AnyProblems, NoCacheProblem,
    )
)]
pub(crate) fn explain_key(api: &Api, query: Option<&str>) -> Result<Reply, Problem> {
    // Keys are bytes, so this parameter alone is decoded here.
    let (key, rest) = take_key(query);
    let rest = Query::of(Some(&rest), &["cache"])?;
    let name = rest.get("cache").ok_or_else(|| Problem::parameter("cache", "is needed"))?;
    let cache = api.grid.cache(name).ok_or_else(|| {
        Problem::new(ProblemType::NoSuchCache, format!("no cache is named {}", crate::http::problem::shortened(name)))
    })?;
    let key = key.ok_or_else(|| Problem::parameter("key", "is needed"))?;
    let key = route::key(&key.replace('+', "%20"))?;
    let snapshot = api.grid.snapshot();
    let place = api.grid.place(&cache, &key);
    let copies = match (place, &snapshot.view) {
        (None, _) => vec![local_copy(api)],
        (Some(place), Some(view)) => copies_of(view, place, api.grid.member_id()),
        (Some(_), None) => Vec::new(),
    };
    let survives = survival(&copies);
    Ok(answer::json(&Explanation {
        cache: cache.name.clone(),
        key: encode(&key),
        segment: place.map(|p| p.segment.0),
        group: place.map(|p| p.group.0),
        view: place.and(snapshot.view.as_ref()).map(|v| v.number.0),
        summary: summary(place.is_some(), &copies, &survives),
        copies,
        survives,
    }))
}

/// The first `key` of a query as it stands there, and the query without it.
fn take_key(query: Option<&str>) -> (Option<&str>, String) {
    let mut key = None;
    let mut rest = Vec::new();
    for pair in query.unwrap_or_default().split('&') {
        match pair.strip_prefix("key=") {
            Some(value) if key.is_none() => key = Some(value),
            _ => rest.push(pair),
        }
    }
    (key, rest.join("&"))
}

fn local_copy(api: &Api) -> Copy {
    Copy {
        member: api.member_name.clone(),
        id: api.grid.member_id().to_string(),
        role: "primary",
        site: String::new(),
        rack: String::new(),
        machine: String::new(),
        this: true,
    }
}

fn copies_of(view: &View, place: Place, own: MemberId) -> Vec<Copy> {
    // A view of other settings than ours has no such group.
    if place.group.index() >= view.groups.len() {
        return Vec::new();
    }
    let copy = |id: MemberId, role| view.member(id).map(|member| copy(member, role, id == own));
    let owners = view.owners(place.group);
    let in_sync = owners.iter().enumerate().filter_map(|(i, &id)| copy(id, if i == 0 { "primary" } else { "owner" }));
    let filling = view.incoming(place.group);
    in_sync.chain(filling.iter().filter_map(|&(id, _)| copy(id, "incoming"))).collect()
}

fn copy(member: &Member, role: &'static str, this: bool) -> Copy {
    let Locality { site, rack, machine } = member.locality.clone();
    Copy { member: member.name.clone(), id: member.id.to_string(), role, site, rack, machine, this }
}

fn survival(copies: &[Copy]) -> Survival {
    let in_sync: Vec<&Copy> = copies.iter().filter(|c| c.role != "incoming").collect();
    // A place that is not told may be any: it counts as the same as every other.
    let several = |place: fn(&Copy) -> (&str, &str, &str)| {
        let places: BTreeSet<_> = in_sync.iter().map(|c| place(c)).collect();
        places.len() > 1 && in_sync.iter().all(|c| !place(c).2.is_empty())
    };
    let any_site = several(|c| ("", "", &c.site));
    let any_rack = any_site || several(|c| ("", &c.site, &c.rack));
    Survival {
        members: in_sync.len().saturating_sub(1),
        any_machine: any_rack || several(|c| (&c.site, &c.rack, &c.machine)),
        any_rack,
        any_site,
    }
}

fn summary(clustered: bool, copies: &[Copy], survives: &Survival) -> String {
    let in_sync = copies.iter().filter(|c| c.role != "incoming").count();
    match (clustered, in_sync) {
        (false, _) => "kept by this member alone: it is lost with its process".into(),
        (true, 0) => "no view is known here: nobody owns it yet".into(),
        (true, 1) => "one copy: it is lost when that member fails before it hands over".into(),
        (true, copies) => {
            let place = match survives {
                Survival { any_site: true, .. } => ", or of any one site",
                Survival { any_rack: true, .. } => ", or of any one rack",
                Survival { any_machine: true, .. } => ", or of any one machine",
                _ => "; whether they are on different machines is not told",
            };
            let members = if survives.members == 1 { "member" } else { "members" };
            format!("{copies} copies: it survives the failure of {} {members}{place}", survives.members)
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn at(role: &'static str, place: [&str; 3]) -> Copy {
        let [site, rack, machine] = place.map(str::to_owned);
        Copy { member: String::new(), id: String::new(), role, site, rack, machine, this: false }
    }

    fn survives(places: &[[&str; 3]]) -> (usize, [bool; 3]) {
        let copies: Vec<Copy> = places.iter().map(|p| at("owner", *p)).collect();
        let s = survival(&copies);
        (s.members, [s.any_machine, s.any_rack, s.any_site])
    }

    #[test]
    fn what_copies_survive_follows_from_where_they_are() {
        assert_eq!(survives(&[]), (0, [false; 3]));
        assert_eq!(survives(&[["s", "r", "m"]]), (0, [false; 3]));
        assert_eq!(survives(&[["", "", ""], ["", "", ""]]), (1, [false; 3]));
        assert_eq!(survives(&[["s", "r", "m"], ["s", "r", "m"]]), (1, [false; 3]));
        assert_eq!(survives(&[["s", "r", "m"], ["s", "r", "n"]]), (1, [true, false, false]));
        assert_eq!(survives(&[["", "", "m"], ["", "", "n"], ["", "", "n"]]), (2, [true, false, false]));
        assert_eq!(survives(&[["s", "r", "m"], ["s", "q", "m"]]), (1, [true, true, false]));
        assert_eq!(survives(&[["s", "r", "m"], ["t", "r", "m"]]), (1, [true, true, true]));
        // One of unknown place may be anywhere.
        assert_eq!(survives(&[["s", "r", "m"], ["s", "r", ""]]), (1, [false; 3]));
    }

    #[test]
    fn copies_being_filled_count_for_nothing() {
        let copies = [at("primary", ["s", "r", "m"]), at("incoming", ["t", "q", "n"])];
        assert_eq!(survival(&copies), Survival::default());
    }

    #[test]
    fn the_key_is_taken_out_of_the_query() {
        assert_eq!(take_key(Some("cache=a&key=%00b")), (Some("%00b"), "cache=a".into()));
        assert_eq!(take_key(Some("key=a&key=b")), (Some("a"), "key=b".into()));
        assert_eq!(take_key(None), (None, String::new()));
    }
}
