//! Password hashes: argon2id and bcrypt, read, checked against and made.
//!
//! Nothing else is accepted. MD5, SHA-1 and plain text, which password files of other servers may
//! have, are tried out by the billion each second once such a file is lost.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordHasher as _, PasswordVerifier as _};
use std::fmt;

/// The most memory that checking one password may take: a check of the largest hash on each of
/// the default threads is half a GiB.
const MEMORY_KIB: u32 = 256 << 10;
/// The most memory that it may write, all passes together: some seconds of work.
const WORK_KIB: u64 = 4 << 20;
const LANES: u32 = 16;
/// What bcrypt allows begins at 4. One more doubles the time; 15 are some seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=15;
/// OWASP's least for bcrypt is 10; each year since it was said has made computers faster.
const COST: u32 = 12;
/// The least that OWASP recommends, of both.
const RECOMMENDED_COST: u32 = 10;
const RECOMMENDED_KIB: u32 = 7 << 10;
/// Bcrypt takes no more of a password, and a zero byte at its end.
const BCRYPT_PASSWORD_BYTES: usize = 71;

/// How to make a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Argon2id (RFC 9106) with 19 MiB, two passes and one lane: the first choice of OWASP's
    /// Password Storage Cheat Sheet.
    Argon2id,
    /// Bcrypt with a cost of 12, which other servers' password files have as well.
    Bcrypt,
}

/// Why a password can't be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashError {
    /// There is none.
    Empty,
    /// It has control characters or isn't UTF-8: no client could send it (RFC 7617 §2).
    Unsendable,
    /// Bcrypt would look at its first 71 bytes only.
    TooLong,
    /// The system gives no random bytes, or no memory.
    System,
}

impl fmt::Display for HashError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            HashError::Empty => "the password is empty",
            HashError::Unsendable => {
                "the password has control characters or isn't UTF-8: no browser could send it"
            }
            HashError::TooLong => {
                "the password is longer than the 71 bytes that bcrypt looks at; argon2id takes \
                 any length"
            }
            HashError::System => "the system gives no random bytes, or no memory",
        })
    }
}

impl std::error::Error for HashError {}

/// The hash of a password with a salt of its own, as `users` of the configuration and password
/// files have it.
///
/// It takes some hundredths of a second, on purpose.
///
/// # Errors
/// [`HashError`].
pub fn hash_password(algorithm: Algorithm, password: &[u8]) -> Result<String, HashError> {
    if password.is_empty() {
        return Err(HashError::Empty);
    }
    match std::str::from_utf8(password) {
        Ok(text) if !text.chars().any(char::is_control) => {}
        _ => return Err(HashError::Unsendable),
    }
    match algorithm {
        Algorithm::Argon2id => Argon2::from(Params::default())
            .hash_password(password)
            .map(|hash| hash.to_string())
            .map_err(|_| HashError::System),
        Algorithm::Bcrypt if password.len() > BCRYPT_PASSWORD_BYTES => Err(HashError::TooLong),
        Algorithm::Bcrypt => bcrypt::hash(password, COST).map_err(|_| HashError::System),
    }
}

/// A hash of a kind and at a cost that are accepted.
#[derive(Debug, Clone)]
pub(crate) enum Hash {
    Argon2id(Box<PasswordHash>),
    Bcrypt { text: Box<str>, cost: u32 },
}

/// Why a text is no such hash, without anything of the text: it may be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HashFault {
    /// A kind that is known, and too weak or not supported.
    Kind(&'static str),
    /// Of the right kind, but not whole.
    Malformed(&'static str),
    /// It would take too much time or memory at each login.
    Dear(&'static str),
    /// No hash at all.
    Plain,
}

impl fmt::Display for HashFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashFault::Kind(kind) => write!(out, "{kind}"),
            HashFault::Malformed(kind) => write!(out, "a malformed {kind} hash"),
            HashFault::Dear(bound) => write!(out, "a hash beyond {bound}"),
            HashFault::Plain => write!(out, "no hash: a password as it is is never kept"),
        }
    }
}

/// Beginnings of hashes that aren't accepted.
const OTHER_KINDS: &[(&str, &str)] = &[
    ("$apr1$", "an MD5 hash ($apr1$), which is too weak"),
    ("$1$", "an MD5 hash ($1$), which is too weak"),
    (
        "{SHA}",
        "a SHA-1 hash without salt ({SHA}), which is too weak",
    ),
    ("{SSHA}", "a SHA-1 hash ({SSHA}), which is too weak"),
    ("{PLAIN}", "a password as it is ({PLAIN})"),
    ("$5$", "a SHA-256 hash ($5$), which isn't supported"),
    ("$6$", "a SHA-512 hash ($6$), which isn't supported"),
    ("$y$", "a yescrypt hash ($y$), which isn't supported"),
    ("$7$", "a scrypt hash ($7$), which isn't supported"),
    ("$scrypt$", "a scrypt hash, which isn't supported"),
    ("$pbkdf2", "a PBKDF2 hash, which isn't supported"),
    ("$argon2i$", "an argon2i hash, not argon2id"),
    ("$argon2d$", "an argon2d hash, not argon2id"),
    ("$2x$", "a hash by a bcrypt that was broken ($2x$)"),
];

impl Hash {
    pub(crate) fn parse(text: &str) -> Result<Hash, HashFault> {
        if text.starts_with("$argon2id$") {
            return argon2id(text);
        }
        if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|kind| text.starts_with(kind))
        {
            return bcrypt(text);
        }
        let other = OTHER_KINDS
            .iter()
            .find(|(begin, _)| text.starts_with(begin));
        if let Some((_, kind)) = other {
            return Err(HashFault::Kind(kind));
        }
        let is_crypt = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
        if text.len() == 13 && text.bytes().all(is_crypt) {
            return Err(HashFault::Kind(
                "a password as it is, or a DES hash, which is too weak",
            ));
        }
        Err(HashFault::Plain)
    }

    /// Whether this is the password's hash. It takes as long whether it is or not.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        match self {
            // Both compare in constant time.
            Hash::Argon2id(hash) => Argon2::default()
                .verify_password(password, hash.as_ref())
                .is_ok(),
            Hash::Bcrypt { text, .. } => bcrypt::verify(password, text).is_ok_and(|right| right),
        }
    }

    /// What is to be said of a hash that is accepted, but weaker than it should be.
    pub(crate) fn weakness(&self) -> Option<&'static str> {
        match self {
            Hash::Bcrypt { cost, .. } => {
                (*cost < RECOMMENDED_COST).then_some("bcrypt with a cost below 10")
            }
            Hash::Argon2id(hash) => Params::try_from(hash.as_ref())
                .is_ok_and(|params| params.m_cost() < RECOMMENDED_KIB)
                .then_some("argon2id with less than 7 MiB"),
        }
    }
}

fn argon2id(text: &str) -> Result<Hash, HashFault> {
    const MALFORMED: HashFault = HashFault::Malformed("argon2id");
    let hash = PasswordHash::new(text).map_err(|_| MALFORMED)?;
    // Version 1.3; the ones before have no salt or another construction.
    if hash.version != Some(0x13) || hash.salt.is_none() || hash.hash.is_none() {
        return Err(MALFORMED);
    }
    let params = Params::try_from(&hash).map_err(|_| MALFORMED)?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if params.m_cost() > MEMORY_KIB {
        return Err(HashFault::Dear("256 MiB (m=262144)"));
    }
    if work > WORK_KIB || params.p_cost() > LANES {
        return Err(HashFault::Dear(
            "what a login may take (m·t ≤ 4194304, p ≤ 16)",
        ));
    }
    Ok(Hash::Argon2id(Box::new(hash)))
}

fn bcrypt(text: &str) -> Result<Hash, HashFault> {
    const MALFORMED: HashFault = HashFault::Malformed("bcrypt");
    let parts: bcrypt::HashParts = text.parse().map_err(|_| MALFORMED)?;
    let cost = parts.get_cost();
    // The parser takes a sign for a digit.
    let is_number = text.as_bytes()[4..6].iter().all(u8::is_ascii_digit);
    if !is_number || cost < *COSTS.start() {
        return Err(MALFORMED);
    }
    if cost > *COSTS.end() {
        return Err(HashFault::Dear("bcrypt's cost 15"));
    }
    Ok(Hash::Bcrypt {
        text: text.into(),
        cost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by other programs: argon2 of the reference implementation, crypt(3) of libxcrypt.
    const ARGON2ID: &str = "$argon2id$v=19$m=32,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg\
                            $UbwNcvhR/pppSRNYTpRcuOs8cr2s6f69+GyF1Cbq50Q";
    const ARGON2ID_LANES: &str =
        "$argon2id$v=19$m=64,t=3,p=4$MDEyMzQ1Njc4OWFiY2RlZg$EBPcDXLkPKoSVqGyWlUA8g";
    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

    #[track_caller]
    fn check_verify(hash: &str, password: &str) {
        let hash = Hash::parse(hash).unwrap();
        assert!(hash.verify(password.as_bytes()));
        for wrong in ["", "x", &format!("{password} "), &password[1..]] {
            assert!(!hash.verify(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn hashes_of_other_programs() {
        check_verify(ARGON2ID, "secret");
        check_verify(ARGON2ID_LANES, "P\u{e4}ssw\u{f6}rd: \u{1f40e}");
        check_verify(BCRYPT, "secret");
        check_verify(&BCRYPT.replace("$2b$", "$2y$"), "secret");
    }

    #[test]
    fn what_is_made_is_right_and_never_the_same() {
        for (algorithm, begin) in [
            (Algorithm::Argon2id, "$argon2id$v=19$m=19456,t=2,p=1$"),
            (Algorithm::Bcrypt, "$2b$12$"),
        ] {
            let hash = hash_password(algorithm, b"secret").unwrap();
            assert!(hash.starts_with(begin), "{hash}");
            check_verify(&hash, "secret");
            assert_eq!(Hash::parse(&hash).unwrap().weakness(), None);
            assert_ne!(hash_password(algorithm, b"secret").unwrap(), hash);
        }
    }

    #[test]
    fn what_is_not_hashed() {
        let check = |algorithm, password: &[u8], expect| {
            assert_eq!(hash_password(algorithm, password), Err(expect));
        };
        check(Algorithm::Argon2id, b"", HashError::Empty);
        check(Algorithm::Argon2id, b"a\nb", HashError::Unsendable);
        check(
            Algorithm::Argon2id,
            "a\u{9b}".as_bytes(),
            HashError::Unsendable,
        );
        check(Algorithm::Bcrypt, b"a\xff", HashError::Unsendable);
        check(Algorithm::Bcrypt, &[b'a'; 72], HashError::TooLong);
    }

    #[track_caller]
    fn check_fault(text: &str, expect: &str) {
        let fault = Hash::parse(text).unwrap_err();
        assert_eq!(fault.to_string(), expect, "{text}");
    }

    #[test]
    fn what_is_no_hash_or_a_weak_one() {
        let weak = "an MD5 hash ($apr1$), which is too weak";
        check_fault("$apr1$8ckXc2eO$bYgIqh1vyOEjUR2hmHxqR/", weak);
        let weak = "a SHA-1 hash without salt ({SHA}), which is too weak";
        check_fault("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", weak);
        let weak = "a password as it is, or a DES hash, which is too weak";
        check_fault("rqXexS6ZhobKA", weak);
        check_fault(
            &ARGON2ID.replace("argon2id", "argon2i"),
            "an argon2i hash, not argon2id",
        );
        let broken = "a hash by a bcrypt that was broken ($2x$)";
        check_fault(&BCRYPT.replace("$2b$", "$2x$"), broken);
        let plain = "no hash: a password as it is is never kept";
        check_fault("secret", plain);
        check_fault("", plain);
        check_fault("$9$what", plain);
    }

    #[test]
    fn malformed_and_dear_hashes() {
        for (from, to) in [
            ("v=19", "v=16"),
            ("v=19$", ""),
            ("m=32", "m=x"),
            ("m=32", "k=32"),
            ("t=2", "t=0"),
            ("$UbwNcvhR/pppSRNYTpRcuOs8cr2s6f69+GyF1Cbq50Q", ""),
            ("UbwN", "\u{fc}"),
        ] {
            check_fault(&ARGON2ID.replace(from, to), "a malformed argon2id hash");
        }
        let memory = "a hash beyond 256 MiB (m=262144)";
        check_fault(&ARGON2ID.replace("m=32", "m=262145"), memory);
        let work = "a hash beyond what a login may take (m\u{b7}t \u{2264} 4194304, p \u{2264} 16)";
        check_fault(&ARGON2ID.replace("m=32,t=2", "m=262144,t=17"), work);
        check_fault(&ARGON2ID.replace("m=32,t=2,p=1", "m=256,t=2,p=17"), work);
        assert!(Hash::parse(&ARGON2ID.replace("m=32,t=2", "m=262144,t=16")).is_ok());

        check_fault(&BCRYPT[..59], "a malformed bcrypt hash");
        check_fault(&BCRYPT.replace("$04$", "$03$"), "a malformed bcrypt hash");
        check_fault(&BCRYPT.replace("$04$", "$+4$"), "a malformed bcrypt hash");
        check_fault(
            &BCRYPT.replace("$04$", "$16$"),
            "a hash beyond bcrypt's cost 15",
        );
        assert!(Hash::parse(&BCRYPT.replace("$04$", "$15$")).is_ok());
    }

    #[test]
    fn weakness() {
        let weakness = |text: &str| Hash::parse(text).unwrap().weakness();
        assert_eq!(weakness(BCRYPT), Some("bcrypt with a cost below 10"));
        assert_eq!(weakness(&BCRYPT.replace("$04$", "$10$")), None);
        assert_eq!(weakness(ARGON2ID), Some("argon2id with less than 7 MiB"));
    }
}
