//! Where a configuration comes from: a file, flags, or text in a test.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::include::{Reader, read_file, without_mark};
use super::node::{Item, Node};
use super::problem::Problems;
use super::{Config, TransferMethod, check};

/// What a configuration is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.toml`
    Toml,
    /// `.json`: the same tables as objects.
    Json,
}

impl Format {
    /// What the file's ending says.
    pub(super) fn of(file: &Path) -> Option<Format> {
        match file.extension()?.to_str()? {
            "toml" => Some(Format::Toml),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
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
    variables: Vec<(String, OsString)>,
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
            variables: Vec::new(),
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

    /// Sets a variable for `${NAME}` in strings; it goes before the environment's.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Flags {
        self.variables.push((name.to_owned(), value.into()));
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

    /// What a variable is set to.
    fn look_up(&self, name: &str) -> Option<OsString> {
        let mut own = self.variables.iter().rev();
        match own.find(|(known, _)| known == name) {
            Some((_, value)) => Some(value.clone()),
            None => std::env::var_os(name),
        }
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
        let format = Format::of(file).ok_or_else(|| {
            ConfigError::Unreadable(format!(
                "{name}: the name has to end in .toml or .json, which says the format"
            ))
        })?;
        let text = read_file(file)
            .map_err(|reason| ConfigError::Unreadable(format!("{name}: {reason}")))?;
        let base = file.parent().unwrap_or(Path::new(""));
        let lookup = |name: &str| flags.look_up(name);
        let mut reader = Reader::new(&lookup);
        reader.begin(file);
        let tree = reader.read(&name, without_mark(&text), format, base);
        Config::of_tree(tree, reader, flags).map_err(ConfigError::Invalid)
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
        let lookup = |name: &str| flags.look_up(name);
        let mut reader = Reader::new(&lookup);
        let tree = reader.read(name, without_mark(text), format, base);
        Config::of_tree(tree, reader, flags)
    }

    fn of_tree(mut tree: Node, reader: Reader<'_>, flags: &Flags) -> Result<Config, Problems> {
        let Reader {
            sources,
            syntax,
            problems,
            ..
        } = reader;
        let syntax_count = syntax.len();
        flags.apply(&mut tree);
        let known = [syntax, problems].concat();
        let mut config = match check::check(&tree, &sources, known) {
            Ok(config) => config,
            Err(problems) => return Err(Problems::new(sources, syntax_count, problems)),
        };
        config.transfer.method = flags.transfer;
        #[cfg(any(debug_assertions, feature = "fault-injection"))]
        let config = Config {
            panic_path: flags.panic_path.clone(),
            ..config
        };
        Ok(config)
    }
}
