//! Sets of processors, in the two forms in which the kernel writes them: lists (`0-3,8`) and masks
//! (`ff,00000000`).
//!
//! Both come from files that may hold anything, so a number beyond every kernel is an error and
//! never an allocation.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Above any processor or node number of any kernel (`NR_CPUS` is at most 8,192 on x86-64).
const TOO_LARGE: u32 = 1 << 16;

/// The bits in each comma-separated group of a mask.
const GROUP_BITS: u32 = 32;

/// A set of processors (or of nodes: the kernel writes them alike), in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CpuList(BTreeSet<u32>);

impl CpuList {
    /// The members, in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// Whether `cpu` is a member.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// How many members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest member.
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// What is in both.
    pub fn intersection(&self, other: &CpuList) -> CpuList {
        CpuList(self.0.intersection(&other.0).copied().collect())
    }

    /// What is in `self` and not in `other`.
    pub fn without(&self, other: &CpuList) -> CpuList {
        CpuList(self.0.difference(&other.0).copied().collect())
    }

    /// Whether every member is in `other`.
    pub fn is_subset(&self, other: &CpuList) -> bool {
        self.0.is_subset(&other.0)
    }

    /// Adds a member.
    pub fn insert(&mut self, cpu: u32) {
        self.0.insert(cpu);
    }

    /// Reads a mask: hexadecimal groups of 32 bits, the most significant first.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse_mask(text: &str) -> Result<CpuList, String> {
        let text = text.trim();
        let mut members = BTreeSet::new();
        for (position, group) in text.rsplit(',').enumerate() {
            let group = group.trim();
            // Some old kernels write one group of any length.
            let digits = group.trim_start_matches("0x");
            if digits.is_empty() || digits.len() > 8 {
                return Err(format!("{} is not a mask", quoted(text)));
            }
            let bits = u32::from_str_radix(digits, 16)
                .map_err(|_| format!("{} is not a mask", quoted(text)))?;
            let base = u32::try_from(position)
                .ok()
                .and_then(|position| position.checked_mul(GROUP_BITS))
                .filter(|&base| base < TOO_LARGE)
                .ok_or_else(|| format!("{} is a mask beyond any kernel", quoted(text)))?;
            members.extend(
                (0..GROUP_BITS)
                    .filter(|bit| bits >> bit & 1 == 1)
                    .map(|bit| base + bit),
            );
        }
        Ok(CpuList(members))
    }

    /// Writes a mask as the kernel takes it: zero groups in full, the most significant first.
    pub fn to_mask(&self) -> String {
        let highest = self.0.last().copied().unwrap_or(0);
        let mut groups = vec![0_u32; (highest / GROUP_BITS) as usize + 1];
        for cpu in &self.0 {
            groups[(cpu / GROUP_BITS) as usize] |= 1 << (cpu % GROUP_BITS);
        }
        let groups: Vec<String> = groups
            .iter()
            .rev()
            .map(|group| format!("{group:08x}"))
            .collect();
        groups.join(",")
    }
}

/// `text` in quotes, cut to a length that fits a line.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{more}")
}

impl FromIterator<u32> for CpuList {
    fn from_iter<I: IntoIterator<Item = u32>>(members: I) -> CpuList {
        CpuList(members.into_iter().collect())
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<CpuList, String> {
        let text = text.trim();
        let mut members = BTreeSet::new();
        let wrong = || format!("{} is not a list of processors", quoted(text));
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u32 = first.parse().map_err(|_| wrong())?;
            let last: u32 = last.parse().map_err(|_| wrong())?;
            if first > last || last >= TOO_LARGE {
                return Err(wrong());
            }
            members.extend(first..=last);
        }
        Ok(CpuList(members))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut members = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = members.next() {
            let mut last = first;
            while let Some(next) = members.next_if(|&next| next == last + 1) {
                last = next;
            }
            if first == last {
                write!(out, "{separator}{first}")?;
            } else {
                write!(out, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> String {
        list.to_string()
    }
}

impl TryFrom<String> for CpuList {
    type Error = String;

    fn try_from(text: String) -> Result<CpuList, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::CpuList;
    use proptest::prelude::*;

    fn check(text: &str, expect: &[u32]) {
        let list: CpuList = text.parse().expect(text);
        assert_eq!(list.iter().collect::<Vec<_>>(), expect, "{text:?}");
    }

    fn check_mask(text: &str, expect: &[u32]) {
        let list = CpuList::parse_mask(text).expect(text);
        assert_eq!(list.iter().collect::<Vec<_>>(), expect, "{text:?}");
    }

    #[test]
    fn lists_are_read() {
        check("", &[]);
        check("\n", &[]);
        check("0", &[0]);
        check("0-3,8\n", &[0, 1, 2, 3, 8]);
        check("1023-1025", &[1023, 1024, 1025]);
        check("0, 2", &[0, 2]);
    }

    #[test]
    fn masks_are_read() {
        check_mask("0", &[]);
        check_mask("3\n", &[0, 1]);
        check_mask("00000001,00000000,80000000", &[31, 64]);
        check_mask("ff,00000000", &[32, 33, 34, 35, 36, 37, 38, 39]);
    }

    #[test]
    fn nonsense_is_refused_without_being_counted_out() {
        for text in [
            "0-4294967295",
            "3-1",
            "a",
            "-1",
            "0-",
            "99999999999999999999",
            "1-2-3",
        ] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
        let endless = "0,".repeat(100_000);
        for text in ["", "g", "123456789", "1,,1", "-1", &endless] {
            assert!(
                CpuList::parse_mask(text).is_err(),
                "{}",
                &text[..text.len().min(9)]
            );
        }
    }

    #[test]
    fn masks_are_written_with_their_zero_groups() {
        let list: CpuList = "0,64".parse().expect("a list");
        assert_eq!(list.to_mask(), "00000001,00000000,00000001");
        assert_eq!(CpuList::default().to_mask(), "00000000");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(members in prop::collection::btree_set(0_u32..2000, 0..50)) {
            let list: CpuList = members.into_iter().collect();
            prop_assert_eq!(&list.to_string().parse::<CpuList>().expect("a list"), &list);
            prop_assert_eq!(&CpuList::parse_mask(&list.to_mask()).expect("a mask"), &list);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = text.parse::<CpuList>();
            let _ = CpuList::parse_mask(&text);
        }
    }
}
