//! Keys and tables that there are, and those that there aren't.

use super::*;

/// Every default and both ends of every range are values that the field can hold.
#[test]
fn the_tables_agree_with_their_fields() {
    let mut tables = 0;
    for table in super::tables() {
        tables += 1;
        for key in table.keys() {
            if let Absent::Is(text) = key.absent {
                assert_eq!(key.validate(text), Ok(()), "the default of {}", key.name);
            }
            assert!(key.summary().len() > 10, "{} isn't explained", key.name);
        }
    }
    assert_eq!(tables, 9);
    for end in [|min: u64, _max: u64| min, |_min: u64, max: u64| max] {
        let mut text = String::new();
        for table in super::tables() {
            text += &table.header().replace("NAME", "name");
            text += "\n";
            for key in table.keys().filter(|key| !is_another_choice(table, key)) {
                text += &extreme(key, end);
            }
        }
        parse(&text);
    }
}

/// Whether the key excludes another of its table, which is written, or needs other files, CPUs or
/// devices than there are everywhere.
fn is_another_choice(table: &Table, key: &Key) -> bool {
    match table.name {
        "" => ["include", "nic", "worker_cpus"].contains(&key.name),
        "listen" => key.name == "proxy",
        "admin" => key.name == "allow_remote",
        "route" => ["files", "redirect", "status", "body", "service"].contains(&key.name),
        _ => false,
    }
}

/// A line that gives `key` one end of its range, within what other keys leave it.
fn extreme(key: &Key, end: fn(u64, u64) -> u64) -> String {
    let value = match key.kind {
        Kind::Size { min, .. } if key.name == "target_bytes" => min.to_string(),
        Kind::Size { .. } if key.name == "cache_file_bytes" => "0".to_owned(),
        Kind::Size { min, max } | Kind::Integer { min, max } => end(min, max).to_string(),
        Kind::Duration { min, max } => {
            let millis = end(min.as_millis() as u64, max.as_millis() as u64);
            format!("\"{millis}ms\"")
        }
        Kind::Choice(choices) => format!("{:?}", choices.last().unwrap().0),
        Kind::Switch if ["ipv6_only", "clean_urls", "spa"].contains(&key.name) => {
            "false".to_owned()
        }
        Kind::Switch => "true".to_owned(),
        Kind::Address => panic!("only lists of addresses"),
        Kind::Prose { .. } => panic!("goes with a status"),
        Kind::Text { .. } | Kind::Line { .. } | Kind::Format | Kind::List { .. } => {
            match key.name {
                "listen" | "proxy" => "\"name\"".to_owned(),
                "root" => "\"/usr\"".to_owned(),
                "users" => format!("\"alice:{HASH}\""),
                "users_file" => format!("{USERS_FILE:?}"),
                "files" => "\"name\"".to_owned(),
                "access" => "\"-\"".to_owned(),
                // The example's directory is made by who starts it.
                "address" if matches!(key.kind, Kind::Text { .. }) => "\"unix:/a.sock\"".to_owned(),
                _ => key.kind.example(),
            }
        }
    };
    format!("{} = {value}\n", key.name)
}

#[test]
fn unknown_key() {
    check_added(
        "[limits]\nhead_byts = 1\n",
        expect![[r#"
        site.toml:4:1: unknown key "head_byts" in [limits]
          4 | head_byts = 1
            | ^^^^^^^^^
            = did you mean "head_bytes"?
    "#]],
    );
    check_added(
        "[limits]\nhead-bytes = 1\n",
        expect![[r#"
        site.toml:4:1: unknown key "head-bytes" in [limits]
          4 | head-bytes = 1
            | ^^^^^^^^^^
            = did you mean "head_bytes"?
    "#]],
    );
}

#[test]
fn unknown_key_at_the_top() {
    check(
        "wrkers = 1\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:1: unknown key "wrkers"
          1 | wrkers = 1
            | ^^^^^^
            = did you mean "workers"?
    "#]],
    );
}

#[test]
fn key_of_another_table() {
    check_added(
        "idle_timeout = \"1s\"\n",
        expect![[r#"
            site.toml:3:1: unknown key "idle_timeout" in [files.NAME]
              3 | idle_timeout = "1s"
                | ^^^^^^^^^^^^
                = "idle_timeout" belongs in [upstream.NAME] or in [limits]
        "#]],
    );
    check_added(
        "workers = 1\n",
        expect![[r#"
        site.toml:3:1: unknown key "workers" in [files.NAME]
          3 | workers = 1
            | ^^^^^^^
            = "workers" belongs above the first table
    "#]],
    );
    check_added(
        "[log]\nhead_byte = 1\n",
        expect![[r#"
        site.toml:4:1: unknown key "head_byte" in [log]
          4 | head_byte = 1
            | ^^^^^^^^^
            = did you mean "head_bytes", in [limits]?
    "#]],
    );
}

#[test]
fn unknown_key_like_no_other() {
    check_added(
        "[log]\nzzz = 1\n",
        expect![[r#"
        site.toml:4:1: unknown key "zzz" in [log]
          4 | zzz = 1
            | ^^^
            = known are access, access_format, format
    "#]],
    );
}

#[test]
fn unknown_table() {
    check_added(
        "[listn.main]\naddress = \":80\"\n",
        expect![[r#"
        site.toml:3:2: unknown table "listn"
          3 | [listn.main]
            |  ^^^^^
            = did you mean "listen"?
    "#]],
    );
}

/// Whoever asks for TLS was told of a key that is unknown, or of one that looks alike.
#[test]
fn tls_is_not_there_yet() {
    let hint =
        "listeners and upstreams are plain HTTP: put a TLS proxy before it, and leave this out";
    for (written, at) in [
        ("[tls]\ncert = \"a.pem\"\n", "3:2"),
        ("[listen.main]\naddress = \":80\"\ntls = true\n", "5:1"),
        (
            "[listen.main]\naddress = \":80\"\n[listen.main.tls]\ncert = \"a.pem\"\n",
            "5:14",
        ),
        (
            "[listen.main]\naddress = \":80\"\nssl_certificate = \"a.pem\"\n",
            "5:1",
        ),
        ("[listen.main]\naddress = \"https://0.0.0.0:443\"\n", "4:11"),
    ] {
        let text = format!("[files.site]\nroot = \"/\"\n{written}");
        let error = report("site.toml", &text, Format::Toml, &Flags::new());
        let expected = format!("site.toml:{at}: TLS isn't there yet\n");
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.ends_with(&format!("= {hint}\n")), "{error}");
    }
}

#[test]
fn what_other_servers_have() {
    check_added(
        "[server]\nworkers = 1\n",
        expect![[r#"
        site.toml:3:2: unknown table "server"
          3 | [server]
            |  ^^^^^^
            = there is no table for the whole: keys of the process (workers, io, ...) stand above the first table, addresses in [listen.NAME], directories in [files.NAME], bounds in [limits]
    "#]],
    );
    check_added(
        "[listen.main]\nport = 8080\n",
        expect![[r#"
        site.toml:3:9: [listen.main] needs "address"
          3 | [listen.main]
            |         ^^^^
            = such as address = ["127.0.0.1:8080"]
        site.toml:4:1: unknown key "port" in [listen.NAME]
          4 | port = 8080
            | ^^^^
            = an address has its port: address = "127.0.0.1:8080", or ":8080"
    "#]],
    );
    check_added(
        "[listen.main]\naddress = \"http://127.0.0.1:80\"\n",
        expect![[r#"
            site.toml:4:11: "http://127.0.0.1:80" is a URL, not an address
              4 | address = "http://127.0.0.1:80"
                |           ^^^^^^^^^^^^^^^^^^^^^
                = such as "127.0.0.1:8080", "[::1]:8080", or ":8080" for every address of the machine
        "#]],
    );
}

#[test]
fn a_table_without_a_name() {
    check_added(
        "[listen]\naddress = \":80\"\n",
        expect![[r#"
        site.toml:4:1: "address" stands where a table with a name is expected
          4 | address = ":80"
            | ^^^^^^^
            = give the table a name of your choice: [listen.main]
    "#]],
    );
}

#[test]
fn a_name_that_is_none() {
    check_added(
        "[listen.\"a b\"]\naddress = \":80\"\n",
        expect![[r#"
        site.toml:3:9: "a b" isn't a name
          3 | [listen."a b"]
            |         ^^^^^
            = letters, digits, `-` and `_`, at most 64
    "#]],
    );
}

#[test]
fn a_table_that_is_a_value() {
    check(
        "listen = \":80\"\nlimits = 3\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:10: expected the table [listen.NAME], found a string
          1 | listen = ":80"
            |          ^^^^^
        site.toml:2:10: expected the table [limits], found a whole number
          2 | limits = 3
            |          ^
    "#]],
    );
    check_added(
        "[[limits]]\n",
        expect![[r#"
        site.toml:3:1: expected the table [limits], found an array
          3 | [[limits]]
            | ^^^^^^^^^^
    "#]],
    );
}
