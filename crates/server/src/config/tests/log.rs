//! The access log and its formats.

use super::*;

#[test]
fn access_log() {
    check_added(
        "[log]\naccess = \"/no/such/directory/log\"\n",
        expect![[r#"
        site.toml:4:10: the directory /no/such/directory doesn't exist
          4 | access = "/no/such/directory/log"
            |          ^^^^^^^^^^^^^^^^^^^^^^^^
            = create it, or choose another place for the access log
    "#]],
    );
    check_added(
        "[log]\naccess = \"/\"\n",
        expect![[r#"
        site.toml:4:10: / is a directory
          4 | access = "/"
            |          ^^^
            = name the file in it
    "#]],
    );
}

#[test]
fn access_formats() {
    // A tab may be written as itself or as TOML's escape.
    for format in ["'json'", "'$peer \t$status'", r#""$peer\t$status""#] {
        parse(&format!(
            "[files.site]\nroot = \"/\"\n[log]\naccess_format = {format}\n"
        ));
    }
    check_added(
        "[log]\naccess_format = '$peer $stauts'\n",
        expect![[r#"
        site.toml:4:24: unknown variable $stauts
          4 | access_format = '$peer $stauts'
            |                        ^^^^^^^
            = did you mean $status?
    "#]],
    );
    check_added(
        "[log]\naccess_format = \"$peer \\\"$remote_addr\\\"\"\n",
        expect![[r#"
            site.toml:4:17: unknown variable $remote_addr
              4 | access_format = "$peer \"$remote_addr\""
                |                 ^^^^^^^^^^^^^^^^^^^^^^^^
                = did you mean $peer?
        "#]],
    );
    check_added(
        "[log]\naccess_format = \"jsn\"\n",
        expect![[r#"
        site.toml:4:18: neither a format's name nor a variable in it
          4 | access_format = "jsn"
            |                  ^^^
            = did you mean "json"?
    "#]],
    );
    check_added(
        "[log]\naccess_format = \"$peer\\n$status\"\n",
        expect![[r#"
        site.toml:4:17: a log line has no control characters but tabs
          4 | access_format = "$peer\n$status"
            |                 ^^^^^^^^^^^^^^^^
            = leave it out
    "#]],
    );
}
