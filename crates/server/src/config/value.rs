//! Values: from what was written to what was meant, with an example in every refusal.
//!
//! Durations (`"30s"`), sizes (`"16MiB"`) and addresses are strings in the file; a flag's value
//! takes the type of its key. Ranges belong to the key ([`Kind`]).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::key::{FromValue, Kind};
use super::node::{Item, Node};
use super::problem::{Problem, quote};
use super::unknown;

/// A value that its kind has let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Switch(bool),
    /// A number or a size in bytes.
    Integer(u64),
    Duration(Duration),
    Text(String),
    Address(Address),
    List(Vec<Value>),
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// What to bind. Port 0 asks the kernel for a free one.
    pub socket: SocketAddr,
    /// Written as `":8080"`: every address of the machine. `socket` is then `[::]:8080`; on a
    /// kernel without IPv6, bind `0.0.0.0` in its place.
    pub every_family: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.every_family {
            true => write!(out, ":{}", self.socket.port()),
            false => write!(out, "{}", self.socket),
        }
    }
}

/// Reads `node` as a value of `kind`; what is wrong with it goes to `problems`.
pub(crate) fn read(kind: &Kind, node: &Node, problems: &mut Vec<Problem>) -> Option<Value> {
    if let Kind::List { of, min_count } = kind {
        return read_list(of, *min_count, node, problems);
    }
    match read_one(kind, &node.item) {
        Ok(value) => Some(value),
        // What it was has been reported, and anything more would be an echo.
        Err(Refusal::Type) if matches!(node.item, Item::Unknown) => None,
        Err(Refusal::Type) => {
            let message = format!("expected {}, found {}", kind.noun(), node.noun());
            let problem = Problem::new(node.place.clone(), message);
            problems.push(problem.hint(type_hint(kind, &node.item)));
            None
        }
        Err(Refusal::Text(message, hint)) => {
            problems.push(Problem::new(node.place.clone(), message).hint(hint));
            None
        }
    }
}

/// Why a value was refused.
enum Refusal {
    /// The wrong type altogether.
    Type,
    /// A message and a hint.
    Text(String, String),
}

fn refuse<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Text(message.into(), hint.into()))
}

fn read_list(
    of: &Kind,
    min_count: usize,
    node: &Node,
    problems: &mut Vec<Problem>,
) -> Option<Value> {
    let from_flag;
    let elements = match &node.item {
        Item::Bare(text) if of.splits_at_commas() => {
            let place = node.place.clone();
            from_flag = text
                .split(',')
                .filter(|_| !text.is_empty())
                .map(|part| Node {
                    place: place.clone(),
                    item: Item::Bare(part.to_owned()),
                })
                .collect::<Vec<_>>();
            &from_flag
        }
        _ => node.elements(),
    };
    if elements.len() < min_count {
        let problem = Problem::new(node.place.clone(), "the list is empty");
        problems.push(problem.hint(format!("at least {min_count}, such as {}", of.example())));
        return None;
    }
    let values: Vec<Value> = elements
        .iter()
        .filter_map(|element| read(of, element, problems))
        .collect();
    (values.len() == elements.len()).then_some(Value::List(values))
}

fn read_one(kind: &Kind, item: &Item) -> Result<Value, Refusal> {
    match (kind, item) {
        (Kind::Switch, Item::Switch(switch)) => Ok(Value::Switch(*switch)),
        (Kind::Switch, Item::Bare(text)) => match text.as_str() {
            "true" => Ok(Value::Switch(true)),
            "false" => Ok(Value::Switch(false)),
            _ => refuse(
                format!("{} is neither true nor false", quote(text)),
                "write true or false",
            ),
        },
        (Kind::Integer { min, max }, Item::Integer(number)) => in_range(*number, *min, *max),
        (Kind::Integer { min, max }, Item::Bare(text)) => match text.parse() {
            Ok(number) => in_range(number, *min, *max),
            Err(_) => refuse(
                format!("{} isn't a whole number", quote(text)),
                range_hint(*min, *max),
            ),
        },
        (Kind::Size { min, max }, Item::Integer(number)) => {
            size_in_range(u64::try_from(*number).ok(), &number.to_string(), *min, *max)
        }
        (Kind::Size { min, max }, Item::Text(text) | Item::Bare(text)) => {
            size_in_range(Some(parse_size(text)?), text, *min, *max)
        }
        (Kind::Duration { min, max }, Item::Text(text) | Item::Bare(text)) => {
            duration_in_range(parse_duration(text)?, text, *min, *max)
        }
        (Kind::Choice(choices), Item::Text(text) | Item::Bare(text)) => choose(choices, text),
        (
            Kind::Text {
                min_length,
                example,
            },
            Item::Text(text) | Item::Bare(text),
        ) => read_text(text, *min_length, example),
        (Kind::Line { example }, Item::Text(text) | Item::Bare(text)) => {
            read_text(text, 1, example)
        }
        (Kind::Prose { .. }, Item::Text(text) | Item::Bare(text)) => Ok(Value::Text(text.clone())),
        (Kind::Format, Item::Text(text) | Item::Bare(text)) => {
            // Its variables are looked at where their place in the file is known.
            let is_odd = |character: char| character.is_control() && character != '\t';
            match text.chars().any(is_odd) {
                true => refuse(
                    "a log line has no control characters but tabs",
                    "leave it out",
                ),
                false => Ok(Value::Text(text.clone())),
            }
        }
        (Kind::Address, Item::Text(text) | Item::Bare(text)) => {
            parse_address(text).map(Value::Address)
        }
        _ => Err(Refusal::Type),
    }
}

fn read_text(text: &str, min_length: usize, example: &str) -> Result<Value, Refusal> {
    if text.chars().any(char::is_control) {
        return refuse("control characters aren't allowed here", such_as(example));
    }
    match text.chars().count() < min_length {
        true => refuse("an empty string isn't allowed here", such_as(example)),
        false => Ok(Value::Text(text.to_owned())),
    }
}

fn such_as(example: &str) -> String {
    format!("such as {example:?}")
}

fn in_range(number: i64, min: u64, max: u64) -> Result<Value, Refusal> {
    match u64::try_from(number) {
        Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
        _ => refuse(format!("{number} is out of range"), range_hint(min, max)),
    }
}

fn range_hint(min: u64, max: u64) -> String {
    format!("a whole number from {min} to {max}")
}

fn size_in_range(bytes: Option<u64>, text: &str, min: u64, max: u64) -> Result<Value, Refusal> {
    match bytes {
        Some(bytes) if (min..=max).contains(&bytes) => Ok(Value::Integer(bytes)),
        _ => refuse(
            format!("{} is out of range", quote(text)),
            format!("from {} to {}", show_size(min), show_size(max)),
        ),
    }
}

fn duration_in_range(
    time: Duration,
    text: &str,
    min: Duration,
    max: Duration,
) -> Result<Value, Refusal> {
    match (min..=max).contains(&time) {
        true => Ok(Value::Duration(time)),
        false => refuse(
            format!("{} is out of range", quote(text)),
            format!("from {} to {}", show_duration(min), show_duration(max)),
        ),
    }
}

fn choose(choices: &[(&str, &str)], text: &str) -> Result<Value, Refusal> {
    if choices.iter().any(|(word, _)| *word == text) {
        return Ok(Value::Text(text.to_owned()));
    }
    let words = choices.iter().map(|(word, _)| *word);
    match nearest(text, words.clone()) {
        Some(word) => refuse(
            format!("unknown word {}", quote(text)),
            format!("did you mean {word:?}?"),
        ),
        None => {
            let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
            refuse(
                format!("unknown word {}", quote(text)),
                format!("one of {}", words.join(", ")),
            )
        }
    }
}

/// The one of `candidates` that `written` is most likely a slip of.
pub(crate) fn nearest<'a>(
    written: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_lowercase().replace('-', "_");
    let candidates = candidates.collect::<Vec<_>>();
    if let Some(word) = candidates
        .iter()
        .find(|word| word.len() > 3 && written.contains(*word))
    {
        return Some(word);
    }
    candidates
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&written, word), word))
        // A third of the letters wrong is another word, not a slip.
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The number at the start of `text`, and the unit after it.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

fn parse_size(text: &str) -> Result<u64, Refusal> {
    let Some((number, unit)) = split_unit(text) else {
        return refuse(
            format!("{} isn't a size", quote(text)),
            "such as \"512B\", \"16KiB\", \"64MiB\"",
        );
    };
    if unit.is_empty() {
        return Ok(number);
    }
    match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        // An overflow is out of every range.
        Some((_, factor)) => Ok(number.saturating_mul(*factor)),
        None => {
            let meant = match unit.as_bytes()[0].to_ascii_lowercase() {
                b'k' => "KiB",
                b'm' => "MiB",
                b'g' => "GiB",
                _ => {
                    return refuse(
                        format!("unknown unit {}", quote(unit)),
                        "B, KiB, MiB or GiB",
                    );
                }
            };
            let hint = format!("\"{number}{meant}\" (units are powers of 1024)");
            refuse(format!("unknown unit {}", quote(unit)), hint)
        }
    }
}

/// Units of time in milliseconds.
const TIME_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A duration as the configuration writes it: `"500ms"`, `"30s"`.
///
/// # Errors
/// What is wrong with it, and an example of a right one.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|refusal| in_words(refusal, "not a duration"))
}

/// A number of bytes as the configuration writes it: `"512"`, `"16KiB"`.
///
/// # Errors
/// What is wrong with it, and an example of a right one.
pub fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|refusal| in_words(refusal, "not a size"))
}

fn in_words(refusal: Refusal, otherwise: &str) -> String {
    match refusal {
        Refusal::Text(message, hint) => format!("{message}: {hint}"),
        Refusal::Type => otherwise.to_owned(),
    }
}

fn parse_duration(text: &str) -> Result<Duration, Refusal> {
    let Some((number, unit)) = split_unit(text) else {
        return refuse(
            format!("{} isn't a duration", quote(text)),
            "such as \"500ms\", \"30s\", \"5m\"",
        );
    };
    match TIME_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => Ok(Duration::from_millis(number.saturating_mul(*factor))),
        None if unit.is_empty() => refuse(
            format!("{} has no unit", quote(text)),
            format!("such as \"{number}s\""),
        ),
        None => refuse(
            format!("unknown unit {}", quote(unit)),
            "ms, s, m, h or d, such as \"30s\"",
        ),
    }
}

fn parse_address(text: &str) -> Result<Address, Refusal> {
    const EXAMPLES: &str = "such as \"127.0.0.1:8080\", \"[::1]:8080\", or \":8080\" for every \
                            address of the machine";
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok(Address {
            socket,
            every_family: false,
        });
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let socket = SocketAddr::new(ip, 8080);
        return refuse(
            format!("{} has no port", quote(text)),
            format!("such as \"{socket}\""),
        );
    }
    if text.starts_with("unix:") {
        return refuse(
            format!(
                "{} is a Unix socket, and listeners are TCP only",
                quote(text)
            ),
            EXAMPLES,
        );
    }
    match text.split_once("://") {
        Some(("https", _)) => return refuse(unknown::TLS.0, unknown::TLS.1),
        Some(_) => {
            return refuse(
                format!("{} is a URL, not an address", quote(text)),
                EXAMPLES,
            );
        }
        None => {}
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return match text.parse::<u16>() {
            Ok(port) => refuse(
                format!("{} is a port, not an address", quote(text)),
                format!("\"127.0.0.1:{port}\", or \":{port}\" for every address of the machine"),
            ),
            Err(_) => refuse(format!("{} isn't an address", quote(text)), EXAMPLES),
        };
    };
    let Ok(port) = port.parse::<u16>() else {
        return refuse(
            format!("{} isn't a port", quote(port)),
            "a port is a number from 0 to 65535",
        );
    };
    match host {
        "" | "*" => Ok(Address {
            socket: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
            every_family: true,
        }),
        "localhost" => Ok(Address {
            socket: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            every_family: false,
        }),
        _ => refuse(format!("{} isn't an IP address", quote(host)), EXAMPLES),
    }
}

/// `bytes` in the largest unit that divides it, as the configuration writes it.
pub(crate) fn show_size(bytes: u64) -> String {
    let unit = SIZE_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| bytes.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) if bytes > 0 => format!("{}{name}", bytes / factor),
        _ => format!("{bytes}B"),
    }
}

/// `time` in the largest unit that divides it, as the configuration writes it.
pub(crate) fn show_duration(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let unit = TIME_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| millis.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) if millis > 0 => format!("{}{name}", millis / factor),
        _ => "0s".to_owned(),
    }
}

impl Kind {
    /// What a message calls a value of this kind.
    pub(crate) fn noun(&self) -> String {
        match self {
            Kind::Switch => "true or false".to_owned(),
            Kind::Integer { .. } => "a whole number".to_owned(),
            Kind::Size { .. } => "a size".to_owned(),
            Kind::Duration { .. } => "a duration".to_owned(),
            Kind::Choice(_)
            | Kind::Text { .. }
            | Kind::Line { .. }
            | Kind::Prose { .. }
            | Kind::Format => "a string".to_owned(),
            Kind::Address => "an address".to_owned(),
            Kind::List { of, .. } => format!("{} or an array of them", of.noun()),
        }
    }

    /// A right value, as the file writes it.
    pub(crate) fn example(&self) -> String {
        match self {
            Kind::Switch => "true".to_owned(),
            Kind::Integer { min, .. } => (*min).max(1).to_string(),
            Kind::Size { .. } => "\"16KiB\"".to_owned(),
            Kind::Duration { .. } => "\"30s\"".to_owned(),
            Kind::Choice(choices) => format!("{:?}", choices[0].0),
            Kind::Text { example, .. } | Kind::Line { example } | Kind::Prose { example } => {
                format!("{example:?}")
            }
            Kind::Format => "\"json\"".to_owned(),
            Kind::Address => "\"127.0.0.1:8080\"".to_owned(),
            Kind::List { of, .. } => format!("[{}]", of.example()),
        }
    }
}

/// What to write in place of a value of the wrong type, from the value itself where it can be.
fn type_hint(kind: &Kind, item: &Item) -> String {
    match (kind, item) {
        (Kind::Duration { .. }, Item::Integer(number)) if *number > 0 => {
            format!("with its unit: \"{number}s\"")
        }
        (Kind::Address, Item::Integer(port)) if (0..=65535).contains(port) => {
            format!("such as \"127.0.0.1:{port}\"")
        }
        (Kind::Switch, Item::Text(text)) if text == "true" || text == "false" => {
            format!("without quotes: {text}")
        }
        (Kind::Integer { .. }, Item::Text(text)) if text.parse::<u64>().is_ok() => {
            format!("without quotes: {text}")
        }
        _ => format!("such as {}", kind.example()),
    }
}

impl Value {
    pub(crate) fn into_text(self) -> String {
        match self {
            Value::Text(text) => text,
            other => mismatch(&other),
        }
    }
}

/// The table of keys gives a field another kind than its type.
fn mismatch(value: &Value) -> ! {
    unreachable!("a field's type and its key's kind disagree: {value:?}")
}

impl FromValue for bool {
    fn from_value(value: Value) -> bool {
        match value {
            Value::Switch(switch) => switch,
            other => mismatch(&other),
        }
    }
}

impl FromValue for Duration {
    fn from_value(value: Value) -> Duration {
        match value {
            Value::Duration(time) => time,
            other => mismatch(&other),
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> String {
        value.into_text()
    }
}

impl FromValue for PathBuf {
    fn from_value(value: Value) -> PathBuf {
        value.into_text().into()
    }
}

impl FromValue for Address {
    fn from_value(value: Value) -> Address {
        match value {
            Value::Address(address) => address,
            other => mismatch(&other),
        }
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: Value) -> Vec<T> {
        match value {
            Value::List(values) => values.into_iter().map(T::from_value).collect(),
            other => mismatch(&other),
        }
    }

    fn absent() -> Vec<T> {
        Vec::new()
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Option<T> {
        Some(T::from_value(value))
    }

    fn absent() -> Option<T> {
        None
    }
}

macro_rules! from_integer {
    ($($type:ty),*) => { $(
        impl FromValue for $type {
            fn from_value(value: Value) -> $type {
                match value {
                    Value::Integer(number) => <$type>::try_from(number)
                        .expect("the key's range fits its field: a test reads both ends"),
                    other => mismatch(&other),
                }
            }
        }
    )* };
}
from_integer!(u16, u32, u64, usize);
