//! A registry in memory: the suite's second kind, and, with a fault, what the suite must refuse.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sidegrid_core::document::{Document, Expected};
use sidegrid_registry::{Registry, RegistryError, Secret, Swap, check_swap, encode};

use crate::Place;

/// What a memory registry does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFault {
    /// Swaps for another cluster.
    IgnoresCluster,
    /// Swaps whatever the view.
    IgnoresView,
    /// Swaps whatever the ballot.
    IgnoresBallot,
    /// Swaps whatever the revision.
    IgnoresRevision,
    /// Writes what does not follow.
    WritesAnything,
    /// Compares and writes in two steps.
    NotAtomic,
    /// Creates over a document that is there.
    CreateOverwrites,
    /// Looks and creates in two steps.
    CreateNotAtomic,
    /// Creates by a swap.
    SwapCreates,
    /// Creates a second time after the document was lost.
    CreatesAnew,
    /// Shows an instance the document that it saw last, if that is newer.
    ShowsNewest,
    /// Shows a missing document as the one that was there.
    HidesMissing,
    /// Applies a call that was given up after the second read that follows.
    LandsLate,
    /// Keeps the last authority.
    LastAuthorityWins,
    /// Forgets all with the instance that wrote it.
    ForgetsAtRestart,
    /// Cuts a list of many members short.
    CutsLarge,
}

impl MemoryFault {
    /// All of them.
    pub const ALL: [MemoryFault; 16] = [
        MemoryFault::IgnoresCluster,
        MemoryFault::IgnoresView,
        MemoryFault::IgnoresBallot,
        MemoryFault::IgnoresRevision,
        MemoryFault::WritesAnything,
        MemoryFault::NotAtomic,
        MemoryFault::CreateOverwrites,
        MemoryFault::CreateNotAtomic,
        MemoryFault::SwapCreates,
        MemoryFault::CreatesAnew,
        MemoryFault::ShowsNewest,
        MemoryFault::HidesMissing,
        MemoryFault::LandsLate,
        MemoryFault::LastAuthorityWins,
        MemoryFault::ForgetsAtRestart,
        MemoryFault::CutsLarge,
    ];
}

#[derive(Debug, Default)]
struct MemoryState {
    document: Option<Document>,
    was_created: bool,
    authority: Option<Secret>,
    late: Option<Late>,
    seen: Option<Document>,
    looked: usize,
}

#[derive(Debug)]
struct Late {
    expected: Expected,
    next: Document,
    reads_until: u8,
}

/// A place in memory.
#[derive(Debug, Default)]
pub struct MemoryPlace {
    held: Arc<Mutex<MemoryState>>,
    fault: Option<MemoryFault>,
}

impl MemoryPlace {
    /// An empty place whose registry does right.
    #[must_use]
    pub fn new() -> MemoryPlace {
        MemoryPlace::default()
    }

    /// An empty place whose registry does wrong.
    #[must_use]
    pub fn with(fault: MemoryFault) -> MemoryPlace {
        MemoryPlace { fault: Some(fault), ..MemoryPlace::default() }
    }
}

#[async_trait]
impl Place for MemoryPlace {
    fn open(&self) -> Arc<dyn Registry> {
        let forgets = self.fault == Some(MemoryFault::ForgetsAtRestart);
        let held = if forgets { Arc::default() } else { Arc::clone(&self.held) };
        Arc::new(Memory { held, fault: self.fault })
    }

    async fn tamper(&self, document: Option<&Document>) {
        lock(&self.held).document = document.cloned();
    }
}

#[derive(Debug)]
struct Memory {
    held: Arc<Mutex<MemoryState>>,
    fault: Option<MemoryFault>,
}

fn lock(held: &Mutex<MemoryState>) -> MutexGuard<'_, MemoryState> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    fn has(&self, fault: MemoryFault) -> bool {
        self.fault == Some(fault)
    }

    fn matches(&self, current: &Document, expected: &Expected) -> bool {
        let mut there = current.expected();
        match self.fault {
            Some(MemoryFault::IgnoresCluster) => there.cluster = expected.cluster,
            Some(MemoryFault::IgnoresView) => there.version.view = expected.version.view,
            Some(MemoryFault::IgnoresBallot) => there.version.ballot = expected.version.ballot,
            Some(MemoryFault::IgnoresRevision) => there.revision = expected.revision,
            _ => {}
        }
        there == *expected
    }

    fn compare_and_swap(&self, held: &mut MemoryState, expected: &Expected, next: Document) -> Swap {
        match &held.document {
            Some(current) if self.matches(current, expected) => {
                held.seen = Some(next.clone());
                held.document = Some(next);
                Swap::Done
            }
            None if self.has(MemoryFault::SwapCreates) => {
                held.document = Some(next);
                Swap::Done
            }
            current => Swap::Conflict(current.clone()),
        }
    }

    fn look(&self) -> Option<Document> {
        let mut held = lock(&self.held);
        held.looked += 1;
        held.document.clone()
    }

    /// So that a race that is there to be lost is lost. Gives up if the caller is alone.
    async fn until_two_have_looked(&self) {
        for _ in 0..10_000 {
            if lock(&self.held).looked > 1 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn land(&self, held: &mut MemoryState) {
        let Some(mut late) = held.late.take() else { return };
        if late.reads_until > 0 {
            late.reads_until -= 1;
            held.late = Some(late);
        } else {
            self.compare_and_swap(held, &late.expected, late.next);
        }
    }
}

#[async_trait]
impl Registry for Memory {
    async fn read(&self) -> Result<Option<Document>, RegistryError> {
        let mut held = lock(&self.held);
        self.land(&mut held);
        let there = held.document.clone();
        Ok(match (&held.seen, there) {
            (Some(seen), None) if self.has(MemoryFault::HidesMissing) => Some(seen.clone()),
            (Some(seen), Some(there)) if self.has(MemoryFault::ShowsNewest) && seen.revision > there.revision => {
                Some(seen.clone())
            }
            (_, there) => there,
        })
    }

    async fn create(&self, mut document: Document) -> Result<Swap, RegistryError> {
        encode(&document)?;
        if self.has(MemoryFault::CutsLarge) {
            document.view.members.truncate(32);
        }
        if self.has(MemoryFault::CreateNotAtomic) {
            if let Some(before) = self.look() {
                return Ok(Swap::Conflict(Some(before)));
            }
            self.until_two_have_looked().await;
        }
        let mut held = lock(&self.held);
        if held.document.is_some()
            && !self.has(MemoryFault::CreateOverwrites)
            && !self.has(MemoryFault::CreateNotAtomic)
        {
            return Ok(Swap::Conflict(held.document.clone()));
        }
        if held.was_created && held.document.is_none() && !self.has(MemoryFault::CreatesAnew) {
            let fault = "the document is missing although it was created once".to_owned();
            return Err(RegistryError::Corrupt { place: "memory".to_owned(), fault });
        }
        held.was_created = true;
        held.document = Some(document);
        Ok(Swap::Done)
    }

    async fn swap(&self, expected: Expected, next: Document) -> Result<Swap, RegistryError> {
        if !self.has(MemoryFault::WritesAnything) {
            check_swap(&expected, &next)?;
            encode(&next)?;
        }
        if self.has(MemoryFault::NotAtomic) {
            let before = lock(&self.held).document.clone();
            tokio::task::yield_now().await;
            return Ok(match before {
                Some(current) if self.matches(&current, &expected) => {
                    lock(&self.held).document = Some(next);
                    Swap::Done
                }
                before => Swap::Conflict(before),
            });
        }
        if self.has(MemoryFault::LandsLate) {
            lock(&self.held).late = Some(Late { expected, next: next.clone(), reads_until: 1 });
            tokio::task::yield_now().await;
            lock(&self.held).late = None;
        }
        Ok(self.compare_and_swap(&mut lock(&self.held), &expected, next))
    }

    async fn authority(&self) -> Result<Option<Secret>, RegistryError> {
        Ok(lock(&self.held).authority.clone())
    }

    async fn create_authority(&self, secret: Secret) -> Result<Secret, RegistryError> {
        let mut held = lock(&self.held);
        if self.has(MemoryFault::LastAuthorityWins) {
            held.authority = None;
        }
        Ok(held.authority.get_or_insert(secret).clone())
    }
}
