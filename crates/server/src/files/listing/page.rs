//! A directory as a page: one table, which needs no script to be sorted, in either colour scheme,
//! on any width.
//!
//! Names are whatever bytes the file system holds. They are escaped, links carry their bytes
//! percent-encoded, and what can't be seen or would turn the text around is shown as a code.

use super::{By, Order, is_directory, link_to};
use ringway_http::date::HttpDate;
use ringway_runtime::{Contents, DirectoryEntry};
use std::io::Write as _;

/// What the page may do: be styled by [`STYLE`] and ask for itself in another order, and nothing else. The hash is the style's
/// (CSP 3, §8.3), so that no other style could be smuggled in.
pub(super) const POLICY: &str = "default-src 'none'; \
     style-src 'sha256-/+jdLsqPf4ab8/bJrKkQs8Vnxm1dPW1M1FL66hbhK3U='; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'self'";

const STYLE: &str = "\
:root{color-scheme:light dark;--back:#fff;--text:#1d2228;--dim:#5b6672;--line:#e3e7eb;--hover:#f2f6fb;\
--link:#0a58ca;--folder:#3b8eea;--odd:#b42318}
@media(prefers-color-scheme:dark){:root{--back:#14171a;--text:#e4e8ec;--dim:#97a3af;--line:#2a3036;\
--hover:#1d2329;--link:#8ab8ff;--folder:#5aa2f5;--odd:#ff9d8f}}
*{box-sizing:border-box}
body{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 3rem;background:var(--back);color:var(--text);\
font:1rem/1.5 system-ui,sans-serif}
a{color:var(--link);text-decoration:none}
a:hover{text-decoration:underline}
a:focus-visible,button:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:2px}
h1{margin:0 0 1.25rem;font-size:1.25rem;font-weight:600;line-height:1.4;overflow-wrap:anywhere}
h1 i{padding:0 .3em;color:var(--dim);font-style:normal;font-weight:400}
.cut{margin:0 0 1rem;padding:.6rem .8rem;border:1px solid var(--line);border-left:3px solid var(--odd);\
border-radius:4px}
table{width:100%;border-collapse:collapse}
th,td{padding:.45rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{padding-top:0;font-size:.875rem;font-weight:500;white-space:nowrap}
form{margin:0}
button{padding:0;border:0;background:none;color:var(--dim);font:inherit;cursor:pointer}
button:hover{text-decoration:underline}
th[aria-sort] button{color:var(--text)}
th[aria-sort=ascending] button::after{content:\" \\2191\"}
th[aria-sort=descending] button::after{content:\" \\2193\"}
tbody tr:hover{background:var(--hover)}
th+th,td+td{width:1%;white-space:nowrap;text-align:right;font-variant-numeric:tabular-nums}
td+td{color:var(--dim)}
td:first-child{overflow-wrap:anywhere}
td a,td b{display:block;padding-left:1.9em;font-weight:400}
svg{float:left;width:1.25em;height:1.25em;margin:.15em 0 0 -1.9em;fill:var(--dim)}
.d svg{fill:var(--folder)}
.sprite{display:none}
u{display:inline-block;margin:0 .1em;padding:0 .25em;border:1px solid;border-radius:3px;color:var(--odd);\
font:.8em ui-monospace,monospace;text-decoration:none}
footer{padding:.8rem .6rem 0;color:var(--dim);font-size:.875rem}
@media(max-width:38rem){body{padding-top:1rem}th,td{padding:.6rem .35rem}\
th:first-child,td:first-child{padding-left:0}footer{padding-inline:0}time span{display:none}}
";

/// A folder, a file, and the way up.
const SPRITE: &str = "<svg class=sprite>\
    <symbol id=d viewBox=\"0 0 24 24\"><path d=\"M3 6a2 2 0 0 1 2-2h4.2a2 2 0 0 1 1.4.6L12 6h7a2 2 0 0 1 2 \
    2v10a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z\"/></symbol>\
    <symbol id=f viewBox=\"0 0 24 24\"><path d=\"M6 2a2 2 0 0 0-2 2v16a2 2 0 0 0 2 2h12a2 2 0 0 0 \
    2-2V8l-6-6zm0 2h7v5h5v11H6z\"/></symbol>\
    <symbol id=u viewBox=\"0 0 24 24\"><path d=\"M12 4 4 12l1.5 1.5 5.4-5.4V20h2.2V8.1l5.4 5.4L20 \
    12z\"/></symbol></svg>\n";

/// The page of the directory at `path`, decoded and with a slash at both ends. `contents` are in
/// `order`; `limit` is how many names were looked at when they are cut.
pub(super) fn render(path: &[u8], contents: &Contents, order: Order, limit: usize) -> Vec<u8> {
    // A row takes some 250 bytes beside the name, which is in it twice.
    let mut page = Page(Vec::with_capacity(8192 + contents.entries.len() * 350));
    let (segments, query) = (segments(path), order.query());
    page.head(&segments);
    page.heading(&segments, query);
    if contents.is_cut {
        page.text("<p class=cut>This directory has more than ");
        page.grouped(limit as u64);
        page.text(" entries. These are the first that the file system gave.\n");
    }
    page.text("<main><table>\n<thead><tr>");
    page.column(By::Name, "Name", order);
    page.column(By::Size, "Size", order);
    page.column(By::Time, "Modified", order);
    page.text("</thead>\n<tbody>\n");
    if !segments.is_empty() {
        page.text("<tr class=u><td><a href=\"../");
        page.text(query);
        page.text("\"><svg aria-hidden=true><use href=\"#u\"/></svg>Parent folder</a><td><td>\n");
    }
    for entry in &contents.entries {
        page.row(entry, query);
    }
    page.text("</tbody></table></main>\n");
    page.footer(contents);
    page.0
}

fn segments(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|segment| !segment.is_empty())
        .collect()
}

struct Page(Vec<u8>);

impl Page {
    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn head(&mut self, segments: &[&[u8]]) {
        self.text(
            "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
             <meta name=viewport content=\"width=device-width, initial-scale=1\">\n<title>",
        );
        match segments.last() {
            Some(name) => self.escaped_plain(name),
            None => self.text("Files"),
        }
        self.text("</title>\n<style>");
        self.text(STYLE);
        self.text("</style>\n");
        self.text(SPRITE);
    }

    /// The way to here, each step a link.
    fn heading(&mut self, segments: &[&[u8]], query: &str) {
        self.text("<nav aria-label=Path><h1>");
        for depth in 0..=segments.len() {
            let up = segments.len() - depth;
            if up > 0 {
                self.text("<a href=\"");
                for _ in 0..up {
                    self.text("../");
                }
                self.text(query);
                self.text("\">");
            }
            match depth.checked_sub(1).map(|index| segments[index]) {
                None => self.text("Files"),
                Some(name) => self.name(name),
            }
            self.text(if up > 0 { "</a><i>/</i>" } else { "" });
        }
        self.text("</h1></nav>\n");
    }

    /// A heading that sorts by its column: the other way round if it is sorted by it already.
    fn column(&mut self, by: By, title: &str, order: Order) {
        let is_current = order.by == by;
        let is_descending = match is_current {
            true => !order.is_descending,
            // The largest and the newest are what one looks for.
            false => by != By::Name,
        };
        self.text("<th scope=col");
        if is_current {
            self.text(match order.is_descending {
                false => " aria-sort=ascending",
                true => " aria-sort=descending",
            });
        }
        // A form, because a link would be followed by whoever fetches everything (wget -r): the same
        // names in every order. Without an address of its own a form leads to this page.
        self.text("><form><input type=hidden name=order value=");
        self.text(if is_descending { "desc" } else { "asc" });
        self.text("><button name=sort value=");
        self.text(by.word());
        self.text(">");
        self.text(title);
        self.text("</button></form>");
    }

    fn row(&mut self, entry: &DirectoryEntry, query: &str) {
        let is_directory = is_directory(entry);
        self.text(if is_directory {
            "<tr class=d><td>"
        } else {
            "<tr><td>"
        });
        let link = link_to(entry);
        match &link {
            Some(link) => {
                self.text("<a href=\"");
                self.0.extend_from_slice(link);
                self.text(if is_directory { query } else { "" });
                self.text("\">");
            }
            None => self.text("<b title=\"A name with a backslash can't be asked for.\">"),
        }
        self.text(if is_directory {
            "<svg aria-hidden=true><use href=\"#d\"/></svg>"
        } else {
            "<svg aria-hidden=true><use href=\"#f\"/></svg>"
        });
        self.name(&entry.name);
        self.text(if is_directory { "/" } else { "" });
        self.text(if link.is_some() { "</a>" } else { "</b>" });
        if is_directory {
            self.text("<td>");
        } else {
            self.text("<td title=\"");
            self.grouped(entry.metadata.bytes);
            self.text(match entry.metadata.bytes {
                1 => " byte\">",
                _ => " bytes\">",
            });
            self.text(&human(entry.metadata.bytes));
        }
        let time = iso_time(entry.metadata.modified_seconds);
        self.text("<td><time datetime=");
        self.text(&time);
        self.text(">");
        self.text(&time[..10]);
        self.text("<span> ");
        self.text(&time[11..16]);
        self.text("</span></time>\n");
    }

    fn footer(&mut self, contents: &Contents) {
        let entries = &contents.entries;
        let files = || entries.iter().filter(|entry| !is_directory(entry));
        let bytes: u64 = files().map(|entry| entry.metadata.bytes).sum();
        let file_count = files().count();
        self.text("<footer>");
        self.count(entries.len() - file_count, "folder");
        self.text(", ");
        self.count(file_count, "file");
        if file_count > 0 {
            self.text(", ");
            self.text(&human(bytes));
        }
        self.text(". Times are UTC.</footer>\n");
    }

    fn count(&mut self, count: usize, noun: &str) {
        self.grouped(count as u64);
        self.text(" ");
        self.text(noun);
        self.text(if count == 1 { "" } else { "s" });
    }

    /// A number with its thousands apart.
    fn grouped(&mut self, number: u64) {
        let digits = number.to_string();
        for (index, digit) in digits.bytes().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                self.text(",");
            }
            self.0.push(digit);
        }
    }

    /// A name as it is to be read, set apart from the direction of what is around it.
    fn name(&mut self, name: &[u8]) {
        self.text("<bdi>");
        for chunk in name.utf8_chunks() {
            for character in chunk.valid().chars() {
                match is_unseen(character) {
                    false => self.escaped(character),
                    // Writing to a Vec doesn't fail.
                    true => {
                        let _ = write!(self.0, "<u>{}</u>", code(character));
                    }
                }
            }
            for byte in chunk.invalid() {
                let _ = write!(self.0, "<u>\\x{byte:02x}</u>");
            }
        }
        self.text("</bdi>");
    }

    /// The same where there can be no elements.
    fn escaped_plain(&mut self, name: &[u8]) {
        for chunk in name.utf8_chunks() {
            for character in chunk.valid().chars() {
                match is_unseen(character) {
                    false => self.escaped(character),
                    true => self.text(&code(character)),
                }
            }
            for byte in chunk.invalid() {
                let _ = write!(self.0, "\\x{byte:02x}");
            }
        }
    }

    fn escaped(&mut self, character: char) {
        match character {
            '&' => self.text("&amp;"),
            '<' => self.text("&lt;"),
            '>' => self.text("&gt;"),
            '"' => self.text("&quot;"),
            '\'' => self.text("&#39;"),
            _ => self.text(character.encode_utf8(&mut [0; 4])),
        }
    }
}

fn code(character: char) -> String {
    match character {
        '\0'..='\u{7f}' => format!("\\x{:02x}", u32::from(character)),
        _ => format!("U+{:04X}", u32::from(character)),
    }
}

/// Characters that show nothing or change how others are shown: controls, and Unicode's format
/// characters, which turn text around (UAX #9), join, hide or end lines. Of the blanks only the
/// space looks like what it is.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{1680}'
                | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200b}'
                | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}' | '\u{3000}'
                | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A size in the unit that leaves the fewest digits: two or more of them.
fn human(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 1u128 << 10;
    for name in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
        if tenths < 100 {
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        let whole = (u128::from(bytes) + unit / 2) / unit;
        if whole < 1024 {
            return format!("{whole} {name}");
        }
        unit <<= 10;
    }
    unreachable!("2^64 bytes are 16 EiB")
}

/// `2026-01-02T03:04:05Z`; what is before 1970 is its beginning.
pub(super) fn iso_time(seconds: i64) -> String {
    let date = HttpDate::from_unix_seconds(seconds.max(0).unsigned_abs());
    let text = String::from_utf8_lossy(date.as_bytes());
    // Sun, 06 Nov 1994 08:49:37 GMT
    let (day, month, year, clock) = (&text[5..7], &text[8..11], &text[12..16], &text[17..25]);
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(month).unwrap_or_default() / 3 + 1;
    format!("{year}-{month:02}-{day}T{clock}Z")
}
