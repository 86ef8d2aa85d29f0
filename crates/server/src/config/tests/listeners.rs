//! Addresses to listen on.

use super::*;

#[test]
fn addresses() {
    let address = |text: &str, expected: Expect| {
        check_added(&format!("[listen.main]\naddress = {text}\n"), expected);
    };
    address(
        "\"8080\"",
        expect![[r#"
        site.toml:4:11: "8080" is a port, not an address
          4 | address = "8080"
            |           ^^^^^^
            = "127.0.0.1:8080", or ":8080" for every address of the machine
    "#]],
    );
    address(
        "\"127.0.0.1\"",
        expect![[r#"
        site.toml:4:11: "127.0.0.1" has no port
          4 | address = "127.0.0.1"
            |           ^^^^^^^^^^^
            = such as "127.0.0.1:8080"
    "#]],
    );
    address(
        "\"::1\"",
        expect![[r#"
        site.toml:4:11: "::1" has no port
          4 | address = "::1"
            |           ^^^^^
            = such as "[::1]:8080"
    "#]],
    );
    address(
        "\"127.0.0.1:http\"",
        expect![[r#"
        site.toml:4:11: "http" isn't a port
          4 | address = "127.0.0.1:http"
            |           ^^^^^^^^^^^^^^^^
            = a port is a number from 0 to 65535
    "#]],
    );
    address(
        "\"127.0.0.1:65536\"",
        expect![[r#"
        site.toml:4:11: "65536" isn't a port
          4 | address = "127.0.0.1:65536"
            |           ^^^^^^^^^^^^^^^^^
            = a port is a number from 0 to 65535
    "#]],
    );
    address(
        "\"example.org:80\"",
        expect![[r#"
        site.toml:4:11: "example.org" isn't an IP address
          4 | address = "example.org:80"
            |           ^^^^^^^^^^^^^^^^
            = such as "127.0.0.1:8080", "[::1]:8080", or ":8080" for every address of the machine
    "#]],
    );
    address(
        "\"\"",
        expect![[r#"
        site.toml:4:11: "" isn't an address
          4 | address = ""
            |           ^^
            = such as "127.0.0.1:8080", "[::1]:8080", or ":8080" for every address of the machine
    "#]],
    );
    address(
        "[]",
        expect![[r#"
        site.toml:4:11: the list is empty
          4 | address = []
            |           ^^
            = at least 1, such as "127.0.0.1:8080"
    "#]],
    );
}

#[test]
fn addresses_twice() {
    check_added(
        "[listen.a]\naddress = [\"127.0.0.1:80\", \"127.0.0.1:80\"]\n\
         [listen.b]\naddress = \"0.0.0.0:80\"\n",
        expect![[r#"
            site.toml:4:28: 127.0.0.1:80 is already listened on
              4 | address = ["127.0.0.1:80", "127.0.0.1:80"]
                |                            ^^^^^^^^^^^^^^
                = [listen.a] has 127.0.0.1:80
            site.toml:6:11: 0.0.0.0:80 is already listened on
              6 | address = "0.0.0.0:80"
                |           ^^^^^^^^^^^^
                = [listen.a] has 127.0.0.1:80
        "#]],
    );
    check_added(
        "[listen.a]\naddress = [\":80\", \"127.0.0.1:80\"]\n",
        expect![[r#"
            site.toml:4:19: 127.0.0.1:80 is already listened on
              4 | address = [":80", "127.0.0.1:80"]
                |                   ^^^^^^^^^^^^^^
                = [listen.a] has :80
        "#]],
    );
}

#[test]
fn addresses_beside_each_other() {
    parse(
        "[files.site]\nroot = \"/\"\n[listen.six]\naddress = \"[::]:80\"\nipv6_only = true\n\
         [listen.four]\naddress = [\"0.0.0.0:80\", \"127.0.0.1:0\", \"127.0.0.1:0\"]\n",
    );
}

#[test]
fn every_family_and_ipv6_only() {
    check_added(
        "[listen.main]\naddress = \":80\"\nipv6_only = true\n",
        expect![[r#"
            site.toml:4:11: :80 is for IPv4 as well, but ipv6_only is on
              4 | address = ":80"
                |           ^^^^^
                = write "[::]:80", or leave ipv6_only out
        "#]],
    );
}
