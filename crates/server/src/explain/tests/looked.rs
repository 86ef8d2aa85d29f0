//! Which file would answer, of a folder made for each test.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::config::Config;
use crate::explain::{Answered, Explanation, Question, explain};

/// A site with a page, a folder with an index and one without, a hidden folder, and links.
fn site() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for name in ["docs", "bare", ".git"] {
        std::fs::create_dir(place.path().join(name)).unwrap();
    }
    for name in ["about.html", "docs/index.html", ".git/config", "bare/data"] {
        std::fs::write(place.path().join(name), "12345").unwrap();
    }
    symlink("/etc", place.path().join("out")).unwrap();
    symlink("about.html", place.path().join("link.html")).unwrap();
    place
}

fn explained(root: &Path, keys: &str, method: &str, path: &str) -> Explanation {
    let text = format!("[files.site]\nroot = {:?}\n{keys}", root.to_str().unwrap());
    let question = Question {
        method: method.to_owned(),
        url: path.to_owned(),
        headers: vec!["Accept: text/html".to_owned()],
        listener: None,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    explain(&Config::from_toml(&text).unwrap(), &question).unwrap()
}

fn ask(root: &Path, keys: &str, method: &str, path: &str) -> Vec<String> {
    match explained(root, keys, method, path).answer {
        Answered::Files { looked, .. } => looked,
        other => panic!("not by files: {other:?}"),
    }
}

/// Checks what the answer's fields are.
#[track_caller]
fn check_fields(keys: &str, method: &str, path: &str, expected: &[&str]) {
    let site = site();
    let said = explained(site.path(), keys, method, path);
    assert_eq!(said.response_headers, expected, "{keys} {said}");
}

#[track_caller]
fn check(keys: &str, path: &str, expected: &[&str]) {
    let site = site();
    assert_eq!(
        ask(site.path(), keys, "GET", path),
        expected,
        "{keys} {path}"
    );
}

#[test]
fn a_file_and_what_stands_for_a_folder() {
    check("", "/about.html", &["/about.html: that file, 5 bytes"]);
    check("", "/docs/", &["/docs/index.html: that file, 5 bytes"]);
    let moved = ["/docs: a directory", "a directory: 301 to /docs/"];
    check("", "/docs", &moved);
    let nothing = ["/bare/index.html: not there", "nothing is there: 404"];
    check("", "/bare/", &nothing);
    let listing = [
        "/bare/index.html: not there",
        "/bare/: a listing of what is in it",
    ];
    check("browse = true\n", "/bare/", &listing);
}

#[test]
fn what_is_hidden_or_not_looked_at() {
    let hidden = "hidden: 404, \".git\" begins with a dot (show_dotfiles = true shows it)";
    check("", "/.git/config", &[hidden]);
    let shown = ["/.git/config: that file, 5 bytes"];
    check("show_dotfiles = true\n", "/.git/config", &shown);
    let site = site();
    assert_eq!(
        ask(site.path(), "", "PUT", "/about.html"),
        ["no file: 405, a root answers GET, HEAD and OPTIONS"]
    );
    assert_eq!(
        ask(site.path(), "", "OPTIONS", "/about.html"),
        ["no file: OPTIONS asks what may be asked"]
    );
}

#[test]
fn links() {
    let out = [
        "/out/passwd: its link leads out of the root",
        "nothing is there: 404",
    ];
    check("", "/out/passwd", &out);
    check("", "/link.html", &["/link.html: that file, 5 bytes"]);
    let denied = [
        "/link.html: a link, of which symlinks = \"deny\" has none",
        "nothing is there: 404",
    ];
    check("symlinks = \"deny\"\n", "/link.html", &denied);
}

#[test]
fn what_else_is_tried() {
    let clean = "clean_urls = true\n";
    let page = ["/about: not there", "/about.html: that file, 5 bytes"];
    check(clean, "/about", &page);
    check(
        clean,
        "/about.html",
        &["/about.html: is a page: 301 to /about"],
    );
    let named = "try_files = [\"{path}\", \"/about.html\"]\n";
    let fallback = ["/x: not there", "/about.html: that file, 5 bytes"];
    check(named, "/x", &fallback);
    let ended = "try_files = [\"{path}\", \"=410\"]\n";
    check(ended, "/x", &["/x: not there", "=410: that"]);
    let spa = "spa = true\nindex = \"about.html\"\n";
    check(
        spa,
        "/deep/x",
        &["/deep/x: not there", "/about.html: that file, 5 bytes"],
    );
    let not_for_scripts = [
        "/x.js: not there",
        "the page of the application: only for who takes HTML, and for names without an extension",
        "nothing is there: 404",
    ];
    check(spa, "/x.js", &not_for_scripts);
}

#[test]
fn a_page_that_was_asked_for_as_a_directory() {
    let moved = [
        "/about/index.html: not there",
        "/about.html: is that page: 301 to /about",
    ];
    check("clean_urls = true\n", "/about/", &moved);
}

#[test]
fn a_link_out_of_the_root_is_no_end() {
    let fallback = [
        "/out: its link leads out of the root",
        "/about.html: that file, 5 bytes",
    ];
    check(
        "try_files = [\"{path}\", \"/about.html\"]\n",
        "/out",
        &fallback,
    );
}

#[test]
fn fields_are_those_of_the_answer() {
    let site_keys = "headers = [\"X-All: a\", \"*.html X-Page: b\"]\n";
    let of_page = ["X-All: a", "X-Page: b", "Cache-Control: no-cache"];
    check_fields(site_keys, "GET", "/about.html", &of_page);
    check_fields(site_keys, "HEAD", "/docs/", &of_page);
    check_fields(site_keys, "GET", "/bare/", &["X-All: a"]);
    let moved = ["X-All: a", "Location: /docs/?a=b%20c"];
    check_fields(site_keys, "GET", "/docs?a=b%20c", &moved);
    let allowed = ["Allow: GET, HEAD, OPTIONS", "X-All: a"];
    check_fields(site_keys, "PUT", "/about.html", &allowed);
    check_fields(site_keys, "OPTIONS", "/about.html", &allowed);
    let with_page = format!("{site_keys}error_pages = [\"404 /about.html\"]\n");
    let uncached = ["X-All: a", "X-Page: b", "Cache-Control: no-store"];
    check_fields(&with_page, "GET", "/nothing", &uncached);
    let without_page = format!("{site_keys}error_pages = [\"404 /none.html\"]\n");
    check_fields(&without_page, "GET", "/nothing", &["X-All: a"]);
    let listed = [
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-cache",
        "Vary: Accept",
    ];
    let fields = explained(site().path(), "browse = true\n", "GET", "/bare/").response_headers;
    assert!(fields[0].starts_with("Content-Security-Policy: default-src 'none';"));
    assert_eq!(fields[1..], listed);
}
