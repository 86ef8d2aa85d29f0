//! Keys and tables that don't exist: what whoever wrote them may have meant.
//!
//! Most are slips of the pen, for which the nearest one that exists is named. Some are what other
//! servers have: those are told what stands in its place, or that nothing does yet.

use super::key::Table;
use super::keys::TABLES;
use super::value;

/// Tables that other servers have around, or beside, their sites.
const FOR_ALL: [&str; 6] = ["server", "http", "global", "main", "defaults", "settings"];

/// What a TLS listener would be set up with, by the words of other servers.
const FOR_TLS: [&str; 14] = [
    "tls",
    "ssl",
    "https",
    "acme",
    "certificate",
    "certificates",
    "cert",
    "cert_file",
    "certificate_file",
    "key_file",
    "private_key",
    "ssl_certificate",
    "ssl_certificate_key",
    "tls_certificate",
];

/// What isn't there yet, and what to do meanwhile; nothing for other keys.
pub(crate) fn missing(table: &Table, written: &str) -> Option<(&'static str, &'static str)> {
    let has_tls_elsewhere = matches!(table.name, "" | "listen" | "upstream" | "admin");
    (has_tls_elsewhere && FOR_TLS.contains(&written)).then_some(TLS)
}

/// Message and hint for whoever asks for TLS.
pub(crate) const TLS: (&str, &str) = (
    "TLS isn't there yet",
    "listeners and upstreams are plain HTTP: put a TLS proxy before it, and leave this out",
);

/// What the user may have meant: a key of this table, a key of another, or else what there is.
pub(crate) fn hint(table: &'static Table, written: &str) -> String {
    if table.name.is_empty() && FOR_ALL.contains(&written) {
        return "there is no table for the whole: keys of the process (workers, io, ...) stand above \
                the first table, addresses in [listen.NAME], directories in [files.NAME], bounds in \
                [limits]"
            .to_owned();
    }
    if table.name == "listen" && matches!(written, "port" | "bind" | "host" | "listen") {
        return "an address has its port: address = \"127.0.0.1:8080\", or \":8080\"".to_owned();
    }
    let own: Vec<&str> = table.keys().map(|key| key.name).collect();
    let tables: Vec<&str> = match table.name {
        "" => TABLES
            .iter()
            .map(|table| table.name)
            .filter(|name| !name.is_empty())
            .collect(),
        _ => Vec::new(),
    };
    let here = own.iter().chain(&tables).copied();
    if let Some(name) = value::nearest(written, here.clone()) {
        return format!("did you mean {name:?}?");
    }
    let others: Vec<String> = TABLES
        .iter()
        .filter(|other| other.key(written).is_some())
        .map(|other| match other.name {
            "" => "above the first table".to_owned(),
            _ => format!("in {}", other.header()),
        })
        .collect();
    if !others.is_empty() {
        return format!("{written:?} belongs {}", others.join(" or "));
    }
    for other in TABLES {
        if let Some(name) = value::nearest(written, other.keys().map(|key| key.name)) {
            return match other.name {
                "" => format!("did you mean {name:?}, above the first table?"),
                _ => format!("did you mean {name:?}, in {}?", other.header()),
            };
        }
    }
    format!("known are {}", here.collect::<Vec<_>>().join(", "))
}
