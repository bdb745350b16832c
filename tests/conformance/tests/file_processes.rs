//! The kind `file` shared by separate processes, some of which are killed.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use sidegrid_conformance::{FilePlace, History, Place, Step, first, next};
use sidegrid_core::ClusterUid;
use sidegrid_core::document::Document;
use sidegrid_registry::{NameLock, NameLockError, Registry};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Far above what anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);
const PROPOSER: &str = env!("CARGO_BIN_EXE_sidegrid-proposer");
/// More than a proposer that is to be killed ever makes.
const ENDLESS: usize = 1_000_000;

/// A proposer process, which ends with its owner.
struct Proposer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Proposer {
    fn start(mut command: Command) -> Proposer {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Proposer { child, lines }
    }

    fn wins(place: &FilePlace, name: &str, count: usize) -> Proposer {
        let mut command = Command::new(PROPOSER);
        command.arg("wins").arg(place.path()).arg(name).arg(count.to_string());
        Proposer::start(command)
    }

    async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(DEADLINE, self.lines.next_line()).await;
        line.expect("a line before the deadline").expect("readable output")
    }

    async fn step(&mut self) -> Option<Step> {
        self.line().await.map(|line| line.parse().expect("a step"))
    }

    /// All that is left of its output, until it ends.
    async fn rest(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(step) = self.step().await {
            steps.push(step);
        }
        steps
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(DEADLINE, self.child.wait()).await.expect("an end before the deadline").expect("a status")
    }

    async fn killed(&mut self) {
        self.child.start_kill().expect("killed");
        assert_eq!(self.ended().await.signal(), Some(9), "it ran until it was killed");
    }
}

async fn created(place: &FilePlace, members: u16) -> Document {
    let document = first(ClusterUid(1), members);
    assert!(place.open().create(document.clone()).await.expect("creating").is_done());
    document
}

async fn last(registry: &dyn Registry) -> Document {
    registry.read().await.expect("a whole document").expect("a document")
}

/// G-1, across processes.
#[tokio::test]
async fn processes_have_one_winner_a_revision() {
    let place = FilePlace::new();
    let one = created(&place, 3).await;
    let mut proposers: Vec<Proposer> =
        (0..4).map(|number| Proposer::wins(&place, &format!("process{number}"), 50)).collect();
    let mut history = History::default();
    for proposer in &mut proposers {
        history.won.extend(proposer.rest().await);
        assert!(proposer.ended().await.success());
    }
    let last = last(&*place.open()).await;
    history.check(&one, &last);
    assert_eq!(last.revision, one.revision + 4 * 50);
}

/// A process that is killed while it swaps leaves a whole document, the last acknowledged one or a newer, and stops
/// nobody.
#[tokio::test]
async fn kill_9_in_the_middle_loses_nothing_and_stops_nobody() {
    let place = FilePlace::new();
    let one = created(&place, 30).await;
    let registry = place.open();
    let mut history = History::default();
    let mut survivor = Proposer::wins(&place, "survivor", ENDLESS);
    for round in 0..12 {
        let mut victim = Proposer::wins(&place, &format!("victim{round}"), ENDLESS);
        for _ in 0..=round {
            history.won.push(victim.step().await.expect("it goes on"));
        }
        victim.killed().await;
        history.won.extend(victim.rest().await);
        let acknowledged = history.won.iter().map(|step| step.revision).max().expect("some");
        let found = last(&*registry).await;
        assert!(found.revision >= acknowledged, "{} after {acknowledged} was acknowledged", found.revision);
        // What the survivor has printed meanwhile is no proof that it goes on; a change after the victim's end is.
        loop {
            let step = survivor.step().await.expect("it goes on");
            let is_new = step.revision > found.revision;
            history.won.push(step);
            if is_new {
                break;
            }
        }
    }
    survivor.killed().await;
    history.won.extend(survivor.rest().await);
    let last = last(&*registry).await;
    check_but_for_the_killed(history, &one, &last);
    assert!(place.open().swap(last.expected(), next(&last, "after")).await.unwrap().is_done());
    assert_eq!(
        place.names(),
        ["registry", "registry.created", "registry.lock"],
        "what the killed left is cleaned by the next process"
    );
}

/// Each killed process may have made one change more than it could print.
fn check_but_for_the_killed(mut history: History, one: &Document, last: &Document) {
    let known: std::collections::BTreeMap<u64, Step> =
        history.won.iter().map(|step| (step.revision, step.clone())).collect();
    let mut gaps = 0;
    for revision in one.revision + 1..=last.revision {
        if !known.contains_key(&revision) {
            gaps += 1;
            // Its neighbours tell what it must have been.
            let after = known.get(&(revision - 1)).map(|step| step.mark.clone()).expect("no two gaps in a row");
            let mark = match known.get(&(revision + 1)) {
                Some(step) => step.after.clone(),
                None => Step::to(last).mark,
            };
            assert!(mark.starts_with("victim") || mark.starts_with("survivor"), "{mark:?}");
            history.unsure.push(Step { revision, mark, after });
        }
    }
    assert!(gaps <= 13, "{gaps} gaps by 13 killed processes");
    history.check(one, last);
}

/// A process that dies with half of the new document written: here the kernel kills it at a limit of file sizes.
#[tokio::test]
async fn half_a_document_is_never_seen() {
    let place = FilePlace::new();
    let one = created(&place, 60).await;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c 0; ulimit -f 4; exec \"$0\" \"$@\"", PROPOSER, "wins"]);
    command.arg(place.path()).args(["limited", "1"]);
    let mut limited = Proposer::start(command);
    assert_eq!(limited.rest().await, [], "it can't be done");
    const SIGXFSZ: i32 = 25;
    assert_eq!(limited.ended().await.signal(), Some(SIGXFSZ));
    assert_eq!(place.names().len(), 4, "the document, its lock, its mark and half a draft: {:?}", place.names());
    let registry = place.open();
    assert!(last(&*registry).await == one);
    assert!(registry.swap(one.expected(), next(&one, "after")).await.unwrap().is_done());
    assert_eq!(place.names(), ["registry", "registry.created", "registry.lock"], "the half draft is cleaned");
}

/// P-1: the lock is free at once when its holder was killed and waited for, as the supervisor does, and its next
/// holder has the same identity.
#[tokio::test]
async fn a_name_is_free_once_its_holder_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROPOSER);
    command.arg("hold").arg(dir.path()).args(["web", "web-1"]);
    let mut holder = Proposer::start(command);
    let identity = holder.line().await.expect("its identity");
    let error = NameLock::acquire(dir.path(), "web", "web-1").unwrap_err();
    assert!(matches!(error, NameLockError::Held { .. }), "{error}");
    assert_eq!((error.reason(), error.is_retryable()), ("name_held", true));
    holder.killed().await;
    assert_eq!(NameLock::acquire(dir.path(), "web", "web-1").unwrap().identity(), identity);
}
