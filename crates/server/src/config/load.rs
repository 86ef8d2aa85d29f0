//! Where a configuration comes from: a file, flags, or text in a test.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::node::{self, Item, Node};
use super::problem::{Problem, Problems};
use super::{Config, TransferMethod, check};

/// The largest configuration file. A thousand listeners are a tenth of it; a larger one is a
/// mistake, such as a log or a device.
const FILE_BYTES: u64 = 1 << 20;

/// What a configuration is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.toml`
    Toml,
    /// `.json`: the same tables as objects.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, Clone)]
pub enum ConfigError {
    /// The file couldn't be read at all: one line that names it and says what to do.
    Unreadable(String),
    /// It was read, and these are its problems.
    Invalid(Problems),
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable(line) => out.write_str(line),
            ConfigError::Invalid(problems) => problems.fmt(out),
        }
    }
}

/// Values given on the command line, by the key they are shorthand for. They go before what the
/// file says.
#[derive(Debug, Clone)]
pub struct Flags {
    values: Vec<(String, Node)>,
    panic_path: Option<String>,
    transfer: TransferMethod,
}

impl Default for Flags {
    fn default() -> Flags {
        Flags::new()
    }
}

impl Flags {
    /// No flags.
    pub fn new() -> Flags {
        Flags {
            values: Vec::new(),
            panic_path: None,
            transfer: TransferMethod::Auto,
        }
    }

    /// Sets the key at `path`, such as `limits.head_bytes` or `files.site.root`, to `text`.
    /// `flag` is what a message calls it: `--head-bytes`, or nothing when the text speaks for
    /// itself.
    #[must_use]
    pub fn set(mut self, path: &str, flag: &str, text: &str) -> Flags {
        self.values
            .push((path.to_owned(), Node::from_flag(flag, text)));
        self
    }

    /// As [`Flags::set`], for a key that takes a list: each text is one value of it. An empty text
    /// is none, so that a list can be emptied.
    #[must_use]
    pub fn set_list(mut self, path: &str, flag: &str, texts: &[String]) -> Flags {
        let nodes: Vec<Node> = texts
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| Node::from_flag(flag, text))
            .collect();
        let place = Node::from_flag(flag, "").place;
        self.values.push((
            path.to_owned(),
            Node {
                place,
                item: Item::Array(nodes),
            },
        ));
        self
    }

    /// Makes a request for `path` panic in its worker; nothing in a build without fault
    /// injection.
    #[must_use]
    pub fn panic_path(mut self, path: Option<String>) -> Flags {
        self.panic_path = path;
        self
    }

    /// Makes files that are sent from disk go this way, where that can be: to compare the ways.
    #[must_use]
    pub fn transfer(mut self, method: TransferMethod) -> Flags {
        self.transfer = method;
        self
    }

    fn apply(&self, tree: &mut Node) {
        for (path, node) in &self.values {
            let path: Vec<&str> = path.split('.').collect();
            tree.set(&path, node.clone());
        }
    }
}

impl Config {
    /// The configuration in `file`, with `flags` before it. The extension says the format:
    /// `.toml` or `.json`. Relative paths in the file start at its directory.
    ///
    /// # Errors
    /// The file can't be read, or has problems: all of them.
    pub fn load(file: &Path, flags: &Flags) -> Result<Config, ConfigError> {
        let name = file.display().to_string();
        let format = match file.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Format::Toml,
            Some("json") => Format::Json,
            _ => {
                return Err(ConfigError::Unreadable(format!(
                    "{name}: the name has to end in .toml or .json, which says the format"
                )));
            }
        };
        let text = read_file(file)
            .map_err(|reason| ConfigError::Unreadable(format!("{name}: {reason}")))?;
        let base = file.parent().unwrap_or(Path::new(""));
        Config::parse(&name, &text, format, base, flags).map_err(ConfigError::Invalid)
    }

    /// The configuration that `flags` alone make.
    ///
    /// # Errors
    /// The flags contradict each other, or name what doesn't exist.
    pub fn from_flags(flags: &Flags) -> Result<Config, Problems> {
        Config::parse("flags", "", Format::Toml, Path::new(""), flags)
    }

    /// The configuration in `text`, written in TOML. Relative paths start at the current
    /// directory.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn from_toml(text: &str) -> Result<Config, Problems> {
        Config::parse("text", text, Format::Toml, Path::new(""), &Flags::new())
    }

    /// The configuration in `text`, with `flags` before it. `name` is what messages call the
    /// text; relative paths in it start at `base`.
    ///
    /// # Errors
    /// All problems of text and flags.
    pub fn parse(
        name: &str,
        text: &str,
        format: Format,
        base: &Path,
        flags: &Flags,
    ) -> Result<Config, Problems> {
        // Not white space to either format, and nothing that anyone means to write.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut problems: Vec<Problem> = Vec::new();
        let mut tree = match format {
            Format::Toml => node::parse_toml(text, &mut problems),
            Format::Json => node::parse_json(text, &mut problems),
        };
        let syntax_count = problems.len();
        flags.apply(&mut tree);
        let mut config = check::check(&tree, base, problems)
            .map_err(|problems| Problems::new(name, text, syntax_count, problems))?;
        config.transfer.method = flags.transfer;
        #[cfg(any(debug_assertions, feature = "fault-injection"))]
        let config = Config {
            panic_path: flags.panic_path.clone(),
            ..config
        };
        Ok(config)
    }
}

/// The text of a configuration file, or why there is none.
fn read_file(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "this user isn't permitted to read it".to_owned(),
        _ => format!("can't be opened: {error}"),
    })?;
    let metadata = file
        .metadata()
        .map_err(|error| format!("can't be looked at: {error}"))?;
    if metadata.is_dir() {
        return Err("is a directory; name the configuration file in it".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err("is larger than 1 MiB, so it can't be a configuration file".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("isn't UTF-8 text: the first wrong byte is on line {line}, at offset {valid}")
    })
}
