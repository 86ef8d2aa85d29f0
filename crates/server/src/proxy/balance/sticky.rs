//! The cookie that keeps a client with its server.
//!
//! Its value says nothing: it is a keyed hash of the server's name, so that nobody learns addresses
//! from it, or makes one up for a server that he wants to reach. It is the same in all workers and
//! for as long as the key is, whatever the order of the servers.

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};

/// Hexadecimal digits of a value.
const DIGITS: usize = 16;

/// The values of the servers of one upstream.
#[derive(Debug)]
pub(crate) struct Sticky {
    values: Box<[[u8; DIGITS]]>,
}

impl Sticky {
    /// For servers of these names, which differ. Whoever knows the key can make values up.
    pub(crate) fn new<'a>(key: &[u8; 32], names: impl IntoIterator<Item = &'a str>) -> Sticky {
        let value = |name: &str| {
            let mut mac = Blake2sMac256::new_from_slice(key).expect("keys of 32 bytes are fine");
            mac.update(name.as_bytes());
            let hash = mac.finalize_fixed();
            let digit = |index: usize| {
                let half = hash[index / 2] >> (4 * (1 - index % 2)) & 0xf;
                b"0123456789abcdef"[usize::from(half)]
            };
            std::array::from_fn(digit)
        };
        Sticky {
            values: names.into_iter().map(value).collect(),
        }
    }

    /// The server that a cookie's value names; `None` for any other value.
    pub(crate) fn server(&self, value: &[u8]) -> Option<usize> {
        self.values.iter().position(|own| own == value)
    }

    /// The value that names a server: hexadecimal digits.
    ///
    /// # Panics
    /// When there is no such server.
    pub(crate) fn value(&self, server: usize) -> &str {
        std::str::from_utf8(&self.values[server]).expect("digits are UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::Sticky;
    use std::collections::HashSet;

    const NAMES: [&str; 3] = ["10.0.0.1:80", "10.0.0.2:80", "unix:/run/app.sock"];

    #[test]
    fn a_value_leads_back_to_its_server_in_any_order() {
        let sticky = Sticky::new(&[7; 32], NAMES);
        let reversed = Sticky::new(&[7; 32], NAMES.into_iter().rev());
        for server in 0..3 {
            let value = sticky.value(server);
            assert_eq!(sticky.server(value.as_bytes()), Some(server));
            assert_eq!(reversed.server(value.as_bytes()), Some(2 - server));
        }
    }

    #[test]
    fn a_value_says_nothing_without_the_key() {
        let values: HashSet<String> = (0..10)
            .flat_map(|key| {
                let sticky = Sticky::new(&[key; 32], NAMES);
                (0..3)
                    .map(|server| sticky.value(server).to_owned())
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(values.len(), 30, "none twice");
        for value in values {
            assert_eq!(value.len(), 16);
            assert!(value.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }

    #[test]
    fn other_values_name_nobody() {
        let sticky = Sticky::new(&[7; 32], NAMES);
        let value = sticky.value(1).to_owned();
        for other in [
            "",
            "10.0.0.2:80",
            &value[1..],
            &format!("{value}0"),
            &value
                .to_uppercase()
                .replace(|c: char| c.is_ascii_digit(), "A"),
            "0000000000000000",
        ] {
            assert_eq!(sticky.server(other.as_bytes()), None, "{other}");
        }
    }
}
