//! A file system whose answers a test holds back for as long as it likes: FUSE, spoken straight to
//! `/dev/fuse`, with as much of the protocol as reading files takes.
//!
//! It has the files that [`body_of`] knows, in one directory, which lists them without an end. Every operation is
//! answered at once but for those of the one kind that is held. Needs root, to mount it.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::peers;
use crate::server::PATIENCE;
use crate::tree::content;

/// Where the numbers come from: `include/uapi/linux/fuse.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Lookup = 1,
    GetAttributes = 3,
    Open = 14,
    Read = 15,
    Flush = 25,
    ReadDirectory = 28,
}

const FORGET: u32 = 2;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const OPEN_DIRECTORY: u32 = 27;
const RELEASE_DIRECTORY: u32 = 29;
const ACCESS: u32 = 34;
const BATCH_FORGET: u32 = 42;

const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

const IN_HEADER_BYTES: usize = 40;
const ROOT: u64 = 1;

/// For how long the kernel may take names and attributes for what they were.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Memory {
    /// It asks each time.
    None,
    /// It never asks again, so that only opening, reading and closing do.
    Long,
}

/// A mounted file system, until it is dropped.
pub(crate) struct Fuse {
    place: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    device: File,
    memory: Memory,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: Option<Operation>,
    waiting: Vec<Request>,
    /// By number, from 2 on.
    names: Vec<String>,
    numbers: HashMap<String, u64>,
}

/// An operation that the kernel waits for.
#[derive(Clone)]
struct Request {
    operation: u32,
    unique: u64,
    node: u64,
    arguments: Vec<u8>,
}

/// What is in the file `name`, if there is one: `small-X.bin`, `large-X.bin`, whatever X is.
pub(crate) fn body_of(name: &str) -> Option<Vec<u8>> {
    let seed = name
        .bytes()
        .fold(7, |seed, byte| seed * 31 % 65_521 + u64::from(byte));
    match name.strip_suffix(".bin")? {
        name if name.starts_with("small-") => Some(content(seed, 1_000)),
        name if name.starts_with("large-") => Some(content(seed, (1 << 20) + 77)),
        _ => None,
    }
}

impl Fuse {
    /// Mounts one at the directory `place`; where that can't be, the test is skipped.
    pub(crate) fn mount(place: &Path, memory: Memory) -> Option<Fuse> {
        if !peers::is_root() {
            return None;
        }
        let opened = File::options().read(true).write(true).open("/dev/fuse");
        let device = match opened {
            Ok(device) => device,
            Err(error) => {
                peers::skip(&format!("/dev/fuse: {error}"));
                return None;
            }
        };
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let options = CString::new(options).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
        if let Err(error) = mount("ringway-test", place, "fuse", flags, Some(&*options)) {
            peers::skip(&format!("can't mount a file system: {error}"));
            return None;
        }
        let shared = Arc::new(Shared {
            device,
            memory,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let ours = Arc::clone(&shared);
        std::thread::spawn(move || ours.serve());
        Some(Fuse {
            place: place.to_owned(),
            shared,
        })
    }

    /// Holds back the answers to operations of this kind from now on.
    pub(crate) fn hold(&self, operation: Operation) {
        self.shared.state.lock().unwrap().held = Some(operation);
    }

    /// How many operations wait.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.state.lock().unwrap().waiting.len()
    }

    /// Waits until so many operations wait.
    #[track_caller]
    pub(crate) fn expect_waiting(&self, count: usize) {
        let state = self.shared.state.lock().unwrap();
        let is_less = |state: &mut State| state.waiting.len() < count;
        let changed = &self.shared.changed;
        let (state, timeout) = changed
            .wait_timeout_while(state, PATIENCE, is_less)
            .unwrap();
        assert!(
            !timeout.timed_out(),
            "{} instead of {count} wait for {:?}",
            state.waiting.len(),
            state.held
        );
    }

    /// Answers what waits, and everything that comes.
    pub(crate) fn release(&self) {
        let mut state = self.shared.state.lock().unwrap();
        state.held = None;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting
            .iter()
            .for_each(|request| self.shared.answer(request));
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.release();
        // Gone when its last user is; the thread ends with it.
        _ = unmount(&self.place, UnmountFlags::DETACH);
    }
}

impl Shared {
    fn serve(&self) {
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = match (&self.device).read(&mut buffer) {
                Ok(count) => count,
                // The operation was given up before it was read: ENOENT (fuse.h's `read`).
                Err(error) if error.raw_os_error() == Some(ENOENT) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // No longer mounted.
                Err(_) => return,
            };
            let request = Request::parse(&buffer[..count]);
            let mut state = self.state.lock().unwrap();
            let held = state.held.map(|operation| operation as u32);
            if held == Some(request.operation) {
                state.waiting.push(request);
                self.changed.notify_all();
                continue;
            }
            drop(state);
            self.answer(&request);
        }
    }

    fn answer(&self, request: &Request) {
        if matches!(request.operation, FORGET | BATCH_FORGET) {
            return;
        }
        let (error, body) = match self.result(request) {
            Ok(body) => (0, body),
            Err(errno) => (-errno, Vec::new()),
        };
        let mut answer = ((16 + body.len()) as u32).to_le_bytes().to_vec();
        answer.extend(error.to_le_bytes());
        answer.extend(request.unique.to_le_bytes());
        answer.extend(body);
        // Who asked may have been killed meanwhile.
        _ = (&self.device).write(&answer);
    }

    fn result(&self, request: &Request) -> Result<Vec<u8>, i32> {
        let number = |at: usize, bytes: usize| {
            let mut word = [0; 8];
            word[..bytes].copy_from_slice(&request.arguments[at..at + bytes]);
            u64::from_le_bytes(word)
        };
        match request.operation {
            INIT => Ok(initial()),
            operation if operation == Operation::Lookup as u32 => self.look_up(&request.arguments),
            operation if operation == Operation::GetAttributes as u32 => {
                let mut out = words(&[self.seconds(), 0]);
                out.extend(self.attributes(request.node));
                Ok(out)
            }
            operation if operation == Operation::Read as u32 => {
                let body = self.body(request.node).unwrap_or_default();
                let start = (number(8, 8) as usize).min(body.len());
                let end = (start + number(16, 4) as usize).min(body.len());
                Ok(body[start..end].to_vec())
            }
            operation if operation == Operation::ReadDirectory as u32 => {
                let limit = number(16, 4) as usize;
                Ok(directory(number(8, 8), limit))
            }
            operation if operation == Operation::Open as u32 => Ok(words(&[0, 0])),
            operation if operation == Operation::Flush as u32 => Ok(Vec::new()),
            OPEN_DIRECTORY => Ok(words(&[0, 0])),
            RELEASE | RELEASE_DIRECTORY | ACCESS => Ok(Vec::new()),
            STATFS => Ok(words(&[0; 10])),
            _ => Err(ENOSYS),
        }
    }

    fn look_up(&self, name: &[u8]) -> Result<Vec<u8>, i32> {
        let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap());
        body_of(&name).ok_or(ENOENT)?;
        let node = self.node_of(&name);
        let mut out = words(&[node, 0, self.seconds(), self.seconds(), 0]);
        out.extend(self.attributes(node));
        Ok(out)
    }

    fn node_of(&self, name: &str) -> u64 {
        let mut state = self.state.lock().unwrap();
        if let Some(node) = state.numbers.get(name) {
            return *node;
        }
        state.names.push(name.to_owned());
        let node = state.names.len() as u64 + ROOT;
        state.numbers.insert(name.to_owned(), node);
        node
    }

    fn body(&self, node: u64) -> Option<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let index = node.checked_sub(ROOT + 1)?;
        body_of(state.names.get(index as usize)?)
    }

    /// `struct fuse_attr`.
    fn attributes(&self, node: u64) -> Vec<u8> {
        let (bytes, mode) = match self.body(node) {
            Some(body) => (body.len() as u64, 0o100_444_u32),
            None => (4096, 0o040_555),
        };
        let modified = 1_000_000_000;
        let mut out = words(&[
            node,
            bytes,
            bytes.div_ceil(512),
            modified,
            modified,
            modified,
        ]);
        for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
            out.extend(word.to_le_bytes());
        }
        out
    }

    fn seconds(&self) -> u64 {
        match self.memory {
            Memory::None => 0,
            Memory::Long => 3600,
        }
    }
}

impl Request {
    fn parse(bytes: &[u8]) -> Request {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let double = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        Request {
            operation: word(4),
            unique: double(8),
            node: double(16),
            arguments: bytes[IN_HEADER_BYTES..].to_vec(),
        }
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `struct fuse_init_out` of version 7.31.
fn initial() -> Vec<u8> {
    const ASYNC_READ: u32 = 1;
    const PARALLEL_LOOKUPS: u32 = 1 << 18;
    let mut out = Vec::new();
    for word in [7, 31, 128 << 10, ASYNC_READ | PARALLEL_LOOKUPS] {
        out.extend(u32::to_le_bytes(word));
    }
    // At most 64 and 48 in the background, writes of up to 128 KiB, times to the nanosecond.
    out.extend(u16::to_le_bytes(64));
    out.extend(u16::to_le_bytes(48));
    for word in [128 << 10, 1] {
        out.extend(u32::to_le_bytes(word));
    }
    out.resize(64, 0);
    out
}

/// `struct fuse_dirent` of the next names. There is no end to them: a directory is as large as
/// whoever reads it has patience.
fn directory(offset: u64, limit: usize) -> Vec<u8> {
    const REGULAR: u32 = 8;
    let mut out = Vec::new();
    for number in offset.. {
        let name = format!("small-{number}.bin");
        let mut entry = words(&[number + 1000, number + 1]);
        entry.extend((name.len() as u32).to_le_bytes());
        entry.extend(REGULAR.to_le_bytes());
        entry.extend(name.as_bytes());
        entry.resize(entry.len().next_multiple_of(8), 0);
        if out.len() + entry.len() > limit {
            break;
        }
        out.extend(entry);
    }
    out
}

/// A directory for a mount, below `folder`.
pub(crate) fn mount_point(folder: &Path, name: &str) -> PathBuf {
    let place = folder.join(std::ffi::OsStr::from_bytes(name.as_bytes()));
    std::fs::create_dir(&place).unwrap();
    place
}
