//! `[admin]`: where it may be, and who could reach it there. And whom names are asked of.

use expect_test::{Expect, expect};

use super::super::*;
use super::parse;

fn admin(lines: &str) -> Option<Admin> {
    parse(&format!("[files.site]\nroot = \"/\"\n[admin]\n{lines}\n")).admin
}

/// The report on an admin listener with these lines, whose first is the fourth of the file.
fn check(lines: &str, expected: Expect) {
    let text = format!("[files.site]\nroot = \"/\"\n[admin]\n{lines}\n");
    super::check(&text, expected);
}

#[test]
fn off_unless_it_is_written() {
    assert_eq!(admin(""), None);
    assert_eq!(parse("[files.site]\nroot = \"/\"").admin, None);
}

#[test]
fn a_unix_socket_is_for_its_owner() {
    let admin = admin("address = \"unix:/a.sock\"").unwrap();
    let address = AdminAddress::Unix {
        path: "/a.sock".into(),
        mode: 0o600,
    };
    assert_eq!(admin.address, address);
    assert_eq!(admin.address.to_string(), "unix:/a.sock");
}

#[test]
fn loopback_and_what_is_said_explicitly() {
    let is_at = |lines: &str, expect: &str| {
        let address = AdminAddress::Tcp(expect.parse().unwrap());
        assert_eq!(admin(lines).unwrap().address, address, "{lines}");
    };
    is_at("address = \"127.0.0.2:0\"", "127.0.0.2:0");
    is_at("address = \"[::1]:9090\"", "[::1]:9090");
    is_at(
        "address = \"10.0.0.1:9090\"\nallow_remote = true",
        "10.0.0.1:9090",
    );
}

#[test]
fn an_address_that_others_reach() {
    check(
        "address = \"0.0.0.0:9090\"",
        expect![[r#"
        site.toml:4:11: other machines could reach 0.0.0.0:9090
          4 | address = "0.0.0.0:9090"
            |           ^^^^^^^^^^^^^^
            = take 127.0.0.1 or a Unix socket, or add allow_remote = true
    "#]],
    );
}

#[test]
fn no_address() {
    check(
        "address = \"localhost:9090\"",
        expect![[r#"
        site.toml:4:11: "localhost:9090" isn't an address
          4 | address = "localhost:9090"
            |           ^^^^^^^^^^^^^^^^
            = such as "unix:/run/ringway/admin.sock" or "127.0.0.1:9090"
    "#]],
    );
    check(
        "address = \"unix:\"",
        expect![[r#"
        site.toml:4:11: unix: without a path
          4 | address = "unix:"
            |           ^^^^^^^
            = such as "unix:/run/ringway/admin.sock" or "127.0.0.1:9090"
    "#]],
    );
    check(
        "mode = \"0660\"",
        expect![[r#"
        site.toml:4:8: mode has no effect without an address
          4 | mode = "0660"
            |        ^^^^^^
            = add address, such as "unix:/run/ringway/admin.sock" or "127.0.0.1:9090"
    "#]],
    );
}

#[test]
fn a_socket_that_can_not_be() {
    check(
        "address = \"unix:/nowhere/a.sock\"",
        expect![[r#"
        site.toml:4:11: the directory /nowhere doesn't exist
          4 | address = "unix:/nowhere/a.sock"
            |           ^^^^^^^^^^^^^^^^^^^^^^
            = create it; systemd does with RuntimeDirectory=ringway
    "#]],
    );
    check(
        "address = \"unix:/etc/passwd\"",
        expect![[r#"
        site.toml:4:11: /etc/passwd is there, and isn't a socket
          4 | address = "unix:/etc/passwd"
            |           ^^^^^^^^^^^^^^^^^^
            = choose another name, or remove it
    "#]],
    );
    check(
        &format!("address = \"unix:/{}\"", "a".repeat(107)),
        expect![[r#"
            site.toml:4:11: the path of the socket has 108 bytes
              4 | address = "unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
                |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                = the kernel takes at most 107
        "#]],
    );
}

#[test]
fn modes() {
    check(
        "address = \"unix:/a.sock\"\nmode = \"0888\"",
        expect![[r#"
        site.toml:5:8: "0888" isn't the mode of a socket
          5 | mode = "0888"
            |        ^^^^^^
            = octal digits as chmod has them, such as "0660"
    "#]],
    );
    check(
        "address = \"unix:/a.sock\"\nmode = \"1777\"",
        expect![[r#"
        site.toml:5:8: "1777" isn't the mode of a socket
          5 | mode = "1777"
            |        ^^^^^^
            = octal digits as chmod has them, such as "0660"
    "#]],
    );
    check(
        "address = \"unix:/a.sock\"\nmode = \"+77\"",
        expect![[r#"
        site.toml:5:8: "+77" isn't the mode of a socket
          5 | mode = "+77"
            |        ^^^^^
            = octal digits as chmod has them, such as "0660"
    "#]],
    );
}

#[test]
fn keys_of_the_other_kind() {
    check(
        "address = \"unix:/a.sock\"\nallow_remote = true",
        expect![[r#"
        site.toml:5:16: allow_remote has no effect at a Unix socket, which no other machine reaches
          5 | allow_remote = true
            |                ^^^^
            = leave it out
    "#]],
    );
    check(
        "address = \"127.0.0.1:0\"\nmode = \"0660\"",
        expect![[r#"
        site.toml:5:8: mode has no effect where there is no socket file
          5 | mode = "0660"
            |        ^^^^^^
            = leave it out
    "#]],
    );
}

#[test]
fn name_servers() {
    let lines = "resolver = [\"10.0.0.53\", \"[::1]:5353\", \"fd00::1\"]";
    let config = parse(&format!("[upstream.app]\nservers = \"app:80\"\n{lines}"));
    let shown: Vec<String> = config.upstreams[0]
        .resolver
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown, ["10.0.0.53:53", "[::1]:5353", "[fd00::1]:53"]);
    let text = "[upstream.app]\nservers = \"app:80\"\nresolver = \"ns.example\"";
    super::check(
        text,
        expect![[r#"
        site.toml:3:12: "ns.example" isn't the address of a name server
          3 | resolver = "ns.example"
            |            ^^^^^^^^^^^^
            = such as "10.0.0.53" or "[::1]:5353"
    "#]],
    );
}

#[test]
fn the_weight_of_a_service() {
    let text = "[upstream.app]\nservers = \"srv:_http._tcp.app weight=2\"";
    super::check(
        text,
        expect![[r#"
        site.toml:2:11: the weights of a service's servers are those that DNS has
          2 | servers = "srv:_http._tcp.app weight=2"
            |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = leave `weight` out
    "#]],
    );
}
