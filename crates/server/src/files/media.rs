//! Media types by file name.

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
    let guess = match extension.to_ascii_lowercase().as_str() {
        // Newer than the table, or less useful there.
        "mjs" | "js" => "text/javascript".to_owned(),
        "wasm" => "application/wasm".to_owned(),
        "avif" => "image/avif".to_owned(),
        "webmanifest" => "application/manifest+json".to_owned(),
        lower => mime_guess::from_ext(lower)
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
            "application/json" | "application/xml" | "application/javascript"
        )
}

#[cfg(test)]
mod tests {
    use super::content_type;

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
