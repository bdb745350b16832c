//! What an echo is given for, and what it is worth.

use std::time::Duration;

use super::*;

const ME: MemberId = MemberId(1);
const A: MemberId = MemberId(2);
const B: MemberId = MemberId(3);

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

fn lease(members: &[MemberId]) -> Lease {
    let lease = Lease::new(ME, Timing::default(), Arc::new(Gate::new(1)), Bugs::default(), at(0));
    lease.install(ViewNumber(5), members.to_vec(), Timing::default(), at(0));
    lease
}

fn ping(view: u64, sent: u64) -> Ping {
    Ping {
        view: ViewNumber(view),
        sent: at(sent).as_nanos(),
        confirmed_past: ViewNumber::NONE,
        status: PingStatus::default(),
        echo: None,
    }
}

fn echo(view: u64, sent: u64) -> Ping {
    Ping { echo: Some((ViewNumber(view), at(sent).as_nanos())), ..ping(view, 0) }
}

/// L-1: more than half, itself counted, of pings sent less than a lease ago.
#[test]
fn a_majority_of_fresh_echoes_is_a_lease() {
    let lease = lease(&[ME, A, B]);
    assert_eq!(lease.lease_until(), Time::ZERO);
    lease.on_ping(at(20), A, echo(5, 10));
    assert_eq!(lease.lease_until(), at(610), "counted from when the ping was sent, not from its echo");
    lease.on_ping(at(120), B, echo(5, 110));
    assert_eq!(lease.lease_until(), at(710));
    lease.on_ping(at(121), B, echo(5, 50));
    assert_eq!(lease.lease_until(), at(710), "an older echo that comes late takes nothing away");
    lease.on_ping(at(130), A, echo(4, 125));
    lease.on_ping(at(130), MemberId(9), echo(5, 125));
    assert_eq!(lease.lease_until(), at(710), "echoes of another view or of no member count for nothing");
    lease.on_ping(at(130), A, echo(5, 999_999));
    assert_eq!(lease.lease_until(), at(710), "nor does one of a ping that was not sent yet");
}

/// L-1: alone is always a majority; a new view begins without echoes.
#[test]
fn one_member_always_serves_and_a_new_view_never_at_once() {
    assert_eq!(lease(&[ME]).lease_until(), Time::NEVER);
    let lease = lease(&[ME, A]);
    lease.on_ping(at(20), A, echo(5, 10));
    lease.install(ViewNumber(6), vec![ME, A], Timing::default(), at(30));
    assert_eq!(lease.lease_until(), Time::ZERO);
    lease.install(ViewNumber(7), vec![A, B], Timing::default(), at(40));
    assert_eq!(lease.lease_until(), Time::ZERO, "not a member");
}

/// L-2: only the installed view's pings, from its members.
#[test]
fn only_pings_of_the_installed_view_are_echoed() {
    let lease = lease(&[ME, A]);
    let answer = lease.on_ping(at(10), A, ping(5, 3)).answer;
    assert_eq!(answer.and_then(|p| p.echo), Some((ViewNumber(5), at(3).as_nanos())));
    assert_eq!(lease.on_ping(at(10), A, ping(4, 3)).answer, None);
    assert_eq!(lease.on_ping(at(10), A, ping(6, 3)).answer, None);
    assert_eq!(lease.on_ping(at(10), B, ping(5, 3)).answer, None);
}

/// L-3 and V-2: an echo is a promise of a lease and a tenth; a vote tells how long it runs, and ends the echoes.
#[test]
fn a_vote_tells_the_promise_and_ends_the_echoes() {
    let lease = lease(&[ME, A, B]);
    lease.on_ping(at(100), A, ping(5, 90));
    assert_eq!(lease.block(&[A, B], at(200)), vec![(A, Duration::from_millis(560)), (B, Duration::ZERO)]);
    assert_eq!(lease.on_ping(at(210), A, ping(5, 205)).answer, None);
    assert!(lease.on_ping(at(210), B, ping(5, 205)).answer.is_none());
    lease.unblock_except(&BTreeSet::from([B]));
    assert!(lease.on_ping(at(220), A, ping(5, 215)).answer.is_some());
    assert!(lease.on_ping(at(220), B, ping(5, 215)).answer.is_none());
    assert_eq!(lease.last_promise(), at(220) + Duration::from_millis(660));
}

/// L-4: a core that does not turn is not kept alive by its ping thread.
#[test]
fn a_wedged_core_echoes_nothing() {
    let lease = lease(&[ME, A]);
    lease.turned(at(1_000), ViewNumber::NONE, PingStatus::default());
    assert!(lease.on_ping(at(1_400), A, ping(5, 1_399)).answer.is_some());
    assert!(lease.on_ping(at(1_401), A, ping(5, 1_400)).answer.is_none());
    lease.turned(at(1_500), ViewNumber::NONE, PingStatus::default());
    assert!(lease.on_ping(at(1_501), A, ping(5, 1_500)).answer.is_some());
}

/// L-6: a peer that has just installed our view is pinged back at once; one whose echo stands is not.
#[test]
fn a_peer_that_comes_into_the_view_is_pinged_back() {
    let lease = lease(&[ME, A]);
    assert!(lease.on_ping(at(10), A, ping(5, 3)).ping_back);
    lease.on_ping(at(12), A, echo(5, 11));
    assert!(!lease.on_ping(at(20), A, ping(5, 19)).ping_back);
}

/// C-3: whoever stopped neither pings, echoes nor serves again, whatever view comes.
#[test]
fn stopped_is_for_good() {
    let lease = lease(&[ME, A]);
    lease.on_ping(at(12), A, echo(5, 11));
    lease.stop();
    lease.install(ViewNumber(6), vec![ME], Timing::default(), at(20));
    lease.on_ping(at(21), A, echo(6, 20));
    assert_eq!(lease.lease_until(), Time::ZERO);
    assert_eq!(lease.ping(at(22)), None);
    assert_eq!(lease.on_ping(at(23), A, ping(6, 22)).answer, None);
}
