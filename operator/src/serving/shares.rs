//! Who may have how many connections: each source address a share, so that one that opens many keeps nobody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Bounds of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeLimits {
    /// Connections at once.
    pub connections: usize,
    /// Connections of one source address at once.
    pub per_source: usize,
    /// Connections of one source address whose handshake or first request is still awaited.
    pub unproved_per_source: usize,
}

impl Default for ServeLimits {
    fn default() -> ServeLimits {
        ServeLimits { connections: 1024, per_source: 128, unproved_per_source: 32 }
    }
}

#[derive(Debug)]
struct Kept {
    source: IpAddr,
    /// It has asked something.
    is_proved: bool,
    ends: CancellationToken,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    connections: HashMap<u64, Kept>,
    sources: HashMap<IpAddr, Counted>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    all: usize,
    unproved: usize,
}

/// The connections of one listener. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    limits: ServeLimits,
    table: Arc<Mutex<Table>>,
}

/// A connection's place in its source's share, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    table: Arc<Mutex<Table>>,
    /// Cancelled when the place is needed for a source that has fewer.
    pub(super) ends: CancellationToken,
}

impl Shares {
    pub(super) fn new(limits: ServeLimits) -> Shares {
        Shares { limits, table: Arc::default() }
    }

    /// A place for a new connection of `source`; none when its share is taken, or all are and nobody has more than it would
    /// have. When all are taken, the source with the most gives up its oldest, one that has not asked anything first.
    pub(super) fn take(&self, source: IpAddr) -> Option<Place> {
        let source = source.to_canonical();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = table.sources.get(&source).copied().unwrap_or_default();
        if counted.all >= self.limits.per_source || counted.unproved >= self.limits.unproved_per_source {
            return None;
        }
        if table.connections.len() >= self.limits.connections {
            table.make_room(counted.all)?;
        }
        let (id, ends) = (table.next, CancellationToken::new());
        table.next += 1;
        table.connections.insert(id, Kept { source, is_proved: false, ends: ends.clone() });
        let counted = table.sources.entry(source).or_default();
        (counted.all, counted.unproved) = (counted.all + 1, counted.unproved + 1);
        Some(Place { id, table: Arc::clone(&self.table), ends })
    }
}

impl Table {
    /// Ends one connection of the source that has the most, if that is more than `has` and one.
    fn make_room(&mut self, has: usize) -> Option<()> {
        let (&most, counted) = self.sources.iter().max_by_key(|(_, counted)| counted.all)?;
        if counted.all <= has + 1 {
            return None;
        }
        let of_most = self.connections.iter().filter(|(_, kept)| kept.source == most);
        let (&id, _) = of_most.min_by_key(|(id, kept)| (kept.is_proved, **id))?;
        self.remove(id);
        Some(())
    }

    fn remove(&mut self, id: u64) {
        let Some(kept) = self.connections.remove(&id) else { return };
        kept.ends.cancel();
        let Some(counted) = self.sources.get_mut(&kept.source) else { return };
        counted.all -= 1;
        counted.unproved -= usize::from(!kept.is_proved);
        if counted.all == 0 {
            self.sources.remove(&kept.source);
        }
    }
}

impl Place {
    /// The connection has asked something.
    pub(super) fn prove(&self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = table.connections.get_mut(&self.id).filter(|kept| !kept.is_proved) else { return };
        kept.is_proved = true;
        let source = kept.source;
        if let Some(counted) = table.sources.get_mut(&source) {
            counted.unproved -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn one_source_has_its_share_and_those_with_fewer_are_let_in_at_its_cost() {
        let shares = Shares::new(ServeLimits { connections: 8, per_source: 6, unproved_per_source: 4 });
        let mut first: Vec<Place> = (0..4).map(|_| shares.take(address(1)).unwrap()).collect();
        assert!(shares.take(address(1)).is_none(), "too many that have asked nothing");
        first[0].prove();
        first[0].prove();
        first[1].prove();
        first.extend((0..2).map(|_| shares.take(address(1)).unwrap()));
        assert!(shares.take(IpAddr::from([10, 0, 0, 1]).to_canonical()).is_none(), "its share is taken");
        let second: Vec<Place> = (0..2).map(|_| shares.take(address(2)).unwrap()).collect();
        // All are taken: the oldest of the first source that has asked nothing goes.
        let third = shares.take(address(3)).unwrap();
        assert!(first[2].ends.is_cancelled() && !first[0].ends.is_cancelled() && !third.ends.is_cancelled());
        let more: Vec<_> = (0..2).map_while(|_| shares.take(address(3))).collect();
        assert_eq!(more.len(), 2, "up to as many as the others have");
        assert!(shares.take(address(3)).is_none() && second.iter().all(|place| !place.ends.is_cancelled()));
        drop((first, second, third, more));
        let table = shares.table.lock().unwrap();
        assert!(table.connections.is_empty() && table.sources.is_empty());
    }
}
