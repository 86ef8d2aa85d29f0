//! Roots of files with their options and users.

use super::*;

#[test]
fn roots() {
    check(
        "[files.site]\nroot = \"/no/such/place\"\n",
        expect![[r#"
        site.toml:2:8: /no/such/place doesn't exist
          2 | root = "/no/such/place"
            |        ^^^^^^^^^^^^^^^^
            = create it, or name a directory that does
    "#]],
    );
    check(
        "[files.site]\nroot = \"/proc/self/stat\"\n",
        expect![[r#"
        site.toml:2:8: /proc/self/stat isn't a directory
          2 | root = "/proc/self/stat"
            |        ^^^^^^^^^^^^^^^^^
            = name the directory that it is in
    "#]],
    );
    check(
        "[files.site]\nroot = \"/proc/self/stat/x\"\n",
        expect![[r#"
        site.toml:2:8: /proc/self/stat/x leads through a file
          2 | root = "/proc/self/stat/x"
            |        ^^^^^^^^^^^^^^^^^^^
            = name a directory that exists
    "#]],
    );
    check(
        "[files.site]\nroot = \"\"\n",
        expect![[r#"
        site.toml:2:8: an empty string isn't allowed here
          2 | root = ""
            |        ^^
            = such as "/var/www"
    "#]],
    );
    check(
        "[files.site]\n",
        expect![[r#"
        site.toml:1:8: [files.site] needs "root"
          1 | [files.site]
            |        ^^^^
            = such as root = "/var/www"
    "#]],
    );
    check(
        "",
        expect![[r#"
            site.toml:1:1: nothing to serve
              1 |
                | ^
                = add a directory: [files.site] with root = "/var/www"
        "#]],
    );
}

#[test]
fn options_of_a_root() {
    check_added(
        "index = [\"index.html\", \"a/b\"]\ncharset = \"utf 8\"\n",
        expect![[r#"
        site.toml:3:24: "a/b" isn't the name of a file
          3 | index = ["index.html", "a/b"]
            |                        ^^^^^
            = a name within the directory, such as "index.html"
        site.toml:4:11: "utf 8" isn't a charset
          4 | charset = "utf 8"
            |           ^^^^^^^
            = such as "utf-8", or "" for none
    "#]],
    );
}

#[test]
fn users() {
    let config = parse(&format!(
        "[files.a]\nroot = \"/usr\"\nusers = [\"alice:{HASH}\"]\nusers_file = {USERS_FILE:?}\n\
         [files.b]\nroot = \"/usr\"\n[listen.a]\naddress = \":0\"\nfiles = \"a\"\n"
    ));
    assert!(config.roots[0].has_users() && !config.roots[1].has_users());
    assert_eq!(config.roots[0].password_cache, Duration::from_secs(60));
    let lines = format!(
        "users = [\"alice:{HASH}\", \"alice:{HASH}\", \"bob:hunter2\", \"hunter2\", \"carol:$apr1$8ckXc2eO$\"]\n"
    );
    check_added(
        &lines,
        expect![[r#"
        site.toml:3:80: user "alice" is there twice
            = leave one of them out
        site.toml:3:150: user "bob": no hash: a password as it is is never kept
            = make a new one: ringway hash-password --user bob
        site.toml:3:165: no user and hash: there is no colon
            = write "user:hash"; ringway hash-password --user NAME makes it
        site.toml:3:176: user "carol": an MD5 hash ($apr1$), which is too weak
            = make a new one: ringway hash-password --user carol
    "#]],
    );
    check_added(
        "users = []\nrealm = \"G\u{e4}ste\"\n",
        expect![[r#"
        site.toml:3:9: the list is empty
          3 | users = []
            |         ^^
            = at least 1, such as "alice:$argon2id$..."
        site.toml:4:9: a realm has printable ASCII characters only
          4 | realm = "Gäste"
            |         ^^^^^^^
            = HTTP has no way to say in which characters the others are
        site.toml:4:9: realm has no effect where nobody is asked for a password
          4 | realm = "Gäste"
            |         ^^^^^^^
            = add users or users_file
    "#]],
    );
    check_added(
        "realm = \"Members\"\n",
        expect![[r#"
        site.toml:3:9: realm has no effect where nobody is asked for a password
          3 | realm = "Members"
            |         ^^^^^^^^^
            = add users or users_file
    "#]],
    );
    check_added(
        "users_file = \"no/such/file\"\n",
        expect![[r#"
        site.toml:3:14: /no/such/file can't be read: No such file or directory (os error 2)
          3 | users_file = "no/such/file"
            |              ^^^^^^^^^^^^^^
            = make it with ringway hash-password --user alice >> FILE
    "#]],
    );
}

/// A file's faults are told with their lines; what may be passwords isn't.
#[test]
fn users_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| {
        std::fs::write(folder.path().join("users"), text).unwrap();
        std::fs::create_dir_all(folder.path().join("site")).unwrap();
    };
    let report = |root: &str| {
        let text = format!("[files.site]\nroot = \"{root}\"\nusers_file = \"users\"\n");
        let parsed = Config::parse(
            "site.toml",
            &text,
            Format::Toml,
            folder.path(),
            &Flags::new(),
        );
        let report = parsed.unwrap_err().to_string();
        report.replace(folder.path().to_str().unwrap(), "HERE")
    };
    write(&format!(
        "alice:{HASH}\n\nbob:hunter2\nalice:{HASH}\nhunter2\ndave:{{SHA}}x\n"
    ));
    expect![[r#"
        site.toml:3:14: HERE/users:3: user "bob": no hash: a password as it is is never kept
          3 | users_file = "users"
            |              ^^^^^^^
            = make a new one: ringway hash-password --user bob
        site.toml:3:14: HERE/users:4: user "alice" is there twice
          3 | users_file = "users"
            |              ^^^^^^^
            = leave one of them out
        site.toml:3:14: HERE/users:5: no user and hash: there is no colon
          3 | users_file = "users"
            |              ^^^^^^^
            = write "user:hash"; ringway hash-password --user NAME makes it
        site.toml:3:14: HERE/users:6: user "dave": a SHA-1 hash without salt ({SHA}), which is too weak
          3 | users_file = "users"
            |              ^^^^^^^
            = make a new one: ringway hash-password --user dave"#]].assert_eq(&report("site"));
    write("# nobody yet\n");
    expect![[r#"
        site.toml:3:14: HERE/users has no user in it
          3 | users_file = "users"
            |              ^^^^^^^
            = add one with ringway hash-password --user alice >> FILE"#]]
    .assert_eq(&report("site"));
    write(&format!("alice:{HASH}\n"));
    expect![[r#"
        site.toml:3:14: the password file lies in what [files.site] serves
          3 | users_file = "users"
            |              ^^^^^^^
            = keep it outside of every root"#]]
    .assert_eq(&report("."));
}

#[test]
fn which_root() {
    let two = "[files.site]\nroot = \"/\"\n[files.docs]\nroot = \"/\"\n";
    check(
        &format!("{two}[listen.main]\naddress = \":80\"\n"),
        expect![[r#"
        site.toml:5:9: [listen.main] needs "files"
          5 | [listen.main]
            |         ^^^^
            = there are several to choose from: files = "site", files = "docs"
    "#]],
    );
    check(
        &format!("{two}[listen.main]\naddress = \":80\"\nfiles = \"dox\"\n"),
        expect![[r#"
        site.toml:7:9: there is no [files.dox]
          7 | files = "dox"
            |         ^^^^^
            = there are "site", "docs"
    "#]],
    );
    check(
        two,
        expect![[r#"
            site.toml:1:1: several [files.NAME] tables, and no listener to say which is served
              1 | [files.site]
                | ^
                = add a table: [listen.main] with address and files or proxy
        "#]],
    );
}

#[test]
fn headers_that_cannot_be_sent() {
    check_added(
        "headers = [\"X-A: b\", \"Connection: close\", \"*.js X B: c\"]\ncache_control = \"*.js\"\n",
        expect![[r#"
            site.toml:3:22: Connection is for the server to say
              3 | headers = ["X-A: b", "Connection: close", "*.js X B: c"]
                |                      ^^^^^^^^^^^^^^^^^^^
                = leave it out
            site.toml:3:43: "X B" isn't a header name
              3 | headers = ["X-A: b", "Connection: close", "*.js X B: c"]
                |                                           ^^^^^^^^^^^^^
                = such as "X-Robots-Tag: noindex"
            site.toml:4:17: "*.js" needs a pattern and a value
              4 | cache_control = "*.js"
                |                 ^^^^^^
                = such as "/images/** max-age=86400", or "*.zip none"
        "#]],
    );
    check_added(
        "cors = [\"https://a.example\", \"https://b.example/\"]\ncors_expose = [\"a b\"]\n",
        expect![[r#"
            site.toml:3:30: "https://b.example/" isn't an origin
              3 | cors = ["https://a.example", "https://b.example/"]
                |                              ^^^^^^^^^^^^^^^^^^^^
                = such as "https://app.example": in lower case, without a path
            site.toml:4:16: "a b" isn't a header name
              4 | cors_expose = ["a b"]
                |                ^^^^^
                = such as "ETag"
        "#]],
    );
    check_added(
        "cors = [\"*\"]\ncors_credentials = true\n",
        expect![[r#"
        site.toml:4:20: cors_credentials needs the origins by name
          4 | cors_credentials = true
            |                    ^^^^
            = such as cors = ["https://app.example"]
    "#]],
    );
    check_added(
        "cors = [\"*\", \"null\"]\n",
        expect![[r#"
        site.toml:3:8: "*" and other origins
          3 | cors = ["*", "null"]
            |        ^^^^^^^^^^^^^
            = "*" alone allows all of them
    "#]],
    );
}

#[test]
fn paths_that_cannot_be_tried() {
    check_added(
        "try_files = [\"{path}\", \"=404\", \"../x\"]\nerror_pages = [\"404 404.html\"]\n",
        expect![[r#"
            site.toml:3:13: a status ends the list, but something follows
              3 | try_files = ["{path}", "=404", "../x"]
                |             ^^^^^^^^^^^^^^^^^^^^^^^^^^
                = put it last
            site.toml:3:32: "../x" is nothing that can be tried
              3 | try_files = ["{path}", "=404", "../x"]
                |                                ^^^^^^
                = such as "{path}", "{path}.html", "/index.html" or "=404"
            site.toml:4:16: "404.html" isn't the path of a file
              4 | error_pages = ["404 404.html"]
                |                ^^^^^^^^^^^^^^
                = such as "404 /404.html" or "5xx /error.html"
        "#]],
    );
    check_added(
        "spa = true\nclean_urls = true\ntry_files = \"{path}\"\n",
        expect![[r#"
            site.toml:3:7: spa and try_files both say what is tried
              3 | spa = true
                |       ^^^^
                = leave one of them out
            site.toml:4:14: clean_urls and try_files both say what is tried
              4 | clean_urls = true
                |              ^^^^
                = leave one of them out
        "#]],
    );
    let index: Vec<String> = (0..9).map(|number| format!("\"{number}.html\"")).collect();
    check_added(
        &format!("index = [{}]\n", index.join(", ")),
        expect![[r#"
        site.toml:3:9: 9 names would be tried for one request
          3 | index = ["0.html", "1.html", "2.html", "3.html", "4.html", "5.html", "6.html", "7.html", "8.html
            |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = at most 8
    "#]],
    );
}
