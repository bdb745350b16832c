//! Proposers: read, propose what follows, look what became of it.

use sidegrid_core::document::Document;
use sidegrid_registry::{Registry, RegistryError, Swap};

use crate::documents::{mark_of, next};
use crate::history::{History, Step};

/// Tries of one proposer for each change that it shall make.
const TRIES_PER_WIN: usize = 5_000;
/// Reads in a row that may fail.
const READ_TRIES: usize = 100;

/// What became of one proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It was made.
    Won(Step),
    /// It was not made.
    Lost,
    /// It was made or not, and others have moved on since, so that reading does not tell.
    Unsure(Step),
}

/// Makes one proposal with the mark `mark`, which no other proposal may have.
///
/// # Panics
/// If the registry fails other than by being away or losing answers, has no document, or contradicts itself.
pub async fn propose(registry: &dyn Registry, mark: &str) -> Attempt {
    let current = read(registry).await;
    let proposal = next(&current, mark);
    let step = Step::to(&proposal);
    match registry.swap(current.expected(), proposal.clone()).await {
        Ok(Swap::Done) => Attempt::Won(step),
        Ok(Swap::Conflict(Some(there))) => {
            assert_ne!(there.expected(), current.expected(), "a conflict with the document that was expected");
            Attempt::Lost
        }
        Ok(Swap::Conflict(None)) => panic!("the document is gone"),
        Err(RegistryError::Unavailable { .. }) => Attempt::Lost,
        // G-2: a lost answer is resolved by reading.
        Err(RegistryError::Unknown { .. }) => {
            let there = read(registry).await;
            assert!(there.revision >= current.revision, "the document went back");
            if there.revision == current.revision {
                assert!(there == current, "another document of the same revision");
                Attempt::Lost
            } else if there.revision > proposal.revision {
                Attempt::Unsure(step)
            } else if mark_of(&there).0 == mark {
                assert!(there == proposal, "the proposal was changed on its way");
                Attempt::Won(step)
            } else {
                Attempt::Lost
            }
        }
        Err(error) => panic!("{error}"),
    }
}

/// Proposes until `wins` proposals were made for sure, and tells each as it happens.
///
/// # Panics
/// Like [`propose`], and if that takes more than 5,000 tries for each.
pub async fn win(registry: &dyn Registry, name: &str, wins: usize, mut told: impl FnMut(&Step)) -> History {
    let mut history = History::default();
    for attempt in 0..wins.saturating_mul(TRIES_PER_WIN) {
        if history.won.len() == wins {
            break;
        }
        match propose(registry, &format!("{name}/{attempt}")).await {
            Attempt::Won(step) => {
                told(&step);
                history.won.push(step);
            }
            Attempt::Unsure(step) => history.unsure.push(step),
            Attempt::Lost => {}
        }
    }
    assert_eq!(history.won.len(), wins, "{name} won too rarely");
    history
}

async fn read(registry: &dyn Registry) -> Document {
    for _ in 0..READ_TRIES {
        match registry.read().await {
            Ok(Some(document)) => return document,
            Ok(None) => panic!("the document is gone"),
            Err(error) if error.is_retryable() => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{READ_TRIES} reads failed");
}
