//! The servers that people would use otherwise: finding them, asking their version, and setting each up
//! as its own users would for speed.
//!
//! All get one worker, the same files or the same server behind them, connections kept alive on both
//! sides, and no log. What each is told is in `configurations`; what is measured in `contest`.

mod configurations;
pub mod contest;

use crate::contestant::Contestant;
use crate::setting::{Setting, Trouble};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a server is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Serve the folder.
    Files,
    /// Pass on to a server on this port of loopback.
    Proxy {
        /// The port.
        upstream: u16,
    },
}

/// A server of others.
#[derive(Debug)]
pub struct Peer {
    /// Its name, which is that of its program.
    pub name: &'static str,
    /// What makes it tell its version.
    version: &'static [&'static str],
    /// The versions that the configuration is known to suit, for people.
    pub known: &'static str,
    /// Those versions begin with one of these.
    known_prefixes: &'static [&'static str],
    /// Whether it serves files; all of them pass on.
    pub serves_files: bool,
    /// Its configuration's file name.
    file: &'static str,
    configure: fn(&Place<'_>) -> String,
    /// Its arguments, with `{file}` and `{folder}` for its configuration's.
    arguments: &'static [&'static str],
}

/// What a configuration is written for.
#[derive(Debug)]
struct Place<'a> {
    front: Front,
    /// The folder that is served.
    site: &'a Path,
    /// A folder of its own for whatever it writes.
    folder: &'a Path,
    port: u16,
    /// Connections that it has to hold at once.
    connections: usize,
    is_root: bool,
}

/// All that are known, in the order of the report.
pub const PEERS: [Peer; 6] = [
    Peer {
        name: "nginx",
        version: &["-v"],
        known: "1.18 to 1.31",
        known_prefixes: &["1.18", "1.2", "1.30", "1.31"],
        serves_files: true,
        file: "nginx.conf",
        configure: configurations::nginx,
        arguments: &["-p", "{folder}", "-e", "stderr", "-c", "{file}"],
    },
    Peer {
        name: "haproxy",
        version: &["-v"],
        known: "2.2 to 3.4",
        known_prefixes: &["2.", "3.0", "3.1", "3.2", "3.3", "3.4"],
        serves_files: false,
        file: "haproxy.cfg",
        configure: configurations::haproxy,
        arguments: &["-db", "-f", "{file}"],
    },
    Peer {
        name: "caddy",
        version: &["version"],
        known: "2.4 to 2.11",
        known_prefixes: &["2."],
        serves_files: true,
        file: "Caddyfile",
        configure: configurations::caddy,
        arguments: &["run", "--config", "{file}", "--adapter", "caddyfile"],
    },
    Peer {
        name: "h2o",
        version: &["-v"],
        known: "2.2 and 2.3",
        known_prefixes: &["2.2", "2.3"],
        serves_files: true,
        file: "h2o.yaml",
        configure: configurations::h2o,
        arguments: &["-c", "{file}"],
    },
    Peer {
        name: "lighttpd",
        version: &["-v"],
        known: "1.4",
        known_prefixes: &["1.4."],
        serves_files: true,
        file: "lighttpd.conf",
        configure: configurations::lighttpd,
        arguments: &["-D", "-f", "{file}"],
    },
    Peer {
        name: "envoy",
        version: &["--version"],
        known: "1.22 to 1.40",
        known_prefixes: &["1.2", "1.3", "1.40"],
        serves_files: false,
        file: "envoy.yaml",
        configure: configurations::envoy,
        arguments: &[
            "-c",
            "{file}",
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "critical",
        ],
    },
];

/// What is known of an installed peer's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// One that the configuration suits.
    Known(String),
    /// Another; it is measured all the same, if it starts.
    Other(String),
    /// It doesn't say.
    Unknown,
}

impl Version {
    /// For people.
    pub fn words(&self) -> &str {
        match self {
            Version::Known(version) | Version::Other(version) => version,
            Version::Unknown => "of an unknown version",
        }
    }
}

impl Peer {
    /// Where its program is: from `PATH`, and where servers are installed. `None` when it isn't.
    pub fn find(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path);
        let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        let programs = folders.chain(more).map(|folder| folder.join(self.name));
        programs.into_iter().find(|path| path.is_file())
    }

    /// Asks it for its version.
    pub fn version(&self, program: &Path) -> Version {
        let mut command = Command::new(program);
        let output = command.args(self.version).stdin(Stdio::null()).output();
        let said = output.map(|output| [output.stdout, output.stderr].concat());
        let said = said.unwrap_or_default();
        self.version_in(&String::from_utf8_lossy(&said))
    }

    fn version_in(&self, said: &str) -> Version {
        match first_version(said) {
            None => Version::Unknown,
            Some(version) => match self
                .known_prefixes
                .iter()
                .any(|one| version.starts_with(one))
            {
                true => Version::Known(version.to_owned()),
                false => Version::Other(version.to_owned()),
            },
        }
    }

    /// As a contestant, with its configuration written; `None` when it isn't installed or doesn't do
    /// what is asked.
    ///
    /// # Errors
    /// When its configuration can't be written.
    pub fn contestant(
        &self,
        setting: &Setting,
        front: Front,
        path: &str,
        connections: usize,
    ) -> Result<Option<Contestant>, Trouble> {
        let Some(program) = self.find() else {
            return Ok(None);
        };
        if front == Front::Files && !self.serves_files {
            return Ok(None);
        }
        let port = setting.free_port()?;
        let folder = setting.scratch(&format!("{}-{port}", self.name));
        fs::create_dir_all(&folder)?;
        let place = Place {
            front,
            site: &setting.site(),
            folder: &folder,
            port,
            connections,
            is_root: rustix::process::geteuid().is_root(),
        };
        let file = folder.join(self.file);
        fs::write(&file, (self.configure)(&place))?;
        let mut one = Contestant::new(self.name, &program, port, path);
        one.version = Some(self.version(&program).words().to_owned());
        let arguments = self.arguments.iter().map(|word| match *word {
            "{file}" => file.clone().into_os_string(),
            "{folder}" => folder.clone().into_os_string(),
            word => OsString::from(word),
        });
        Ok(Some(one.with(arguments)))
    }
}

/// The first number with a dot in it, to its end: `nginx/1.22.1 (Debian)` has 1.22.1.
fn first_version(text: &str) -> Option<&str> {
    let is_part = |letter: char| letter.is_ascii_digit() || letter == '.';
    let words = text.split(|letter| !is_part(letter));
    let numbers = words.map(|word| word.trim_matches('.'));
    numbers.into_iter().find(|word| word.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> &'static Peer {
        const ALL: &[Peer] = &PEERS;
        ALL.iter().find(|peer| peer.name == name).unwrap()
    }

    fn check(name: &str, said: &str, expect: &Version) {
        assert_eq!(&peer(name).version_in(said), expect, "{said}");
    }

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        let known = |version: &str| Version::Known(version.to_owned());
        check("nginx", "nginx version: nginx/1.22.1\n", &known("1.22.1"));
        let text = "HAProxy version 2.6.12-1+deb12u2 2025/04/16 - https://haproxy.org/\n";
        check("haproxy", text, &known("2.6.12"));
        check(
            "caddy",
            "v2.8.4 h1:q3pe0wpBj1OcHFZ3n/1nl4V4bxBrYoSoab7rL9BMYNk=\n",
            &known("2.8.4"),
        );
        check(
            "h2o",
            "h2o version 2.2.5\nOpenSSL: OpenSSL 3.0.8\n",
            &known("2.2.5"),
        );
        check(
            "lighttpd",
            "lighttpd/1.4.69 (ssl) - a light and fast webserver\n",
            &known("1.4.69"),
        );
        let text =
            "\nenvoy  version: 86dc7ef91ca15fb4957a74bd599397413fc26a24/1.32.3/Clean/RELEASE\n";
        check("envoy", text, &known("1.32.3"));
    }

    #[test]
    fn a_version_that_is_new_or_missing_is_told() {
        check("nginx", "nginx/9.0.1", &Version::Other("9.0.1".to_owned()));
        check("nginx", "a fork without one.", &Version::Unknown);
        check("nginx", "", &Version::Unknown);
        assert_eq!(Version::Unknown.words(), "of an unknown version");
    }

    fn configuration(name: &str, front: Front) -> String {
        let place = Place {
            front,
            site: Path::new("/site"),
            folder: Path::new("/folder"),
            port: 8001,
            connections: 64,
            is_root: true,
        };
        (peer(name).configure)(&place)
    }

    #[test]
    fn every_configuration_names_its_port_and_what_it_serves() {
        for peer in PEERS {
            let text = configuration(peer.name, Front::Proxy { upstream: 9002 });
            assert!(
                text.contains("8001") && text.contains("9002"),
                "{}: {text}",
                peer.name
            );
            if peer.serves_files {
                let text = configuration(peer.name, Front::Files);
                assert!(
                    text.contains("8001") && text.contains("/site"),
                    "{}: {text}",
                    peer.name
                );
            }
        }
    }
}
