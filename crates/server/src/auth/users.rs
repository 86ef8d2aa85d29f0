//! Who may come in: names and hashes, from the configuration and from a password file.
//!
//! The file is looked at again before each check that isn't answered from memory, by the thread
//! that checks: whoever edits it has to tell nobody. A file that can't be read, or has a mistake
//! in it, changes nothing but for a line in the event log.

use super::hash::{Hash, HashFault};
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The largest password file: some ten thousand users.
const FILE_BYTES: u64 = 1 << 20;
/// The longest name. It stands in every line of the access log that is about its user.
const NAME_BYTES: usize = 255;

/// Why a text isn't `user:hash`; without anything of it but the name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UserFault {
    /// There is no colon.
    NoColon,
    /// The name is empty, too long, or has control characters.
    Name,
    /// The hash of this user.
    Hash(String, HashFault),
    /// There was a user of this name before.
    Twice(String),
}

impl fmt::Display for UserFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserFault::NoColon => out.write_str("no user and hash: there is no colon"),
            UserFault::Name => write!(
                out,
                "no user's name: it is empty, longer than {NAME_BYTES} bytes, or has control \
                 characters"
            ),
            UserFault::Hash(name, fault) => write!(out, "user {name:?}: {fault}"),
            UserFault::Twice(name) => write!(out, "user {name:?} is there twice"),
        }
    }
}

impl UserFault {
    /// What to do about it.
    pub(crate) fn remedy(&self) -> String {
        match self {
            UserFault::NoColon => {
                "write \"user:hash\"; ringway hash-password --user NAME makes it".to_owned()
            }
            UserFault::Name => "such as \"alice:$argon2id$...\"".to_owned(),
            UserFault::Hash(name, _) => {
                format!("make a new one: ringway hash-password --user {name}")
            }
            UserFault::Twice(_) => "leave one of them out".to_owned(),
        }
    }
}

/// Whether a user can have this name: 1 to 255 bytes, no control characters, and no colon, which
/// ends it (RFC 7617 §2).
pub fn is_user_name(name: &str) -> bool {
    let is_odd = |character: char| character.is_control() || character == ':';
    (1..=NAME_BYTES).contains(&name.len()) && !name.chars().any(is_odd)
}

/// Reads `user:hash`.
pub(crate) fn parse_user(text: &str) -> Result<(&str, Hash), UserFault> {
    let (name, hash) = text.split_once(':').ok_or(UserFault::NoColon)?;
    if !is_user_name(name) {
        return Err(UserFault::Name);
    }
    let hash = Hash::parse(hash).map_err(|fault| UserFault::Hash(name.to_owned(), fault))?;
    Ok((name, hash))
}

/// What a password file holds: each user and fault with its line, from 1.
pub(crate) struct Lines {
    pub(crate) users: Vec<(usize, Box<str>, Hash)>,
    pub(crate) faults: Vec<(usize, UserFault)>,
}

/// Reads a password file as `htpasswd` writes it: a user a line, empty lines and those that begin
/// with `#` aside.
pub(crate) fn read_file(path: &Path) -> io::Result<Lines> {
    // Looked at first: to open a FIFO would be to wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it isn't a regular file",
        ));
    }
    let file = File::open(path)?;
    let mut text = String::new();
    file.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            "it is larger than 1 MiB",
        ));
    }
    let mut lines = Lines {
        users: Vec::new(),
        faults: Vec::new(),
    };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_user(line) {
            Ok((name, hash)) => lines.users.push((index + 1, name.into(), hash)),
            Err(fault) => lines.faults.push((index + 1, fault)),
        }
    }
    Ok(lines)
}

/// The users at a moment.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Where in `hashes` a user's is.
    places: HashMap<Box<str>, usize>,
    hashes: Vec<Hash>,
    /// How many tables there were before.
    pub(super) version: u64,
}

impl Table {
    fn add(&mut self, name: &str, hash: Hash) -> Result<(), UserFault> {
        if self.places.contains_key(name) {
            return Err(UserFault::Twice(name.to_owned()));
        }
        self.places.insert(name.into(), self.hashes.len());
        self.hashes.push(hash);
        Ok(())
    }

    /// Whether this is the user's password.
    ///
    /// A name that nobody has takes as long as one of those that there are: it is checked against
    /// the hash that `chance` points to, which has to be the same whenever the name is, or asking
    /// twice would tell.
    pub(super) fn is_right(&self, name: &str, password: &[u8], chance: u64) -> bool {
        let known = self.places.get(name).copied();
        let place = known.unwrap_or_else(|| (chance % self.hashes.len().max(1) as u64) as usize);
        let is_right = self
            .hashes
            .get(place)
            .is_some_and(|hash| hash.verify(password));
        is_right && known.is_some()
    }
}

/// What tells one version of a file from another.
type Identity = (u64, u64, u64, (i64, i64), (i64, i64));

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::metadata(path)?;
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    Ok((
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        modified,
        changed,
    ))
}

/// The users of a root, for the threads that check passwords.
#[derive(Debug)]
pub(super) struct Users {
    fixed: Vec<String>,
    file: Option<PathBuf>,
    /// Never waited for on a worker.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    table: Arc<Table>,
    /// The file that was looked at last, whatever came of it.
    seen: Option<Identity>,
}

impl Users {
    /// # Errors
    /// The file can't be read, or there is a fault in what is written.
    pub(super) fn open(fixed: &[String], file: Option<&Path>) -> io::Result<Users> {
        // Before it is read: a change after that is seen.
        let seen = file.and_then(|path| identity(path).ok());
        Ok(Users {
            state: Mutex::new(State {
                table: Arc::new(read(fixed, file)?),
                seen,
            }),
            fixed: fixed.to_owned(),
            file: file.map(Path::to_owned),
        })
    }

    /// The users as they are now.
    pub(super) fn table(&self) -> Arc<Table> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.file {
            let found = identity(path).ok();
            if found != state.seen {
                state.seen = found;
                self.replace(path, &mut state);
            }
        }
        Arc::clone(&state.table)
    }

    fn replace(&self, path: &Path, state: &mut State) {
        let file = path.display();
        match read(&self.fixed, Some(path)) {
            Ok(mut table) => {
                table.version = state.table.version + 1;
                let users = table.hashes.len();
                tracing::info!(%file, users, "the password file has changed");
                state.table = Arc::new(table);
            }
            Err(error) => {
                tracing::error!("{error}; the users of before stay");
            }
        }
    }
}

fn read(fixed: &[String], file: Option<&Path>) -> io::Result<Table> {
    let invalid = |text| io::Error::new(ErrorKind::InvalidData, text);
    let mut table = Table::default();
    for text in fixed {
        parse_user(text)
            .and_then(|(name, hash)| table.add(name, hash))
            .map_err(|fault| invalid(fault.to_string()))?;
    }
    if let Some(path) = file {
        let shown = path.display();
        let lines = read_file(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{shown}: {error}")))?;
        if let Some((line, fault)) = lines.faults.first() {
            return Err(invalid(format!("{shown}:{line}: {fault}")));
        }
        for (line, name, hash) in lines.users {
            table
                .add(&name, hash)
                .map_err(|fault| invalid(format!("{shown}:{line}: {fault}")))?;
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "$argon2id$v=19$m=32,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg\
                          $UbwNcvhR/pppSRNYTpRcuOs8cr2s6f69+GyF1Cbq50Q";

    fn fault(text: &str) -> String {
        parse_user(text).unwrap_err().to_string()
    }

    #[test]
    fn faults_never_show_what_may_be_a_password() {
        assert_eq!(fault("secret"), "no user and hash: there is no colon");
        assert!(fault(":secret").starts_with("no user's name"));
        assert!(fault("a\tb:secret").starts_with("no user's name"));
        let plain = "user \"alice\": no hash: a password as it is is never kept";
        assert_eq!(fault("alice:secret"), plain);
    }

    #[test]
    fn a_password_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(
            &path,
            format!("# of the site\r\n\r\nalice:{SECRET}\r\n b:{SECRET}\nbob\n"),
        )
        .unwrap();
        let lines = read_file(&path).unwrap();
        let names: Vec<(usize, &str)> = lines
            .users
            .iter()
            .map(|(line, name, _)| (*line, &**name))
            .collect();
        assert_eq!(names, [(3, "alice"), (4, "b")]);
        assert_eq!(lines.faults, [(5, UserFault::NoColon)]);
        assert!(read_file(folder.path()).is_err());
        assert!(read_file(&folder.path().join("none")).is_err());
        fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
        assert!(read_file(&path).is_err());
    }

    #[test]
    fn who_is_right() {
        let fixed = [format!("alice:{SECRET}"), format!("bob:{SECRET}")];
        let users = Users::open(&fixed, None).unwrap();
        let table = users.table();
        for chance in [0, 1, u64::MAX] {
            assert!(table.is_right("alice", b"secret", chance));
            assert!(!table.is_right("alice", b"Secret", chance));
            // The hash that is looked at is right; the name isn't.
            assert!(!table.is_right("carol", b"secret", chance));
            assert!(!table.is_right("", b"secret", chance));
        }
        assert!(!Table::default().is_right("alice", b"secret", 7));
    }

    #[test]
    fn a_changed_file_is_read_anew_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        // Renamed over, so that no two versions look the same.
        let write = |text: &str| {
            let new = folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, &path).unwrap();
        };
        write(&format!("alice:{SECRET}\n"));
        let users = Users::open(&[], Some(&path)).unwrap();
        let is_in = |name: &str| users.table().is_right(name, b"secret", 0);
        assert!(is_in("alice") && !is_in("bob"));
        assert_eq!(users.table().version, 0);
        write(&format!("bob:{SECRET}\n"));
        assert!(!is_in("alice") && is_in("bob"));
        assert_eq!(users.table().version, 1);
        write("carol:secret\n");
        assert!(is_in("bob") && !is_in("carol"));
        fs::remove_file(&path).unwrap();
        assert!(is_in("bob"));
        assert_eq!(users.table().version, 1);
        write("# nobody\n");
        assert!(!is_in("bob"));
    }

    #[test]
    fn nobody_is_there_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, format!("alice:{SECRET}\n")).unwrap();
        let error = Users::open(&[format!("alice:{SECRET}")], Some(&path)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}:1: user \"alice\" is there twice", path.display())
        );
    }
}
