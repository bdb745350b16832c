//! Connections that have not yet shown who they are, shared fairly between the addresses that they come from.
//!
//! Anybody who reaches the port can open one and say nothing. While there are fewer than the bound, all are taken. At the
//! bound a newcomer displaces the oldest of the address that has the most, if that address has more than its own: so an
//! honest dialer gets in however many others one address opens, and if many addresses do, the oldest of those goes.
//! Within its own address a newcomer displaces only what has had time enough to finish.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::NetLimits;

/// What a handshake of ordinary speed never takes, on a busy machine and a slow network too.
const TIME_TO_FINISH: Duration = Duration::from_millis(500);

/// The handshakes of one port.
#[derive(Debug)]
pub(crate) struct Handshakes {
    under_way: Mutex<UnderWay>,
    max: usize,
}

/// Bounded by `max`: an address without handshakes has no entry.
#[derive(Debug, Default)]
struct UnderWay {
    count: usize,
    last: u64,
    /// Oldest first.
    by_source: HashMap<IpAddr, VecDeque<Handshake>>,
}

#[derive(Debug)]
struct Handshake {
    number: u64,
    since: Instant,
    displaced: CancellationToken,
}

/// Leave to make one handshake; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct HandshakePermit {
    handshakes: Arc<Handshakes>,
    source: IpAddr,
    number: u64,
    displaced: CancellationToken,
}

impl Handshakes {
    pub(crate) fn new(limits: &NetLimits) -> Arc<Handshakes> {
        Arc::new(Handshakes { under_way: Mutex::default(), max: limits.handshakes })
    }

    /// Leave for a connection from `source`; none when that has too many already. Another one's may end by it.
    pub(crate) fn admit(self: &Arc<Handshakes>, source: IpAddr, now: Instant) -> Option<HandshakePermit> {
        let source = counted_as(source);
        let mut under_way = self.lock();
        if under_way.count >= self.max && !under_way.displace_for(source, now) {
            return None;
        }
        under_way.count += 1;
        under_way.last += 1;
        let number = under_way.last;
        let displaced = CancellationToken::new();
        let handshake = Handshake { number, since: now, displaced: displaced.clone() };
        under_way.by_source.entry(source).or_default().push_back(handshake);
        drop(under_way);
        Some(HandshakePermit { handshakes: Arc::clone(self), source, number, displaced })
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn displace_for(&mut self, source: IpAddr, now: Instant) -> bool {
        let own = self.by_source.get(&source).map_or(0, VecDeque::len);
        // Among equals the one that waits longest.
        let most = self.by_source.iter().filter_map(|(from, of)| Some((of.len(), *from, of.front()?.since)));
        let Some((count, from, since)) = most.max_by_key(|(count, _, since)| (*count, std::cmp::Reverse(*since)))
        else {
            return false;
        };
        // With an equal count the newcomer would have more than the one that it displaces.
        if count <= own && (from != source || now < since + TIME_TO_FINISH) {
            return false;
        }
        let Some(of) = self.by_source.get_mut(&from) else { return false };
        if let Some(oldest) = of.pop_front() {
            oldest.displaced.cancel();
            self.count -= 1;
        }
        if of.is_empty() {
            self.by_source.remove(&from);
        }
        true
    }
}

impl HandshakePermit {
    /// Cancelled when a connection from another address takes its place.
    pub(crate) fn displaced(&self) -> CancellationToken {
        self.displaced.clone()
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut under_way = self.handshakes.lock();
        let Some(of) = under_way.by_source.get_mut(&self.source) else { return };
        let before = of.len();
        of.retain(|handshake| handshake.number != self.number);
        let (gone, empty) = (before - of.len(), of.is_empty());
        under_way.count -= gone;
        if empty {
            under_way.by_source.remove(&self.source);
        }
    }
}

/// One host often has all addresses of an IPv6 /64, so they count as one.
fn counted_as(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(max: usize) -> Arc<Handshakes> {
        Handshakes::new(&NetLimits { handshakes: max, ..NetLimits::default() })
    }

    fn from(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn one_address_takes_what_is_free_and_makes_way_for_others() {
        let (handshakes, now) = (of(4), Instant::now());
        let flood: Vec<_> = (0..4).map(|_| handshakes.admit(from(9), now).unwrap()).collect();
        assert!(handshakes.admit(from(9), now).is_none(), "no more than its share");
        let honest = handshakes.admit(from(1), now).expect("another address gets in");
        assert!(flood[0].displaced.is_cancelled() && !flood[1].displaced.is_cancelled());
        let second = handshakes.admit(from(1), now).expect("up to an equal share");
        assert!(handshakes.admit(from(1), now).is_none(), "not above it");
        assert!(!honest.displaced.is_cancelled() && !second.displaced.is_cancelled());
        drop((flood, honest, second));
        let under_way = handshakes.lock();
        assert_eq!((under_way.count, under_way.by_source.len()), (0, 0));
    }

    #[test]
    fn many_addresses_with_one_each_make_way_oldest_first() {
        let (handshakes, now) = (of(3), Instant::now());
        let at = |n: u64| now + Duration::from_millis(n);
        let flood: Vec<_> = (0..3_u8).map(|n| handshakes.admit(from(n), at(n.into())).unwrap()).collect();
        let _honest = handshakes.admit(from(200), at(9)).expect("a newcomer");
        assert_eq!(flood.iter().map(|f| f.displaced.is_cancelled()).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn what_had_its_time_makes_way_within_its_own_address() {
        let (handshakes, now) = (of(2), Instant::now());
        let silent = [handshakes.admit(from(1), now).unwrap(), handshakes.admit(from(1), now).unwrap()];
        let later = now + TIME_TO_FINISH;
        assert!(handshakes.admit(from(1), later - Duration::from_millis(1)).is_none());
        let _next = handshakes.admit(from(1), later).expect("the oldest had its time");
        assert!(silent[0].displaced.is_cancelled() && !silent[1].displaced.is_cancelled());
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let v6 = |text: &str| counted_as(text.parse().unwrap());
        assert_eq!(v6("fd00:0:0:1::5"), v6("fd00:0:0:1:ffff::9"));
        assert_ne!(v6("fd00:0:0:1::5"), v6("fd00:0:0:2::5"));
        assert_eq!(v6("::ffff:10.0.0.1"), v6("10.0.0.1"));
    }
}
