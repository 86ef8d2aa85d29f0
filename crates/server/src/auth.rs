//! Basic authentication (RFC 7617): who may have a root's files.
//!
//! Checking a password takes tens of milliseconds and megabytes, by design, so it is never done on
//! a worker: a small pool of its own does it (`Passwords`), and a flood of wrong passwords fills
//! that pool's queue and nothing else. What was right is remembered by every worker for a while,
//! by a keyed hash of what the client sent (`Gate`), so that nearly every request is let in with
//! one hash of some hundred bytes.
//!
//! A root without users has no gate and knows nothing of this.

mod gate;
mod hash;
mod users;

pub(crate) use gate::{Check, Gate, Sight, Verdict};
pub use hash::{Algorithm, HashError, hash_password};
pub use users::is_user_name;
pub(crate) use users::{UserFault, parse_user, read_file};

use crate::config;
use base64ct::{Base64, Encoding as _};
use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};
use ringway_runtime::BlockingPool;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use users::Users;

/// A keyed hash of what a client sent: without the key it tells nothing, and nobody can make two
/// that agree, or look for one by the time that a comparison takes.
type Mac = [u8; 32];

/// The users of one root, for the whole process.
#[derive(Debug)]
pub(crate) struct Passwords {
    users: Users,
    /// The version of the users that was seen last.
    version: AtomicU64,
    key: Mac,
    pool: BlockingPool,
    remembered_for: Duration,
    remembered_count: usize,
    /// The workers' gates. Only threads of the pool take the lock, and whoever starts a worker.
    gates: Mutex<Vec<Weak<gate::News>>>,
}

impl Passwords {
    /// Nothing for a root without users. `pool` is for checking passwords only.
    ///
    /// # Errors
    /// The password file can't be read or isn't one; the system gives no random bytes.
    pub(crate) fn open(
        root: &config::Root,
        remembered_count: usize,
        pool: &BlockingPool,
    ) -> io::Result<Option<Arc<Passwords>>> {
        if !root.has_users() {
            return Ok(None);
        }
        let mut key = Mac::default();
        getrandom::fill(&mut key)?;
        let fixed = root.users.as_deref().unwrap_or_default();
        Ok(Some(Arc::new(Passwords {
            users: Users::open(fixed, root.users_file.as_deref())?,
            version: AtomicU64::new(0),
            key,
            pool: pool.clone(),
            remembered_for: root.password_cache,
            remembered_count,
            gates: Mutex::default(),
        })))
    }

    /// Has a gate told whom others let in, as long as it is there.
    fn listen(&self, news: &Arc<gate::News>) {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|gate| gate.strong_count() > 0);
        gates.push(Arc::downgrade(news));
    }

    /// Tells all gates but the one that knows. To be called where a lock may be waited for.
    fn tell(&self, knows: &Arc<gate::News>, let_in: &gate::LetIn) {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        for news in gates.iter().filter_map(Weak::upgrade) {
            if !self.remembered_for.is_zero() && !Arc::ptr_eq(&news, knows) {
                news.force_push(let_in.clone());
            }
        }
    }

    fn mac(&self, bytes: &[u8]) -> Mac {
        let mut mac = Blake2sMac256::new_from_slice(&self.key).expect("a key may have 32 bytes");
        mac.update(bytes);
        mac.finalize_fixed().into()
    }

    /// Whether a password is right, and by which version of the users. Takes its time.
    fn check(&self, credentials: &Credentials) -> (bool, u64) {
        let table = self.users.table();
        let version = table.version;
        // Threads may come in another order than their tables.
        self.version.fetch_max(version, Relaxed);
        let name = credentials.user.as_bytes();
        let chance = self.mac(name);
        let chance = u64::from_le_bytes(chance[..8].try_into().expect("8 of 32 bytes"));
        let is_right = table.is_right(&credentials.user, &credentials.password, chance);
        (is_right, version)
    }
}

/// What is weak about the hashes of a root's users, one line each; all of them are accepted. What
/// can't be read is left out: the configuration's check has said it.
pub fn weaknesses(root: &config::Root) -> Vec<String> {
    let fixed = root.users.iter().flatten();
    let mut users: Vec<(String, hash::Hash)> = fixed
        .filter_map(|text| parse_user(text).ok())
        .map(|(name, hash)| (name.to_owned(), hash))
        .collect();
    let lines = root
        .users_file
        .as_deref()
        .and_then(|path| read_file(path).ok());
    let lines = lines.into_iter().flat_map(|lines| lines.users);
    users.extend(lines.map(|(_, name, hash)| (name.into(), hash)));
    let weak = |(name, hash): &(String, hash::Hash)| {
        let weakness = hash.weakness()?;
        Some(format!(
            "user {name:?} of files.{} has {weakness}",
            root.name
        ))
    };
    users.iter().filter_map(weak).collect()
}

/// The value of `WWW-Authenticate` (RFC 7617 §2.1). The realm has printable ASCII only.
pub(crate) fn challenge(root: &config::Root) -> Box<[u8]> {
    let realm = root.realm.as_deref().unwrap_or(&root.name);
    let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
    format!("Basic realm=\"{quoted}\", charset=\"UTF-8\"")
        .into_bytes()
        .into()
}

/// A name and a password, as a client sent them.
#[derive(Clone)]
struct Credentials {
    user: Box<str>,
    password: Box<[u8]>,
}

impl Credentials {
    /// Reads the value of `Authorization`. Whatever isn't right about it, there is one answer, the
    /// same as to a wrong password: RFC 9110 §11.4 has 401 for credentials that are missing,
    /// partial or invalid, and a client that gets it can ask its user, which a 400 wouldn't let
    /// it.
    fn parse(value: &[u8]) -> Option<Credentials> {
        let space = value.iter().position(|&byte| byte == b' ')?;
        let (scheme, token) = value.split_at(space);
        // Case-insensitive (RFC 9110 §11.1).
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let token = std::str::from_utf8(token.trim_ascii()).ok()?;
        let mut user = Base64::decode_vec(token).ok()?;
        let colon = user.iter().position(|&byte| byte == b':')?;
        let password = user.split_off(colon + 1).into();
        user.pop();
        Some(Credentials {
            user: String::from_utf8(user).ok()?.into(),
            password,
        })
    }
}

#[cfg(test)]
mod tests;
