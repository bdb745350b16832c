//! Liveness while a fault stands: whom it does not concern is served within a bound, and stays a member.

use std::collections::BTreeMap;

use sidegrid_core::operation::RefusalReason;

use crate::clock::SEC;
use crate::history::{Operation, Told};
use crate::world::World;

/// Longest time that an operation may take while the fault stands.
const LONGEST: u64 = SEC;

impl World {
    /// Looks, while the fault stands, whether those that must stay are in the view as the incarnations that they were.
    pub(crate) fn check_members_stay(&mut self) {
        let Some(standing) = &self.profile.standing else { return };
        if self.now < standing.served_from || self.now > standing.until {
            return;
        }
        let Some(document) = self.registry.document() else { return };
        let gone = standing.stay.iter().copied().find(|&node| {
            let life = self.nodes[node].life.as_ref();
            self.nodes[node].incarnations != 1 || life.is_none_or(|l| !document.view.contains(l.id))
        });
        if let Some(node) = gone {
            self.violated("standing fault", format!("n{node} is not the member any more that it was"), None);
        }
    }

    /// Looks at the end whether everyone else's operations were done while the fault stood.
    pub(crate) fn check_served_meanwhile(&mut self) {
        let Some(standing) = &self.profile.standing else { return };
        let meanwhile = |o: &&Operation| {
            o.invoked >= standing.served_from
                && o.invoked + LONGEST < standing.until
                && !standing.apart.contains(&o.node)
                && standing.cache.is_none_or(|cache| o.key.cache == cache)
        };
        let mut done = 0;
        let mut failed: BTreeMap<usize, (usize, &Operation)> = BTreeMap::new();
        for operation in self.history.operations.iter().filter(meanwhile) {
            // Some apps wait for a tenth of a second only, in which a read is not applied.
            let refused = matches!(operation.told, Told::Refused(RefusalReason::Overloaded | RefusalReason::Timeout));
            let fine = match (&operation.told, standing.overload) {
                (Told::Unknown | Told::Refused(_), Some(_)) => refused || matches!(operation.told, Told::Unknown),
                (Told::Unknown | Told::Refused(_), None) => false,
                (_, Some(_)) => true,
                (_, None) => operation.returned - operation.invoked <= LONGEST,
            };
            done += usize::from(!matches!(operation.told, Told::Unknown | Told::Refused(_)));
            if !fine {
                failed.entry(operation.node).or_insert((0, operation)).0 += 1;
            }
        }
        let either = failed.keys().filter(|node| standing.either.contains(node)).count();
        let wrong = failed.iter().find(|(node, _)| !standing.either.contains(node) || either > 1);
        let least = standing.overload.unwrap_or(1);
        let waits: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|n| n.life.as_ref()?.core.snapshot(n.clock.local(self.now)).waits_for)
            .collect();
        if let Some((node, (count, first))) = wrong {
            let what =
                format!("n{node} was not served {count} times, first: {first}; {done} done; waits for {waits:?}");
            let key = first.key;
            self.violated("standing fault", what, Some(key));
        } else if done < least {
            self.violated("standing fault", format!("only {done} operations were done, {least} should be"), None);
        }
    }
}
