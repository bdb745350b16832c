//! The two ports of a member.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Plane {
    /// Messages of the core.
    Data,
    /// Pings.
    FailureDetection,
}

impl Plane {
    /// Both.
    pub const ALL: [Plane; 2] = [Plane::Data, Plane::FailureDetection];

    /// A stable label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Plane::Data => "data",
            Plane::FailureDetection => "failure_detection",
        }
    }
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
