//! What a file system keeps its files on, which decides what may be done on a worker's thread.
//!
//! On a disk of this machine a worker can tell what is in memory and leave the rest to others. A
//! file system that asks a network or a program (NFS, SMB, FUSE, 9p) may take its time for anything,
//! be it opening what was open a moment ago, looking at it, or closing it, and no flag of any call
//! forbids it to. There is no list of those that could be complete, so the list here is of the
//! others.

use rustix::fs::fstatfs;
use std::io;
use std::os::fd::AsFd;

/// Where the files of a file system are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// In memory and nowhere else. (What is swapped out is waited for, as all memory is.)
    Memory,
    /// On a disk of this machine.
    Disk,
    /// Behind a network or a program, or of a kind that isn't known.
    Distant,
}

/// tmpfs and ramfs, by the magic number of `statfs(2)`.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// Those that this kernel serves by itself, from its own disks or from what it knows.
const LOCAL: [u32; 23] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x794c_7630, // overlayfs, whose layers are taken to be local as well
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0x3153_464a, // JFS
    0x5265_4973, // ReiserFS
    0x3434,      // NILFS2
    0x4d44,      // FAT
    0x2011_bab0, // exFAT
    0x7366_746e, // NTFS3
    0x482b,      // HFS+
    0x9660,      // ISO 9660
    0x1501_3346, // UDF
    0x7371_7368, // SquashFS
    0xe0f5_e1e2, // EROFS
    0x28cd_3d45, // cramfs
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6367_7270, // cgroup 2
    0x6462_6720, // debugfs
];

impl Medium {
    /// Of the file system that an open file is on. This asks it, and so may wait.
    ///
    /// # Errors
    /// As `fstatfs(2)`.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Medium> {
        Ok(Medium::from_magic(fstatfs(file)?.f_type as u32))
    }

    fn from_magic(magic: u32) -> Medium {
        match magic {
            magic if IN_MEMORY.contains(&magic) => Medium::Memory,
            magic if LOCAL.contains(&magic) => Medium::Disk,
            _ => Medium::Distant,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_programs_may_wait_and_so_may_what_is_unknown() {
        let cases = [
            (0x6573_5546, Medium::Distant), // FUSE
            (0x6969, Medium::Distant),      // NFS
            (0xff53_4d42, Medium::Distant), // SMB, the kernel's client
            (0xfe53_4d42, Medium::Distant), // SMB 2
            (0x0102_1997, Medium::Distant), // 9p
            (0x00c3_6400, Medium::Distant), // Ceph
            (0x1234_5678, Medium::Distant),
            (0x0102_1994, Medium::Memory),
            (0xef53, Medium::Disk),
        ];
        for (magic, expect) in cases {
            assert_eq!(Medium::from_magic(magic), expect, "{magic:x}");
        }
    }

    #[test]
    fn proc_answers_by_itself() {
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        assert_eq!(Medium::of(&file).unwrap(), Medium::Disk);
    }
}
