//! The record behind a region's name: 272 bytes that say where the memory is to be had.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0–7 | magic |
//! | 8–11 | layout version; magic and version stay where they are in every layout |
//! | 12–15 | flags, none yet: zero |
//! | 16–23 | bytes of memory |
//! | 24–31 | the memory's inode |
//! | 32–35 | the owner's process id |
//! | 36–39 | the owner's file descriptor of the memory |
//! | 40–47 | when the owner started, in clock ticks since boot |
//! | 48–55 | the owner's pid namespace, in which its id means it (lower half), and time namespace, for its start (upper) |
//! | 56–57 | bytes of the name |
//! | 58–263 | the name, then zeros |
//! | 264–271 | FNV-1a of all bytes before |
//!
//! Numbers are little-endian. [`Record::decode`] takes any bytes whatever and never panics.

use std::fmt;

/// Bytes of a record.
pub const NBYTES: usize = 272;
/// What every record begins with, in every layout.
pub const MAGIC: [u8; 8] = *b"simplrgn";
/// The layout written and read here.
pub const VERSION: u32 = 1;
/// The longest name.
pub const NAME_NBYTES: usize = 200;

const NAME_AT: usize = 58;
const CHECKSUM_AT: usize = NBYTES - 8;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The region's name.
    pub name: String,
    /// Its size.
    pub nbytes: u64,
    /// The memory's inode.
    pub identity: u64,
    /// The owner's process id.
    pub pid: i32,
    /// The owner's file descriptor of the memory.
    pub fd: i32,
    /// When the owner started, in clock ticks since boot.
    pub start_time: u64,
    /// The owner's pid and time namespaces, as one word.
    pub namespace: u64,
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// The beginning of one, or one with wrong bytes in it: whoever wrote it did not come to its end.
    Unfinished,
    /// Something else altogether.
    Foreign,
    /// A record of another layout.
    Version(u32),
    /// Complete, and says what cannot be.
    Impossible(&'static str),
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Unfinished => write!(formatter, "its record is unfinished"),
            Flaw::Foreign => write!(formatter, "what is there is no record of a region"),
            Flaw::Version(found) => {
                write!(
                    formatter,
                    "its record has layout version {found}, this library reads and writes version {VERSION}"
                )
            }
            Flaw::Impossible(what) => write!(formatter, "its record cannot be right: {what}"),
        }
    }
}

/// Whether a name is one: 1 to 200 of `[A-Za-z0-9._-]`, the first of them no dot.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_NBYTES).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// `N` bytes at `at`. Only called with ranges inside a record.
fn field<const N: usize>(bytes: &[u8; NBYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

impl Record {
    /// The record's bytes. The name must be one ([`is_name`]): what is too long is cut off, and will not decode.
    pub fn encode(&self) -> [u8; NBYTES] {
        let mut bytes = [0; NBYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let name = &self.name.as_bytes()[..self.name.len().min(NAME_NBYTES)];
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(16, &self.nbytes.to_le_bytes());
        put(24, &self.identity.to_le_bytes());
        put(32, &self.pid.to_le_bytes());
        put(36, &self.fd.to_le_bytes());
        put(40, &self.start_time.to_le_bytes());
        put(48, &self.namespace.to_le_bytes());
        put(56, &(name.len() as u16).to_le_bytes());
        put(NAME_AT, name);
        let sum = checksum(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a record from whatever a file held.
    ///
    /// # Errors
    /// What is wrong with it, if anything is.
    pub fn decode(bytes: &[u8]) -> Result<Record, Flaw> {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(Flaw::Foreign);
        }
        let Some(version) = bytes.get(8..12) else { return Err(Flaw::Unfinished) };
        let version = version.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        if version != VERSION {
            return Err(Flaw::Version(version));
        }
        if bytes.len() > NBYTES {
            return Err(Flaw::Impossible("it is too long"));
        }
        let Ok(bytes) = <&[u8; NBYTES]>::try_from(bytes) else { return Err(Flaw::Unfinished) };
        if u64::from_le_bytes(field(bytes, CHECKSUM_AT)) != checksum(&bytes[..CHECKSUM_AT]) {
            return Err(Flaw::Unfinished);
        }
        let name_nbytes = usize::from(u16::from_le_bytes(field(bytes, 56)));
        let name_and_rest = &bytes[NAME_AT..CHECKSUM_AT];
        let (name, rest) = name_and_rest.split_at_checked(name_nbytes).ok_or(Flaw::Impossible("the name's length"))?;
        let name = std::str::from_utf8(name).ok().filter(|name| is_name(name)).ok_or(Flaw::Impossible("the name"))?;
        let record = Record {
            name: name.to_owned(),
            nbytes: u64::from_le_bytes(field(bytes, 16)),
            identity: u64::from_le_bytes(field(bytes, 24)),
            pid: i32::from_le_bytes(field(bytes, 32)),
            fd: i32::from_le_bytes(field(bytes, 36)),
            start_time: u64::from_le_bytes(field(bytes, 40)),
            namespace: u64::from_le_bytes(field(bytes, 48)),
        };
        let flaws = [
            (u32::from_le_bytes(field(bytes, 12)) != 0, "flags of which this version knows none"),
            (rest.iter().any(|byte| *byte != 0), "bytes behind the name"),
            (record.nbytes == 0 || i64::try_from(record.nbytes).is_err(), "the size"),
            (record.pid <= 0, "the owner's process id"),
            (record.fd < 0, "the owner's file descriptor"),
        ];
        match flaws.iter().find(|(is_so, _)| *is_so) {
            Some((_, what)) => Err(Flaw::Impossible(what)),
            None => Ok(record),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            name: "a.region-1_x".to_owned(),
            nbytes: 1 << 36,
            identity: 77,
            pid: 4242,
            fd: 9,
            start_time: 123_456,
            namespace: 4_026_531_836,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Record::decode(&record().encode()), Ok(record()));
        let longest = Record { name: "x".repeat(NAME_NBYTES), ..record() };
        assert_eq!(Record::decode(&longest.encode()), Ok(longest));
    }

    #[test]
    fn every_beginning_of_a_record_is_unfinished() {
        let bytes = record().encode();
        for nbytes in 0..NBYTES {
            assert_eq!(Record::decode(&bytes[..nbytes]), Err(Flaw::Unfinished), "{nbytes} bytes");
        }
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        for at in 0..NBYTES {
            let mut bytes = record().encode();
            bytes[at] ^= 0x40;
            assert!(Record::decode(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn other_things_are_told_apart() {
        assert_eq!(Record::decode(b"not a record at all"), Err(Flaw::Foreign));
        assert_eq!(Record::decode(&[0; NBYTES]), Err(Flaw::Foreign));
        let mut later = record().encode();
        later[8] = 2;
        assert_eq!(Record::decode(&later), Err(Flaw::Version(2)));
        assert!(Flaw::Version(2).to_string().contains("version 2, this library reads and writes version 1"));
        assert!(matches!(Record::decode(&[record().encode(), [0; NBYTES]].concat()), Err(Flaw::Impossible(_))));
    }

    #[test]
    fn a_right_checksum_makes_no_impossible_value_right() {
        for wrong in [
            Record { nbytes: 0, ..record() },
            Record { nbytes: u64::MAX, ..record() },
            Record { pid: 0, ..record() },
            Record { pid: -1, ..record() },
            Record { fd: -1, ..record() },
            Record { name: String::new(), ..record() },
            Record { name: ".hidden".to_owned(), ..record() },
            Record { name: "a/b".to_owned(), ..record() },
        ] {
            assert!(matches!(Record::decode(&wrong.encode()), Err(Flaw::Impossible(_))), "{wrong:?}");
        }
        let mut long_name = record().encode();
        long_name[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
        let sum = checksum(&long_name[..CHECKSUM_AT]);
        long_name[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Record::decode(&long_name), Err(Flaw::Impossible("the name's length")));
    }

    #[test]
    fn names_are_plain() {
        for name in ["a", "A-1_b.c", "-", "_.", &"x".repeat(NAME_NBYTES)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", ".a", "a/b", "a b", "ä", "a\0", &"x".repeat(NAME_NBYTES + 1)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
