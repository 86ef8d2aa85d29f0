//! The writer against scripted targets, and the thread against files, FIFOs and full disks.

use super::*;
use crate::config::Config;
use proptest::prelude::*;
use ringway_http::head::{HeadLimits, HeadScan, parse_head};
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

fn combined() -> Format {
    Format::parse("combined").unwrap()
}

/// A log that goes to this path.
fn log_to(path: &Path) -> Log {
    let text = "[listen.main]\naddress = \"127.0.0.1:0\"\n[files.site]\nroot = \"/\"";
    let mut log = Config::from_toml(text).unwrap().log;
    log.access = AccessLog::File(path.to_owned());
    log
}

fn open_at(path: &Path) -> LogThread {
    LogThread::open(&log_to(path)).unwrap().unwrap()
}

/// The targets of the entries in a log, in their order; every line has to be whole.
fn targets(log: &str) -> Vec<u64> {
    let target = |line: &str| {
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert!(line.ends_with("\" 200 0 \"-\" \"-\""), "{line}");
        line.split(' ').nth(6).unwrap()[1..].parse().unwrap()
    };
    log.lines().map(target).collect()
}

fn record_numbered(worker: &mut WorkerLog, number: u64) {
    let text = format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
    let parsed = parse_head(
        text.as_bytes(),
        &mut HeadScan::default(),
        &HeadLimits::default(),
    );
    worker.record(&Entry {
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        time: Duration::ZERO,
        request: Some(&parsed.unwrap().unwrap().0),
        user: None,
        status: 200,
        body_bytes: 0,
        duration: None,
        passed: None,
        note: None,
    });
}

/// What a scripted target does with one write.
#[derive(Debug, Clone, Copy)]
enum Step {
    Take(usize),
    Fail(ErrorKind),
    /// Not a write: the log is opened anew before the next.
    Reopen,
}

#[derive(Debug, Clone, Default)]
struct Script {
    steps: Arc<Mutex<VecDeque<Step>>>,
    /// What each file took, one for each opening.
    files: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut steps = self.steps.lock().unwrap();
        let count = match steps.front() {
            Some(Step::Fail(kind)) => {
                let kind = *kind;
                steps.pop_front();
                return Err(kind.into());
            }
            Some(Step::Take(count)) => {
                let count = (*count).min(bytes.len());
                steps.pop_front();
                count
            }
            // The test does it when the writer rests.
            Some(Step::Reopen) => return Err(ErrorKind::StorageFull.into()),
            None => bytes.len(),
        };
        let mut files = self.files.lock().unwrap();
        files.last_mut().unwrap().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Script {
    fn writer(&self) -> Writer {
        self.files.lock().unwrap().push(Vec::new());
        let again = self.clone();
        let reopen = Reopen(Box::new(move || {
            again.files.lock().unwrap().push(Vec::new());
            Ok(Box::new(again.clone()))
        }));
        Writer::new(Box::new(self.clone()), Some(reopen), Arc::default())
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..40).prop_map(Step::Take),
        1 => Just(Step::Take(0)),
        1 => Just(Step::Fail(ErrorKind::Interrupted)),
        1 => Just(Step::Fail(ErrorKind::WouldBlock)),
        1 => Just(Step::Fail(ErrorKind::StorageFull)),
        1 => Just(Step::Reopen),
    ]
}

/// Queues batches of so many numbered lines each; the lines of all of them.
fn queue_batches(writer: &mut Writer, batches: &[u64]) -> Vec<String> {
    let mut lines = Vec::new();
    for &entries in batches {
        let new = (0..entries).map(|index| format!("line {}\n", lines.len() as u64 + index));
        let new: Vec<String> = new.collect();
        writer.counts.waiting.fetch_add(entries, Relaxed);
        writer.queue.push_back(Batch {
            lines: new.concat().into_bytes(),
            entries,
            home: Arc::new(ArrayQueue::new(1)),
        });
        lines.extend(new);
    }
    lines
}

proptest! {
    /// Short writes, failures and reopening in any order: each line is written once, whole and in
    /// its order, or counted as lost; and lost is only what was torn, or left at the end.
    #[test]
    fn every_line_is_written_once_or_counted(
        steps in prop::collection::vec(step(), 0..60),
        batches in prop::collection::vec(1_u64..6, 0..8),
        gives_up: bool,
    ) {
        let script = Script::default();
        let mut writer = script.writer();
        let lines = queue_batches(&mut writer, &batches);
        let reopenings = steps.iter().filter(|step| matches!(step, Step::Reopen)).count();
        script.steps.lock().unwrap().extend(steps);
        let turns = if gives_up { 5 } else { 100 };
        for _ in 0..turns {
            writer.write_queue();
            let is_reopen = matches!(script.steps.lock().unwrap().front(), Some(Step::Reopen));
            if is_reopen {
                // What it writes before must not find the same step again.
                writer.reopen();
                script.steps.lock().unwrap().pop_front();
            }
        }
        let counts = Arc::clone(&writer.counts);
        if gives_up {
            writer.give_up();
        }
        prop_assert_eq!(counts.waiting.load(Relaxed), 0);
        let lost = counts.lost.load(Relaxed);
        prop_assert!(gives_up || lost <= reopenings as u64);

        let files = script.files.lock().unwrap();
        let mut written = Vec::new();
        for file in files.iter() {
            let text = String::from_utf8(file.clone()).unwrap();
            // The last piece is empty, or the torn line that was given up.
            let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            written.extend(whole.map(str::to_owned));
        }
        prop_assert_eq!(written.len() as u64 + lost, lines.len() as u64);
        let mut all = lines.iter();
        prop_assert!(written.iter().all(|line| all.any(|expect| expect == line)));
    }
}

#[test]
fn entries_of_two_workers_reach_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let thread = open_at(&path);
    let workers = [thread.handle(), thread.handle()];
    thread::scope(|scope| {
        for (index, mut worker) in workers.into_iter().enumerate() {
            scope.spawn(move || {
                for number in 0..100 {
                    record_numbered(&mut worker, index as u64 * 100 + number);
                }
            });
        }
    });
    assert_eq!(thread.finish(Duration::from_secs(60)), 0);
    let mut numbers = targets(&fs::read_to_string(&path).unwrap());
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<u64>>());
}

#[test]
fn an_existing_log_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    for number in 0..3 {
        let thread = open_at(&path);
        record_numbered(&mut thread.handle(), number);
        thread.finish(Duration::from_secs(60));
    }
    assert_eq!(targets(&fs::read_to_string(&path).unwrap()), [0, 1, 2]);
}

#[test]
fn rotation_is_a_rename_and_a_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let old = folder.path().join("access.log.1");
    let thread = open_at(&path);
    let mut worker = thread.handle();
    record_numbered(&mut worker, 1);
    worker.flush();
    fs::rename(&path, &old).unwrap();
    thread.reopen();
    record_numbered(&mut worker, 2);
    drop(worker);
    assert_eq!(thread.finish(Duration::from_secs(60)), 0);
    assert_eq!(targets(&fs::read_to_string(&old).unwrap()), [1]);
    assert_eq!(targets(&fs::read_to_string(&path).unwrap()), [2]);
}

#[test]
fn a_log_that_cannot_be_opened_anew_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs/access.log");
    let moved = folder.path().join("moved");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let thread = open_at(&path);
    let mut worker = thread.handle();
    fs::rename(path.parent().unwrap(), &moved).unwrap();
    thread.reopen();
    record_numbered(&mut worker, 5);
    drop(worker);
    assert_eq!(thread.finish(Duration::from_secs(60)), 0);
    let text = fs::read_to_string(moved.join("access.log")).unwrap();
    assert_eq!(targets(&text), [5]);
}

#[test]
fn a_full_disk_loses_entries_and_counts_each() {
    let thread = open_at(Path::new("/dev/full"));
    let mut worker = thread.handle();
    for number in 0..1000 {
        record_numbered(&mut worker, number);
    }
    drop(worker);
    assert_eq!(thread.finish(Duration::from_secs(60)), 1000);
}

fn make_fifo(path: &Path) {
    let status = std::process::Command::new("mkfifo")
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_fifo_that_is_read_late_gets_all_but_what_was_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    make_fifo(&path);
    let thread = open_at(&path);
    let mut worker = thread.handle();
    let mut recorded = 0;
    while thread.dropped() < 10 {
        record_numbered(&mut worker, recorded);
        recorded += 1;
        assert!(recorded < 1_000_000, "the buffers have an end");
    }
    // Opened before the thread can end, so that the FIFO never has nobody.
    let mut reader = File::open(&path).unwrap();
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    drop(worker);
    let lost = thread.finish(Duration::from_secs(60));
    let numbers = targets(&reading.join().unwrap().unwrap());
    assert_eq!(numbers.len() as u64 + lost, recorded);
    assert!(numbers.is_sorted());
    assert!(lost >= 10);
}

#[test]
fn a_fifo_that_is_never_read_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    make_fifo(&path);
    let thread = open_at(&path);
    let mut worker = thread.handle();
    // More than a pipe takes, so that the thread is blocked in the middle.
    for number in 0..4000 {
        record_numbered(&mut worker, number);
    }
    drop(worker);
    let lost = thread.finish(Duration::from_millis(50));
    assert!((1..=4000).contains(&lost));
}

/// A target that takes nothing until it is let.
struct Gate {
    open: Receiver<()>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.open.recv(); // an error is the gate left open
        self.taken.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_blocked_thread_costs_each_worker_its_buffers_and_no_more() {
    let (gate, open) = mpsc::channel();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let sink = Gate {
        open,
        taken: Arc::clone(&taken),
    };
    let thread = LogThread::start(sink, None, combined()).unwrap();
    let mut greedy = thread.handle();
    let mut recorded = 0;
    while thread.dropped() == 0 {
        record_numbered(&mut greedy, recorded);
        recorded += 1;
    }
    assert_eq!(greedy.buffers_made, BUFFERS);
    assert_eq!(thread.dropped(), 1);
    let mut modest = thread.handle();
    record_numbered(&mut modest, recorded);
    recorded += 1;
    drop(modest);
    assert_eq!(thread.dropped(), 1, "another worker has buffers of its own");

    drop(gate);
    drop(greedy);
    assert_eq!(thread.finish(Duration::from_secs(60)), 1);
    let numbers = targets(std::str::from_utf8(&taken.lock().unwrap()).unwrap());
    assert_eq!(numbers.len() as u64 + 1, recorded);
}

#[test]
fn buffers_go_around() {
    let (gate, open) = mpsc::channel();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let sink = Gate {
        open,
        taken: Arc::clone(&taken),
    };
    drop(gate);
    let thread = LogThread::start(sink, None, combined()).unwrap();
    let mut worker = thread.handle();
    // One batch at a time: the buffer is back before the next is needed.
    for number in 0..100 {
        record_numbered(&mut worker, number);
        worker.flush();
        while worker.home.is_empty() {
            thread::yield_now();
        }
        assert!(worker.make_room());
        assert_eq!(worker.buffers_made, 1);
        assert!(worker.lines.is_empty());
    }
    drop(worker);
    assert_eq!(thread.finish(Duration::from_secs(60)), 0);
    let numbers = targets(std::str::from_utf8(&taken.lock().unwrap()).unwrap());
    assert_eq!(numbers, (0..100).collect::<Vec<u64>>());
}

#[test]
fn a_worker_that_outlives_the_thread_loses_its_entries() {
    let folder = tempfile::tempdir().unwrap();
    let thread = open_at(&folder.path().join("access.log"));
    let mut worker = thread.handle();
    let counts = Arc::clone(&thread.counts);
    assert_eq!(thread.finish(Duration::from_secs(60)), 0);
    record_numbered(&mut worker, 1);
    worker.flush();
    assert_eq!(counts.lost.load(Relaxed), 1);
    assert_eq!(counts.waiting.load(Relaxed), 0);
}

#[test]
fn opening_fails_with_the_path_and_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let check = |path: &Path, expect: &str| {
        let error = LogThread::open(&log_to(path)).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: {expect}", path.display()));
    };
    check(
        &folder.path().join("none/access.log"),
        "No such file or directory (os error 2); its directory does not exist",
    );
    check(folder.path(), "Is a directory (os error 21)");
}

#[test]
fn without_an_access_log_there_is_no_thread() {
    let mut log = log_to(Path::new("unused"));
    log.access = AccessLog::Off;
    assert!(LogThread::open(&log).unwrap().is_none());
}
