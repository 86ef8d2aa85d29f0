//! A Rust source as the checks see it: its code without comments and literals, and its functions.
//!
//! Not a parser: a scan that knows comments, literals and braces. That is enough for text that
//! rustfmt has laid out and the compiler has accepted, and it needs no dependency.

/// A source with its comments, strings and characters blanked out of `code`.
pub(super) struct Source {
    /// Relative to the repository's root.
    pub(super) path: String,
    /// The lines as they are.
    pub(super) lines: Vec<String>,
    /// The same lines with blanks in place of comments and literals.
    pub(super) code: Vec<String>,
    /// How many lines come before the tail of unit tests.
    pub(super) production_lines: usize,
}

/// A function and how many lines it takes, from `fn` to its closing brace.
#[derive(Debug, PartialEq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) length_lines: usize,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Source {
        let blanked = blank(text);
        let code: Vec<String> = blanked.lines().map(str::to_owned).collect();
        // A module of tests in a file of its own is declared anywhere, and ends nothing.
        let opens_tail = |pair: &[String]| {
            pair[0] == "#[cfg(test)]"
                && pair[1].starts_with("mod ")
                && pair[1].ends_with(['{', '}'])
        };
        let production_lines = code.windows(2).position(opens_tail).unwrap_or(code.len());
        Source {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            code,
            production_lines,
        }
    }

    /// Whether the line at `index` is compiled for tests only.
    pub(super) fn is_test(&self, index: usize) -> bool {
        let mut parts = self.path.split('/');
        index >= self.production_lines
            || parts.any(|part| ["tests", "tests.rs", "benches"].contains(&part))
    }

    /// The functions that have a body, nested ones too.
    pub(super) fn functions(&self) -> Vec<Function> {
        let code = self.code.join("\n");
        let mut found = Vec::new();
        for (start, word) in words(&code) {
            if word != "fn" {
                continue;
            }
            let rest = &code[start + "fn".len()..];
            let name: String = rest
                .trim_start()
                .chars()
                .take_while(|&letter| is_word(letter))
                .collect();
            let Some(end) = body_end(rest) else {
                continue; // a pointer type, or a declaration in a trait
            };
            if name.is_empty() {
                continue;
            }
            let count = |text: &str| text.matches('\n').count();
            found.push(Function {
                name,
                line: count(&code[..start]) + 1,
                length_lines: count(&rest[..end]) + 1,
            });
        }
        found
    }
}

/// Whether `code` has `word` as a word of its own.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    words(code).any(|(_, found)| found == word)
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.split(|letter| !is_word(letter))
        .filter(|word| !word.is_empty())
        .map(|word| {
            // Both are slices of one string, so the difference is the offset.
            (word.as_ptr() as usize - code.as_ptr() as usize, word)
        })
}

/// Where the body that follows a function's name ends; nothing when there is none.
fn body_end(signature: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut brackets = 0_usize;
    for (index, letter) in signature.char_indices() {
        match letter {
            '(' | '[' => brackets += 1,
            ')' | ']' if brackets == 0 => return None, // the end of what holds a pointer type
            ')' | ']' => brackets -= 1,
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' if depth <= 1 => return (depth == 1).then_some(index),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Replaces what is in comments and literals by spaces; lines stay lines.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = at + literal_bytes(bytes, at);
        if end == at {
            let letter = text[at..]
                .chars()
                .next()
                .expect("every end below is a boundary");
            out.push(letter);
            at += letter.len_utf8();
        } else {
            out.extend(
                text[at..end]
                    .chars()
                    .map(|c| if c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    out
}

/// How long the comment or literal is that starts here; 0 when none does.
fn literal_bytes(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let follows_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => rest
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment_bytes(rest),
        [b'"', ..] => string_bytes(rest),
        [b'b' | b'c', b'"', ..] if !follows_word => 1 + string_bytes(&rest[1..]),
        [b'r', b'"' | b'#', ..] if !follows_word => raw_string_bytes(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !follows_word => raw_string_bytes(rest, 2),
        [b'\'', b'\\', ..] => 2 + character_tail_bytes(&rest[2..]),
        [b'\'', ..] => character_bytes(rest),
        _ => 0,
    }
}

fn block_comment_bytes(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_bytes(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string_bytes(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return 0; // a raw identifier
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &rest[open + 1..];
    let end = body.windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |end| open + 1 + end + close.len())
}

/// After a backslash: the escape's letter, and on to the closing quote.
fn character_tail_bytes(tail: &[u8]) -> usize {
    let quote = tail.iter().skip(1).position(|&byte| byte == b'\'');
    quote.map_or(tail.len(), |quote| quote + 2)
}

/// A quote opens a character only when another closes it right after one letter; else a lifetime.
fn character_bytes(rest: &[u8]) -> usize {
    let letter_bytes = match rest.get(1) {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    };
    if rest.get(1 + letter_bytes) == Some(&b'\'') {
        letter_bytes + 2
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::{Function, Source, blank};

    fn check_blank(text: &str, expect: &str) {
        assert_eq!(blank(text), expect);
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        check_blank("a // b\nc", "a     \nc");
        check_blank("a /* b /* c */ d */ e", "a                   e");
        check_blank(r#"f("x\"{", b"}", 2)"#, "f(      ,     , 2)");
        check_blank("r#\"a\"b\"# + 1", "         + 1");
        check_blank(r"'{' '\'' '\u{7d}' 'é'", &" ".repeat(21));
    }

    #[test]
    fn lifetimes_and_raw_identifiers_stay() {
        check_blank("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
        check_blank("r#fn + var\"x\"", "r#fn + var   ");
    }

    #[test]
    fn functions_are_measured_from_their_keyword_to_their_brace() {
        let text = "trait T { fn declared(&self); }\n\
                    fn one() { 1 }\n\
                    fn two(f: fn(u8) -> [u8; 2]) -> u8 {\n    fn inner() {\n    }\n    '}'\n}\n";
        let found = Source::new("x.rs", text).functions();
        let function = |name: &str, line, length_lines| Function {
            name: name.to_owned(),
            line,
            length_lines,
        };
        assert_eq!(
            found,
            [
                function("one", 2, 1),
                function("two", 3, 5),
                function("inner", 4, 2)
            ]
        );
    }

    #[test]
    fn a_module_of_tests_in_a_file_of_its_own_is_no_tail() {
        let source = Source::new("src/x.rs", "//! X.\n#[cfg(test)]\nmod tests;\nfn f() {}\n");
        assert!(!source.is_test(3));
        assert!(Source::new("src/x/tests.rs", "//! X.\n").is_test(0));
    }

    #[test]
    fn the_tail_of_tests_is_not_production() {
        let source = Source::new(
            "src/x.rs",
            "//! X.\nfn f() {}\n#[cfg(test)]\nmod tests {}\n",
        );
        assert_eq!(source.production_lines, 2);
        assert!(!source.is_test(1));
        assert!(source.is_test(2));
    }
}
