//! What a key is: its name, kind of value, default, flag and explanation, written once.
//!
//! The [`settings!`] macro turns one list of rows into the structure the server reads and the
//! [`Key`] table that everything else is made from: reading, hints for a misspelt key, the
//! command line's flags, `docs/configuration.md` and the JSON Schema. This module holds no key
//! itself (they are in `keys.rs` and `limits.rs`) and reads no file.

use std::time::Duration;

use super::node::Node;
use super::problem::Problem;
use super::value::{self, Value};

/// One configuration key: everything there is to say about it.
#[derive(Debug)]
pub struct Key {
    /// The word in the file, such as `head_bytes`.
    pub name: &'static str,
    /// The explanation: one sentence, then reasons, in Markdown.
    pub doc: &'static str,
    /// What happens when the key isn't written.
    pub absent: Absent,
    /// The command-line flag that sets it.
    pub flag: Flag,
    pub(crate) kind: Kind,
}

/// What a key that isn't written stands for.
#[derive(Debug, Clone, Copy)]
pub enum Absent {
    /// The same as writing this value.
    Is(&'static str),
    /// No value: what then holds, in words.
    Means(&'static str),
    /// The key has to be written.
    Required,
}

/// Whether a key has a command-line flag of its own, without the leading dashes.
#[derive(Debug, Clone, Copy)]
pub enum Flag {
    /// A flag that `--help` lists.
    Shown(&'static str),
    /// A flag for tests and measurements, left out of `--help`.
    Hidden(&'static str),
    /// None: only a file can set it.
    None,
}

/// The kinds of value, with their ranges.
#[derive(Debug)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Integer { min: u64, max: u64 },
    /// An amount of memory: `"16KiB"`, or a whole number of bytes.
    Size { min: u64, max: u64 },
    /// A time: `"30s"`, `"500ms"`.
    Duration { min: Duration, max: Duration },
    /// One of a few words, each with its explanation.
    Choice(&'static [(&'static str, &'static str)]),
    /// Any text without control characters, at least this many characters long.
    Text {
        min_length: usize,
        example: &'static str,
    },
    /// The shape of a log line: a word, or a text with variables.
    Format,
    /// Text that has commas of its own, so that a flag gives one at a time.
    Line { example: &'static str },
    /// An address to listen on: `"127.0.0.1:8080"`, `"[::1]:8080"`, `":8080"`.
    Address,
    /// Any text, over several lines where need be.
    Prose { example: &'static str },
    /// One value or an array of them.
    List { of: &'static Kind, min_count: usize },
}

impl Kind {
    /// Whether text that stands for a list of these is one for each part between commas.
    pub(crate) fn splits_at_commas(&self) -> bool {
        !matches!(self, Kind::Line { .. })
    }
}

/// How often a table is written, and how its header looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Once: `[limits]`.
    Once,
    /// Once for each name of the user's choice: `[listen.NAME]`.
    Named,
    /// As often as one likes, and the order counts: `[[route]]`.
    Listed,
}

/// A table of the file.
#[derive(Debug)]
pub struct Table {
    /// The word in the header; empty for the top level.
    pub name: &'static str,
    /// How often it is written.
    pub shape: Shape,
    /// What the table is for, in Markdown.
    pub doc: &'static str,
    pub(super) groups: &'static [&'static [Key]],
}

impl Table {
    /// The keys in the order of the reference.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }

    /// The header as one writes it: `[listen.NAME]`; empty for the top level.
    pub fn header(&self) -> String {
        match (self.name, self.shape) {
            ("", _) => String::new(),
            (name, Shape::Named) => format!("[{name}.NAME]"),
            (name, Shape::Listed) => format!("[[{name}]]"),
            (name, Shape::Once) => format!("[{name}]"),
        }
    }
}

impl Key {
    /// Whether `text`, as written after the key's flag, is a value of this key; if not, why, and
    /// what would be.
    ///
    /// # Errors
    /// One line that states the fault and an example or the range.
    pub fn validate(&self, text: &str) -> Result<(), String> {
        let node = Node::from_flag("", text);
        let mut problems = Vec::new();
        value::read(&self.kind, &node, &mut problems);
        match problems.into_iter().next() {
            None => Ok(()),
            Some(Problem {
                message,
                hint: Some(hint),
                ..
            }) => Err(format!("{message}: {hint}")),
            Some(Problem { message, .. }) => Err(message),
        }
    }

    /// The flag with its dashes, if the key has one.
    pub fn flag_name(&self) -> Option<String> {
        match self.flag {
            Flag::Shown(name) | Flag::Hidden(name) => Some(format!("--{name}")),
            Flag::None => None,
        }
    }

    /// The words a value may be, when there are only a few, with what each means.
    pub fn choices(&self) -> &'static [(&'static str, &'static str)] {
        match &self.kind {
            Kind::Choice(choices) => choices,
            _ => &[],
        }
    }

    /// Whether the value is `true` or `false`.
    pub fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Switch)
    }

    /// Whether the value is a list, so that its flag may be repeated.
    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List { .. })
    }

    /// Whether a flag may give several values between commas.
    pub fn splits_at_commas(&self) -> bool {
        match &self.kind {
            Kind::List { of, .. } => of.splits_at_commas(),
            _ => false,
        }
    }

    /// What stands for the value in a help text: `BYTES`, `TIME`, `N`.
    pub fn placeholder(&self) -> &'static str {
        match &self.kind {
            Kind::List {
                of: Kind::Address, ..
            } => "ADDR",
            Kind::Switch => "true|false",
            Kind::Integer { .. } => "N",
            Kind::Size { .. } => "SIZE",
            Kind::Duration { .. } => "TIME",
            Kind::Choice(_) => "WORD",
            Kind::Text { .. } | Kind::Line { .. } | Kind::Prose { .. } => "TEXT",
            Kind::Format => "FORMAT",
            Kind::Address => "ADDR",
            Kind::List { .. } => "TEXT",
        }
    }

    /// The first sentence of the explanation, on one line.
    pub fn summary(&self) -> String {
        let doc = self.doc.trim();
        let first = doc.split("\n\n").next().unwrap_or(doc);
        first.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    }
}

/// A value that a field of a settings structure can hold.
///
/// The kind of the row has already been checked, so a mismatch is a mistake in the table, which
/// a test that reads every default finds.
pub(crate) trait FromValue: Sized {
    fn from_value(value: Value) -> Self;

    /// The value of a key that isn't written and stands for nothing.
    fn absent() -> Self {
        unreachable!("a key without a default is read into an Option or a list")
    }
}

/// Declares a settings structure and its table of keys from one list of rows:
/// `name: type = kind, absent, flag;`.
macro_rules! settings {
    (
        $(#[doc = $struct_doc:literal])*
        $(#[derive($($derive:ident),*)])?
        pub $(($scope:ident))? struct $name:ident $(named $named:ident)? {
            $(
                $(#[doc = $doc:literal])*
                $field:ident : $type:ty = $kind:expr, $absent:expr, $flag:expr;
            )*
        }
    ) => {
        $(#[doc = $struct_doc])*
        #[derive(Debug, Clone, PartialEq, Eq $($(, $derive)*)?)]
        #[non_exhaustive]
        pub $(($scope))? struct $name {
            $( /// The NAME of its table.
            pub $named: String, )?
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl $name {
            pub(crate) const KEYS: &'static [$crate::config::key::Key] = {
                #[allow(unused_imports)]
                use $crate::config::key::{Absent::*, Flag::*, Kind::*, Key};
                &[
                    $( Key {
                        name: stringify!($field),
                        doc: concat!($($doc, "\n"),*),
                        absent: $absent,
                        flag: $flag,
                        kind: $kind,
                    }, )*
                ]
            };

            /// Writes every key with what holds.
            pub(crate) fn write(&self, table: &mut $crate::config::write::TableWriter<'_>) {
                $( table.key(stringify!($field), &self.$field); )*
            }

            /// Reads the structure from a section of the file; problems go to the section.
            pub(crate) fn read(section: &mut $crate::config::read::Section<'_>) -> Self {
                $name {
                    $( $named: section.name().to_owned(), )?
                    $( $field: section.take(stringify!($field)), )*
                }
            }
        }
    };
}
pub(crate) use settings;

/// Gives a settings structure whose keys all have defaults a `Default` that reads them.
macro_rules! default_from_keys {
    ($name:ident in $table:expr) => {
        impl Default for $name {
            /// What holds when nothing is written.
            fn default() -> $name {
                $crate::config::read::defaults($table, $name::read)
            }
        }
    };
}
pub(crate) use default_from_keys;

/// Declares an enum whose variants are the words of a [`Kind::Choice`].
macro_rules! choices {
    (
        $(#[doc = $enum_doc:literal])*
        pub enum $name:ident { $( $(#[doc = $doc:literal])* $variant:ident = $word:literal, )* }
    ) => {
        $(#[doc = $enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $doc])* $variant, )* }

        impl $name {
            /// The words of the configuration and what each means.
            pub const WORDS: &'static [(&'static str, &'static str)] =
                &[ $( ($word, concat!($($doc, "\n"),*)), )* ];

            /// The word that stands for this in the configuration.
            pub fn word(self) -> &'static str {
                match self { $( $name::$variant => $word, )* }
            }
        }

        impl $crate::config::write::ToValue for $name {
            fn to_value(&self) -> Option<$crate::config::value::Value> {
                Some($crate::config::value::Value::Text(self.word().to_owned()))
            }
        }

        impl $crate::config::key::FromValue for $name {
            fn from_value(value: $crate::config::value::Value) -> Self {
                let text = value.into_text();
                match text.as_str() {
                    $( $word => $name::$variant, )*
                    _ => unreachable!("the kind lets only known words through"),
                }
            }
        }
    };
}
pub(crate) use choices;
