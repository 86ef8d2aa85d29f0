//! The small grammar that all field values share: tokens, lists, whitespace, decimal numbers.

/// Bytes of a token (RFC 9110 §5.6.2).
static TOKEN: [bool; 256] = {
    let mut map = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        map[byte] = b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
            || matches!(b, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    map
};

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
#[inline]
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Whether `byte` may stand in a field value (RFC 9110 §5.5): no control character but HTAB.
#[inline]
pub(crate) const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Strips optional whitespace (RFC 9110 §5.6.3) from both ends.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a comma-separated list of tokens (RFC 9110 §5.6.1), trimmed, the empty ones
/// included. Not for lists with quoted strings.
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// A number of one or more digits and nothing else; `None` when it doesn't fit.
#[inline]
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(number)
}

/// Whether `bytes` is a token (RFC 9110 §5.6.2). Without an early end: names are short and sound.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .fold(true, |token, &byte| token & is_token_byte(byte))
}

/// Compares a field name with one written in lower case, of letters and hyphens.
///
/// Setting bit 5 lower-cases a letter, and turns no byte into a letter that isn't that letter.
#[inline(always)]
pub(crate) fn name_is<const N: usize>(name: &[u8], lower: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else {
        return false;
    };
    let mut difference = 0;
    for at in 0..N {
        let case = if lower[at] == b'-' { 0 } else { 0x20 };
        difference |= (name[at] | case) ^ lower[at];
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_digits_that_fit() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            "",
            "18446744073709551616",
            "+1",
            "-1",
            "1 ",
            "0x1",
            "1,1",
            "٣",
        ] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn lists_are_split_and_trimmed() {
        let all: Vec<_> = elements(b" a ,b\t,, c d ").collect();
        assert_eq!(all, [&b"a"[..], b"b", b"", b"c d"]);
    }

    #[test]
    fn name_comparison_is_exact_over_every_byte() {
        for byte in 0..=255u8 {
            let name = [b'I', b'f', byte, b'm'];
            assert_eq!(
                name_is(&name, b"if-m"),
                name.eq_ignore_ascii_case(b"if-m"),
                "{byte:#x}"
            );
            let name = [byte];
            assert_eq!(
                name_is(&name, b"k"),
                byte.eq_ignore_ascii_case(&b'k'),
                "{byte:#x}"
            );
        }
        assert!(!name_is(b"hosts", b"host"));
    }

    #[test]
    fn token_bytes_are_those_of_the_rfc() {
        let delimiters = b"\"(),/:;<=>?@[\\]{} ";
        for byte in 0..=255u8 {
            let expect = byte.is_ascii_graphic() && !delimiters.contains(&byte);
            assert_eq!(is_token_byte(byte), expect, "{byte:#x}");
        }
    }
}
