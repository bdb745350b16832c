//! What answers of several operations have in common, each said once.

use std::collections::BTreeMap;

use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};
use utoipa::{IntoResponses, Modify};

type Responses = BTreeMap<String, RefOr<Response>>;

/// Problems of any request.
pub(in crate::http) struct AnyProblems;

impl IntoResponses for AnyProblems {
    fn responses() -> Responses {
        problems(&[
            (400, "A key, header or parameter can't be used"),
            (403, "A web page's origin that http.allowedOrigins does not have"),
            (421, "A Host that is neither this host nor in http.allowedHosts"),
        ])
    }
}

/// Problems of any operation on an entry.
pub(in crate::http) struct EntryProblems;

impl IntoResponses for EntryProblems {
    fn responses() -> Responses {
        problems(&[(429, "Too much is under way"), (503, "No lease, no owner, rebalancing, or no answer in time")])
    }
}

/// The problem of an operation that needs an entry.
pub(in crate::http) struct AbsentProblem;

impl IntoResponses for AbsentProblem {
    fn responses() -> Responses {
        problems(&[(404, "No such entry, or no such cache: told apart by `type`")])
    }
}

/// The problem of a request that names a cache.
pub(in crate::http) struct NoCacheProblem;

impl IntoResponses for NoCacheProblem {
    fn responses() -> Responses {
        problems(&[(404, "No such cache")])
    }
}

/// Problems of any write.
pub(in crate::http) struct WriteProblems;

impl IntoResponses for WriteProblems {
    fn responses() -> Responses {
        problems(&[(408, "The body did not arrive in time"), (409, "The Idempotency-Key is too old to be known")])
    }
}

/// Problems of a write to a counter.
pub(in crate::http) struct CounterProblems;

impl IntoResponses for CounterProblems {
    fn responses() -> Responses {
        problems(&[
            (408, "The body did not arrive in time"),
            (
                409,
                "The value is no counter, the counter would pass 64 bits, or the Idempotency-Key is too old to be known",
            ),
        ])
    }
}

/// The problem of a condition.
pub(in crate::http) struct ConditionProblem;

impl IntoResponses for ConditionProblem {
    fn responses() -> Responses {
        problems(&[(412, "The condition does not hold; ETag has the version of the entry, if there is one")])
    }
}

/// The problem of a write that needs room.
pub(in crate::http) struct RoomProblem;

impl IntoResponses for RoomProblem {
    fn responses() -> Responses {
        problems(&[(507, "The cache is full and refuses rather than evicts")])
    }
}

fn problems(list: &[(u16, &str)]) -> Responses {
    let response = |status: u16, description: &str| {
        let mut response = Response::new(description);
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        response.content.insert("application/problem+json".to_owned(), content);
        if matches!(status, 408 | 429 | 503) {
            let text = "Whole seconds after which a retry is worth while; retryAfterMs of the problem says it exactly";
            response.headers.insert("Retry-After".to_owned(), header(text));
        }
        RefOr::T(response)
    };
    list.iter().map(|(status, description)| (status.to_string(), response(*status, description))).collect()
}

fn header(description: &str) -> Header {
    let mut header = Header::default();
    header.description = Some(description.to_owned());
    header
}

/// Adds the headers that answers have by what they are about, whichever operation they are of.
pub(super) struct CommonHeaders;

impl Modify for CommonHeaders {
    fn modify(&self, document: &mut OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let of_entry = path.contains("/entries/");
            for (method, operation) in operations(item) {
                for (status, response) in &mut operation.responses.responses {
                    let RefOr::T(response) = response else { continue };
                    for (name, text) in headers_of(of_entry, method, status) {
                        response.headers.insert(name.to_owned(), header(text));
                    }
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", item.get.as_mut()),
        ("head", item.head.as_mut()),
        ("put", item.put.as_mut()),
        ("delete", item.delete.as_mut()),
        ("patch", item.patch.as_mut()),
        ("post", item.post.as_mut()),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation?)))
}

fn headers_of(of_entry: bool, method: &str, status: &str) -> Vec<(&'static str, &'static str)> {
    let mut headers = vec![("Cache-Control", "no-cache: nothing in between may use the answer again without asking")];
    if !of_entry {
        return headers;
    }
    let done = status.starts_with('2') || status == "304";
    let decided = match status {
        "404" => !matches!(method, "put" | "post"),
        "409" => method == "post",
        _ => done || status == "412",
    };
    if decided {
        headers.push(("Sidegrid-Owner", "Member whose copy answered; absent when none was asked"));
        headers.push(("Sidegrid-Hops", "Members between this one and that copy; absent when none was asked"));
    }
    // What was removed has no version any more.
    let shows = done && method != "delete";
    if shows || status == "412" {
        headers.push(("ETag", "Version of the value; absent when there is no entry"));
    }
    if shows || (status == "412" && matches!(method, "get" | "head")) {
        headers.push((
            "Sidegrid-TTL",
            "Seconds that the entry has left to live, rounded up; absent when it lives for ever",
        ));
    }
    headers
}
