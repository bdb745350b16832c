//! A copy that is not the primary: holds what the primary orders, and learns what is stable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Data;
use super::group::Role;
use crate::ids::{CacheId, GroupId, MemberId, Version};
use crate::message::{Message, RememberedResult, Write, WriteBody};
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Storage, StoredEntry};
use crate::time::Time;

impl<S: Storage> Data<S> {
    fn follows(&self, group: GroupId, from: MemberId) -> bool {
        let Some(g) = self.groups.get(group.index()) else { return false };
        let primary = self.view.as_ref().and_then(|v| v.primary(group));
        primary == Some(from) && matches!(g.role, Role::Owner | Role::Incoming(_))
    }

    /// Holds the primary's writes and says so. What is stable already was held before, and is only said again.
    pub(super) fn on_replicate(
        &mut self,
        cx: &mut StepContext<'_>,
        from: MemberId,
        group: GroupId,
        writes: Vec<Write>,
        stable: Version,
    ) {
        if !self.follows(group, from) {
            return;
        }
        let mut versions = Vec::with_capacity(writes.len());
        let caches = caches_of(&writes);
        for write in writes {
            versions.push(write.version);
            let known = self.groups[group.index()].stable.counter;
            if cx.bug(Bug::FillingIgnoresWrites) && matches!(self.groups[group.index()].role, Role::Incoming(_)) {
                continue;
            }
            if write.version.counter > known || cx.bug(Bug::NoTombstones) {
                self.take_write(cx, group, &write);
            }
        }
        self.took_in(cx, &caches);
        cx.send(from, Message::Replicated { group, versions });
        self.take_stable(cx, group, stable);
    }

    /// Keeps a write of this group if it is newer than what is held of its key, and its results either way.
    pub(super) fn take_write(&mut self, cx: &mut StepContext<'_>, group: GroupId, write: &Write) {
        let key = CacheKey { cache: write.cache, key: write.key.clone() };
        if self.group_of(&key) != Some(group) {
            return;
        }
        let held = self.store.peek(group, &key);
        if held.is_none_or(|r| r.version < write.version) {
            self.apply(group, &key, write.version, entry_of(write, cx.now));
        } else {
            let g = &mut self.groups[group.index()];
            g.counter = g.counter.max(write.version.counter);
        }
        for result in &write.results {
            self.with_results(group, |results| results.applied(result, &cx.limits, cx.now));
        }
    }

    pub(super) fn on_stable(&mut self, cx: &mut StepContext<'_>, from: MemberId, group: GroupId, stable: Version) {
        if self.follows(group, from) {
            self.take_stable(cx, group, stable);
        }
    }

    pub(super) fn take_stable(&mut self, cx: &mut StepContext<'_>, group: GroupId, stable: Version) {
        self.advance_stable(group, stable);
        if cx.bug(Bug::NoTombstones) {
            self.forget_tombstones_at_once(group);
        }
    }

    /// Asks again how far groups are stable, where that was not heard since the last look although writes wait for it.
    pub(super) fn ask_for_stable(&mut self, cx: &mut StepContext<'_>) {
        let Some(view) = self.view.clone() else { return };
        let mut asked: BTreeMap<MemberId, Vec<GroupId>> = BTreeMap::new();
        for g in self.groups.iter_mut().filter(|g| matches!(g.role, Role::Owner | Role::Incoming(_))) {
            let stands = g.looked_at == g.stable.counter && !g.recent.is_empty();
            g.looked_at = g.stable.counter;
            if let Some(primary) = view.primary(g.id).filter(|id| stands && *id != cx.me) {
                asked.entry(primary).or_default().push(g.id);
            }
        }
        for (primary, groups) in asked {
            cx.send(primary, Message::StableRequest(groups));
        }
    }

    /// A copy was not told how far groups led here are stable, or its word was lost.
    pub(super) fn on_stable_request(&self, cx: &mut StepContext<'_>, from: MemberId, groups: &[GroupId]) {
        let led = groups.iter().filter_map(|id| self.group(*id)).filter(|g| g.is_serving());
        let marks: Vec<(GroupId, Version)> = led.map(|g| (g.id, g.stable)).collect();
        if !marks.is_empty() {
            cx.send(from, Message::Stable(marks));
        }
    }

    fn forget_tombstones_at_once(&mut self, group: GroupId) {
        let store = Arc::clone(&self.store);
        for (version, key) in std::mem::take(&mut self.groups[group.index()].tombstones).into_values() {
            store.forget(group, &key, version);
        }
    }

    /// A new primary asks what is held above its watermark (M-1). Answering shows that the view is installed (C-6).
    pub(super) fn on_collect(&mut self, cx: &mut StepContext<'_>, from: MemberId, group: GroupId, above: Version) {
        let Some(g) = self.groups.get(group.index()) else { return };
        if self.view.as_ref().and_then(|v| v.primary(group)) != Some(from) {
            return;
        }
        let (stable, recent): (Version, Vec<CacheKey>) = match g.role {
            Role::Owner => (g.stable, g.recent.range(above.counter + 1..).map(|(_, (_, key))| key.clone()).collect()),
            _ => (Version::ZERO, Vec::new()),
        };
        let results = match g.role {
            Role::Owner => g.results.above(above.counter, cx.now),
            _ => Vec::new(),
        };
        let mut writes: BTreeMap<CacheKey, Write> = BTreeMap::new();
        for key in recent {
            if let Some(record) = self.store.peek(group, &key) {
                let write = write_of(&key, record.version, record.entry.as_ref(), Vec::new(), cx.now);
                writes.insert(key, write);
            }
        }
        let writes = writes.into_values().collect();
        cx.send(from, Message::Collected { group, above, stable, writes, results });
    }
}

/// Caches that these writes bring entries into.
pub(super) fn caches_of(writes: &[Write]) -> BTreeSet<CacheId> {
    writes.iter().filter(|w| matches!(w.body, WriteBody::Entry { .. })).map(|w| w.cache).collect()
}

/// A record as it travels.
pub(super) fn write_of(
    key: &CacheKey,
    version: Version,
    entry: Option<&StoredEntry>,
    results: Vec<RememberedResult>,
    now: Time,
) -> Write {
    let body = match entry {
        None => WriteBody::Tombstone,
        Some(entry) => WriteBody::Entry {
            value: entry.value.clone(),
            content_type: entry.content_type.clone(),
            etag: entry.etag,
            remaining: entry.deadline.map(|d| d.since(now)),
            age: now.since(entry.written),
        },
    };
    Write { cache: key.cache, key: key.key.clone(), version, body, results }
}

/// The stored form of a write, with its remaining time as a local deadline.
pub(super) fn entry_of(write: &Write, now: Time) -> Option<StoredEntry> {
    match &write.body {
        WriteBody::Tombstone => None,
        WriteBody::Entry { value, content_type, etag, remaining, age } => Some(StoredEntry {
            value: value.clone(),
            content_type: content_type.clone(),
            etag: *etag,
            deadline: remaining.map(|left| now + left),
            written: now - *age,
        }),
    }
}
