//! The connections of one server, and the bound on them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::connection::{Connected, Order};

/// All connections of one server.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Arc<Connected>>,
    /// New connections are told to finish: the server is ending.
    finishing: bool,
}

/// A connection's place in the table; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    id: u64,
    connections: Arc<Connections>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.table.lock().open.remove(&self.id);
    }
}

impl Connections {
    pub(crate) fn new(max: usize) -> Connections {
        Connections { max, table: Mutex::new(Table::default()) }
    }

    /// Takes a connection in (B-1). At the bound, the one that has been idle longest is closed for it; when none is
    /// idle, or the server is ending, there is no seat.
    pub(crate) fn seat(self: &Arc<Self>, connected: &Arc<Connected>) -> Option<Seat> {
        let mut table = self.table.lock();
        if table.finishing {
            return None;
        }
        if table.open.len() >= self.max {
            let idle = table.open.iter().filter(|(_, c)| !c.is_busy()).min_by_key(|(_, c)| c.last_moved());
            let id = *idle?.0;
            if let Some(closed) = table.open.remove(&id) {
                closed.order(Order::Close);
            }
        }
        table.next += 1;
        let id = table.next;
        table.open.insert(id, Arc::clone(connected));
        Some(Seat { id, connections: Arc::clone(self) })
    }

    /// Closes what is overdue at tick `now`.
    pub(crate) fn reap(&self, now: u32, head_ticks: u32, idle_ticks: u32) {
        for connected in self.table.lock().open.values() {
            if connected.is_overdue(now, head_ticks, idle_ticks) {
                connected.order(Order::Close);
            }
        }
    }

    /// Tells all, and takes in no more.
    pub(crate) fn order_all(&self, order: Order) {
        let mut table = self.table.lock();
        table.finishing = true;
        for connected in table.open.values() {
            connected.order(order);
        }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.table.lock().open.len()
    }
}

#[cfg(test)]
mod unit {
    use super::super::connection::Ticks;
    use super::*;

    /// B-1
    #[tokio::test]
    async fn at_the_bound_the_longest_idle_gives_way_and_busy_ones_never_do() {
        let ticks = Arc::new(Ticks::default());
        let connections = Arc::new(Connections::new(2));
        let connect = || Arc::new(Connected::new(None, Arc::clone(&ticks)));
        let (oldest, older) = (connect(), connect());
        let _oldest_seat = connections.seat(&oldest).unwrap();
        ticks.advance();
        let _older_seat = connections.seat(&older).unwrap();
        let _request = oldest.begin(false);

        let third = connect();
        let _third_seat = connections.seat(&third).unwrap();
        assert_eq!(older.ordered().await, Order::Close);
        assert_eq!(connections.count(), 2);

        let _another = third.begin(false);
        assert!(connections.seat(&connect()).is_none());
    }

    #[test]
    fn what_keeps_us_waiting_is_overdue() {
        let ticks = Arc::new(Ticks::default());
        let connected = Arc::new(Connected::new(None, Arc::clone(&ticks)));
        // No head yet: the shorter time counts.
        assert!(!connected.is_overdue(ticks.now() + 2, 2, 9));
        assert!(connected.is_overdue(ticks.now() + 3, 2, 9));
        let request = connected.begin(false);
        assert!(!connected.is_overdue(ticks.now() + 99, 2, 9));
        drop(request);
        assert!(!connected.is_overdue(ticks.now() + 9, 2, 9));
        assert!(connected.is_overdue(ticks.now() + 10, 2, 9));
    }
}
