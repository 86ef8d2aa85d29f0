//! Notes: what is right, and most likely not meant.

use crate::config::Config;

/// Writes `files` into a folder, and checks what is noted of a configuration, in which `ROOT` is
/// the folder.
#[track_caller]
fn check(files: &[&str], text: &str, expect: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    for name in files {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let root = folder.path().to_str().unwrap();
    let config = Config::from_toml(&text.replace("ROOT", root)).unwrap();
    let notes = config.notes();
    let notes: Vec<String> = notes
        .iter()
        .map(|note| note.replace(root, "ROOT"))
        .collect();
    assert_eq!(notes, expect);
}

const SITE: &str = "[files.site]\nroot = \"ROOT\"\n";

#[test]
fn a_front_page_that_is_not_there() {
    let note = "no index.html in ROOT: --browse (browse = true) lists directories";
    check(&["index.html"], SITE, &[]);
    check(&[], SITE, &[note]);
    check(&[], &format!("{SITE}browse = true"), &[]);
    check(&[], &format!("{SITE}try_files = [\"/home.html\"]"), &[]);
    check(&["b"], &format!("{SITE}index = [\"a\", \"b\"]"), &[]);
    let note = "no a or b in ROOT: --browse (browse = true) lists directories";
    check(&[], &format!("{SITE}index = [\"a\", \"b\"]"), &[note]);
    let note = "ROOT has no index: --browse (browse = true) lists directories";
    check(&["index.html"], &format!("{SITE}index = []"), &[note]);
    // Below a prefix nothing has to be there for the slash alone.
    check(
        &[],
        &format!("{SITE}[[route]]\npath = \"/assets/*\"\nfiles = \"site\""),
        &[],
    );
}

#[test]
fn a_page_for_everything_that_is_not_there() {
    let note = "no index.html in ROOT, which is the page that --spa (spa = true) answers with";
    check(&[], &format!("{SITE}spa = true"), &[note]);
    check(&["index.html"], &format!("{SITE}spa = true"), &[]);
}

#[test]
fn pages_for_errors_that_are_not_there() {
    let files = ["index.html", "404.html"];
    let pages = "error_pages = [\"404 /404.html\", \"5xx /oops.html\"]";
    let note = "error_pages: no /oops.html in ROOT: a few words stand in for it";
    check(&files, &format!("{SITE}{pages}"), &[note]);
    // The default is there for who has it.
    check(&files[..1], SITE, &[]);
}

#[test]
fn tables_that_nothing_uses() {
    let text = "[listen.main]\naddress = \"127.0.0.1:0\"\nfiles = \"site\"\n\
                [files.site]\nroot = \"ROOT\"\n[files.unused]\nroot = \"ROOT\"\n\
                [upstream.used]\nservers = [\"127.0.0.1:1\"]\n\
                [upstream.idle]\nservers = [\"127.0.0.1:1\"]\n\
                [[route]]\npath = \"/app/*\"\nproxy = \"used\"\n";
    let notes = [
        "[files.unused] is there for nothing: no listener and no route names it",
        "[upstream.idle] is there for nothing: no listener and no route names it",
    ];
    check(&["index.html"], text, &notes);
}

#[test]
fn directives_that_no_cache_knows() {
    let rules = "cache_control = [\"*.js max-age=60\", \"*.css maxage=60\"]";
    let note = "cache_control: no cache knows \"maxage=60\": did you mean \"max-age\"?";
    check(&["index.html"], &format!("{SITE}{rules}"), &[note]);
}
