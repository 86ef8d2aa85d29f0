//! The directory that is served: files whose every byte is known, no two alike.

use crate::random::Random;
use ringway_server::config::Config;
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

/// Files up to this size are kept in memory, larger ones are sent from the page cache.
pub(crate) const CACHED_BYTES: usize = 8 << 10;
/// When every file was changed last, as `Last-Modified` has it, and as seconds since 1970.
pub(crate) const MODIFIED: (&str, u64) = ("Tue, 14 Nov 2023 22:13:20 GMT", 1_700_000_000);
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
pub(crate) const HEAD_DEADLINE: Duration = Duration::from_secs(10);
pub(crate) const BODY_STALL_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const HEAD_BYTES: usize = 1 << 10;
pub(crate) const TARGET_BYTES: usize = 256;
pub(crate) const BODY_BYTES: usize = 32 << 10;

/// A file of the site, and the target it is asked for by.
pub(crate) struct Page {
    pub(crate) target: String,
    pub(crate) bytes: Vec<u8>,
}

/// A fresh directory with all files. Fresh for every run, and with times that are set: the server
/// looks at a file's age, and writes its time of modification into the response.
pub(crate) struct Site {
    directory: tempfile::TempDir,
    pub(crate) pages: Vec<Page>,
}

impl Site {
    pub(crate) fn new() -> Site {
        let mut site = Site {
            directory: tempfile::tempdir().unwrap(),
            pages: Vec::new(),
        };
        for (number, size) in [0, 1, 300, 1_024, 5_000, CACHED_BYTES]
            .into_iter()
            .enumerate()
        {
            site.add(
                &format!("/small-{number}.txt"),
                &format!("small-{number}.txt"),
                size,
            );
        }
        for (number, size) in [CACHED_BYTES + 1, 20_000, 70_000].into_iter().enumerate() {
            site.add(
                &format!("/large-{number}.bin"),
                &format!("large-{number}.bin"),
                size,
            );
        }
        site.add("/", "index.html", 700);
        site.add("/folder/", "folder/index.html", 900);
        site.add("/a%20b.css?query", "a b.css", 200);
        site.add("/folder/../folder/./%64eep.txt", "folder/deep.txt", 450);
        fs::create_dir(site.directory.path().join("bare")).unwrap();
        fs::write(
            site.directory.path().join(".secret"),
            "nobody is to see this",
        )
        .unwrap();
        site
    }

    fn add(&mut self, target: &str, name: &str, size: usize) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = Random::new(self.pages.len() as u64 + 1).bytes(size);
        fs::write(&path, &bytes).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED.1);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        self.pages.push(Page {
            target: target.to_owned(),
            bytes,
        });
    }

    pub(crate) fn page(&self, target: &str) -> &Page {
        self.pages
            .iter()
            .find(|page| page.target == target)
            .unwrap()
    }

    /// What a worker that serves this directory is told. `files` and `limits` are further lines of
    /// the tables `[files.site]` and `[limits]`.
    pub(crate) fn config(&self, files: &str, limits: &str) -> Config {
        let text = format!(
            "[listen.main]\naddress = \"127.0.0.1:80\"\n\
             [files.site]\nroot = \"{}\"\n{files}\n\
             [limits]\ncache_file_bytes = {CACHED_BYTES}\nhead_bytes = {HEAD_BYTES}\n\
             target_bytes = {TARGET_BYTES}\nbody_bytes = {BODY_BYTES}\n{limits}\n",
            self.directory.path().display()
        );
        Config::from_toml(&text).unwrap()
    }
}
