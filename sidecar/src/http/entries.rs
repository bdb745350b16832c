//! Entries: one function per method. Their attributes are the OpenAPI document's source.

use hyper::StatusCode;
use sidegrid_core::operation::{Answer, EntryView, OperationKind, Outcome};

use super::api::Call;
use super::body::Upload;
use super::conditions::{self, ReadConditions, ReadVerdict};
use super::fields::Field;
use super::openapi::responses::{
    AbsentProblem, AnyProblems, ConditionProblem, CounterProblems, EntryProblems, NoCacheProblem, RoomProblem,
    WriteProblems,
};
use super::problem::{Problem, ProblemBody, ProblemType};
use super::query::Query;
use super::{Reply, answer};

type Answered = Result<Reply, Problem>;

/// Reads an entry.
#[utoipa::path(
    get, path = "/v1/caches/{cache}/entries/{key}", tag = "entries",
    params(
        ("cache" = String, Path, description = "Name of the cache"),
        ("key" = String, Path, description = "1 to 1,024 bytes, percent-encoded"),
        ("If-None-Match" = Option<String>, Header, description = "ETags, or *: 304 when the entry is one of them"),
        ("If-Match" = Option<String>, Header, description = "ETags, or *: 412 when the entry is none of them"),
        ("Sidegrid-Timeout" = Option<String>, Header, description = "Longest wait, such as 500ms; 1ms to 10m"),
    ),
    responses(
        (status = 200, description = "The value", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 304, description = "The entry is one of If-None-Match"),
        AnyProblems, AbsentProblem, EntryProblems, ConditionProblem,
    )
)]
pub(super) async fn get_entry(call: &Call<'_>) -> Answered {
    Query::of(call.query, &[])?;
    call.fields.refuse_unavailable()?;
    let conditions = ReadConditions::of(call.fields)?;
    let mut answer = call.execute(OperationKind::Get).await?;
    let reply = match std::mem::replace(&mut answer.outcome, Outcome::Absent) {
        Outcome::Found(view) => match conditions.verdict(view.etag) {
            ReadVerdict::Send => answer::entry(view),
            ReadVerdict::NotModified => answer::not_modified(&view),
            ReadVerdict::Failed => {
                let mut reply = Problem::condition_failed(Some(view.etag)).into_reply();
                answer::describe(&mut reply, view.etag, view.remaining);
                reply
            }
        },
        Outcome::Absent => absent(),
        other => return Err(Problem::internal(&other)),
    };
    Ok(call.signed(reply, &answer))
}

/// Reads an entry's headers.
#[utoipa::path(
    head, path = "/v1/caches/{cache}/entries/{key}", tag = "entries",
    params(
        ("cache" = String, Path, description = "Name of the cache"),
        ("key" = String, Path, description = "1 to 1,024 bytes, percent-encoded"),
        ("If-None-Match" = Option<String>, Header, description = "ETags, or *: 304 when the entry is one of them"),
        ("If-Match" = Option<String>, Header, description = "ETags, or *: 412 when the entry is none of them"),
        ("Sidegrid-Timeout" = Option<String>, Header, description = "Longest wait, such as 500ms; 1ms to 10m"),
    ),
    responses(
        (status = 200, description = "As GET, without the value"),
        (status = 304, description = "The entry is one of If-None-Match"),
        AnyProblems, AbsentProblem, EntryProblems, ConditionProblem,
    )
)]
pub(super) async fn head_entry(call: &Call<'_>) -> Answered {
    // The body is left out where the answer is written, its length is not.
    get_entry(call).await
}

/// Stores an entry.
#[utoipa::path(
    put, path = "/v1/caches/{cache}/entries/{key}", tag = "entries",
    params(
        ("cache" = String, Path, description = "Name of the cache"),
        ("key" = String, Path, description = "1 to 1,024 bytes, percent-encoded"),
        ("ttl" = Option<String>, Query, description = "Time to live, such as 30s; 1ms to 3650d; by default the cache's"),
        ("return" = Option<String>, Query, description = "previous: give back the value that was replaced"),
        ("Content-Type" = Option<String>, Header, description = "Kept and given back"),
        ("Cache-Control" = Option<String>, Header, description = "max-age counts as ttl, in seconds"),
        ("If-None-Match" = Option<String>, Header, description = "*: only if absent; ETags: only if the entry is none of them"),
        ("If-Match" = Option<String>, Header, description = "ETags: only if the entry is one of them; *: only if present"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters: a retry applies once"),
        ("Sidegrid-Timeout" = Option<String>, Header, description = "Longest wait, such as 500ms; 1ms to 10m"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The value"),
    responses(
        (status = 200, description = "Replaced; with return=previous, the value before and its type. Sidegrid-Previous-ETag has its version", content_type = "application/octet-stream", body = Vec<u8>, headers(
            ("Sidegrid-Previous-ETag" = String, description = "Version of the value before"),
        )),
        (status = 201, description = "Created"),
        (status = 204, description = "Replaced"),
        AnyProblems, NoCacheProblem, EntryProblems, WriteProblems, ConditionProblem, RoomProblem,
        (status = 413, description = "The value is larger than `limit`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_entry(call: &Call<'_>, upload: &mut Upload<'_>) -> Answered {
    let query = Query::of(call.query, &["ttl", "return"])?;
    call.fields.refuse_unavailable()?;
    call.fields.refuse_unkept()?;
    let ttl = query.ttl()?.or(call.fields.max_age()?).or(call.cache.settings.ttl);
    let condition = conditions::of_write(call.fields)?;
    let return_previous = query.returns_previous()?;
    let content_type = call.fields.content_type()?.map(Into::into);
    let value = upload.read().await?;
    let kind = OperationKind::Put { value, content_type, ttl, condition, return_previous };
    let mut answer = call.execute(kind).await?;
    match std::mem::replace(&mut answer.outcome, Outcome::Absent) {
        Outcome::Stored { created, etag, previous } => {
            let status = if created { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
            let mut reply = previous.map_or_else(|| answer::empty(status), answer::previous);
            answer::describe(&mut reply, etag, ttl);
            Ok(call.signed(reply, &answer))
        }
        other => decline(call, &answer, other),
    }
}

/// Removes an entry.
#[utoipa::path(
    delete, path = "/v1/caches/{cache}/entries/{key}", tag = "entries",
    params(
        ("cache" = String, Path, description = "Name of the cache"),
        ("key" = String, Path, description = "1 to 1,024 bytes, percent-encoded"),
        ("return" = Option<String>, Query, description = "previous: give back the value that was removed"),
        ("If-Match" = Option<String>, Header, description = "ETags: only if the entry is one of them; *: only if present"),
        ("If-None-Match" = Option<String>, Header, description = "ETags: only if the entry is none of them"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters: a retry applies once"),
        ("Sidegrid-Timeout" = Option<String>, Header, description = "Longest wait, such as 500ms; 1ms to 10m"),
    ),
    responses(
        (status = 200, description = "Removed; with return=previous, the value", content_type = "application/octet-stream", body = Vec<u8>, headers(
            ("Sidegrid-Previous-ETag" = String, description = "Version of the value that was removed"),
        )),
        (status = 204, description = "Removed"),
        AnyProblems, AbsentProblem, EntryProblems, WriteProblems, ConditionProblem,
    )
)]
pub(super) async fn delete_entry(call: &Call<'_>, upload: &mut Upload<'_>) -> Answered {
    let query = Query::of(call.query, &["return"])?;
    upload.expect_none().await?;
    let condition = conditions::of_write(call.fields)?;
    let kind = OperationKind::Delete { condition, return_previous: query.returns_previous()? };
    let mut answer = call.execute(kind).await?;
    match std::mem::replace(&mut answer.outcome, Outcome::Absent) {
        Outcome::Deleted { previous } => Ok(call.signed(removed(previous), &answer)),
        other => decline(call, &answer, other),
    }
}

/// Changes the time to live alone.
#[utoipa::path(
    patch, path = "/v1/caches/{cache}/entries/{key}", tag = "entries",
    params(
        ("cache" = String, Path, description = "Name of the cache"),
        ("key" = String, Path, description = "1 to 1,024 bytes, percent-encoded"),
        ("ttl" = Option<String>, Query, description = "New time to live, such as 30s; 1ms to 3650d. It or Cache-Control is needed"),
        ("Cache-Control" = Option<String>, Header, description = "max-age counts as ttl, in seconds"),
        ("If-Match" = Option<String>, Header, description = "ETags: only if the entry is one of them; *: only if present"),
        ("If-None-Match" = Option<String>, Header, description = "ETags: only if the entry is none of them"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters: a retry applies once"),
        ("Sidegrid-Timeout" = Option<String>, Header, description = "Longest wait, such as 500ms; 1ms to 10m"),
    ),
    responses(
        (status = 204, description = "Changed; the ETag stays"),
        AnyProblems, AbsentProblem, EntryProblems, WriteProblems, ConditionProblem,
    )
)]
pub(super) async fn touch_entry(call: &Call<'_>, upload: &mut Upload<'_>) -> Answered {
    let query = Query::of(call.query, &["ttl"])?;
    upload.expect_none().await?;
    let condition = conditions::of_write(call.fields)?;
    let Some(ttl) = query.ttl()?.or(call.fields.max_age()?) else {
        return Err(Problem::parameter("ttl", "is needed: PATCH changes the time to live alone"));
    };
    let mut answer = call.execute(OperationKind::Touch { ttl: Some(ttl), condition }).await?;
    match std::mem::replace(&mut answer.outcome, Outcome::Absent) {
        Outcome::Touched { etag } => {
            let mut reply = answer::empty(StatusCode::NO_CONTENT);
            answer::describe(&mut reply, etag, Some(ttl));
            Ok(call.signed(reply, &answer))
        }
        other => decline(call, &answer, other),
    }
}

/// Adds to a counter of 64 bits, exactly.
#[utoipa::path(
    post, path = "/v1/caches/{cache}/entries/{key}/increment", tag = "entries",
    params(
        ("cache" = String, Path, description = "Name of the cache"),
        ("key" = String, Path, description = "1 to 1,024 bytes, percent-encoded"),
        ("by" = Option<i64>, Query, description = "What to add, by default 1"),
        ("initial" = Option<i64>, Query, description = "What an absent entry counts as, by default 0"),
        ("ttl" = Option<String>, Query, description = "Time to live of an entry that is created; an existing one keeps its own"),
        ("Cache-Control" = Option<String>, Header, description = "max-age counts as ttl, in seconds"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters: a retry applies once"),
        ("Sidegrid-Timeout" = Option<String>, Header, description = "Longest wait, such as 500ms; 1ms to 10m"),
    ),
    responses(
        (status = 200, description = "The new value, in decimal", content_type = "text/plain", body = String),
        AnyProblems, NoCacheProblem, EntryProblems, CounterProblems, RoomProblem,
    )
)]
pub(super) async fn increment_entry(call: &Call<'_>, upload: &mut Upload<'_>) -> Answered {
    let query = Query::of(call.query, &["by", "initial", "ttl"])?;
    upload.expect_none().await?;
    if let Some(field) = [Field::IfMatch, Field::IfNoneMatch].into_iter().find(|field| call.fields.has(*field)) {
        return Err(Problem::header(field.name(), "an increment takes no condition; leave it out"));
    }
    let (by, initial) = (query.number("by", 1)?, query.number("initial", 0)?);
    let ttl = query.ttl()?.or(call.fields.max_age()?).or(call.cache.settings.ttl);
    let mut answer = call.execute(OperationKind::Increment { by, initial, ttl }).await?;
    match std::mem::replace(&mut answer.outcome, Outcome::Absent) {
        Outcome::Counter { value, etag, remaining } => {
            let text = hyper::header::HeaderValue::from_static("text/plain");
            let mut reply = answer::with_body(StatusCode::OK, text, value.to_string().into());
            answer::describe(&mut reply, etag, remaining);
            Ok(call.signed(reply, &answer))
        }
        other => decline(call, &answer, other),
    }
}

fn removed(previous: Option<EntryView>) -> Reply {
    previous.map_or_else(|| answer::empty(StatusCode::NO_CONTENT), answer::previous)
}

fn absent() -> Reply {
    Problem::new(ProblemType::NoSuchEntry, "it was never stored, was removed, has expired or was evicted").into_reply()
}

/// Outcomes by which nothing was applied.
fn decline(call: &Call<'_>, answer: &Answer, outcome: Outcome) -> Answered {
    let reply = match outcome {
        Outcome::Absent => absent(),
        Outcome::ConditionFailed { current } => Problem::condition_failed(current).into_reply(),
        Outcome::NotANumber => {
            Problem::new(ProblemType::NotANumber, "the value is not a decimal number of 64 bits").into_reply()
        }
        Outcome::Overflow => {
            Problem::new(ProblemType::Overflow, "the sum is outside the range of 64 bits").into_reply()
        }
        other => return Err(Problem::internal(&other)),
    };
    Ok(call.signed(reply, answer))
}
