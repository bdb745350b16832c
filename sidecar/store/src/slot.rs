//! The fixed part of a record: one cache line.

use std::sync::atomic::{AtomicU32, Ordering};

use sidegrid_core::{Time, Version};

use crate::packed::Packed;

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

/// The fixed part of a record.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Slot {
    /// Key and value; none while the slot is free.
    pub(crate) data: Option<Packed>,
    pub(crate) version: Version,
    /// [`Time::NEVER`]: none.
    pub(crate) deadline: Time,
    pub(crate) written: Time,
    /// Of cache and key. Of a free slot: the next free one.
    pub(crate) hash: u32,
    /// The eviction policy's node of this entry, or [`NONE`].
    pub(crate) ticket: u32,
    /// Place in the heap of deadlines, or [`NONE`].
    pub(crate) due: u32,
    pub(crate) mark: Mark,
}

/// What reads leave on an entry for the eviction policy to find, so that they need not take its lock: the number of
/// uses since it last looked (4 bits), whether the entry is named as a victim, and the policy's clock at the last use.
#[derive(Debug, Default)]
pub(crate) struct Mark(AtomicU32);

const USES: u32 = 0b1111;
const NAMED: u32 = 0b1_0000;
const STAMP_SHIFT: u32 = 5;
/// Bits of the policy's clock that a mark holds.
pub(crate) const STAMP_MASK: u32 = u32::MAX >> STAMP_SHIFT;

impl Mark {
    /// Leaves a use. Writes only when that changes something, so that a hot entry's line stays shared; a use that
    /// meets another is lost.
    pub(crate) fn leave(&self, clock: u32) {
        let old = self.0.load(Ordering::Relaxed);
        let uses = ((old & USES) + 1).min(USES);
        let new = uses | (old & NAMED) | (clock << STAMP_SHIFT);
        if new != old {
            // Losing to another use is as good as winning; losing to a naming must not undo it.
            let _ = self.0.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Takes the uses (0 to 15) and the clock at the last of them.
    pub(crate) fn take(&self) -> (u32, u32) {
        let old = self.0.fetch_and(!USES, Ordering::Relaxed);
        (old & USES, old >> STAMP_SHIFT)
    }

    pub(crate) fn set_named(&self) {
        self.0.fetch_or(NAMED, Ordering::Relaxed);
    }

    /// Whether it was named; it no longer is.
    pub(crate) fn take_named(&self) -> bool {
        self.0.fetch_and(!NAMED, Ordering::Relaxed) & NAMED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_one_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
    }

    #[test]
    fn uses_saturate_and_naming_survives_them() {
        let mark = Mark::default();
        mark.set_named();
        for clock in 0..40 {
            mark.leave(clock);
        }
        assert_eq!(mark.take(), (15, 39));
        assert_eq!(mark.take().0, 0);
        assert!(mark.take_named() && !mark.take_named());
    }
}
