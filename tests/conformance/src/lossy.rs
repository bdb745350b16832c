//! A registry that loses calls and answers by a seeded choice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use sidegrid_core::document::{Document, Expected};
use sidegrid_registry::{Registry, RegistryError, Secret, Swap};

/// How often what was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Changes that did not reach the registry.
    pub calls: u64,
    /// Changes that did, but whose answers got lost.
    pub answers: u64,
}

/// Passes calls on to another registry and loses some. A lost change ends with [`RegistryError::Unknown`], whether
/// it was made or not; a lost read with [`RegistryError::Unavailable`].
pub struct Lossy {
    inner: Arc<dyn Registry>,
    state: AtomicU64,
    one_in: u64,
    lost_calls: AtomicU64,
    lost_answers: AtomicU64,
}

enum Fate {
    Passes,
    CallLost,
    AnswerLost,
}

impl Lossy {
    /// Loses one in `one_in` calls (at least one), chosen by `seed`.
    #[must_use]
    pub fn new(inner: Arc<dyn Registry>, seed: u64, one_in: u64) -> Lossy {
        Lossy {
            inner,
            state: AtomicU64::new(seed),
            one_in: one_in.max(1),
            lost_calls: AtomicU64::new(0),
            lost_answers: AtomicU64::new(0),
        }
    }

    /// What was lost so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses { calls: self.lost_calls.load(Ordering::Relaxed), answers: self.lost_answers.load(Ordering::Relaxed) }
    }

    fn fate(&self) -> Fate {
        let random = split_mix(self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed));
        if !(random >> 1).is_multiple_of(self.one_in) {
            Fate::Passes
        } else if random & 1 == 0 {
            Fate::CallLost
        } else {
            Fate::AnswerLost
        }
    }

    async fn change<T>(&self, call: impl Future<Output = Result<T, RegistryError>> + Send) -> Result<T, RegistryError> {
        let unknown = || RegistryError::Unknown { place: "lossy".into(), doing: "a change", source: "lost".into() };
        match self.fate() {
            Fate::Passes => call.await,
            Fate::CallLost => {
                self.lost_calls.fetch_add(1, Ordering::Relaxed);
                Err(unknown())
            }
            Fate::AnswerLost => {
                call.await?;
                self.lost_answers.fetch_add(1, Ordering::Relaxed);
                Err(unknown())
            }
        }
    }

    async fn look<T>(&self, call: impl Future<Output = Result<T, RegistryError>> + Send) -> Result<T, RegistryError> {
        match self.fate() {
            Fate::Passes => call.await,
            Fate::CallLost | Fate::AnswerLost => {
                Err(RegistryError::Unavailable { place: "lossy".into(), doing: "a read", source: "lost".into() })
            }
        }
    }
}

/// The mixing of SplitMix64 (Steele, Lea, Flood 2014).
fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[async_trait]
impl Registry for Lossy {
    async fn read(&self) -> Result<Option<Document>, RegistryError> {
        self.look(self.inner.read()).await
    }

    async fn create(&self, document: Document) -> Result<Swap, RegistryError> {
        self.change(self.inner.create(document)).await
    }

    async fn swap(&self, expected: Expected, next: Document) -> Result<Swap, RegistryError> {
        self.change(self.inner.swap(expected, next)).await
    }

    async fn authority(&self) -> Result<Option<Secret>, RegistryError> {
        self.look(self.inner.authority()).await
    }

    async fn create_authority(&self, secret: Secret) -> Result<Secret, RegistryError> {
        self.change(self.inner.create_authority(secret)).await
    }
}
