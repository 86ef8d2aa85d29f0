//! `[upstream.NAME]`: what a right one means, and what is said about a wrong one.

use std::net::IpAddr;
use std::time::Duration;

use expect_test::{Expect, expect};

use super::super::*;
use super::parse;

/// The upstream with these lines in its table.
fn upstream(lines: &str) -> Upstream {
    let config = parse(&format!("[upstream.app]\n{lines}\n"));
    config.upstreams.into_iter().next().unwrap()
}

/// The report on an upstream with these lines, whose first is the second of the file.
fn check(lines: &str, expected: Expect) {
    super::check(&format!("[upstream.app]\n{lines}\n"), expected);
}

fn check_server(server: &str, expected: Expect) {
    check(&format!("servers = {server:?}"), expected);
}

#[test]
fn smallest() {
    let config = parse("[upstream.app]\nservers = \"10.0.0.1:8080\"\n");
    assert_eq!(config.listeners[0].catch_all, Some(Action::Proxy(0)));
    assert!(config.roots.is_empty() && config.routes.is_empty());
    let [app] = &config.upstreams[..] else {
        panic!("one upstream")
    };
    assert_eq!(app.name, "app");
    let address = "10.0.0.1:8080".parse().unwrap();
    assert_eq!(app.servers[0].address, ServerAddress::Socket(address));
    assert_eq!(app.servers[0].weight, 1);
    assert!(!app.servers[0].backup && !app.servers[0].drain);
    assert_eq!(app.balance, Balance::PowerOfTwo);
    assert_eq!(app.pool.max_connections, None);
    assert_eq!(app.pool.idle_timeout, Duration::from_secs(30));
    assert_eq!(app.timeouts.connect_timeout, Duration::from_secs(5));
    assert_eq!(app.timeouts.total_timeout, None);
    assert_eq!((app.retries.retries, app.retries.retry_budget), (2, 20));
    assert_eq!(app.passive.failures, 5);
    assert_eq!(app.health, None);
    assert_eq!(app.forward.host, HostPolicy::Client);
    assert_eq!(app.forward.forwarded, Forwarded::X);
    assert!(app.splice && app.socket.nodelay);
    assert_eq!(app.pool, PoolOptions::default());
}

#[test]
fn servers_of_every_kind() {
    let app = upstream(
        r#"servers = [
            "10.0.0.1:8080 weight=3",
            "[fd00::1]:81 backup slow_start=30s",
            "App.Internal:8080 drain",
            "http://10.0.0.2",
            "http://[::1]:82/",
            "unix:/run/app.sock",
            "unix:app.sock",
            "srv:_http._tcp.app.internal",
        ]"#,
    );
    let shown: Vec<String> = app.servers.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "10.0.0.1:8080 weight=3",
            "[fd00::1]:81 backup slow_start=30s",
            "app.internal:8080 drain",
            "10.0.0.2:80",
            "[::1]:82",
            "unix:/run/app.sock",
            "unix:/app.sock",
            "srv:_http._tcp.app.internal",
        ]
    );
    assert_eq!(app.servers[0].weight, 3);
    assert!(app.servers[1].backup);
    assert_eq!(app.servers[1].slow_start, Duration::from_secs(30));
    assert!(app.servers[2].drain);
    let name = ServerAddress::Name("app.internal".to_owned(), 8080);
    assert_eq!(app.servers[2].address, name);
    let service = ServerAddress::Service("_http._tcp.app.internal".to_owned());
    assert_eq!(app.servers[7].address, service);
}

#[test]
fn everything_else() {
    let app = upstream(
        r#"
        servers = "a:1"
        balance = "hash"
        hash_by = "cookie session"
        hash_load = 150
        sticky_cookie = "srv"
        max_connections = 32
        queue = 10
        queue_timeout = "1s"
        total_timeout = "2m"
        health = "http /healthz?full=1"
        health_interval = "1s"
        health_status = ["200", "201-204", "3xx"]
        host = "app.internal:8443"
        forwarded = "both"
        trusted = ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]
        via = "edge-1"
        splice = false
        keepalive = true
        keepalive_idle = "30s"
        "#,
    );
    let by = HashBy::Cookie("session".to_owned());
    assert_eq!(
        app.balance,
        Balance::Hash {
            by,
            load_percent: 150
        }
    );
    assert_eq!(app.sticky_cookie.as_deref(), Some("srv"));
    assert_eq!(app.pool.max_connections, Some(32));
    assert!(app.pool.has_queue());
    assert_eq!(app.timeouts.total_timeout, Some(Duration::from_secs(120)));
    let health = app.health.unwrap();
    assert_eq!(health.probe, Probe::Http("/healthz?full=1".to_owned()));
    // The default of two seconds gives way to what is written.
    assert_eq!(health.timeout, Duration::from_secs(1));
    let is_well = |status| health.status.iter().any(|range| range.contains(status));
    assert!([200, 201, 204, 300, 399].into_iter().all(is_well));
    assert!(![199, 205, 299, 400, 503].into_iter().any(is_well));
    assert_eq!(
        app.forward.host,
        HostPolicy::Text("app.internal:8443".to_owned())
    );
    assert_eq!(app.forward.via.as_deref(), Some("edge-1"));
    assert!(!app.splice && app.socket.keepalive);
}

#[test]
fn ranges_of_addresses() {
    let trusted = |range: &str| {
        let app = upstream(&format!("servers = \"a:1\"\ntrusted = {range:?}"));
        app.forward.trusted[0]
    };
    let has =
        |range: &str, address: &str| trusted(range).contains(address.parse::<IpAddr>().unwrap());
    assert!(has("10.0.0.0/8", "10.255.255.255") && !has("10.0.0.0/8", "11.0.0.0"));
    assert!(has("10.0.0.0/8", "::ffff:10.1.2.3") && !has("10.0.0.0/8", "::10.1.2.3"));
    assert!(has("0.0.0.0/0", "255.1.2.3") && !has("0.0.0.0/0", "::1"));
    assert!(has("::/0", "2001:db8::1") && !has("::/0", "1.2.3.4"));
    assert!(has("fd00::/8", "fdff::1") && !has("fd00::/8", "fe00::"));
    assert!(has("192.0.2.7", "192.0.2.7") && !has("192.0.2.7", "192.0.2.6"));
    assert!(has("192.0.2.6/31", "192.0.2.7") && !has("192.0.2.6/31", "192.0.2.8"));
}

#[test]
fn a_server_that_is_none() {
    check_server(
        "https://10.0.0.1:443",
        expect![[r#"
        site.toml:2:11: https upstreams aren't supported yet
          2 | servers = "https://10.0.0.1:443"
            |           ^^^^^^^^^^^^^^^^^^^^^^
            = put http:// there, or a TLS proxy in between
    "#]],
    );
    check_server(
        "ftp://a:1",
        expect![[r#"
        site.toml:2:11: unknown scheme "ftp"
          2 | servers = "ftp://a:1"
            |           ^^^^^^^^^^^
            = such as "10.0.0.1:8080", "app.internal:8080 weight=3" or "unix:/run/app.sock"
    "#]],
    );
    check_server(
        "10.0.0.1",
        expect![[r#"
        site.toml:2:11: "10.0.0.1" has no port
          2 | servers = "10.0.0.1"
            |           ^^^^^^^^^^
            = such as "10.0.0.1:8080"
    "#]],
    );
    check_server(
        "app.internal",
        expect![[r#"
        site.toml:2:11: "app.internal" has no port
          2 | servers = "app.internal"
            |           ^^^^^^^^^^^^^^
            = such as "app.internal:8080"
    "#]],
    );
    check_server(
        "fd00::1",
        expect![[r#"
        site.toml:2:11: "fd00::1" needs brackets and a port
          2 | servers = "fd00::1"
            |           ^^^^^^^^^
            = such as "[fd00::1]:8080"
    "#]],
    );
    check_server(
        "[fd00::1]",
        expect![[r#"
        site.toml:2:11: "[fd00::1]" has no port
          2 | servers = "[fd00::1]"
            |           ^^^^^^^^^^^
            = such as "[fd00::1]:8080"
    "#]],
    );
    check_server(
        "[fd00::g]:1",
        expect![[r#"
        site.toml:2:11: "[fd00::g]" is neither a name nor an address
          2 | servers = "[fd00::g]:1"
            |           ^^^^^^^^^^^^^
            = such as "10.0.0.1:8080", "app.internal:8080 weight=3" or "unix:/run/app.sock"
    "#]],
    );
    check_server(
        "10.0.0.256:80",
        expect![[r#"
        site.toml:2:11: "10.0.0.256" is neither a name nor an address
          2 | servers = "10.0.0.256:80"
            |           ^^^^^^^^^^^^^^^
            = such as "10.0.0.1:8080", "app.internal:8080 weight=3" or "unix:/run/app.sock"
    "#]],
    );
    check_server(
        "a b:80",
        expect![[r#"
        site.toml:2:11: "a" has no port
          2 | servers = "a b:80"
            |           ^^^^^^^^
            = such as "a:8080"
    "#]],
    );
}

#[test]
fn an_address_with_something_wrong() {
    check_server(
        "app:0",
        expect![[r#"
        site.toml:2:11: "0" isn't a port
          2 | servers = "app:0"
            |           ^^^^^^^
            = a port is a number from 1 to 65535
    "#]],
    );
    check_server(
        "app:65536",
        expect![[r#"
        site.toml:2:11: "65536" isn't a port
          2 | servers = "app:65536"
            |           ^^^^^^^^^^^
            = a port is a number from 1 to 65535
    "#]],
    );
    check_server(
        "app:http",
        expect![[r#"
        site.toml:2:11: "http" isn't a port
          2 | servers = "app:http"
            |           ^^^^^^^^^^
            = a port is a number from 1 to 65535
    "#]],
    );
    check_server(
        "http://a:1/api",
        expect![[r#"
        site.toml:2:11: "http://a:1/api" is more than a host and a port
          2 | servers = "http://a:1/api"
            |           ^^^^^^^^^^^^^^^^
            = a server has no path: `rewrite` in a [[route]] changes paths
    "#]],
    );
    // Whoever gets the report needn't learn it.
    check_server(
        "http://user:hunter2@a:1",
        expect![[r#"
        site.toml:2:11: credentials before "a:1"
          2 | servers = "http://************@a:1"
            |           ^^^^^^^^^^^^^^^^^^^^^^^^^
            = leave them out: `request_headers` in a [[route]] can set Authorization
    "#]],
    );
    check_server(
        "http://user:hunter2@a:1,b:2",
        expect![[r#"
        site.toml:2:11: "http://************@a:1,b:2" is more than one server
          2 | servers = "http://************@a:1,b:2"
            |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = an element of the list for each; on the command line, --to for each
    "#]],
    );
    check_server(
        "user@a:1",
        expect![[r#"
        site.toml:2:11: credentials before "a:1"
          2 | servers = "user@a:1"
            |           ^^^^^^^^^^
            = leave them out: `request_headers` in a [[route]] can set Authorization
    "#]],
    );
    check_server(
        "http://a:1/@b",
        expect![[r#"
        site.toml:2:11: "http://****@b" is more than a host and a port
          2 | servers = "http://****@b"
            |           ^^^^^^^^^^^^^^^
            = a server has no path: `rewrite` in a [[route]] changes paths
    "#]],
    );
    check_server(
        "3000",
        expect![[r#"
        site.toml:2:11: "3000" is a port without a host
          2 | servers = "3000"
            |           ^^^^^^
            = such as "localhost:3000"
    "#]],
    );
    check_server(
        "a:1,b:2",
        expect![[r#"
        site.toml:2:11: "a:1,b:2" is more than one server
          2 | servers = "a:1,b:2"
            |           ^^^^^^^^^
            = an element of the list for each; on the command line, --to for each
    "#]],
    );
    check_server(
        "unix:",
        expect![[r#"
        site.toml:2:11: unix: without a path
          2 | servers = "unix:"
            |           ^^^^^^^
            = such as "unix:/run/app.sock"
    "#]],
    );
    check_server(
        &format!("unix:/{}", "x".repeat(107)),
        expect![[r#"
        site.toml:2:11: the path of the socket has 108 bytes
          2 | servers = "unix:/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
            |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = the kernel takes at most 107
    "#]],
    );
    check_server(
        "srv:app.internal",
        expect![[r#"
        site.toml:2:11: "app.internal" isn't the name of a service
          2 | servers = "srv:app.internal"
            |           ^^^^^^^^^^^^^^^^^^
            = such as "srv:_http._tcp.app.internal"
    "#]],
    );
    check_server(
        "-a:80",
        expect![[r#"
        site.toml:2:11: "-a" is neither a name nor an address
          2 | servers = "-a:80"
            |           ^^^^^^^
            = such as "10.0.0.1:8080", "app.internal:8080 weight=3" or "unix:/run/app.sock"
    "#]],
    );
    check_server(
        "  ",
        expect![[r#"
        site.toml:2:11: a server without an address
          2 | servers = "  "
            |           ^^^^
            = such as "10.0.0.1:8080", "app.internal:8080 weight=3" or "unix:/run/app.sock"
    "#]],
    );
}

#[test]
fn a_word_that_is_none() {
    check_server(
        "a:1 wieght=3",
        expect![[r#"
        site.toml:2:11: unknown word "wieght"
          2 | servers = "a:1 wieght=3"
            |           ^^^^^^^^^^^^^^
            = did you mean "weight"?
    "#]],
    );
    check_server(
        "a:1 weight",
        expect![[r#"
        site.toml:2:11: weight needs a value
          2 | servers = "a:1 weight"
            |           ^^^^^^^^^^^^
            = such as weight=3
    "#]],
    );
    check_server(
        "a:1 weight=0",
        expect![[r#"
        site.toml:2:11: weight=0
          2 | servers = "a:1 weight=0"
            |           ^^^^^^^^^^^^^^
            = `drain` sends nothing new there
    "#]],
    );
    check_server(
        "a:1 weight=257",
        expect![[r#"
        site.toml:2:11: "257" is no weight
          2 | servers = "a:1 weight=257"
            |           ^^^^^^^^^^^^^^^^
            = a whole number from 1 to 256
    "#]],
    );
    check_server(
        "a:1 weight=1.5",
        expect![[r#"
        site.toml:2:11: "1.5" is no weight
          2 | servers = "a:1 weight=1.5"
            |           ^^^^^^^^^^^^^^^^
            = a whole number from 1 to 256
    "#]],
    );
    check_server(
        "a:1 backup=yes",
        expect![[r#"
        site.toml:2:11: backup takes no value
          2 | servers = "a:1 backup=yes"
            |           ^^^^^^^^^^^^^^^^
            = write backup alone
    "#]],
    );
    check_server(
        "a:1 backup backup",
        expect![[r#"
        site.toml:2:11: backup twice
          2 | servers = "a:1 backup backup"
            |           ^^^^^^^^^^^^^^^^^^^
            = once is enough
    "#]],
    );
    check_server(
        "a:1 slow_start=30",
        expect![[r#"
        site.toml:2:11: "30" has no unit: such as "30s"
          2 | servers = "a:1 slow_start=30"
            |           ^^^^^^^^^^^^^^^^^^^
            = such as slow_start=30s, up to 1h
    "#]],
    );
    check_server(
        "a:1 slow_start=2h",
        expect![[r#"
        site.toml:2:11: "2h" is out of range
          2 | servers = "a:1 slow_start=2h"
            |           ^^^^^^^^^^^^^^^^^^^
            = such as slow_start=30s, up to 1h
    "#]],
    );
    check_server(
        "a:1 max_conns=3",
        expect![[r#"
        site.toml:2:11: unknown word "max_conns"
          2 | servers = "a:1 max_conns=3"
            |           ^^^^^^^^^^^^^^^^^
            = weight=N, backup, slow_start=TIME or drain
    "#]],
    );
}

#[test]
fn servers_together() {
    check(
        "servers = [\"a:1\", \"http://A:1 weight=2\", \"b:1\"]",
        expect![[r#"
            site.toml:2:19: a:1 is there already
              2 | servers = ["a:1", "http://A:1 weight=2", "b:1"]
                |                   ^^^^^^^^^^^^^^^^^^^^^
                = a larger share is `weight=2`
        "#]],
    );
    check(
        "servers = [\"a:1 backup\", \"b:1 backup\"]",
        expect![[r#"
        site.toml:2:11: every server is a backup, of nothing
          2 | servers = ["a:1 backup", "b:1 backup"]
            |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = leave `backup` out
    "#]],
    );
    check(
        "servers = []",
        expect![[r#"
        site.toml:2:11: the list is empty
          2 | servers = []
            |           ^^
            = at least 1, such as "10.0.0.1:8080 weight=3"
    "#]],
    );
    check(
        "balance = \"p2c\"",
        expect![[r#"
        site.toml:1:11: [upstream.app] needs "servers"
          1 | [upstream.app]
            |           ^^^
            = such as servers = ["10.0.0.1:8080 weight=3"]
    "#]],
    );
    check(
        "servers = 8080",
        expect![[r#"
        site.toml:2:11: expected a string, found a whole number
          2 | servers = 8080
            |           ^^^^
            = such as "10.0.0.1:8080 weight=3"
    "#]],
    );
}

#[test]
fn a_server_that_is_the_listener() {
    check(
        "servers = [\"a:8080\", \"localhost:8080\"]",
        expect![[r#"
            site.toml:2:22: [listen.main] would pass requests on to itself
              2 | servers = ["a:8080", "localhost:8080"]
                |                      ^^^^^^^^^^^^^^^^
                = choose another address for the one or the other
        "#]],
    );
    for (address, server, is_loop) in [
        (":80", "127.0.0.1:80", true),
        ("0.0.0.0:80", "127.1.2.3:80", true),
        ("[::1]:80", "localhost:80", true),
        ("192.0.2.1:80", "192.0.2.1:80", true),
        ("127.0.0.1:80", "127.0.0.1:81", false),
        ("192.0.2.1:80", "127.0.0.1:80", false),
        (":80", "192.0.2.1:80", false),
        ("127.0.0.1:80", "app:80", false),
    ] {
        let text = format!(
            "[listen.a]\naddress = {address:?}\nproxy = \"app\"\n\
             [listen.b]\naddress = \"127.0.0.1:1\"\nproxy = \"other\"\n\
             [upstream.app]\nservers = {server:?}\n[upstream.other]\nservers = \"x:1\"\n"
        );
        assert_eq!(
            Config::from_toml(&text).is_err(),
            is_loop,
            "{address} {server}"
        );
    }
    // From one listener to another is a way, not a circle.
    parse(
        "[listen.a]\naddress = \":80\"\nproxy = \"b\"\n[listen.b]\naddress = \":81\"\n\
         proxy = \"c\"\n[upstream.b]\nservers = \"localhost:81\"\n[upstream.c]\nservers = \"c:1\"\n",
    );
}

#[test]
fn wrong_types_units_and_words() {
    check(
        "servers = \"a:1\"\nconnect_timeout = 5\nidle_timeout = \"30\"\nqueue = \"10\"\n\
         retries = 11\nbalance = \"p3c\"\nforwarded = \"all\"\nsplice = \"on\"\n\
         retry_budget = \"20%\"",
        expect![[r#"
            site.toml:3:19: expected a duration, found a whole number
              3 | connect_timeout = 5
                |                   ^
                = with its unit: "5s"
            site.toml:4:16: "30" has no unit
              4 | idle_timeout = "30"
                |                ^^^^
                = such as "30s"
            site.toml:5:9: expected a whole number, found a string
              5 | queue = "10"
                |         ^^^^
                = without quotes: 10
            site.toml:6:11: 11 is out of range
              6 | retries = 11
                |           ^^
                = a whole number from 0 to 10
            site.toml:7:11: unknown word "p3c"
              7 | balance = "p3c"
                |           ^^^^^
                = did you mean "p2c"?
            site.toml:8:13: unknown word "all"
              8 | forwarded = "all"
                |             ^^^^^
                = one of "off", "x", "rfc7239", "both"
            site.toml:9:10: expected true or false, found a string
              9 | splice = "on"
                |          ^^^^
                = such as true
            site.toml:10:16: expected a whole number, found a string
              10 | retry_budget = "20%"
                 |                ^^^^^
                 = such as 1
        "#]],
    );
}

#[test]
fn texts_that_mean_nothing() {
    check(
        "servers = \"a:1\"\nbalance = \"hash\"\nhash_by = \"ip\"\nsticky_cookie = \"a b\"\n\
         health = \"http healthz\"\nhealth_status = [\"2xx\", \"600\", \"300-200\", \"ok\"]\n\
         host = \"http://a\"\ntrusted = [\"10.0.0.1/8\", \"10.0.0.0/33\", \"localhost\"]\n\
         via = \"a b\"",
        expect![[r#"
            site.toml:4:11: "ip" is nothing to hash by
              4 | hash_by = "ip"
                |           ^^^^
                = "address", "path", "header NAME" or "cookie NAME"
            site.toml:5:17: "a b" isn't the name of a cookie
              5 | sticky_cookie = "a b"
                |                 ^^^^^
                = such as "ringway_server"
            site.toml:6:10: "healthz" isn't a path that can be asked for
              6 | health = "http healthz"
                |          ^^^^^^^^^^^^^^
                = such as "http /healthz"; other characters as %HH
            site.toml:7:25: "600" isn't a status
              7 | health_status = ["2xx", "600", "300-200", "ok"]
                |                         ^^^^^
                = such as "200", "200-204" or "2xx"
            site.toml:7:32: "300-200" isn't a status
              7 | health_status = ["2xx", "600", "300-200", "ok"]
                |                                ^^^^^^^^^
                = such as "200", "200-204" or "2xx"
            site.toml:7:43: "ok" isn't a status
              7 | health_status = ["2xx", "600", "300-200", "ok"]
                |                                           ^^^^
                = such as "200", "200-204" or "2xx"
            site.toml:8:8: "http://a" can't be the value of Host
              8 | host = "http://a"
                |        ^^^^^^^^^^
                = "client", "upstream", or a host such as "app.internal"
            site.toml:9:12: "10.0.0.1/8" has bits set behind its prefix
              9 | trusted = ["10.0.0.1/8", "10.0.0.0/33", "localhost"]
                |            ^^^^^^^^^^^^
                = did you mean "10.0.0.0/8"?
            site.toml:9:26: "10.0.0.0/33" isn't a range of addresses
              9 | trusted = ["10.0.0.1/8", "10.0.0.0/33", "localhost"]
                |                          ^^^^^^^^^^^^^
                = behind the slash stands a number from 0 to 32
            site.toml:9:41: "localhost" isn't a range of addresses
              9 | trusted = ["10.0.0.1/8", "10.0.0.0/33", "localhost"]
                |                                         ^^^^^^^^^^^
                = such as "10.0.0.0/8", "fd00::/8" or "192.0.2.7"
            site.toml:10:7: "a b" can't be a name in Via
              10 | via = "a b"
                 |       ^^^^^
                 = letters, digits, `.`, `-` and `_`, such as "edge-1"
        "#]],
    );
    check(
        "servers = \"a:1\"\nhealth = \"ping\"",
        expect![[r#"
        site.toml:3:10: "ping" isn't a check
          3 | health = "ping"
            |          ^^^^^^
            = "off", "tcp" or "http /healthz"
    "#]],
    );
    check(
        "servers = \"a:1\"\nbalance = \"hash\"\nhash_by = \"header a b\"",
        expect![[r#"
            site.toml:4:11: "a b" isn't the name of a header
              4 | hash_by = "header a b"
                |           ^^^^^^^^^^^^
                = "address", "path", "header NAME" or "cookie NAME"
        "#]],
    );
}

#[test]
fn keys_without_effect() {
    check(
        "servers = \"a:1\"\nhash_by = \"path\"\nqueue = 5\nhealth_interval = \"1s\"\n\
         forwarded = \"off\"\ntrusted = \"10.0.0.0/8\"\nkeepalive_count = 3",
        expect![[r#"
            site.toml:3:11: hash_by has no effect with this balance
              3 | hash_by = "path"
                |           ^^^^^^
                = add balance = "hash"
            site.toml:4:9: queue has no effect where max_connections isn't set: nothing waits
              4 | queue = 5
                |         ^
                = add max_connections
            site.toml:5:19: health_interval has no effect while health is off
              5 | health_interval = "1s"
                |                   ^^^^
                = add health = "http /healthz" or "tcp"
            site.toml:7:11: trusted has no effect where forwarded = "off" removes what it says
              7 | trusted = "10.0.0.0/8"
                |           ^^^^^^^^^^^^
                = leave it out
            site.toml:8:19: keepalive_count has no effect while keepalive is off
              8 | keepalive_count = 3
                |                   ^
                = add keepalive = true
        "#]],
    );
    check(
        "servers = \"a:1\"\nhealth = \"tcp\"\nhealth_status = \"200\"",
        expect![[r#"
            site.toml:4:17: health_status has no effect with health = "tcp"
              4 | health_status = "200"
                |                 ^^^^^
                = statuses come with health = "http /healthz"
        "#]],
    );
}

#[test]
fn times_that_contradict_each_other() {
    check(
        "servers = \"a:1\"\ntotal_timeout = \"10s\"\nfirst_byte_timeout = \"11s\"\n\
         health = \"tcp\"\nhealth_interval = \"1s\"\nhealth_timeout = \"1001ms\"",
        expect![[r#"
            site.toml:4:22: first_byte_timeout is longer than total_timeout
              4 | first_byte_timeout = "11s"
                |                      ^^^^^
                = total_timeout is 10s
            site.toml:7:18: health_timeout is longer than health_interval
              7 | health_timeout = "1001ms"
                |                  ^^^^^^^^
                = health_interval is 1s
        "#]],
    );
}
