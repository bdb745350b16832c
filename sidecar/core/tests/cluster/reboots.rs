//! Another boot of the same machine id is only likely to be the old machine's: ids are copied with images (P-3).

use std::time::Duration;

use sidegrid_core::event::Notice;
use sidegrid_core::view::Replicas;
use sidegrid_core::{Event, MemberId};

use crate::world::World;

const TWO: Replicas = Replicas::Count(2);

/// P-3: while the first one answers anybody, its clone is refused, both are told what is doubled, and the view stays.
#[test]
fn a_clone_of_one_that_answers_is_refused() {
    for size in [1, 2, 3] {
        let mut world = World::of(size, TWO);
        world.put(1, "k", "v");
        let swaps = world.swaps.len();
        world.start_on_boot(9, "lock-1", "b2");
        world.run(Duration::from_secs(10));
        assert_eq!(world.swaps.len(), swaps, "the view was changed");
        assert_eq!(world.members(1), (1..=size).collect::<Vec<_>>());
        let why = &world.refused.iter().find(|(id, _)| *id == 9).expect("the clone is refused").1;
        assert!(why.contains("n1") && why.contains("machine id m"), "{why}");
        let tells = |n: &Notice| matches!(n, Notice::DoubledIdentity { name, .. } if name == "n1");
        assert!(world.nodes[&1].notices.iter().any(tells), "the first one's log says nothing");
        assert_eq!(world.get(1, "k"), Some("v".into()));
        // Whoever hears the first one alone is enough: it is cut off from all but the last of the others.
        if size == 3 {
            world.cut.extend([(1, 2), (2, 1)]);
            world.run(Duration::from_millis(300));
            assert!(world.members(3).contains(&1));
        }
    }
}

/// P-3: what has really been started anew joins once its predecessor's lease and promises must have run out.
#[test]
fn another_boot_of_one_that_answers_nobody_is_proof_after_its_lease() {
    let mut world = World::of(3, TWO);
    let key = (0..20).map(|i| format!("k{i}")).find(|key| world.owners_of(key).contains(&1)).unwrap();
    world.put(1, &key, "v");
    // Two of three at once: the third can't go on without proof of both.
    world.crash(2);
    world.crash(3);
    world.start_on_boot(4, "lock-2", "b2");
    world.run(Duration::from_secs(4));
    assert!(world.members(1).contains(&2), "the third may be alive, and hear the second");
    world.start_on_boot(5, "lock-3", "b3");
    world.until("all are back", |w| {
        [1, 4, 5].iter().all(|id| w.members(*id) == [1, 4, 5] || w.members(*id) == [1, 5, 4])
    });
    assert_eq!(world.get(4, &key), Some("v".into()));
}

/// P-3 and C-7: when all machines were started anew and nobody is left to ask, silence for as long is enough.
#[test]
fn all_started_anew_begin_again() {
    let mut world = World::of(2, TWO);
    world.crash(1);
    world.crash(2);
    world.start_on_boot(3, "lock-1", "b2");
    world.run(Duration::from_millis(800));
    assert!(!world.members(3).contains(&3), "the lease of the first may still run");
    world.start_on_boot(4, "lock-2", "b2");
    world.until("formed again", |w| w.members(3).len() == 2 && w.members(3) == w.members(4));
}

/// P-3: one that was silent and answers again is no longer taken for dead: its clone had not come in yet.
#[test]
fn an_echo_takes_the_likelihood_away() {
    let mut world = World::of(2, TWO);
    world.isolate(2);
    world.registry_up = false;
    world.run(Duration::from_millis(600));
    world.start_on_boot(9, "lock-2", "b2");
    world.run(Duration::from_millis(500));
    world.heal();
    world.run(Duration::from_millis(200));
    world.registry_up = true;
    world.run(Duration::from_secs(3));
    assert_eq!(world.members(1), [1, 2]);
    world.step(9, Event::Tick);
    assert!(!world.view(1).unwrap().contains(MemberId(9)));
}
