//! Entity tags: what a client knows a version of a file by (RFC 9110 §8.8.3).
//!
//! They are strong, so no other bytes of a path may ever have the same one: a client would be told
//! that its old copy is good (304), or put a part of the new file behind a part of the old one (206).
//! Size and time of modification, which most servers make them of, don't keep that promise. Whatever
//! makes builds reproducible sets all times to the same one, and then two releases differ in a tag
//! only where they differ in size.
//!
//! So a tag of what is in memory is a hash of the bytes, made once when they are read: the same on
//! each server of a cluster, and after a deployment that changed nothing but times. Of a large file,
//! which nobody reads before it is sent, it is all that changes with any change of it: size and time
//! of modification, and inode and time of change, which no program can set. These are another
//! server's business, and so is the tag: there a download begins again instead of going on.

use ringway_http::negotiate::Coding;
use ringway_runtime::Metadata;
use twox_hash::XxHash3_64;

/// Of these bytes, with its quotes.
pub(super) fn of_bytes(bytes: &[u8], coding: Option<Coding>) -> String {
    // XXH3 (Collet): its results are fixed for good, and 256 KiB take a few microseconds. Nobody is
    // kept from making two files that agree: that harms nobody else than who may write both.
    let hash = XxHash3_64::oneshot(bytes);
    format!("\"{hash:x}-{:x}{}\"", bytes.len(), suffix(coding))
}

/// Of a file that isn't read, with its quotes.
pub(super) fn of_file(file: &Metadata, coding: Option<Coding>) -> String {
    let (seconds, part) = (file.modified_seconds, file.modified_nanoseconds);
    let (changed, changed_part) = file.changed;
    // As long for each version of a file, so that an answer is.
    format!(
        "\"{seconds:x}.{part:08x}-{:x}-{:08x}-{changed:x}.{changed_part:08x}{}\"",
        file.bytes,
        file.inode,
        suffix(coding)
    )
}

/// What a time of modification is told as, in seconds since 1970: none when it is the one that
/// package managers give to all files (0, or 1 in the store of Nix), which would never be another.
pub(super) fn last_modified(file: &Metadata) -> Option<u64> {
    let seconds = u64::try_from(file.modified_seconds).ok()?;
    (seconds > 1).then_some(seconds)
}

fn suffix(coding: Option<Coding>) -> &'static str {
    coding.map_or("", Coding::tag_suffix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_runtime::FileKind;

    const FILE: Metadata = Metadata {
        kind: FileKind::Regular,
        bytes: 1000,
        modified_seconds: 1,
        modified_nanoseconds: 0,
        changed: (1_700_000_000, 5),
        inode: 17,
        device: 3,
    };

    #[test]
    fn the_hash_is_the_one_that_is_written_down() {
        // XXH3_64bits of nothing, as its specification has it: a tag holds over versions.
        assert_eq!(of_bytes(b"", None), "\"2d06800538d394c2-0\"");
        assert_ne!(of_bytes(b"a", None), of_bytes(b"b", None));
        assert_ne!(of_bytes(b"a", None), of_bytes(b"a", Some(Coding::Gzip)));
    }

    #[test]
    fn whatever_changes_about_a_file_changes_its_tag() {
        let tag = of_file(&FILE, None);
        for other in [
            Metadata {
                bytes: 1001,
                ..FILE
            },
            Metadata {
                modified_seconds: 2,
                ..FILE
            },
            Metadata {
                modified_nanoseconds: 1,
                ..FILE
            },
            Metadata {
                changed: (1_700_000_001, 5),
                ..FILE
            },
            Metadata {
                changed: (1_700_000_000, 6),
                ..FILE
            },
            Metadata { inode: 18, ..FILE },
        ] {
            assert_ne!(of_file(&other, None), tag, "{other:?}");
        }
        assert_ne!(of_file(&FILE, Some(Coding::Gzip)), tag);
        assert_eq!(of_file(&FILE.clone(), None), tag);
    }

    #[track_caller]
    fn check_modified(modified_seconds: i64, expect: Option<u64>) {
        let file = Metadata {
            modified_seconds,
            ..FILE
        };
        assert_eq!(last_modified(&file), expect, "{modified_seconds}");
    }

    #[test]
    fn a_time_that_every_file_has_is_not_told() {
        check_modified(-5, None);
        check_modified(0, None);
        check_modified(1, None);
        check_modified(2, Some(2));
        check_modified(1_700_000_000, Some(1_700_000_000));
    }
}
