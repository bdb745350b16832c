//! What the tests of separate processes run as a separate process.
//!
//! `wins FILE NAME COUNT` makes so many changes to the registry file and prints each, a line a change, once it is
//! acknowledged. `hold DIR CLUSTER NAME` holds a name's lock, prints its identity, and ends with its input.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use sidegrid_conformance::{Step, win};
use sidegrid_registry::{FileRegistry, NameLock};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["wins", file, name, count] => wins(file, name, count.parse().context("COUNT")?),
        ["hold", dir, cluster, name] => hold(dir, cluster, name),
        _ => bail!("usage: sidegrid-proposer wins FILE NAME COUNT | hold DIR CLUSTER NAME"),
    }
}

fn wins(file: &str, name: &str, count: usize) -> anyhow::Result<()> {
    let registry = FileRegistry::new(file)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(win(&registry, name, count, |step| {
        // Nobody listens any more: the test has ended, and so must its process.
        if print(step).is_err() {
            std::process::exit(1);
        }
    }));
    Ok(())
}

fn print(step: &Step) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{step}")?;
    out.flush()
}

fn hold(dir: &str, cluster: &str, name: &str) -> anyhow::Result<()> {
    let lock = NameLock::acquire(Path::new(dir), cluster, name)?;
    writeln!(std::io::stdout(), "{}", lock.identity())?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
