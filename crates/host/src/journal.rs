//! The undo journal: what was changed from what to what, on disk before it is changed.
//!
//! One file for each apply, a JSON object a line, each line synced before the next step. A crash can
//! therefore cut at most the last line, and then what that line announced wasn't done yet. A lock in
//! the folder keeps two at once from changing a machine.

use crate::machine::Target;
use crate::origin::Origin;
use crate::plan::Rule;
use ringway_kernel::process;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where journals are, below the root of the machine.
pub const JOURNAL_FOLDER: &str = "var/lib/ringway/tune";

/// The version of the journal's lines.
const JOURNAL_VERSION: u32 = 1;

/// No journal that was written here is larger; beyond it is somebody's prank.
const MOST_BYTES: u64 = 64 << 20;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub enum Entry {
    /// The first.
    Begin {
        /// The version of these lines.
        journal_version: u32,
        /// Where it was.
        origin: Origin,
        /// Seconds since 1970.
        started_seconds: u64,
        /// The program's version.
        program: String,
    },
    /// A change that is about to be made.
    Intent {
        /// Its number, from 0.
        number: u32,
        /// The check that asked for it.
        check: String,
        /// What is changed.
        target: Target,
        /// What it holds.
        old: String,
        /// What it will hold.
        new: String,
        /// How.
        rule: Rule,
    },
    /// A change that was made.
    Done {
        /// Its number.
        number: u32,
        /// What the target holds now.
        readback: String,
    },
    /// A change that the kernel refused.
    Refused {
        /// Its number.
        number: u32,
        /// Its words.
        error: String,
    },
    /// What something that belongs to a device's queues held before their number was changed,
    /// which lets the driver spread everything anew.
    Before {
        /// What it is.
        target: Target,
        /// What it held.
        value: String,
    },
    /// A device is about to get its old queues back.
    Restoring {
        /// The device.
        nic: String,
        /// What belongs to its queues will hold this then.
        wanted: Vec<(Target, String)>,
    },
    /// A guard of this name undoes it all, unless the operator confirms in time.
    Guarded {
        /// The guard's name, its own.
        guard: String,
    },
    /// The operator still reaches the machine, and keeps what was done.
    Confirmed,
    /// Everything was undone, or is gone.
    Closed,
}

/// The folder of journals, locked.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held as long as this lives.
    _lock: File,
}

impl Folder {
    /// Opens and locks the folder; makes it if it isn't there.
    ///
    /// # Errors
    /// When another program holds it, or it can't be made.
    pub fn open(path: &Path) -> Result<Folder, String> {
        Folder::locked(path, File::try_lock)
    }

    /// The same, after whoever holds it.
    ///
    /// # Errors
    /// When it can't be made or locked.
    pub fn wait_for(path: &Path) -> Result<Folder, String> {
        Folder::locked(path, |lock| lock.lock().map_err(TryLockError::Error))
    }

    fn locked(
        path: &Path,
        take: impl FnOnce(&File) -> Result<(), TryLockError>,
    ) -> Result<Folder, String> {
        let explain = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                format!("{}: not a folder, which journals need", path.display())
            }
            _ => format!("{}: {error}", path.display()),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(explain)?;
        let theirs = |why: String| format!("{}: {why}", path.display());
        check_owner(&fs::metadata(path).map_err(explain)?).map_err(theirs)?;
        let lock = path.join("lock");
        // A FIFO would be waited for, and a link leads elsewhere.
        if fs::symlink_metadata(&lock).is_ok_and(|found| !found.is_file()) {
            return Err(format!("{}: not a file", lock.display()));
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(lock).map_err(explain)?;
        match take(&lock) {
            Ok(()) => Ok(Folder {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "{}: another ringway tune is at work",
                path.display()
            )),
            Err(TryLockError::Error(error)) => Err(explain(error)),
        }
    }

    /// All journals, the newest first; also those that can't be read, for they may tell of something.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn past(&self) -> Result<Vec<Past>, String> {
        let explain = |error: io::Error| format!("{}: {error}", self.path.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(explain)? {
            let path = entry.map_err(explain)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "jsonl")
            {
                names.push(path);
            }
        }
        names.sort();
        Ok(names.iter().rev().map(|path| Past::read(path)).collect())
    }

    /// Begins a journal.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn begin(&self, origin: Origin) -> Result<Journal, String> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let started_seconds = since.map_or(0, |since| since.as_secs());
        for turn in 0..1000 {
            // Names sort by time; those of one second by their turn.
            let path = self
                .path
                .join(format!("{started_seconds:012}-{turn:03}.jsonl"));
            let mut options = OpenOptions::new();
            match options
                .create_new(true)
                .append(true)
                .mode(0o600)
                .open(&path)
            {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("{}: {error}", path.display())),
                Ok(file) => {
                    let mut journal = Journal {
                        file,
                        path,
                        next: 0,
                    };
                    let begun = journal.append(&Entry::Begin {
                        journal_version: JOURNAL_VERSION,
                        origin,
                        started_seconds,
                        program: env!("CARGO_PKG_VERSION").to_owned(),
                    });
                    if let Err(why) = begun.and_then(|()| self.sync()) {
                        // One without a beginning would tell of nothing.
                        let _ = fs::remove_file(&journal.path);
                        return Err(why);
                    }
                    return Ok(journal);
                }
            }
        }
        Err(format!(
            "{}: no free name for a journal",
            self.path.display()
        ))
    }

    /// The folder's own entries have to survive a crash too.
    fn sync(&self) -> Result<(), String> {
        let synced = File::open(&self.path).and_then(|folder| folder.sync_all());
        synced.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// A journal being written.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    next: u32,
}

impl Journal {
    /// Its name.
    pub fn id(&self) -> String {
        id_of(&self.path)
    }

    /// Announces a change, and returns its number. When this returns, the line is on disk.
    ///
    /// # Errors
    /// When it couldn't be written: then the change must not be made.
    pub fn intend(
        &mut self,
        check: &str,
        target: &Target,
        old: &str,
        new: &str,
        rule: Rule,
    ) -> Result<u32, String> {
        let number = self.next;
        self.append(&Entry::Intent {
            number,
            check: check.to_owned(),
            target: target.clone(),
            old: old.to_owned(),
            new: new.to_owned(),
            rule,
        })?;
        self.next += 1;
        Ok(number)
    }

    /// Adds a line and waits for the disk.
    ///
    /// # Errors
    /// When it couldn't be written.
    pub fn append(&mut self, entry: &Entry) -> Result<(), String> {
        self.append_all(std::slice::from_ref(entry))
    }

    /// Adds several lines and waits for the disk once. A crash may cut between them.
    ///
    /// # Errors
    /// When they couldn't be written.
    pub fn append_all(&mut self, entries: &[Entry]) -> Result<(), String> {
        let explain = |error: io::Error| format!("{}: {error}", self.path.display());
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry).map_err(|error| explain(error.into()))?;
            lines.push(b'\n');
        }
        self.file.write_all(&lines).map_err(explain)?;
        self.file.sync_data().map_err(explain)
    }
}

/// Whether what is here can only come from this user or root. Whoever writes a journal decides what
/// is written where when it is undone.
fn check_owner(found: &Metadata) -> Result<(), String> {
    let owner = found.uid();
    if owner != 0 && owner != process::user() {
        return Err(format!("it belongs to another user ({owner})"));
    }
    match found.mode() & 0o022 {
        0 => Ok(()),
        _ => Err("other users may write it".to_owned()),
    }
}

/// The bytes of a journal; nothing else is read, or waited for.
fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let words = |error: io::Error| error.to_string();
    let found = fs::symlink_metadata(path).map_err(words)?;
    if !found.is_file() {
        return Err("not a file".to_owned());
    }
    check_owner(&found)?;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(words)?;
    let mut most = file.take(MOST_BYTES + 1);
    most.read_to_end(&mut bytes).map_err(words)?;
    match bytes.len() as u64 > MOST_BYTES {
        true => Err("too large for a journal".to_owned()),
        false => Ok(bytes),
    }
}

/// The version that a journal's first line names, whatever else is in that line.
fn version_of(text: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Version {
        journal_version: u32,
    }
    let line = text.split(|&byte| byte == b'\n').next()?;
    let version: Version = serde_json::from_slice(line).ok()?;
    Some(version.journal_version)
}

fn id_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// A journal of before.
#[derive(Clone, Debug)]
pub struct Past {
    /// Its name.
    pub id: String,
    /// Its lines, as far as they can be read.
    pub entries: Vec<Entry>,
    /// Lines in its middle that can't be read, which no crash explains.
    pub damaged_lines: usize,
    /// The version of its lines where that is a later one than is known here: then none of them is
    /// in `entries`, and nothing is added to it.
    pub newer_version: Option<u32>,
    /// Why nothing of it can be read, where that is so: then it can't be known what was done.
    pub unreadable: Option<String>,
    /// What comes before a cut.
    whole_bytes: u64,
    /// Whether the last line lacks nothing but its end.
    lacks_end: bool,
    path: PathBuf,
}

/// A change that a journal tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The check that asked for it.
    pub check: String,
    /// What was changed.
    pub target: Target,
    /// What it held.
    pub old: String,
    /// What it was given.
    pub new: String,
    /// What it held then, when that is known.
    pub readback: Option<String>,
    /// How.
    pub rule: Rule,
    /// Whether the kernel refused.
    pub was_refused: bool,
}

impl Past {
    fn read(path: &Path) -> Past {
        let (text, unreadable) = match read_bytes(path) {
            Ok(text) => (text, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let mut past = Past {
            id: id_of(path),
            entries: Vec::new(),
            damaged_lines: 0,
            newer_version: version_of(&text).filter(|&version| version > JOURNAL_VERSION),
            unreadable,
            whole_bytes: 0,
            lacks_end: false,
            path: path.to_owned(),
        };
        if past.newer_version.is_some() {
            return past;
        }
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            past.lacks_end = !line.ends_with(b"\n");
            match serde_json::from_slice(line) {
                Ok(entry) => past.entries.push(entry),
                // A line without its end is the cut of a crash: it wasn't synced, so what it
                // announces wasn't done.
                Err(_) if past.lacks_end => {
                    past.lacks_end = false;
                    break;
                }
                Err(_) => past.damaged_lines += 1,
            }
            past.whole_bytes += line.len() as u64;
        }
        past
    }

    /// Whether it can be understood here.
    ///
    /// # Errors
    /// When it can't be read, or when a later version of the program wrote it: what that did only
    /// that one can undo.
    pub fn check_readable(&self) -> Result<(), String> {
        if let Some(why) = &self.unreadable {
            return Err(format!("{}: {why}", self.path.display()));
        }
        match self.newer_version {
            None => Ok(()),
            Some(version) => Err(format!(
                "journal {} was written by a newer ringway (version {version} of the journal; this \
                 one knows {JOURNAL_VERSION}): that one can undo it",
                self.id
            )),
        }
    }

    /// Whether everything in it was undone.
    pub fn is_closed(&self) -> bool {
        self.entries.contains(&Entry::Closed)
    }

    /// The guard that is to undo it, as long as nobody confirmed and it wasn't undone.
    pub fn guard(&self) -> Option<&str> {
        if self.is_closed() || self.entries.contains(&Entry::Confirmed) {
            return None;
        }
        self.entries.iter().find_map(|entry| match entry {
            Entry::Guarded { guard } => Some(guard.as_str()),
            _ => None,
        })
    }

    /// Where it was; a journal whose first line is damaged doesn't tell.
    pub fn origin(&self) -> Option<&Origin> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Begin { origin, .. } => Some(origin),
            _ => None,
        })
    }

    /// What belonged to a device's queues, and what it held, before their number was changed.
    pub fn before(&self, nic: &str) -> Vec<(Target, String)> {
        let mut before: Vec<(Target, String)> = Vec::new();
        for entry in &self.entries {
            if let Entry::Before { target, value } = entry
                && target.nic() == Some(nic)
                && !before.iter().any(|(known, _)| known == target)
            {
                before.push((target.clone(), value.clone()));
            }
        }
        before
    }

    /// What was to be put back with a device's queues when undoing was stopped.
    pub fn restoring(&self, device: &str) -> Option<&[(Target, String)]> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Restoring { nic, wanted } if nic == device => Some(wanted.as_slice()),
            _ => None,
        })
    }

    /// The changes, in the order in which they were made.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes: Vec<(u32, Change)> = Vec::new();
        for entry in &self.entries {
            let mut with = |number: u32, set: &mut dyn FnMut(&mut Change)| {
                let found = changes.iter_mut().find(|(other, _)| *other == number);
                if let Some((_, change)) = found {
                    set(change);
                }
            };
            match entry {
                Entry::Done { number, readback } => with(*number, &mut |change| {
                    change.readback = Some(readback.clone());
                }),
                Entry::Refused { number, .. } => with(*number, &mut |change| {
                    change.was_refused = true;
                }),
                Entry::Intent {
                    number,
                    check,
                    target,
                    old,
                    new,
                    rule,
                } => {
                    let change = Change {
                        check: check.clone(),
                        target: target.clone(),
                        old: old.clone(),
                        new: new.clone(),
                        readback: None,
                        rule: *rule,
                        was_refused: false,
                    };
                    changes.push((*number, change));
                }
                Entry::Begin { .. }
                | Entry::Before { .. }
                | Entry::Restoring { .. }
                | Entry::Guarded { .. }
                | Entry::Confirmed
                | Entry::Closed => {}
            }
        }
        changes.into_iter().map(|(_, change)| change).collect()
    }

    /// Marks it as undone.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn close(&self) -> Result<(), String> {
        self.add(&Entry::Closed)
    }

    /// Marks it as to be kept.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn confirm(&self) -> Result<(), String> {
        self.add(&Entry::Confirmed)
    }

    /// Adds a line to it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add(&self, entry: &Entry) -> Result<(), String> {
        self.check_readable()?;
        let explain = |error: io::Error| format!("{}: {error}", self.path.display());
        let file = OpenOptions::new()
            .append(true)
            .open(&self.path)
            .map_err(explain)?;
        let path = self.path.clone();
        let mut journal = Journal {
            file,
            path,
            next: 0,
        };
        journal.file.set_len(self.whole_bytes).map_err(explain)?;
        if self.lacks_end {
            journal.file.write_all(b"\n").map_err(explain)?;
        }
        journal.append(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn target() -> Target {
        Target::File("proc/sys/net/core/somaxconn".to_owned())
    }

    #[test]
    fn a_journal_is_read_as_it_was_written() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(&place.path().join("a/b")).expect("a folder");
        let origin = Origin {
            boot_id: Some("boot".to_owned()),
            ..Origin::default()
        };
        let mut journal = folder.begin(origin.clone()).expect("a journal");
        let first = journal
            .intend("x", &target(), "1", "2", Rule::Set)
            .expect("written");
        let readback = "2".to_owned();
        journal
            .append(&Entry::Done {
                number: first,
                readback,
            })
            .expect("written");
        journal
            .intend("y", &target(), "2", "3", Rule::RaiseOnly)
            .expect("written");
        let past = folder.past().expect("readable");
        assert_eq!(past.len(), 1);
        assert_eq!(
            (past[0].origin(), past[0].is_closed()),
            (Some(&origin), false)
        );
        let changes = past[0].changes();
        let brief: Vec<_> = changes
            .iter()
            .map(|change| {
                (
                    change.old.as_str(),
                    change.new.as_str(),
                    change.readback.as_deref(),
                )
            })
            .collect();
        assert_eq!(brief, [("1", "2", Some("2")), ("2", "3", None)]);
        past[0].close().expect("written");
        assert!(folder.past().expect("readable")[0].is_closed());
    }

    #[test]
    fn two_at_once_are_refused() {
        let place = tempfile::tempdir().expect("a folder");
        let first = Folder::open(place.path()).expect("free");
        let why = Folder::open(place.path()).expect_err("held");
        assert!(why.ends_with("another ringway tune is at work"), "{why}");
        drop(first);
        Folder::open(place.path()).expect("free again");
    }

    #[test]
    fn journals_of_one_second_keep_their_order() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(place.path()).expect("free");
        let ids: Vec<String> = (0..3)
            .map(|_| folder.begin(Origin::default()).expect("a journal").id())
            .collect();
        let past: Vec<String> = folder
            .past()
            .expect("readable")
            .into_iter()
            .map(|p| p.id)
            .collect();
        assert_eq!(past, [ids[2].clone(), ids[1].clone(), ids[0].clone()]);
    }

    #[test]
    fn a_newer_journal_is_neither_read_nor_written() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(place.path()).expect("free");
        let path = place.path().join("000000000001-000.jsonl");
        let text =
            "{\"entry\":\"begin\",\"journal_version\":2,\"where\":1}\n{\"entry\":\"closed\"}\n";
        fs::write(&path, text).expect("writable");
        let past = folder.past().expect("readable").remove(0);
        assert_eq!((past.newer_version, past.entries.len()), (Some(2), 0));
        assert!(!past.is_closed(), "what its lines mean isn't known");
        let why = "journal 000000000001-000 was written by a newer ringway (version 2 of the \
                   journal; this one knows 1): that one can undo it";
        assert_eq!(past.close(), Err(why.to_owned()));
        assert_eq!(fs::read_to_string(&path).expect("readable"), text);
    }

    /// What isn't a journal of ours is told, not waited for, and hides no other.
    #[test]
    fn what_can_not_be_a_journal_is_told_beside_the_others() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(place.path()).expect("free");
        let id = folder.begin(Origin::default()).expect("a journal").id();
        let path = |name: &str| place.path().join(format!("{name}.jsonl"));
        fs::create_dir(path("1")).expect("a folder");
        let large = File::create(path("2")).expect("a file");
        large.set_len(MOST_BYTES + 1).expect("a sparse file");
        std::os::unix::fs::symlink(path(&id), path("3")).expect("a link");
        let writable = File::create(path("4")).expect("a file");
        let all = fs::Permissions::from_mode(0o666);
        writable.set_permissions(all).expect("permitted");
        let mut expect = vec![
            ("4", Some("other users may write it")),
            ("3", Some("not a file")),
            ("2", Some("too large for a journal")),
            ("1", Some("not a file")),
            (id.as_str(), None),
        ];
        if make_fifo(&path("5")) {
            expect.insert(0, ("5", Some("not a file")));
        }
        let past = folder.past().expect("readable");
        let found = past
            .iter()
            .map(|p| (p.id.as_str(), p.unreadable.as_deref()));
        assert_eq!(found.collect::<Vec<_>>(), expect);
        let why = format!("{}: too large for a journal", path("2").display());
        let large = past.iter().find(|past| past.id == "2");
        assert_eq!(large.expect("listed").close(), Err(why));
    }

    fn make_fifo(path: &Path) -> bool {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        let is_made = made.is_ok_and(|status| status.success());
        if !is_made {
            println!("SKIP: no mkfifo");
        }
        is_made
    }

    #[test]
    fn a_lock_that_would_be_waited_for_is_refused() {
        let place = tempfile::tempdir().expect("a folder");
        let lock = place.path().join("lock");
        if make_fifo(&lock) {
            let why = format!("{}: not a file", lock.display());
            assert_eq!(Folder::open(place.path()).expect_err("no file"), why);
        }
    }

    /// Whoever can write journals decides what root writes when it undoes them.
    #[test]
    fn a_folder_of_others_is_refused() {
        let place = tempfile::tempdir().expect("a folder");
        let refused = |why: &str| {
            let why = format!("{}: {why}", place.path().display());
            assert_eq!(Folder::open(place.path()).expect_err("of others"), why);
        };
        let mode = |mode| fs::set_permissions(place.path(), fs::Permissions::from_mode(mode));
        for writable in [0o1777, 0o770, 0o702] {
            mode(writable).expect("permitted");
            refused("other users may write it");
        }
        mode(0o755).expect("permitted");
        Folder::open(place.path()).expect("ours alone");
        match std::os::unix::fs::chown(place.path(), Some(12_345), None) {
            Ok(()) => refused("it belongs to another user (12345)"),
            Err(error) => println!("SKIP: another owner: {error}"),
        }
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_told() {
        let place = tempfile::tempdir().expect("a folder");
        let file = place.path().join("file");
        fs::write(&file, "").expect("writable");
        for path in [file.clone(), file.join("below")] {
            let why = Folder::open(&path).expect_err("no folder");
            let expect = format!("{}: not a folder, which journals need", path.display());
            assert_eq!(why, expect);
        }
    }

    proptest! {
        /// Wherever a journal is cut, every line before the cut is there, and nothing else.
        #[test]
        fn a_cut_loses_the_cut_line_alone(cut in 0_usize..2000, noise in any::<bool>()) {
            let place = tempfile::tempdir().expect("a folder");
            let folder = Folder::open(place.path()).expect("free");
            let mut journal = folder.begin(Origin::default()).expect("a journal");
            for number in 0..5 {
                let old = number.to_string();
                journal.intend("x", &target(), &old, "9", Rule::Set).expect("written");
            }
            let whole = fs::read(&journal.path).expect("readable");
            let mut text = whole[..cut.min(whole.len())].to_vec();
            let lines = text.iter().filter(|&&byte| byte == b'\n').count();
            if noise {
                text.extend_from_slice(b"\xff{\"entry");
            }
            fs::write(&journal.path, &text).expect("writable");
            let past = folder.past().expect("readable").remove(0);
            // A last line that lacks nothing but its end may be there too.
            let found = past.entries.len();
            prop_assert!(found == lines || (!noise && found == lines + 1), "{found} of {lines}");
            prop_assert_eq!(past.damaged_lines, 0);
            past.close().expect("writable");
            let closed = folder.past().expect("readable").remove(0);
            prop_assert!(closed.is_closed());
            prop_assert_eq!((closed.damaged_lines, closed.entries.len()), (0, found + 1));
        }
    }
}
