//! Hit ratios of the policies on two traces, made from a seed: what the choice of the default rests on.

use bytes::Bytes;
use sidegrid_core::Time;
use sidegrid_core::operation::{Condition, OperationKind, Outcome};
use sidegrid_store::{CacheBounds, LocalCache, Policy};

const KEYS: usize = 20_000;
const REQUESTS: usize = 120_000;
const POLICIES: [Policy; 3] = [Policy::S3Fifo, Policy::WTinyLfu, Policy::Lru];

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Sums of zipf weights: a rank is found by binary search.
fn zipf_sums(exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    (1..=KEYS)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect()
}

fn zipf(sums: &[f64], numbers: &mut Numbers) -> usize {
    let at = numbers.unit() * sums[KEYS - 1];
    sums.partition_point(|&sum| sum <= at)
}

/// Popular keys only.
fn zipf_trace(exponent: f64) -> Vec<usize> {
    let (sums, mut numbers) = (zipf_sums(exponent), Numbers(42));
    (0..REQUESTS).map(|_| zipf(&sums, &mut numbers)).collect()
}

/// Popular keys, and every now and then a long run over keys that nobody asks for again: a batch job, a crawler.
fn scan_trace() -> Vec<usize> {
    let (sums, mut numbers) = (zipf_sums(0.9), Numbers(43));
    let (mut trace, mut scanned) = (Vec::with_capacity(REQUESTS), KEYS);
    while trace.len() < REQUESTS {
        trace.extend((0..8_000).map(|_| zipf(&sums, &mut numbers)));
        trace.extend(scanned..scanned + 4_000);
        scanned += 4_000;
    }
    trace
}

/// The popular keys change: what was hot goes cold.
fn shifting_trace() -> Vec<usize> {
    let (sums, mut numbers) = (zipf_sums(0.9), Numbers(44));
    (0..REQUESTS).map(|n| (zipf(&sums, &mut numbers) + n / 20_000 * 7_919) % KEYS).collect()
}

/// Reads through the cache: what is missing is put.
fn hit_ratio(policy: Policy, entries: u64, trace: &[usize]) -> f64 {
    let bounds = CacheBounds { max_entries: Some(entries), policy, ..CacheBounds::default() };
    let cache = LocalCache::new(bounds, 8, 9);
    let put = OperationKind::Put {
        value: Bytes::from_static(b"value"),
        content_type: None,
        ttl: None,
        condition: Condition::Always,
        return_previous: false,
    };
    for n in trace {
        let key = Bytes::from(n.to_string());
        if cache.execute(&key, &OperationKind::Get, Time::ZERO) == Ok(Outcome::Absent) {
            assert!(cache.execute(&key, &put, Time::ZERO).is_ok());
        }
    }
    let figures = cache.figures();
    assert_eq!(figures.held.entries, entries, "a full cache");
    figures.hits as f64 / (figures.hits + figures.misses) as f64
}

#[test]
fn a_scan_does_not_flush_the_resistant_policies() {
    for entries in [200, 2_000] {
        for (name, trace) in [
            ("zipf 0.7", zipf_trace(0.7)),
            ("zipf 1.0", zipf_trace(1.0)),
            ("shifting zipf 0.9", shifting_trace()),
            ("zipf 0.9 with scans", scan_trace()),
        ] {
            let ratios = POLICIES.map(|policy| hit_ratio(policy, entries, &trace));
            let [s3_fifo, w_tiny_lfu, lru] = ratios;
            println!("{entries} entries, {name}: S3-FIFO {s3_fifo:.4}, W-TinyLFU {w_tiny_lfu:.4}, LRU {lru:.4}");
            if name.ends_with("scans") {
                assert!(s3_fifo > lru && w_tiny_lfu > lru, "{name}: {ratios:?}");
            }
        }
    }
}
