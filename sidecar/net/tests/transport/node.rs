//! A node under test.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use sidegrid_core::lease::Heard;
use sidegrid_core::member::{Locality, Member, PlatformIdentity};
use sidegrid_core::message::{Envelope, Message, Ping, PingStatus, Write, WriteBody};
use sidegrid_core::{CacheId, ClusterUid, GroupId, MemberId, Time, Version, ViewNumber};
use sidegrid_net::counters::PlaneFigures;
use sidegrid_net::{
    Authority, Clock, Counters, Heartbeat, Inbound, Leaf, Listeners, MemberIdentity, Mesh, MeshSettings, NetLimits,
    Plane, TlsConfig, TlsMode,
};
use tokio::sync::mpsc;

pub(crate) const CLUSTER: ClusterUid = ClusterUid(0xc1);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
/// A condition that has not come true by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// The authority of the tests' cluster, made once.
pub(crate) fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::generate(CLUSTER, DAY).unwrap())
}

pub(crate) fn leaf(authority: &Authority, cluster: ClusterUid, id: u64) -> Leaf {
    authority.issue(MemberIdentity { cluster, member: MemberId(id) }, DAY).unwrap()
}

pub(crate) fn mutual(id: u64) -> TlsMode {
    let ca = authority();
    TlsMode::Mutual(TlsConfig::new(&ca.cert_pem, &leaf(ca, CLUSTER, id), CLUSTER, MemberId(id)).unwrap())
}

/// Pings always, answers everybody, remembers who echoed.
#[derive(Debug, Default)]
pub(crate) struct Beat {
    pub(crate) echoes: Mutex<BTreeMap<MemberId, u64>>,
    pub(crate) pings: Mutex<BTreeMap<MemberId, u64>>,
    /// So many pings are still to be pinged back.
    pub(crate) ping_backs: AtomicU64,
    /// Milliseconds; zero means 20.
    pub(crate) period: AtomicU64,
}

impl Heartbeat for Beat {
    fn ping(&self, now: Time) -> Option<Ping> {
        Some(Ping {
            view: ViewNumber(7),
            sent: now.as_nanos(),
            confirmed_past: ViewNumber(6),
            status: PingStatus::default(),
            echo: None,
        })
    }

    fn ping_period(&self) -> Duration {
        match self.period.load(Ordering::Relaxed) {
            0 => Duration::from_millis(20),
            millis => Duration::from_millis(millis),
        }
    }

    fn on_ping(&self, now: Time, from: MemberId, ping: Ping) -> Heard {
        if let Some((view, sent)) = ping.echo {
            assert_eq!(view, ViewNumber(7));
            assert!(sent <= now.as_nanos(), "an echo carries back a reading of our own clock");
            *self.echoes.lock().unwrap().entry(from).or_default() += 1;
            return Heard { answer: None, ping_back: false };
        }
        *self.pings.lock().unwrap().entry(from).or_default() += 1;
        let take = |n: u64| n.checked_sub(1);
        let ping_back = self.ping_backs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        let answer = Ping { echo: Some((ping.view, ping.sent)), ..self.ping(now).unwrap() };
        Heard { answer: Some(answer), ping_back }
    }
}

impl Beat {
    pub(crate) fn echoes_of(&self, id: u64) -> u64 {
        self.echoes.lock().unwrap().get(&MemberId(id)).copied().unwrap_or(0)
    }

    pub(crate) fn pings_of(&self, id: u64) -> u64 {
        self.pings.lock().unwrap().get(&MemberId(id)).copied().unwrap_or(0)
    }
}

pub(crate) struct Node {
    pub(crate) member: Member,
    pub(crate) mesh: Mesh,
    pub(crate) inbound: mpsc::Receiver<Inbound>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) beat: Arc<Beat>,
}

/// How a node differs from an ordinary one.
pub(crate) struct Options {
    pub(crate) tls: TlsMode,
    pub(crate) limits: NetLimits,
    pub(crate) inbound: usize,
    /// Time between pings in milliseconds; zero is the usual.
    pub(crate) period: u64,
}

impl Options {
    pub(crate) fn of(id: u64) -> Options {
        Options { tls: mutual(id), limits: NetLimits::default(), inbound: 1_024, period: 0 }
    }
}

pub(crate) fn any_port() -> Listeners {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Listeners::bind(free, free).unwrap()
}

pub(crate) fn same_ports(member: &Member) -> Listeners {
    Listeners::bind(member.data_address, member.failure_detection_address).unwrap()
}

impl Node {
    pub(crate) fn start(id: u64, listeners: &Listeners) -> Node {
        Node::with(id, Some(listeners), Options::of(id))
    }

    pub(crate) fn with(id: u64, listeners: Option<&Listeners>, options: Options) -> Node {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let address = |plane| listeners.map_or(nowhere, |l| l.address(plane).unwrap());
        let member = Member {
            id: MemberId(id),
            name: format!("node-{id}"),
            identity: PlatformIdentity::Pod { uid: format!("uid-{id}") },
            incarnation: 1,
            data_address: address(Plane::Data),
            failure_detection_address: address(Plane::FailureDetection),
            locality: Locality::default(),
            protocols: (1, 1),
            joined: id,
        };
        let (sender, inbound) = mpsc::channel(options.inbound);
        let counters = Arc::new(Counters::default());
        let beat = Arc::new(Beat { period: AtomicU64::new(options.period), ..Beat::default() });
        let settings = MeshSettings {
            cluster: CLUSTER,
            me: member.clone(),
            tls: options.tls,
            limits: options.limits,
            lease: Arc::clone(&beat) as _,
            clock: Clock::boottime(),
            counters: Arc::clone(&counters),
        };
        let mesh = Mesh::start(settings, listeners, sender).unwrap();
        Node { member, mesh, inbound, counters, beat }
    }

    pub(crate) fn id(&self) -> MemberId {
        self.member.id
    }

    pub(crate) fn figures(&self, plane: Plane) -> PlaneFigures {
        self.counters.figures(plane)
    }

    pub(crate) fn failures(&self, plane: Plane, reason: &str) -> u64 {
        self.figures(plane).failures.get(reason).copied().unwrap_or(0)
    }

    pub(crate) fn say(&self, to: MemberId, text: &str) {
        self.mesh.send(to, &message(text));
    }

    /// Waits for the first thing that comes in and is wanted, letting go of others.
    pub(crate) async fn wait_for<T>(&mut self, what: &str, mut wanted: impl FnMut(&Inbound) -> Option<T>) -> T {
        let looking = async {
            loop {
                let inbound = self.inbound.recv().await.expect("the mesh runs");
                if let Some(found) = wanted(&inbound) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    pub(crate) async fn wait_reached(&mut self, id: MemberId) {
        self.wait_for("Reached", |i| matches!(i, Inbound::Reached(peer) if *peer == id).then_some(())).await;
    }

    pub(crate) async fn wait_plane(&mut self, id: MemberId, wanted: Plane, connected: bool) {
        self.wait_for("a report of one port", |inbound| match inbound {
            Inbound::Connected { peer, plane } => (connected && (*peer, *plane) == (id, wanted)).then_some(()),
            Inbound::Unreachable { peer, plane } => (!connected && (*peer, *plane) == (id, wanted)).then_some(()),
            _ => None,
        })
        .await;
    }

    pub(crate) async fn wait_unreachable(&mut self, id: MemberId) {
        self.wait_for("Unreachable", |i| matches!(i, Inbound::Unreachable { peer, .. } if *peer == id).then_some(()))
            .await;
    }

    /// Waits for a text, and tells who said it.
    pub(crate) async fn wait_text(&mut self, text: &str) -> MemberId {
        self.wait_for(text, |inbound| match inbound {
            Inbound::Envelope { from, envelope, .. } if *envelope == message(text) => Some(*from),
            _ => None,
        })
        .await
    }

    /// Everything that has come in and waits.
    pub(crate) fn waiting(&mut self) -> Vec<Inbound> {
        std::iter::from_fn(|| self.inbound.try_recv().ok()).collect()
    }
}

/// The simplest message with a text.
pub(crate) fn message(text: &str) -> Envelope {
    Envelope { view: ViewNumber(7), confirmed_past: ViewNumber(6), message: Message::JoinRefused(text.to_owned()) }
}

/// A message of data with a value of `byte`s.
pub(crate) fn data(byte: u8, bytes: usize) -> Envelope {
    let version = Version { view: ViewNumber(7), counter: 1 };
    let body = WriteBody::Entry {
        value: Bytes::from(vec![byte; bytes]),
        content_type: None,
        etag: version,
        remaining: None,
        age: Duration::ZERO,
    };
    let write = Write { cache: CacheId(0), key: Bytes::from_static(b"k"), version, body, results: Vec::new() };
    let message = Message::Replicate { group: GroupId(0), writes: vec![write], stable: version };
    Envelope { view: ViewNumber(7), confirmed_past: ViewNumber(6), message }
}

/// Whether it is a message of data.
pub(crate) fn is_data(inbound: &Inbound) -> bool {
    matches!(inbound, Inbound::Envelope { envelope: Envelope { message: Message::Replicate { .. }, .. }, .. })
}

/// Waits for a condition that nothing announces, looking again and again.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what} never came true"));
}
