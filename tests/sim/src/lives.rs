//! How incarnations begin and end, and what a core's effects do to the world.

use std::sync::Arc;

use sidegrid_core::core::{Core, Setup};
use sidegrid_core::document::{Document, Proof};
use sidegrid_core::event::{CallId, Effect, RegistryAnswer, RegistryCall};
use sidegrid_core::view::Replicas;
use sidegrid_core::{Kept, MemberId, ViewNumber};

use crate::clock::{Instant, MS};
use crate::history::Told;
use crate::node::{Life, incarnation_of, node_of};
use crate::queue::{Fate, What};
use crate::store::new_store;
use crate::world::World;

/// The call by which the platform's word is stored; cores count theirs up from zero.
const PLATFORM: CallId = CallId(u64::MAX);

impl World {
    /// Starts a node's process, or a new incarnation in the process of `formerly`.
    pub(crate) fn start(&mut self, node: usize, formerly: Option<MemberId>) {
        if self.nodes[node].life.is_some() || self.nodes[node].lost {
            return;
        }
        let random = self.rng.next();
        let seed = self.rng.next();
        let joins = self.nodes[node].joins;
        let me = self.nodes[node].next_member(random);
        let id = me.id;
        let setup = Setup {
            me,
            exclusive: true,
            joins,
            agreed: self.agreed.clone(),
            creates: joins.then(|| self.cluster()),
            formerly,
            limits: self.limits,
            seed,
            bugs: self.bugs(),
        };
        // Another process starts empty.
        let kept = self.nodes[node].kept.take().filter(|_| formerly.is_some());
        let groups = kept.as_ref().map_or(0, Kept::groups);
        let store = match &kept {
            Some(kept) => Arc::clone(kept.store()),
            None => Arc::new(new_store(&self.profile, self.groups(), seed)),
        };
        let local = self.nodes[node].clock.local(self.now);
        self.took_over.extend(formerly.filter(|_| kept.is_some()).map(|formerly| (id, formerly)));
        let core = match kept {
            Some(kept) => Core::resume(setup, kept, local),
            None => Core::new(setup, Arc::clone(&store), local),
        };
        let (gate, lease) = (core.gate(), core.lease());
        let n = &mut self.nodes[node];
        (n.started, n.draining, n.left) = (true, false, false);
        n.life = Some(Life {
            id,
            core,
            store,
            gate,
            lease,
            peers: Vec::new(),
            tick_at: Instant::MAX,
            told: Vec::new(),
            waiting: Vec::new(),
            next_ticket: 0,
            view: ViewNumber::NONE,
        });
        let former = formerly.map(crate::trace::label);
        self.note(format_args!(
            "START {} formerly {former:?}, with copies of {groups} groups",
            crate::trace::label(id)
        ));
        self.queue.push(self.now + self.rng.between(0, 2 * MS), What::Tick { node, id });
        self.nodes[node].life.as_mut().expect("made above").tick_at = self.now;
        self.queue.push(self.now + self.rng.between(0, 100 * MS), What::PingTimer { node, id });
    }

    /// The number of groups that the caches make.
    pub(crate) fn groups(&self) -> usize {
        let mut classes: Vec<Replicas> = self.profile.caches.clone();
        classes.sort_unstable();
        classes.dedup();
        classes.len() * usize::from(self.profile.segments)
    }

    /// A process dies: its host refuses connections, and its apps' operations have no answer.
    pub(crate) fn crash(&mut self, node: usize) {
        // What an incarnation before has kept ends with the process.
        self.nodes[node].kept = None;
        if let Some(Life { id, .. }) = self.stop(node) {
            self.note(format_args!("CRASH {}", crate::trace::label(id)));
            // In pods the platform says so too, also while the next incarnation says it by itself.
            if self.profile.pods && self.rng.percent(40) {
                self.queue.push(self.now + self.rng.between(20 * MS, 1500 * MS), What::PlatformWord { dead: id });
            }
            self.refuse_connections(id);
        }
    }

    /// Nothing runs on a node any more, and nobody is told. Gives what ran.
    pub(crate) fn stop(&mut self, node: usize) -> Option<Life> {
        let life = self.nodes[node].life.take()?;
        self.nodes[node]
            .held
            .retain(|(_, what)| matches!(what, What::Start { .. } | What::Invoke { .. } | What::Retry { .. }));
        for (_, app, operation) in &life.waiting {
            self.after_attempt(*app, *operation, Told::Unknown);
        }
        Some(life)
    }

    /// An incarnation is out of the view: a new one starts in the same process, with the copies that were in sync (V-9).
    pub(crate) fn supersede(&mut self, node: usize) {
        self.stats.superseded += 1;
        let Some(Life { id, core, .. }) = self.stop(node) else { return };
        self.nodes[node].kept = core.into_kept();
        self.refuse_connections(id);
        let after = self.rng.between(MS, 20 * MS);
        self.queue.push(self.now + after, What::Start { node, formerly: Some(id) });
    }

    /// Does what a core wants done.
    pub(crate) fn carry_out(&mut self, node: usize, effect: Effect) {
        self.coverage.effect(&effect);
        match effect {
            Effect::Send { to, envelope } => self.send(node, to, &envelope),
            Effect::Peers(peers) => self.set_peers(node, &peers),
            Effect::Registry { call, request } => self.call_registry(node, call, request),
            Effect::Republish { view, document } => self.call_republish(node, view, document),
            Effect::Reply { ticket, result } => self.reply(node, ticket, result),
            Effect::PingNow => self.ping_all(node),
            Effect::Left => self.left(node),
            Effect::Notice(notice) => self.noticed(node, &notice),
            Effect::Superseded | Effect::JoinRefused(_) => {}
        }
    }

    fn call_republish(&mut self, node: usize, view: ViewNumber, document: Arc<Document>) {
        let Some(id) = self.nodes[node].life.as_ref().map(|l| l.id) else { return };
        if let Some(there) = self.registry.way(node).there {
            self.queue.push(self.now + there, What::RepublishArrive { id, view, document });
        }
    }

    /// A member's word reaches a registry that is behind.
    pub(crate) fn republish_arrives(&mut self, id: MemberId, view: ViewNumber, document: &Document) {
        if self.registry.republish(id, view, document, self.now) {
            self.coverage.hit("G-4");
            self.last_common_fault = self.now;
            self.document_made_again();
        }
    }

    fn left(&mut self, node: usize) {
        self.nodes[node].left = true;
        self.stats.leaves += 1;
        if !self.healed {
            let back = self.nodes[node].back;
            let down = self.rng.between(10 * MS, 300 * MS);
            self.later_crash(node, back, down);
        }
    }

    fn call_registry(&mut self, node: usize, call: CallId, request: RegistryCall) {
        let Some(id) = self.nodes[node].life.as_ref().map(|l| l.id) else { return };
        let way = self.registry.way(node);
        if let Some(there) = way.there {
            let request = Box::new(request);
            self.queue.push(self.now + there, What::RegistryArrive { node, id, call, request, answer: way.fate });
        }
        if way.fate == Fate::GivenUp {
            let answer = Box::new(RegistryAnswer::Failed);
            self.queue.push(self.now + way.gives_up, What::RegistryAnswer { node, id, call, answer });
        }
    }

    /// A call reaches the registry, whether its maker still lives or not.
    pub(crate) fn registry_arrive(
        &mut self,
        node: usize,
        id: MemberId,
        call: CallId,
        request: &RegistryCall,
        fate: Fate,
    ) {
        let before = self.registry.document().cloned();
        let (answer, changed) = self.registry.carry_out(request, self.now);
        self.trace_registry(node, id, request, &answer);
        self.coverage.registry(&answer, fate);
        if changed {
            self.check_rights(id, before.as_deref(), call == PLATFORM);
            self.document_changed(before.as_deref());
        }
        let back = self.registry.back();
        let answer = match fate {
            Fate::Comes => answer,
            Fate::Lost => RegistryAnswer::Failed,
            Fate::GivenUp => return,
        };
        let answer = Box::new(answer);
        self.queue.push(self.now + back, What::RegistryAnswer { node, id, call, answer });
    }

    /// The platform (the operator) stores a proof of death in the document, by a swap like anybody.
    pub(crate) fn platform_word(&mut self, dead: MemberId) {
        let Some(document) = self.registry.document().cloned() else { return };
        if self.registry.away > 0 || self.registry.missing > 0 {
            self.queue.push(self.now + 200 * MS, What::PlatformWord { dead });
            return;
        }
        debug_assert!(!self.lives(node_of(dead), dead), "it has ended");
        self.platform_said.insert(dead);
        // And with it all that ran there before.
        let counted = document.view.ids().chain(document.unsealed.iter().flat_map(|u| u.members.iter().copied()));
        let ended = |id: &MemberId| node_of(*id) == node_of(dead) && !self.lives(node_of(*id), *id);
        let ended: Vec<MemberId> = counted
            .filter(|id| ended(id) && incarnation_of(*id) <= incarnation_of(dead) && !document.proofs.contains_key(id))
            .collect();
        if ended.is_empty() {
            if self.nodes[node_of(dead)].lost && !document.proofs.contains_key(&dead) {
                // A swap that admits it may still be on its way.
                self.queue.push(self.now + 500 * MS, What::PlatformWord { dead });
            }
            return;
        }
        let mut next = (*document).clone();
        next.revision += 1;
        next.proofs.extend(ended.into_iter().map(|id| (id, Proof::Platform)));
        let request = RegistryCall::Swap { expected: document.expected(), next: Arc::new(next) };
        self.registry_arrive(node_of(dead), dead, PLATFORM, &request, Fate::GivenUp);
        self.coverage.hit("P-1");
    }
}
