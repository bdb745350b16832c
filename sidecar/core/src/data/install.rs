//! Taking up the roles of a new view.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Data;
use super::group::{Primary, Role};
use super::results::Results;
use super::transfer::Filling;
use crate::ids::{GroupId, MemberId};
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::storage::Storage;
use crate::view::View;

impl<S: Storage> Data<S> {
    /// Closes the gate for every group; the roles of the new view open it again.
    pub(crate) fn close(&self) {
        self.gate.close_all();
    }

    /// Takes up the roles of the installed view. `present` says which members have installed it already.
    pub(crate) fn install(&mut self, cx: &mut StepContext<'_>, view: &Arc<View>, present: &BTreeSet<MemberId>) {
        self.view = Some(Arc::clone(view));
        self.pending_bytes = 0;
        let peers: BTreeSet<MemberId> = view.ids().filter(|id| *id != cx.me).collect();
        self.links.new_view(&cx.limits, &peers, present);
        for index in 0..self.groups.len() {
            self.take_role(cx, view, index, present);
            self.pending_bytes += self.groups[index].primary().map_or(0, |p| p.pending_bytes);
        }
        self.filling.retain(|g| matches!(self.groups[g.index()].role, Role::Incoming(_)));
        self.renew_intake(cx);
        self.send_all_due(cx);
        self.resend_pulls(cx);
    }

    fn take_role(&mut self, cx: &mut StepContext<'_>, view: &View, index: usize, present: &BTreeSet<MemberId>) {
        let group = self.groups[index].id;
        let placement = view.placement(group);
        let owner = view.is_owner(group, cx.me);
        let incoming = view.incoming(group).iter().find(|(id, _)| *id == cx.me).map(|(_, since)| *since);
        let kept = matches!(self.groups[index].role, Role::Kept);
        if kept && placement.owners.is_empty() && placement.empty_since == self.groups[index].empty_since {
            // Vacant: this copy may be the last one.
            return;
        }
        if !owner && incoming.is_none() {
            self.let_go(index);
            return;
        }
        if kept && view.primary(group) != Some(cx.me) {
            // The group went on, or starts, without this copy. With it, this node is the primary, though perhaps since a view
            // that it was never shown: nobody could be filled without it meanwhile.
            self.let_go(index);
        }
        if placement.empty_since > self.groups[index].empty_since {
            // Every copy was lost, or there never was one: whatever is held here is not the group's.
            self.let_go(index);
            self.groups[index].empty_since = placement.empty_since;
        }
        let primary_changed = placement.primary_since != self.groups[index].primary_since;
        let leads_on = !primary_changed && self.groups[index].is_serving() && view.primary(group) == Some(cx.me);
        if !leads_on {
            // Answers decided here may still be on their way while this node leads on; otherwise they are void.
            self.groups[index].results.new_view();
        }
        match incoming {
            Some(since) => {
                let goes_on = matches!(&self.groups[index].role, Role::Incoming(f) if f.since == since)
                    && (!primary_changed || cx.bug(Bug::TransferSurvivesPrimary));
                if !goes_on {
                    self.begin_filling(index, since);
                    self.groups[index].empty_since = placement.empty_since;
                }
            }
            None if view.primary(group) == Some(cx.me) => self.lead(cx, view, index, leads_on, present),
            None => {
                // What was pending stays as records above the watermark, for the new primary to collect; askers ask again
                // there.
                self.groups[index].role = Role::Owner;
                let stable = self.groups[index].stable;
                self.forget_tombstones(group);
                self.gate.open(group, view.number.0, stable);
            }
        }
        self.groups[index].primary_since = placement.primary_since;
    }

    fn let_go(&mut self, index: usize) {
        let group = self.groups[index].id;
        if self.groups[index].holds_copy() {
            self.store.clear(group);
        }
        self.with_results(group, Results::clear);
        self.groups[index].reset();
        self.filling.remove(&group);
    }

    /// A copy that was not incoming throughout, or followed another primary, begins afresh (T-2).
    fn begin_filling(&mut self, index: usize, since: crate::ids::ViewNumber) {
        self.let_go(index);
        self.next_transfer += 1;
        self.groups[index].role = Role::Incoming(Filling::new(since, self.next_transfer));
    }

    fn lead(
        &mut self,
        cx: &mut StepContext<'_>,
        view: &View,
        index: usize,
        leads_on: bool,
        present: &BTreeSet<MemberId>,
    ) {
        let group = self.groups[index].id;
        if !leads_on {
            self.promote(cx, index);
            self.note_present(cx, index, present);
            return;
        }
        let replicas = replicas(view, group, cx.me);
        let dropped: BTreeSet<MemberId> =
            view.dropped(group).iter().copied().filter(|id| *id != cx.me && !present.contains(id)).collect();
        let incoming: Vec<MemberId> = view.incoming(group).iter().map(|(id, _)| *id).collect();
        if let Some(primary) = self.groups[index].primary_mut() {
            primary.replicas = replicas;
            primary.waits_since = (!dropped.is_empty()).then_some(cx.now);
            primary.asks.begin(cx.now);
            primary.dropped = dropped;
            primary.sending.retain(|to, _| incoming.contains(to));
        }
        let stable = self.groups[index].stable;
        self.gate.open(group, view.number.0, stable);
        self.renew_pending(cx, index);
        let waiting: Vec<u64> =
            self.groups[index].primary().map(|p: &Primary| p.pending.keys().copied().collect()).unwrap_or_default();
        for counter in waiting {
            self.settle(cx, group, Some(counter));
        }
    }

    fn note_present(&mut self, cx: &mut StepContext<'_>, index: usize, present: &BTreeSet<MemberId>) {
        for &peer in present {
            self.after_install_of(cx, index, peer);
        }
    }
}

fn replicas(view: &View, group: GroupId, me: MemberId) -> SmallVec<[MemberId; 4]> {
    let owners = view.owners(group).into_iter().filter(|id| *id != me);
    let incoming = view.incoming(group).into_iter().map(|(id, _)| id);
    owners.chain(incoming).collect()
}
