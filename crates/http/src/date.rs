//! The text formats of time in HTTP (RFC 9110 §5.6.7), to and from seconds since the Unix epoch.

use std::time::{Duration, UNIX_EPOCH};

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// 9999-12-31 23:59:59, the last second the format can name.
const LAST_SECOND: u64 = 253_402_300_799;

/// An IMF-fixdate, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// Formats seconds since the Unix epoch; what lies beyond the year 9999 becomes its end.
    pub fn from_unix_seconds(seconds: u64) -> Self {
        let seconds = seconds.min(LAST_SECOND);
        let days = seconds / 86_400;
        let (year, month, day) = civil(days as u32);
        let clock = (seconds % 86_400) as u32;

        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
        two_digits(&mut text, 5, day);
        text[8..11].copy_from_slice(MONTHS[month as usize - 1]);
        two_digits(&mut text, 12, year / 100);
        two_digits(&mut text, 14, year % 100);
        two_digits(&mut text, 17, clock / 3_600);
        two_digits(&mut text, 20, clock / 60 % 60);
        two_digits(&mut text, 23, clock % 60);
        HttpDate(text)
    }

    /// The text.
    #[inline]
    pub fn as_bytes(&self) -> &[u8; 29] {
        &self.0
    }
}

/// Parses any of the three formats of RFC 9110 §5.6.7 into seconds since the Unix epoch; `None`
/// for anything else, and for times before 1970.
pub fn parse(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let time = httpdate::parse_http_date(text).ok()?;
    time.duration_since(UNIX_EPOCH)
        .ok()
        .as_ref()
        .map(Duration::as_secs)
}

fn two_digits(text: &mut [u8; 29], at: usize, number: u32) {
    text[at] = b'0' + (number / 10) as u8;
    text[at + 1] = b'0' + (number % 10) as u8;
}

/// Year, month and day of a day since the epoch: Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>), which counts in eras of 400 years
/// from 1 March of the year 0, so that the leap day is the last of its year.
fn civil(days: u32) -> (u32, u32, u32) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u32::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, expect: &str) {
        let date = HttpDate::from_unix_seconds(seconds);
        assert_eq!(std::str::from_utf8(date.as_bytes()).unwrap(), expect);
        assert_eq!(parse(expect.as_bytes()), Some(seconds));
    }

    #[test]
    fn known_dates() {
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn beyond_the_last_year_is_its_end() {
        let end = HttpDate::from_unix_seconds(LAST_SECOND);
        assert_eq!(HttpDate::from_unix_seconds(LAST_SECOND + 1), end);
        assert_eq!(HttpDate::from_unix_seconds(u64::MAX), end);
    }

    /// Every day of four centuries, which is the period of the calendar, against another author's
    /// algorithm.
    #[test]
    fn every_day_agrees_with_httpdate() {
        for day in 0..146_097u64 {
            let seconds = day * 86_400 + day % 86_400;
            let expect = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(
                HttpDate::from_unix_seconds(seconds).as_bytes(),
                expect.as_bytes()
            );
        }
    }

    #[test]
    fn all_three_formats_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_date() {
        for text in [
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1960 08:49:37 GMT",
            "S\u{fc}n, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
