//! What people and metrics are shown of the core.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::MemberId;
use crate::view::View;

/// Where this node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Participation {
    /// Not in a view yet.
    Joining,
    /// In the view.
    Member,
    /// In the view and handing over.
    Leaving,
    /// Only forwards: by choice, or after it left.
    Client,
    /// Put out of the view; ends.
    Superseded,
}

/// A copy of what is worth showing.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where this node stands.
    pub participation: Participation,
    /// The installed view.
    pub view: Option<Arc<View>>,
    /// Time of lease that is left; zero: none.
    pub lease_left: Duration,
    /// Members suspected now.
    pub suspected: Vec<MemberId>,
    /// Unsealed views that the document listed when last seen.
    pub unsealed: usize,
    /// Why a needed exclusion can't go on, as a stable word.
    pub waits_for: Option<&'static str>,
    /// Whether the registry answered last time.
    pub registry_ok: bool,
    /// Whether this node is no member and reaches none: nothing can be decided for its app.
    pub reaches_nobody: bool,
    /// Groups by this node's state in them.
    pub groups: GroupCounts,
    /// Operations of this node's app under way.
    pub operations_in_flight: usize,
    /// Writes ordered here and not stable yet.
    pub pending_writes: usize,
    /// Their bytes.
    pub pending_bytes: usize,
    /// Groups of the view with copies still being filled.
    pub under_replicated: usize,
}

/// Groups by this node's state in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Primary and serving.
    pub primary: usize,
    /// Primary, not serving yet.
    pub promoting: usize,
    /// In-sync copy.
    pub owner: usize,
    /// Copy being filled.
    pub incoming: usize,
}
