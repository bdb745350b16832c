//! Which of this machine's addresses to listen on.

use std::net::IpAddr;

/// A chosen address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The address.
    pub address: IpAddr,
    /// Why this one, for the log.
    pub why: String,
}

/// Chooses a bind address: an IP, a word or a pattern.
///
/// # Errors
/// When nothing matches.
pub fn choose(_setting: &str) -> Result<Choice, AddressError> {
    unreachable!()
}

/// Why no address can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {}
