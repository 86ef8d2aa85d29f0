//! What a client wants of several media types (RFC 9110 §12.5.1).

use ringway_http::head::RequestHead;

/// How much the client wants `kind`/`subtype`, in thousandths: by the most specific range that
/// names it. Without the field everything is as good.
pub(super) fn weight(head: &RequestHead<'_>, kind: &str, subtype: &str) -> u16 {
    let mut best = None;
    let mut is_sent = false;
    for element in head
        .header("accept")
        .flat_map(|line| line.split(|byte| *byte == b','))
    {
        is_sent = true;
        let Ok(element) = std::str::from_utf8(element) else {
            continue;
        };
        let mut parts = element.split(';').map(str::trim);
        let Some((one, other)) = parts.next().and_then(|range| range.split_once('/')) else {
            continue;
        };
        let precedence = match (one, other) {
            ("*", "*") => 1,
            (one, "*") if one.eq_ignore_ascii_case(kind) => 2,
            (one, other)
                if one.eq_ignore_ascii_case(kind) && other.eq_ignore_ascii_case(subtype) =>
            {
                3
            }
            _ => continue,
        };
        let weight = parts.find_map(quality).unwrap_or(1000);
        if best.is_none_or(|(known, _)| precedence > known) {
            best = Some((precedence, weight));
        }
    }
    match best {
        Some((_, weight)) => weight,
        None if is_sent => 0,
        None => 1000,
    }
}

/// RFC 9110 §12.4.2; what isn't a weight is none.
fn quality(parameter: &str) -> Option<u16> {
    let value = parameter
        .strip_prefix("q=")
        .or(parameter.strip_prefix("Q="))?;
    let number: f32 = value.parse().ok()?;
    (0.0..=1.0)
        .contains(&number)
        .then_some((number * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_http::head::{HeadLimits, HeadScan, parse_head};

    #[track_caller]
    fn check(fields: &str, html: u16, json: u16) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut scan = HeadScan::default();
        let limits = HeadLimits::default();
        let (head, _) = parse_head(text.as_bytes(), &mut scan, &limits)
            .unwrap()
            .unwrap();
        let weights = (
            weight(&head, "text", "html"),
            weight(&head, "application", "json"),
        );
        assert_eq!(weights, (html, json), "{fields}");
    }

    #[test]
    fn the_most_specific_range_counts() {
        check("", 1000, 1000);
        check("Accept: */*\r\n", 1000, 1000);
        check("Accept: application/json\r\n", 0, 1000);
        check(
            "Accept: TEXT/*;q=0.5, Application/JSON;q=0.25\r\n",
            500,
            250,
        );
        check("Accept: */*;q=0.8, text/html, text/*;q=0.1\r\n", 1000, 800);
        check(
            "Accept: text/html,application/xhtml+xml,image/webp,*/*;q=0.8\r\n",
            1000,
            800,
        );
        check(
            "Accept: text/html;level=1;q=0.3\r\nAccept: */*;q=0\r\n",
            300,
            0,
        );
        check("Accept: \r\n", 0, 0);
        check("Accept: html, text, /, ;q=1\r\n", 0, 0);
        check(
            "Accept: text/html;q=7, application/json;q=x\r\n",
            1000,
            1000,
        );
    }
}
