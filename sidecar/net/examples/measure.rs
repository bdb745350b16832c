//! Figures of the transport on this machine, over loopback and TLS: small messages and large ones from one member to
//! another, and the time from the kill of a peer's process to the word that it is unreachable.
//!
//! `cargo run --profile fast -p sidegrid-net --example measure`

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sidegrid_core::document::Timing;
use sidegrid_core::gate::Gate;
use sidegrid_core::lease::Lease;
use sidegrid_core::member::{Locality, Member, PlatformIdentity};
use sidegrid_core::message::{Envelope, Message};
use sidegrid_core::planted_bug::Bugs;
use sidegrid_core::{ClusterUid, MemberId, ViewNumber};
use sidegrid_net::{
    Authority, Clock, Counters, Inbound, Listeners, MemberIdentity, Mesh, MeshSettings, NetLimits, Plane, TlsConfig,
    TlsMode,
};
use tokio::sync::mpsc;

const CLUSTER: ClusterUid = ClusterUid(1);
const DAY: Duration = Duration::from_secs(86_400);
const SMALL: usize = 200_000;
const LARGE: usize = 500;
const KILLS: u64 = 20;

type Failure = Box<dyn std::error::Error>;

struct Node {
    mesh: Mesh,
    inbound: mpsc::Receiver<Inbound>,
    member: Member,
    _listeners: Listeners,
}

fn node(authority: &Authority, id: u64) -> Result<Node, Failure> {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listeners = Listeners::bind(free, free)?;
    let clock = Clock::boottime();
    let member = Member {
        id: MemberId(id),
        name: format!("node-{id}"),
        identity: PlatformIdentity::Pod { uid: id.to_string() },
        data_address: listeners.address(Plane::Data)?,
        failure_detection_address: listeners.address(Plane::FailureDetection)?,
        locality: Locality::default(),
        protocols: (1, 1),
        joined: id,
        incarnation: 1,
    };
    let leaf = authority.issue(MemberIdentity { cluster: CLUSTER, member: member.id }, DAY)?;
    let gate = Arc::new(Gate::new(1));
    let lease = Lease::new(member.id, Timing::default(), gate, Bugs::default(), clock.now());
    let settings = MeshSettings {
        cluster: CLUSTER,
        me: member.clone(),
        tls: TlsMode::Mutual(TlsConfig::new(&authority.cert_pem, &leaf, CLUSTER, member.id)?),
        limits: NetLimits::default(),
        lease: Arc::new(lease),
        clock,
        counters: Arc::new(Counters::default()),
    };
    let (sender, inbound) = mpsc::channel(4_096);
    let mesh = Mesh::start(settings, Some(&listeners), sender)?;
    Ok(Node { mesh, inbound, member, _listeners: listeners })
}

/// Waits for what `wanted` looks for; ten seconds at most.
async fn wait(node: &mut Node, mut wanted: impl FnMut(&Inbound) -> bool) -> Result<(), Failure> {
    let looking = async {
        while let Some(inbound) = node.inbound.recv().await {
            if wanted(&inbound) {
                return;
            }
        }
    };
    Ok(tokio::time::timeout(Duration::from_secs(10), looking).await?)
}

async fn throughput(authority: &Authority, count: usize, bytes: usize) -> Result<f64, Failure> {
    let (a, mut b) = (node(authority, 1)?, node(authority, 2)?);
    a.mesh.set_peers(vec![b.member.clone()]);
    let message = Message::JoinRefused("x".repeat(bytes));
    let envelope = Envelope { view: ViewNumber(1), confirmed_past: ViewNumber(0), message };
    let clock = Clock::boottime();
    // Connected once the first one is there.
    a.mesh.send(b.member.id, &envelope);
    wait(&mut b, |inbound| matches!(inbound, Inbound::Envelope { .. })).await?;
    let began = clock.now();
    let to = b.member.id;
    let sending = async {
        for sent in 0..count {
            a.mesh.send(to, &envelope);
            // In steps that fit the queue, as the core's own bounds would have it.
            if sent % 64 == 63 {
                a.mesh.flush(Duration::from_secs(10)).await;
            }
        }
    };
    let mut got = 0;
    let receiving = wait(&mut b, |inbound| {
        got += usize::from(matches!(inbound, Inbound::Envelope { .. }));
        got == count
    });
    let ((), received) = tokio::join!(sending, receiving);
    received?;
    Ok(clock.now().since(began).as_secs_f64())
}

/// A peer in a process of its own: prints its addresses and lives until it is killed.
async fn victim(id: u64) -> Result<(), Failure> {
    let read = || -> Result<String, Failure> {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        Ok(line.replace('|', "\n"))
    };
    let (cert_pem, key_pem) = (read()?, read()?);
    let node = node(&Authority::from_pem(&cert_pem, &key_pem)?, id)?;
    let addresses = format!("{} {}\n", node.member.data_address, node.member.failure_detection_address);
    std::io::stdout().write_all(addresses.as_bytes())?;
    // Ends with its parent, which holds the other end.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    std::future::pending().await
}

async fn kill(authority: &Authority, id: u64) -> Result<Duration, Failure> {
    let mut a = node(authority, 1)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(id.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // The key of an authority is not for a command line.
    let mut input = child.stdin.take().ok_or("no input")?;
    for pem in [&authority.cert_pem, &authority.key_pem] {
        writeln!(input, "{}", pem.replace('\n', "|"))?;
    }
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let (data, failure_detection) = line.trim().split_once(' ').ok_or("no addresses")?;
    let mut member = a.member.clone();
    member.id = MemberId(id);
    member.data_address = data.parse()?;
    member.failure_detection_address = failure_detection.parse()?;
    a.mesh.set_peers(vec![member]);
    wait(&mut a, |inbound| matches!(inbound, Inbound::Reached(_))).await?;
    let clock = Clock::boottime();
    let began = clock.now();
    child.kill()?;
    wait(&mut a, |inbound| matches!(inbound, Inbound::Unreachable { .. })).await?;
    let took = clock.now().since(began);
    child.wait()?;
    Ok(took)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    if let Some(id) = std::env::args().nth(1) {
        return victim(id.parse()?).await;
    }
    let mut out = std::io::stdout();
    let authority = Authority::generate(CLUSTER, DAY)?;
    let seconds = throughput(&authority, SMALL, 100).await?;
    writeln!(out, "100-byte messages: {:.0} per second", SMALL as f64 / seconds)?;
    let seconds = throughput(&authority, LARGE, 1 << 20).await?;
    writeln!(out, "1-MiB messages: {:.0} MiB per second", LARGE as f64 / seconds)?;
    let mut took = Vec::new();
    for kill_number in 0..KILLS {
        took.push(kill(&authority, 100 + kill_number).await?);
    }
    took.sort();
    writeln!(out, "SIGKILL to unreachable: median {:?}, worst {:?}", took[took.len() / 2], took[took.len() - 1])?;
    Ok(())
}
