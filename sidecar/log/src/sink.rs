//! A bounded queue of lines, and the one thread that writes them.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Most lines that wait to be written.
const MOST_LINES: usize = 2_048;
/// Most bytes of them.
const MOST_BYTES: usize = 1 << 20;
/// Between two tries at an output that doesn't block and takes nothing now.
const RETRY: Duration = Duration::from_millis(20);

/// Takes lines without waiting; clones share one queue and one thread.
#[derive(Clone, Debug)]
pub(crate) struct Sink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is a line.
    filled: Condvar,
    /// There is none left, and none is being written.
    drained: Condvar,
    lost: AtomicU64,
}

#[derive(Debug)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
    /// Whether a thread writes at all.
    is_served: bool,
}

impl Sink {
    /// A sink whose thread writes to `output`. `loss_line` makes the line that stands for so many lost ones. Where the
    /// system refuses a thread, every line counts as lost.
    pub(crate) fn start(
        name: &'static str,
        output: impl Write + Send + 'static,
        loss_line: impl Fn(u64) -> String + Send + 'static,
    ) -> Sink {
        let sink = Sink::nowhere();
        sink.0.queue.lock().is_served = true;
        let shared = Arc::clone(&sink.0);
        let mut lines = Lines { output, loss_line, reported: 0, is_cut: false };
        let started = thread::Builder::new().name(name.to_owned()).spawn(move || lines.write_all_of(&shared));
        sink.0.queue.lock().is_served = started.is_ok();
        sink
    }

    /// A sink that loses every line.
    pub(crate) fn nowhere() -> Sink {
        let queue = Queue { lines: VecDeque::new(), bytes: 0, is_writing: false, is_served: false };
        Sink(Arc::new(Shared {
            queue: Mutex::new(queue),
            filled: Condvar::new(),
            drained: Condvar::new(),
            lost: AtomicU64::new(0),
        }))
    }

    /// Queues a line, or counts it as lost where the queue is full. Never waits for the output.
    pub(crate) fn push(&self, line: Vec<u8>) {
        let mut queue = self.0.queue.lock();
        let has_room = queue.lines.len() < MOST_LINES && line.len() <= MOST_BYTES - queue.bytes;
        if !queue.is_served || !has_room {
            drop(queue);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Waits until all lines have been written or lost, for `limit` at most.
    pub(crate) fn flush(&self, limit: Duration) {
        let mut queue = self.0.queue.lock();
        let is_busy = |queue: &mut Queue| queue.is_served && (queue.is_writing || !queue.lines.is_empty());
        self.0.drained.wait_while_for(&mut queue, is_busy, limit);
    }

    /// Lines lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

/// One write is one line: the layer that formats them hands each over at once.
impl Write for &Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = &'a Sink;

    fn make_writer(&'a self) -> &'a Sink {
        self
    }
}

/// The writing thread's own.
struct Lines<W, L> {
    output: W,
    loss_line: L,
    /// Lost lines that the log told of.
    reported: u64,
    /// Whether the last line was written in part.
    is_cut: bool,
}

impl<W: Write, L: Fn(u64) -> String> Lines<W, L> {
    /// Writes lines as they come, for as long as the process lives.
    fn write_all_of(&mut self, shared: &Shared) {
        loop {
            let mut queue = shared.queue.lock();
            queue.is_writing = false;
            if queue.lines.is_empty() {
                shared.drained.notify_all();
            }
            shared.filled.wait_while(&mut queue, |queue| queue.lines.is_empty());
            let line = queue.lines.pop_front().unwrap_or_default();
            queue.bytes -= line.len();
            queue.is_writing = true;
            drop(queue);
            if self.write(&line, shared.lost.load(Ordering::Relaxed)).is_err() {
                shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Writes a line, after one that tells of those lost before it.
    fn write(&mut self, line: &[u8], lost: u64) -> io::Result<()> {
        if lost > self.reported {
            self.put((self.loss_line)(lost - self.reported).as_bytes())?;
            self.reported = lost;
        }
        self.put(line)
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_cut {
            self.put_part(b"\n")?;
        }
        self.is_cut = false;
        let mut left = line;
        while !left.is_empty() {
            let written = self.put_part(left).inspect_err(|_| self.is_cut = left.len() < line.len())?;
            left = &left[written..];
        }
        Ok(())
    }

    /// Waits for an output that takes nothing now, however it says so.
    fn put_part(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.output.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => return Ok(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// Each write waits for what comes of it.
    struct Directed {
        outcomes: mpsc::Receiver<io::Result<usize>>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Directed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = self.outcomes.recv().map_err(|_| io::ErrorKind::BrokenPipe)??.min(bytes.len());
            let _gone = self.written.send(bytes[..taken].to_vec());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn directed() -> (Sink, mpsc::Sender<io::Result<usize>>, impl Fn() -> String) {
        let (direct, outcomes) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let sink = Sink::start("test", Directed { outcomes, written }, |lost| format!("lost {lost}\n"));
        (sink, direct, move || String::from_utf8(read.recv_timeout(DEADLINE).unwrap()).unwrap())
    }

    fn line(number: usize) -> Vec<u8> {
        format!("{number}\n").into_bytes()
    }

    const ALL: io::Result<usize> = Ok(usize::MAX);

    #[test]
    fn an_output_that_stands_still_costs_lines_which_the_next_one_through_tells_of() {
        let (sink, direct, read) = directed();
        (0..MOST_LINES + 100).for_each(|number| sink.push(line(number)));
        // The thread may hold one beside the queue.
        let lost = sink.lost();
        assert!((99..=100).contains(&lost), "{lost}");
        sink.flush(Duration::from_millis(1));
        (0..MOST_LINES + 2).for_each(|_| direct.send(ALL).unwrap());
        let mut lines: Vec<String> = (0..=MOST_LINES).map(|_| read()).collect();
        lines.truncate(3);
        assert!(lines.contains(&format!("lost {lost}\n")), "{lines:?}");
        assert!(lines.contains(&"0\n".to_owned()), "{lines:?}");
    }

    #[test]
    fn the_bytes_of_waiting_lines_are_bounded_too() {
        let (sink, _direct, _read) = directed();
        (0..5).for_each(|_| sink.push(vec![b'x'; MOST_BYTES / 2]));
        assert!(sink.lost() >= 2);
        sink.push(vec![b'x'; MOST_BYTES + 1]);
        assert!(sink.lost() >= 3);
    }

    #[test]
    fn a_line_that_failed_is_counted_and_one_that_was_cut_is_ended_before_the_next() {
        let (sink, direct, read) = directed();
        sink.push(b"first\n".to_vec());
        direct.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        sink.flush(DEADLINE);
        assert_eq!(sink.lost(), 1);
        sink.push(b"second\n".to_vec());
        [ALL, Ok(3), Err(io::ErrorKind::WouldBlock.into()), Err(io::ErrorKind::BrokenPipe.into())]
            .into_iter()
            .for_each(|outcome| direct.send(outcome).unwrap());
        assert_eq!((read(), read()), ("lost 1\n".into(), "sec".into()));
        sink.flush(DEADLINE);
        sink.push(b"third\n".to_vec());
        (0..3).for_each(|_| direct.send(ALL).unwrap());
        assert_eq!((read(), read(), read()), ("\n".into(), "lost 1\n".into(), "third\n".into()));
        assert_eq!(sink.lost(), 2);
    }

    #[test]
    fn without_a_thread_every_line_is_lost_and_nothing_waits() {
        let sink = Sink::nowhere();
        sink.push(line(1));
        sink.flush(DEADLINE);
        assert_eq!(sink.lost(), 1);
    }
}
