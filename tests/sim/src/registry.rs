//! The registry: one document, changed by compare-and-swap on a fresh read, reached over an unreliable way.

use std::collections::VecDeque;
use std::sync::Arc;

use sidegrid_core::document::Document;
use sidegrid_core::event::{RegistryAnswer, RegistryCall};
use sidegrid_core::recovery::{self, Observed, Statements};
use sidegrid_core::{MemberId, Time, ViewNumber};

use crate::clock::{MS, SEC, US};
use crate::network::MAX_NODES;
use crate::queue::Fate;
use crate::rng::Rng;

/// The way of one call: when it arrives and when its answer does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Until the call arrives; none: it never does.
    pub(crate) there: Option<u64>,
    /// What becomes of the answer.
    pub(crate) fate: Fate,
    /// When the caller gives up, for a call that never arrives or arrives after that.
    pub(crate) gives_up: u64,
}

/// The registry and what is wrong with it now; faults count.
#[derive(Debug)]
pub(crate) struct Registry {
    document: Option<Arc<Document>>,
    /// It answers nobody.
    pub(crate) away: u32,
    /// It answers late.
    pub(crate) slow: u32,
    /// Its answers get lost.
    pub(crate) lossy: u32,
    /// The document is not there.
    pub(crate) missing: u32,
    /// Nodes that can't reach it.
    pub(crate) cut_off: Vec<u8>,
    /// One of its replicas answers reads from before.
    pub(crate) stale: u32,
    /// The newest document that there ever was, once it was lost.
    lost: Option<Arc<Document>>,
    /// The newest view that it remembers apart from the document; it may lag behind.
    mark: ViewNumber,
    /// What members have said since.
    statements: Statements,
    observed: Observed,
    /// A bug: its swaps compare only the view's number.
    pub(crate) compares_little: bool,
    /// Documents that were replaced, and when; the newest last.
    replaced: VecDeque<(u64, Arc<Document>)>,
    rng: Rng,
}

/// Documents kept for a loss that puts one of them back.
const MAX_REPLACED: usize = 64;
/// A document that is put back is older than any call that may still be on its way to the registry.
const BACKUP_AGE: u64 = 8 * SEC;

impl Registry {
    /// An empty registry that works.
    pub(crate) fn new(rng: Rng) -> Registry {
        Registry {
            document: None,
            away: 0,
            slow: 0,
            lossy: 0,
            missing: 0,
            cut_off: vec![0; MAX_NODES],
            stale: 0,
            lost: None,
            mark: ViewNumber::NONE,
            statements: Statements::default(),
            observed: Observed::default(),
            compares_little: false,
            replaced: VecDeque::new(),
            rng,
        }
    }

    /// The document, for the checkers.
    pub(crate) fn document(&self) -> Option<&Arc<Document>> {
        self.document.as_ref()
    }

    /// The document is lost, or put back to an older one.
    pub(crate) fn lose(&mut self, put_back: bool, now: u64) {
        let Some(newest) = self.document.take() else { return };
        if put_back {
            let old = self.replaced.iter().rev().find(|(at, _)| at + BACKUP_AGE <= now);
            self.document = old.map(|(_, document)| Arc::clone(document));
        }
        self.lost.get_or_insert(newest);
    }

    /// A registry that can repair keeps a mark of the newest view apart from the document: one that is older is as good
    /// as lost, or a joiner who finds all of its members dead would begin a second cluster beside the first.
    fn is_put_back(&self) -> bool {
        self.document.as_ref().zip(self.lost.as_ref()).is_some_and(|(now, lost)| now.view.number < lost.view.number)
    }

    /// Takes a member's word (G-4). True when the document was made again by it.
    pub(crate) fn republish(&mut self, member: MemberId, view: ViewNumber, document: &Document, now: u64) -> bool {
        if self.missing > 0 || !recovery::is_behind(self.document.as_deref(), view, document) {
            return false;
        }
        let shown = self.document.as_deref().filter(|_| !self.is_put_back());
        let caught_up = shown.and_then(|stored| recovery::caught_up(stored, view, document));
        if caught_up.is_none() {
            self.statements.add(&mut self.observed, member, view, document, Time::from_nanos(now));
        }
        let settled = || self.statements.settled(&self.observed, Time::from_nanos(now), self.mark);
        let Some(settled) = caught_up.or_else(settled) else { return false };
        self.document = Some(Arc::new(settled));
        (self.lost, self.statements, self.observed) = (None, Statements::default(), Observed::default());
        true
    }

    /// All faults are over. A document that is still lost, a person puts back as it was.
    pub(crate) fn heal(&mut self) {
        if let Some(lost) = self.lost.take() {
            self.document = Some(lost);
        }
        (self.away, self.slow, self.lossy, self.missing) = (0, 0, 0, 0);
        self.stale = 0;
        self.cut_off.fill(0);
    }

    /// The way of a call that `node` makes now.
    pub(crate) fn way(&mut self, node: usize) -> Way {
        let rng = &mut self.rng;
        if self.away > 0 || self.cut_off[node] > 0 {
            let gives_up = if rng.percent(50) { rng.between(MS, 20 * MS) } else { rng.between(200 * MS, 3 * SEC) };
            return Way { there: None, fate: Fate::GivenUp, gives_up };
        }
        let latency = match rng.below(100) {
            _ if self.slow > 0 => rng.between(50 * MS, 1500 * MS),
            0..=89 => rng.between(300 * US, 5 * MS),
            _ => rng.between(5 * MS, 60 * MS),
        };
        let trouble = if self.lossy > 0 { 30 } else { 0 };
        if rng.percent(trouble) {
            // Given up, but the call is still on its way and may be carried out later.
            if rng.percent(30) {
                let late = latency + rng.between(100 * MS, 4 * SEC);
                return Way { there: Some(late), fate: Fate::GivenUp, gives_up: rng.between(latency, late) };
            }
            let there = rng.percent(60).then_some(latency);
            let fate = if there.is_some() { Fate::Lost } else { Fate::GivenUp };
            return Way { there, fate, gives_up: latency + rng.between(MS, SEC) };
        }
        Way { there: Some(latency), fate: Fate::Comes, gives_up: 0 }
    }

    /// What a replica answers that has not seen the last changes.
    fn earlier_document(&mut self, now: u64) -> Option<Arc<Document>> {
        let behind = self.rng.between(0, 3 * SEC);
        let then = self.replaced.iter().find(|(replaced, _)| replaced + behind > now);
        then.map(|(_, document)| Arc::clone(document)).or_else(|| self.document.clone())
    }

    /// How long an answer takes back.
    pub(crate) fn back(&mut self) -> u64 {
        if self.slow > 0 { self.rng.between(50 * MS, 1500 * MS) } else { self.rng.between(300 * US, 5 * MS) }
    }

    /// Carries out a call; the second part is the document that was replaced, when one was. G-1: all that a swap
    /// expects is compared with the document that is there now.
    pub(crate) fn carry_out(&mut self, request: &RegistryCall, now: u64) -> (RegistryAnswer, bool) {
        if self.missing > 0 || self.is_put_back() {
            let answer = match request {
                RegistryCall::Read => RegistryAnswer::Document(None),
                RegistryCall::Create(_) => RegistryAnswer::Failed,
                RegistryCall::Swap { .. } => RegistryAnswer::Conflict(None),
            };
            return (answer, false);
        }
        match request {
            RegistryCall::Read if self.stale > 0 && self.rng.percent(50) => {
                (RegistryAnswer::Document(self.earlier_document(now)), false)
            }
            RegistryCall::Read => (RegistryAnswer::Document(self.document.clone()), false),
            RegistryCall::Create(_) if self.lost.is_some() && self.document.is_none() => {
                (RegistryAnswer::Failed, false)
            }
            RegistryCall::Create(document) if self.document.is_none() => {
                self.document = Some(Arc::clone(document));
                (RegistryAnswer::Swapped, true)
            }
            RegistryCall::Swap { expected, next }
                if self.document.as_ref().is_some_and(|d| {
                    d.expected() == *expected || (self.compares_little && d.view.number == expected.version.view)
                }) =>
            {
                let before = self.document.replace(Arc::clone(next));
                self.replaced.extend(before.map(|document| (now, document)));
                if self.replaced.len() > MAX_REPLACED {
                    self.replaced.pop_front();
                }
                // It was put back within the newest view, and goes on from there.
                self.lost = None;
                if self.rng.percent(70) {
                    self.mark = next.view.number;
                }
                (RegistryAnswer::Swapped, true)
            }
            RegistryCall::Create(_) | RegistryCall::Swap { .. } => {
                (RegistryAnswer::Conflict(self.document.clone()), false)
            }
        }
    }
}
