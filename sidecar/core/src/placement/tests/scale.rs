//! Planning at the largest sizes that settings allow, over topologies of all kinds: how long it takes, how much it
//! moves, and how even it ends.

use std::time::Duration;

use super::*;
use crate::view::MemberIndex;

/// What planning may take of a core in a test build, many times what it takes in a release build (10 ms at most). What
/// is quadratic in segments or members takes minutes.
const GENEROUS: Duration = Duration::from_secs(1);

fn place(id: u64, site: u64, rack: u64) -> Member {
    let mut member = member(id, rack);
    member.locality.site = format!("s{site}");
    member
}

/// Where the members of a cluster are.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// All in one rack.
    Flat,
    /// Racks of equal size.
    Racks(u64),
    /// The first rack has one member, the others share the rest.
    Lopsided(u64),
    /// Two sites, one with a tenth of the members, with two racks each.
    Sites,
}

impl Layout {
    fn member(self, id: u64) -> Member {
        match self {
            Layout::Flat => place(id, 0, 0),
            Layout::Racks(racks) => place(id, 0, id % racks),
            Layout::Lopsided(racks) => place(id, 0, if id == 1 { 0 } else { 1 + id % racks }),
            Layout::Sites => place(id, u64::from(id % 10 == 1), id / 10 % 2),
        }
    }
}

/// How long this thread has run on a core: what else the machine does is not counted.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// Plans a change, checks the time that it takes, and returns the next view.
fn timed(view: &View, change: &Change) -> View {
    let began = processor_time();
    let next = next_view(view, change);
    let took = processor_time().saturating_sub(began);
    if std::env::var_os("SIDEGRID_TIMES").is_some() {
        let what = (change.add.len(), change.remove.len(), change.leaving.len(), change.in_sync.len());
        println!("{took:?} for {} members, {} groups, {what:?}", next.members.len(), next.groups.len());
    }
    assert!(took < GENEROUS, "{took:?} for {} members, {} groups", next.members.len(), next.groups.len());
    next
}

fn complete(view: &View, leaving: &BTreeSet<MemberId>) -> View {
    let (mut view, mut before, mut changes) = (view.clone(), view.clone(), Vec::new());
    for _ in 0..10 {
        let in_sync = view.group_ids().flat_map(|g| view.incoming(g).into_iter().map(move |(id, _)| (g, id))).collect();
        let next = timed(&view, &Change { in_sync, leaving: leaving.clone(), ..Change::default() });
        assert!(next.is_sound());
        let same = |v: &View| v.groups.iter().map(|g| (g.owners.clone(), g.incoming.clone())).collect::<Vec<_>>();
        let changed = same(&next).iter().zip(same(&view)).filter(|(a, b)| *a != b).count();
        view = next;
        if changed == 0 {
            return view;
        }
        changes.push((changed, moved(&before, &view)));
        before = view.clone();
    }
    panic!("placement of {} members does not settle; groups changed and copies moved: {changes:?}", view.members.len());
}

fn grown(classes: Vec<Replicas>, segments: u16, members: u64, layout: Layout) -> View {
    let mut view = start(ViewNumber(1), layout.member(1), classes, segments, 1);
    while view.members.len() < usize::try_from(members).unwrap() {
        let now = u64::try_from(view.members.len()).unwrap();
        let add = (now + 1..=(2 * now).min(members)).map(|id| layout.member(id)).collect();
        view = timed(&view, &Change { add, ..Change::default() });
        view = complete(&view, &BTreeSet::new());
    }
    view
}

/// Members of each group of a class.
fn sets(view: &View, class: usize) -> Vec<Vec<MemberIndex>> {
    let segments = usize::from(view.segments);
    view.groups[class * segments..(class + 1) * segments].iter().map(|g| g.owners.to_vec()).collect()
}

fn spread_of(view: &View, set: &[MemberIndex]) -> [usize; 3] {
    let localities = || set.iter().map(|&i| &view.members[usize::from(i)].locality);
    [
        localities().map(|l| &l.site).collect::<BTreeSet<_>>().len(),
        localities().map(|l| (&l.site, &l.rack)).collect::<BTreeSet<_>>().len(),
        localities().map(|l| (&l.site, &l.rack, &l.machine)).collect::<BTreeSet<_>>().len(),
    ]
}

/// Every group is spread as widely as the members allow, and no copy could go from one member to another that has two
/// less without narrowing its group.
fn assert_even(view: &View, class: usize) {
    let sets = sets(view, class);
    let all: Vec<MemberIndex> = (0..u16::try_from(view.members.len()).unwrap()).collect();
    let mut load = vec![0usize; all.len()];
    sets.iter().flatten().for_each(|&i| load[usize::from(i)] += 1);
    let widest = spread_of(view, &all);
    for set in &sets {
        let spread = spread_of(view, set);
        assert_eq!(spread, widest.map(|w| w.min(set.len())), "{set:?}");
        for &from in set {
            let better = all.iter().find(|&&to| {
                let with: Vec<_> = set.iter().map(|&i| if i == from { to } else { i }).collect();
                load[usize::from(to)] + 1 < load[usize::from(from)]
                    && !set.contains(&to)
                    && spread_of(view, &with) >= spread
            });
            assert_eq!(better, None, "{set:?}: {from} has {}", load[usize::from(from)]);
        }
    }
}

fn moved(before: &View, after: &View) -> usize {
    let ids = |v: &View, g| v.owners(g).into_iter().collect::<BTreeSet<_>>();
    before.group_ids().map(|g| ids(after, g).difference(&ids(before, g)).count()).sum()
}

fn leads(view: &View, class: usize) -> Vec<usize> {
    let mut load = vec![0usize; view.members.len()];
    sets(view, class).iter().for_each(|s| load[usize::from(s[0])] += 1);
    load
}

fn range(loads: &[usize]) -> usize {
    loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0)
}

/// Joins one by one and by many, exclusions, leaves, at the largest sizes.
fn large(classes: &[Replicas], segments: u16, members: u64, layout: Layout) {
    let mut view = grown(classes.to_vec(), segments, members, layout);
    for class in 0..classes.len() {
        assert!(range(&leads(&view, class)) <= 3, "{:?}", leads(&view, class));
    }
    let third: BTreeSet<_> = view.ids().filter(|id| id.0 % 3 == 0).collect();
    view = timed(&view, &Change { remove: third, exclusion: true, ..Change::default() });
    view = complete(&view, &BTreeSet::new());
    view = timed(&view, &Change { add: vec![layout.member(members + 1)], ..Change::default() });
    view = complete(&view, &BTreeSet::new());
    let leaving: BTreeSet<_> = view.ids().filter(|id| id.0 % 7 == 0).collect();
    view = complete(&view, &leaving);
    for id in &leaving {
        assert!(view.groups.iter().all(|g| !g.owners.contains(&view.index_of(*id).unwrap())));
    }
}

#[test]
fn planning_16384_segments_on_60_members_is_quick() {
    for layout in [Layout::Flat, Layout::Racks(3), Layout::Lopsided(4), Layout::Sites] {
        large(&[Replicas::Count(2)], 16_384, 60, layout);
    }
    large(&[Replicas::Count(3)], 16_384, 60, Layout::Racks(5));
    large(&[Replicas::All], 16_384, 60, Layout::Flat);
}

#[test]
fn planning_256_segments_on_500_members_is_quick() {
    for layout in [Layout::Flat, Layout::Racks(3), Layout::Lopsided(4), Layout::Sites] {
        large(&[Replicas::Count(2), Replicas::Count(5), Replicas::All], 256, 500, layout);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// After any change has settled, loads are even and groups wide; a join of k moves no more than k must carry.
    #[test]
    fn any_topology_ends_even_and_a_join_moves_little(
        places in prop::collection::vec((0u64..3, 0u64..3), 4..14),
        count in 1u16..5,
        joiners in 1usize..3,
    ) {
        let mut view = start(ViewNumber(1), place(1, places[0].0, places[0].1), vec![Replicas::Count(count)], 96, 1);
        let members: Vec<_> = (2..).zip(&places[1..]).map(|(id, &(site, rack))| place(id, site, rack)).collect();
        let (old, new) = members.split_at(members.len() - joiners);
        for member in old {
            view = timed(&view, &Change { add: vec![member.clone()], ..Change::default() });
            view = complete(&view, &BTreeSet::new());
        }
        assert_even(&view, 0);
        let before = view.clone();
        for member in new {
            view = timed(&view, &Change { add: vec![member.clone()], ..Change::default() });
        }
        view = complete(&view, &BTreeSet::new());
        assert_even(&view, 0);
        let old_members = before.members.len();
        let carried: usize = sets(&view, 0).iter().flatten().filter(|&&i| usize::from(i) >= old_members).count();
        let (sets_before, sets_after) = (sets(&before, 0), sets(&view, 0));
        let pairs = sets_before.iter().zip(&sets_after);
        let widened = pairs.filter(|(b, a)| spread_of(&before, b) < spread_of(&view, a)).count();
        let slack = 2 * widened + 2 * view.members.len() + carried / 2;
        prop_assert!(moved(&before, &view) <= carried + slack, "{} moved, {carried} carried, {slack}", moved(&before, &view));
        let gone = view.ids().nth(1).unwrap();
        view = timed(&view, &Change { remove: [gone].into(), exclusion: true, ..Change::default() });
        view = complete(&view, &BTreeSet::new());
        assert_even(&view, 0);
    }
}
