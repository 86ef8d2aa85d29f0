//! Media types by file name.

/// Where the table of `mime_guess` lacks an ending, has what is out of date, or what makes a browser
/// save what it could show. By the registrations of IANA and the WHATWG's MIME Sniffing.
const MEDIA_TYPES: &[(&str, &str)] = &[
    ("bat", "text/plain"),
    ("cjs", "text/javascript"),
    ("deb", "application/vnd.debian.binary-package"),
    ("go", "text/plain"),
    ("jsonl", "application/jsonl"),
    ("lock", "text/plain"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("map", "application/json"),
    ("mjs", "text/javascript"),
    ("mkv", "video/matroska"),
    ("ndjson", "application/x-ndjson"),
    ("obj", "model/obj"),
    ("otf", "font/otf"),
    ("rpm", "application/x-rpm"),
    ("sh", "text/x-shellscript"),
    ("sql", "application/sql"),
    ("stl", "model/stl"),
    ("tgz", "application/gzip"),
    ("toml", "application/toml"),
    ("ts", "video/mp2t"),
    ("usdz", "model/vnd.usdz+zip"),
    ("woff", "font/woff"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zst", "application/zstd"),
];

/// The `Content-Type` of a file by its name's ending: `application/octet-stream` when that says
/// nothing. Types that are text get `charset`, unless it is empty.
pub(super) fn content_type(name: &[u8], charset: &str) -> String {
    let extension = name
        .rsplit(|byte| *byte == b'/')
        .next()
        .and_then(|file| {
            file.iter()
                .rposition(|byte| *byte == b'.')
                .map(|dot| &file[dot + 1..])
        })
        .and_then(|extension| std::str::from_utf8(extension).ok())
        .unwrap_or_default();
    let lower = extension.to_ascii_lowercase();
    let guess = match MEDIA_TYPES.iter().find(|(known, _)| *known == lower) {
        Some((_, media_type)) => (*media_type).to_owned(),
        None => mime_guess::from_ext(&lower)
            .first_or_octet_stream()
            .essence_str()
            .to_owned(),
    };
    if charset.is_empty() || !is_text(&guess) {
        guess
    } else {
        format!("{guess}; charset={charset}")
    }
}

/// Whether a media type, with or without parameters, is among `patterns`: whole ones, or with a `*`
/// at either end.
pub(super) fn matches(content_type: &str, patterns: &[String]) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    patterns.iter().any(|pattern| {
        if let Some(start) = pattern.strip_suffix('*') {
            essence.starts_with(start)
        } else if let Some(end) = pattern.strip_prefix('*') {
            essence.ends_with(end)
        } else {
            essence == pattern
        }
    })
}

fn is_text(media_type: &str) -> bool {
    media_type.starts_with("text/")
        || media_type.ends_with("+xml")
        || media_type.ends_with("+json")
        || matches!(
            media_type,
            "application/json"
                | "application/xml"
                | "application/javascript"
                | "application/jsonl"
                | "application/x-ndjson"
                | "application/sql"
                | "application/toml"
                | "application/yaml"
        )
}

#[cfg(test)]
mod tests {
    use super::{MEDIA_TYPES, content_type};

    #[track_caller]
    fn check(name: &str, expected: &str) {
        assert_eq!(content_type(name.as_bytes(), "utf-8"), expected);
    }

    #[test]
    fn text_has_a_charset_and_other_types_have_none() {
        check("index.html", "text/html; charset=utf-8");
        check("a/b/STYLE.CSS", "text/css; charset=utf-8");
        check("app.js", "text/javascript; charset=utf-8");
        check("data.json", "application/json; charset=utf-8");
        check("logo.svg", "image/svg+xml; charset=utf-8");
        check("photo.jpeg", "image/jpeg");
        check("font.woff2", "font/woff2");
        check("module.wasm", "application/wasm");
    }

    #[test]
    fn what_the_table_lacks() {
        check("archive.tar.zst", "application/zstd");
        check("archive.tar.gz", "application/gzip");
        check("README.md", "text/markdown; charset=utf-8");
        check("app.js.map", "application/json; charset=utf-8");
        check("stream.m3u8", "application/vnd.apple.mpegurl");
        check("segment.ts", "video/mp2t");
        check("favicon.ico", "image/x-icon");
        check("config.yaml", "application/yaml; charset=utf-8");
        check("app.cjs", "text/javascript; charset=utf-8");
        check("font.otf", "font/otf");
    }

    #[test]
    fn the_table_is_in_order_and_says_something_new() {
        assert!(MEDIA_TYPES.is_sorted_by(|one, other| one.0 < other.0));
        for (ending, media_type) in MEDIA_TYPES {
            let guess = mime_guess::from_ext(ending).first_or_octet_stream();
            assert_ne!(guess.essence_str(), *media_type, "{ending}");
        }
    }

    #[test]
    fn patterns() {
        let matches = |content_type: &str, pattern: &str| {
            super::matches(content_type, &["other/*".to_owned(), pattern.to_owned()])
        };
        assert!(matches("text/html; charset=utf-8", "text/*"));
        assert!(matches("text/html", "text/html"));
        assert!(matches("image/svg+xml", "*+xml"));
        assert!(matches("image/png", "*"));
        assert!(!matches("image/png", "text/*"));
        assert!(!matches("text/html5", "text/html"));
        assert!(!matches("application/xml", "*+xml"));
    }

    #[test]
    fn an_unknown_ending_is_bytes() {
        check("file", "application/octet-stream");
        check("dir.html/file", "application/octet-stream");
        check("file.nosuchthing", "application/octet-stream");
        assert_eq!(
            content_type(b"name.\xff\xfe", "utf-8"),
            "application/octet-stream"
        );
    }

    #[test]
    fn an_empty_charset_is_none() {
        assert_eq!(content_type(b"index.html", ""), "text/html");
    }
}
