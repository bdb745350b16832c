//! A bare axum server that answers every entry with the same bytes. The benchmark gives it the body and the header
//! lines that the sidecar answered, so both send the same and only the work in between differs.
//!
//! `sidegrid-bare BODY ["name: value" ...]` listens on a free port of loopback, says its address in one line, and
//! serves until it is killed.

use std::io::Write;

use anyhow::Context;
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::get;
use bytes::Bytes;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let body = Bytes::from(arguments.next().context("give the body as the first argument")?);
    let headers = arguments.map(|line| header(&line)).collect::<anyhow::Result<HeaderMap>>()?;
    let answer = move |Path(_entry): Path<(String, String)>| async move { (headers, body) };
    let app = Router::new().route("/v1/caches/{cache}/entries/{key}", get(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    axum::serve(listener, app).await?;
    Ok(())
}

/// Reads a line `name: value`.
fn header(line: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(": ").with_context(|| format!("{line:?} is not a header line"))?;
    Ok((name.parse()?, value.parse()?))
}
