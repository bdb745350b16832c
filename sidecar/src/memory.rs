//! The memory that this process keeps below: where the limit comes from, and what caches may hold under it.

use sidegrid_config::{Cache, MemberRole, MemoryBudget, Mode, Settings};

mod cgroup;

pub(crate) use cgroup::Cgroup;

/// What is known of this process's memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryStats {
    pub(crate) cgroup: Cgroup,
    pub(crate) budget: Option<MemoryBudget>,
}

impl MemoryStats {
    /// Of this process. The settings' own limit comes before the control group's.
    pub(crate) fn of(settings: &Settings) -> MemoryStats {
        let cgroup = Cgroup::of_this_process();
        let budget = settings.runtime.memory_limit.or_else(|| cgroup.limit()).map(MemoryBudget::of);
        MemoryStats { cgroup, budget }
    }

    /// Shares of the limit by part, the whole first; none without a limit.
    pub(crate) fn shares(&self) -> Vec<(&'static str, u64)> {
        self.budget
            .iter()
            .flat_map(|budget| {
                let MemoryBudget { limit, process, bodies, transfers, queues, caches } = *budget;
                [
                    ("all", limit),
                    ("process", process),
                    ("bodies", bodies),
                    ("transfers", transfers),
                    ("queues", queues),
                    ("caches", caches),
                ]
            })
            .collect()
    }
}

/// Bounds every cache of this member so that all together stay within the budget, and says what that changes.
pub(crate) fn fit(settings: &mut Settings, budget: &MemoryBudget) {
    tracing::info!(
        "memory: of {} in all, {} are for the process, {} for bodies, {} for transfers, {} for queues, {} for caches",
        mib(budget.limit),
        mib(budget.process),
        mib(budget.bodies),
        mib(budget.transfers),
        mib(budget.queues),
        mib(budget.caches),
    );
    let is_client = settings.member.role == MemberRole::Client;
    // A client holds nothing of a clustered cache.
    let holds = |cache: &Cache| !is_client || cache.mode == Mode::Local;
    let mut held: Vec<(&String, &mut Cache)> = settings.caches.iter_mut().filter(|(_, cache)| holds(cache)).collect();
    let asked: Vec<Option<u64>> = held.iter().map(|(_, cache)| cache.max_bytes).collect();
    let mut too_large = Vec::new();
    for ((name, cache), share) in held.iter_mut().zip(budget.divide(&asked)) {
        match cache.max_bytes {
            Some(asked) if asked > share => {
                too_large.push(format!("caches.{name}.maxBytes ({}, kept at {})", mib(asked), mib(share)));
            }
            Some(_) => {}
            None => tracing::info!("caches.{name} has no maxBytes: kept at {}", mib(share)),
        }
        cache.max_bytes = Some(share);
    }
    if !too_large.is_empty() {
        let needed = MemoryBudget::limit_for(asked.iter().flatten().sum());
        tracing::warn!(
            "more than the memory limit leaves for caches: {}; lower them, or raise the limit to {}",
            too_large.join(", "),
            mib(needed),
        );
    }
}

fn mib(bytes: u64) -> String {
    if bytes >> 20 == 0 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(caches: &[(&str, Mode, Option<u64>)]) -> Settings {
        let mut settings = Settings::default();
        for &(name, mode, max_bytes) in caches {
            settings.caches.insert(name.into(), Cache { mode, max_bytes, ..Cache::default() });
        }
        settings
    }

    fn bounds(settings: &Settings) -> Vec<Option<u64>> {
        settings.caches.values().map(|cache| cache.max_bytes).collect()
    }

    #[test]
    fn bounds_that_cannot_fit_are_cut_to_the_budget() {
        let mut settings = settings(&[("a", Mode::Distributed, Some(256 << 20)), ("b", Mode::Local, Some(1 << 20))]);
        let budget = MemoryBudget::of(96 << 20);
        fit(&mut settings, &budget);
        assert_eq!(bounds(&settings), [Some(budget.caches - (1 << 20)), Some(1 << 20)]);
    }

    #[test]
    fn an_unbounded_cache_gets_the_rest_and_bounds_that_fit_stay() {
        let mut settings = settings(&[("a", Mode::Distributed, None), ("b", Mode::Local, Some(1 << 20))]);
        let budget = MemoryBudget::of(1 << 30);
        fit(&mut settings, &budget);
        assert_eq!(bounds(&settings), [Some(budget.caches - (1 << 20)), Some(1 << 20)]);
    }

    #[test]
    fn a_client_has_memory_for_its_local_caches_alone() {
        let mut settings = settings(&[("a", Mode::Distributed, Some(1 << 40)), ("b", Mode::Local, None)]);
        settings.member.role = MemberRole::Client;
        let budget = MemoryBudget::of(1 << 30);
        fit(&mut settings, &budget);
        assert_eq!(bounds(&settings), [Some(1 << 40), Some(budget.caches)]);
    }

    #[test]
    fn the_settings_limit_comes_before_the_control_groups() {
        let mut settings = settings(&[]);
        settings.runtime.memory_limit = Some(1 << 30);
        assert_eq!(MemoryStats::of(&settings).budget, Some(MemoryBudget::of(1 << 30)));
    }
}
