//! The event log: `tracing` on standard error.
//!
//! Workers emit events, too, and must not wait for whoever reads them: a terminal that was stopped
//! with Ctrl-S, or a pipe that nobody empties, would stop the server. So a line is only written as
//! far as `poll` says that it can be, and is lost otherwise. (A file is trusted to take it, as
//! everywhere: it is written to memory.)

use crate::config::EventFormat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;

/// What a pipe takes without blocking once `poll` calls it writable: pipe(7), `PIPE_BUF`.
const PIECE_BYTES: usize = 4096;

static EVENTS_LOST: AtomicU64 = AtomicU64::new(0);

/// Sends events of level INFO and above to standard error in this format, from all threads. With
/// colours on a terminal, unless the environment variable `NO_COLOR` is set.
///
/// A subscriber that the program has set before stays.
pub fn init_events(format: EventFormat) {
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else {
        return; // it is closed: there is nobody to tell
    };
    let has_colours =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_writer(Lines::new(File::from(stderr)))
        .with_max_level(tracing::Level::INFO)
        .with_target(false);
    // An error means that there is one already.
    let _ = match format {
        EventFormat::Text => tracing::subscriber::set_global_default(
            builder.with_ansi(has_colours).compact().finish(),
        ),
        EventFormat::Json => {
            tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish())
        }
    };
}

/// How many events were lost because standard error didn't take them.
pub fn events_lost() -> u64 {
    EVENTS_LOST.load(Relaxed)
}

/// A target for whole lines that never makes its writer wait.
struct Lines<T>(Mutex<Target<T>>);

struct Target<T> {
    sink: T,
    /// The last line was cut short.
    is_torn: bool,
}

impl<T: Write + AsFd> Lines<T> {
    fn new(sink: T) -> Lines<T> {
        let is_torn = false;
        Lines(Mutex::new(Target { sink, is_torn }))
    }

    /// Held for a moment only, as nothing waits inside.
    fn write_line(&self, line: &[u8]) {
        let mut target = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if target.write_line(line).is_err() {
            EVENTS_LOST.fetch_add(1, Relaxed);
        }
    }
}

impl<T: Write + AsFd> Target<T> {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_piece(b"\n")?;
            self.is_torn = false;
        }
        for (index, piece) in line.chunks(PIECE_BYTES).enumerate() {
            let written = self.write_piece(piece);
            self.is_torn = written.is_err() && index > 0;
            written?;
        }
        Ok(())
    }

    fn write_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut events = [PollFd::new(&self.sink, PollFlags::OUT)];
        let at_once = Timespec::default();
        if poll(&mut events, Some(&at_once))? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.sink.write_all(piece)
    }
}

/// A reference to the lines, of which `tracing` takes one for each event, and writes it at once.
struct Line<'a, T>(&'a Lines<T>);

impl<T: Write + AsFd> Write for Line<'_, T> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, T: Write + AsFd + 'a> MakeWriter<'a> for Lines<T> {
    type Writer = Line<'a, T>;

    fn make_writer(&'a self) -> Line<'a, T> {
        Line(self)
    }
}

/// Decides when something that may happen ten thousand times a second is worth an event: the first
/// time, and from then on once in a while, with how often it happened.
///
/// ```
/// use ringway_server::log::Throttle;
/// use std::time::{Duration, Instant};
///
/// let now = Instant::now();
/// let mut refused = Throttle::new(Duration::from_secs(10));
/// refused.add(1);
/// assert_eq!(refused.due(now), Some(1));
/// refused.add(250);
/// assert_eq!(refused.due(now), None);
/// assert_eq!(refused.due(now + Duration::from_secs(10)), Some(250));
/// ```
#[derive(Debug, Clone)]
pub struct Throttle {
    interval: Duration,
    untold: u64,
    told: Option<Instant>,
}

impl Throttle {
    /// An event in each `interval` at most.
    pub fn new(interval: Duration) -> Throttle {
        Throttle {
            interval,
            untold: 0,
            told: None,
        }
    }

    /// It happened so many times more.
    pub fn add(&mut self, count: u64) {
        self.untold += count;
    }

    /// What is to be told now, if anything: how often it happened since the last event. To be
    /// asked when it happens, and now and then, so that the last of a flood is told as well.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if self.untold == 0 || self.next_due().is_some_and(|at| now < at) {
            return None;
        }
        self.told = Some(now);
        self.rest()
    }

    /// When to ask again; `None` when nothing waits to be told, or nothing ever was.
    pub fn next_due(&self) -> Option<Instant> {
        let told = self.told?;
        (self.untold > 0).then_some(told + self.interval)
    }

    /// What has not been told, however soon it is.
    pub fn rest(&mut self) -> Option<u64> {
        let untold = std::mem::take(&mut self.untold);
        (untold > 0).then_some(untold)
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Throttle};
    use std::io::Read;
    use std::time::{Duration, Instant};

    #[test]
    fn the_first_is_told_at_once_and_a_flood_once_an_interval() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut throttle = Throttle::new(Duration::from_secs(5));
        assert_eq!(throttle.due(at(0)), None);
        throttle.add(1);
        assert_eq!(throttle.next_due(), None);
        assert_eq!(throttle.due(at(100)), Some(1));
        assert_eq!(throttle.next_due(), None);
        for second in 100..105 {
            throttle.add(1000);
            assert_eq!(throttle.due(at(second)), None);
        }
        assert_eq!(throttle.next_due(), Some(at(105)));
        assert_eq!(throttle.due(at(105)), Some(5000));
        assert_eq!(throttle.due(at(200)), None, "silence is not told");
        throttle.add(2);
        assert_eq!(throttle.rest(), Some(2));
        assert_eq!(throttle.rest(), None);
    }

    /// Writes lines of `length` bytes into a pipe that nobody reads until one is lost, then reads
    /// it, and writes one more. Everything that was taken has to be there, each on its line.
    fn check_blocked_pipe(length: usize) {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let lines = Lines::new(pipe);
        let line = format!("{}\n", "x".repeat(length - 1));
        let mut target = lines.0.lock().unwrap();
        let mut taken = 0;
        while target.write_line(line.as_bytes()).is_ok() {
            taken += 1;
            assert!(taken < 1_000_000, "a pipe has an end");
        }
        // 16 pages by default, and never more than what an unprivileged process may ask for.
        let mut buffer = vec![0; 1 << 20];
        let count = reader.read(&mut buffer).unwrap();
        target.write_line(b"works again\n").unwrap();
        drop(target);
        drop(lines);
        let mut text = String::from_utf8(buffer[..count].to_vec()).unwrap();
        reader.read_to_string(&mut text).unwrap();
        let whole = text.lines().filter(|read| read.len() == length - 1);
        assert_eq!(whole.count(), taken);
        assert_eq!(text.lines().last(), Some("works again"));
    }

    #[test]
    fn a_pipe_that_nobody_reads_loses_lines_and_never_blocks() {
        check_blocked_pipe(100);
        check_blocked_pipe(4096);
    }

    #[test]
    fn a_line_cut_short_does_not_run_into_the_next() {
        check_blocked_pipe(10_000);
    }
}
