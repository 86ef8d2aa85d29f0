//! Values of the wrong kind, the wrong unit or out of range.

use super::*;

#[test]
fn every_kind_of_value() {
    let config = parse(
        r#"
        workers = 3
        io = "epoll"
        pin = false
        shutdown_timeout = "1m"

        [listen.public]
        address = ["127.0.0.1:0", "[::1]:8443"]
        files = "b"
        notsent_lowat = "16KiB"
        keepalive = true
        keepalive_idle = "2h"
        congestion = "bbr"
        [listen.all]
        address = ":9000"
        files = "a"
        backlog = 7

        [files.a]
        root = "/"
        index = []
        charset = ""
        [files.b]
        root = "usr"
        index = "home.html"
        symlinks = "deny"

        [limits]
        body_bytes = 12
        idle_timeout = "500ms"
        [log]
        access = "-"
        format = "json"
        "#,
    );
    assert_eq!(config.workers, 3);
    assert_eq!(config.io, Io::Epoll);
    assert!(!config.pin);
    assert_eq!(config.shutdown_timeout, Duration::from_secs(60));
    let [public, all] = &config.listeners[..] else {
        panic!("two listeners")
    };
    assert_eq!((public.name.as_str(), all.name.as_str()), ("public", "all"));
    assert_eq!(public.addresses[0].socket, "127.0.0.1:0".parse().unwrap());
    assert_eq!(public.addresses[1].socket, "[::1]:8443".parse().unwrap());
    assert_eq!(public.catch_all, Some(Action::Files(1)));
    assert_eq!(all.catch_all, Some(Action::Files(0)));
    assert_eq!(public.socket.notsent_lowat, Some(16 * 1024));
    assert_eq!(public.socket.keepalive_idle, Duration::from_secs(7200));
    assert_eq!(public.socket.congestion.as_deref(), Some("bbr"));
    assert!(all.addresses[0].every_family && all.options.backlog == 7);
    assert_eq!(all.addresses[0].socket, "[::]:9000".parse().unwrap());
    assert_eq!(config.roots[1].root, Path::new("/usr"));
    assert_eq!(config.roots[1].index, ["home.html"]);
    assert!(config.roots[0].index.is_empty() && config.roots[0].charset.is_empty());
    assert_eq!(config.roots[1].symlinks, Symlinks::Deny);
    assert_eq!(config.limits.body_bytes, 12);
    assert_eq!(config.limits.idle_timeout, Duration::from_millis(500));
    assert_eq!(config.log.access, AccessLog::Stdout);
    assert_eq!(config.log.events, EventFormat::Json);
}

#[test]
fn wrong_type() {
    check_added(
        "[limits]\nhead_bytes = true\n",
        expect![[r#"
        site.toml:4:14: expected a size, found a boolean
          4 | head_bytes = true
            |              ^^^^
            = such as "16KiB"
    "#]],
    );
    check_added(
        "[limits]\nheader_count = \"64\"\n",
        expect![[r#"
        site.toml:4:16: expected a whole number, found a string
          4 | header_count = "64"
            |                ^^^^
            = without quotes: 64
    "#]],
    );
    check_added(
        "[limits]\nheader_count = 1.5\n",
        expect![[r#"
        site.toml:4:16: expected a whole number, found a decimal number
          4 | header_count = 1.5
            |                ^^^
            = such as 1
    "#]],
    );
    check_added(
        "show_dotfiles = \"true\"\n",
        expect![[r#"
        site.toml:3:17: expected true or false, found a string
          3 | show_dotfiles = "true"
            |                 ^^^^^^
            = without quotes: true
    "#]],
    );
    check_added(
        "[listen.main]\naddress = 8080\n",
        expect![[r#"
        site.toml:4:11: expected an address, found a whole number
          4 | address = 8080
            |           ^^^^
            = such as "127.0.0.1:8080"
    "#]],
    );
    check_added(
        "index = [1, \"ok\", 1979-05-27]\n",
        expect![[r#"
        site.toml:3:10: expected a string, found a whole number
          3 | index = [1, "ok", 1979-05-27]
            |          ^
            = such as "index.html"
        site.toml:3:19: expected a string, found a date
          3 | index = [1, "ok", 1979-05-27]
            |                   ^^^^^^^^^^
            = such as "index.html"
    "#]],
    );
}

#[test]
fn durations() {
    check_added(
        "[limits]\nidle_timeout = 30\n",
        expect![[r#"
        site.toml:4:16: expected a duration, found a whole number
          4 | idle_timeout = 30
            |                ^^
            = with its unit: "30s"
    "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"30\"\n",
        expect![[r#"
        site.toml:4:16: "30" has no unit
          4 | idle_timeout = "30"
            |                ^^^^
            = such as "30s"
    "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"30 seconds\"\n",
        expect![[r#"
        site.toml:4:16: unknown unit "seconds"
          4 | idle_timeout = "30 seconds"
            |                ^^^^^^^^^^^^
            = ms, s, m, h or d, such as "30s"
    "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"soon\"\n",
        expect![[r#"
        site.toml:4:16: "soon" isn't a duration
          4 | idle_timeout = "soon"
            |                ^^^^^^
            = such as "500ms", "30s", "5m"
    "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"0s\"\n",
        expect![[r#"
            site.toml:4:16: "0s" is out of range
              4 | idle_timeout = "0s"
                |                ^^^^
                = from 10ms to 1d
        "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"99999999999999999999d\"\n",
        expect![[r#"
        site.toml:4:16: "99999999999999999999d" isn't a duration
          4 | idle_timeout = "99999999999999999999d"
            |                ^^^^^^^^^^^^^^^^^^^^^^^
            = such as "500ms", "30s", "5m"
    "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"9999999999999999999d\"\n",
        expect![[r#"
            site.toml:4:16: "9999999999999999999d" is out of range
              4 | idle_timeout = "9999999999999999999d"
                |                ^^^^^^^^^^^^^^^^^^^^^^
                = from 10ms to 1d
        "#]],
    );
}

#[test]
fn sizes() {
    check_added(
        "[limits]\nhead_bytes = \"16k\"\n",
        expect![[r#"
        site.toml:4:14: unknown unit "k"
          4 | head_bytes = "16k"
            |              ^^^^^
            = "16KiB" (units are powers of 1024)
    "#]],
    );
    check_added(
        "[limits]\nhead_bytes = \"16 parsecs\"\n",
        expect![[r#"
        site.toml:4:14: unknown unit "parsecs"
          4 | head_bytes = "16 parsecs"
            |              ^^^^^^^^^^^^
            = B, KiB, MiB or GiB
    "#]],
    );
    check_added(
        "[limits]\nhead_bytes = -1\n",
        expect![[r#"
            site.toml:4:14: "-1" is out of range
              4 | head_bytes = -1
                |              ^^
                = from 128B to 1MiB
        "#]],
    );
    check_added(
        "[limits]\nhead_bytes = \"1GiB\"\n",
        expect![[r#"
            site.toml:4:14: "1GiB" is out of range
              4 | head_bytes = "1GiB"
                |              ^^^^^^
                = from 128B to 1MiB
        "#]],
    );
    check_added(
        "[limits]\nhead_bytes = \"KiB\"\n",
        expect![[r#"
        site.toml:4:14: "KiB" isn't a size
          4 | head_bytes = "KiB"
            |              ^^^^^
            = such as "512B", "16KiB", "64MiB"
    "#]],
    );
}

#[test]
fn numbers() {
    check(
        "workers = 0\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:11: 0 is out of range
          1 | workers = 0
            |           ^
            = a whole number from 1 to 1024
    "#]],
    );
    check(
        "workers = 1025\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:11: 1025 is out of range
          1 | workers = 1025
            |           ^^^^
            = a whole number from 1 to 1024
    "#]],
    );
    check(
        "workers = 99999999999999999999\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:11: expected a whole number, found a number out of range
          1 | workers = 99999999999999999999
            |           ^^^^^^^^^^^^^^^^^^^^
            = such as 1
    "#]],
    );
}

#[test]
fn words() {
    check(
        "io = \"iouring\"\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
            site.toml:1:6: unknown word "iouring"
              1 | io = "iouring"
                |      ^^^^^^^^^
                = did you mean "uring"?
        "#]],
    );
    check(
        "io = \"kqueue\"\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:6: unknown word "kqueue"
          1 | io = "kqueue"
            |      ^^^^^^^^
            = one of "auto", "uring", "epoll"
    "#]],
    );
}
