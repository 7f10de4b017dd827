//! What the filter must know of HPACK's two tables (RFC 7541, section 2.3): for each field whether its name is
//! `:authority`, and how long name and value are.
//!
//! The values themselves are of no interest, so the model of the dynamic table is a ring of small entries in one fixed
//! array: 128 of them, as many as fit in the 4,096 bytes that we allow the client when each takes at least 32. Like
//! the real table it evicts the oldest first and counts 32 bytes for each entry beside its text (section 4.1).

/// Bytes that the dynamic table may count. We never send SETTINGS_HEADER_TABLE_SIZE, so it is the default
/// (RFC 9113, section 6.5.2).
pub(crate) const TABLE_SIZE_MAX: usize = 4096;

/// Bytes that an entry counts beside its name and value.
pub(crate) const ENTRY_OVERHEAD: usize = 32;

/// As many entries as can be in the table.
const ENTRIES_MAX: usize = TABLE_SIZE_MAX / ENTRY_OVERHEAD;

/// A field's name, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// `:authority`.
    Authority,
    /// Any other.
    Other {
        /// Bytes of it, decoded.
        length: usize,
    },
}

/// What is known of a field in one of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: Name,
    /// Whether its value is empty. Known of `:authority` only; false for other names.
    pub(super) empty_authority: bool,
}

/// One entry. Both numbers are at most [`TABLE_SIZE_MAX`].
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    authority: bool,
    name_length: u16,
    size: u16,
}

/// The dynamic table.
#[derive(Debug)]
pub(super) struct Table {
    /// A ring: the entries stand at `newest`, `newest + 1` and so on, modulo the length, newest first.
    entries: [Entry; ENTRIES_MAX],
    newest: usize,
    count: usize,
    size: usize,
    size_max: usize,
}

/// The names of the static table, in order (RFC 7541, appendix A).
pub(crate) const STATIC_NAMES: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// The name that this is all about.
pub(super) const AUTHORITY: &[u8] = b":authority";

// === impl Name ===

impl Name {
    /// Bytes of the name, decoded.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Authority => AUTHORITY.len(),
            Self::Other { length } => length,
        }
    }
}

// === impl Table ===

impl Table {
    /// An empty table of the default size.
    pub(super) fn new() -> Self {
        Self { entries: [Entry::default(); ENTRIES_MAX], newest: 0, count: 0, size: 0, size_max: TABLE_SIZE_MAX }
    }

    /// The field at `index`, counted from 1 through the static and on into the dynamic table, if there is one.
    pub(super) fn get(&self, index: usize) -> Option<Field> {
        let place = index.checked_sub(1)?;
        if let Some(name) = STATIC_NAMES.get(place) {
            // Only the first entry of the static table has this name, and its value is empty.
            return Some(match place {
                0 => Field { name: Name::Authority, empty_authority: true },
                _ => Field { name: Name::Other { length: name.len() }, empty_authority: false },
            });
        }
        let place = place - STATIC_NAMES.len();
        if place >= self.count {
            return None;
        }
        let entry = self.entries[(self.newest + place) % ENTRIES_MAX];
        Some(if entry.authority {
            let empty = usize::from(entry.size) == ENTRY_OVERHEAD + AUTHORITY.len();
            Field { name: Name::Authority, empty_authority: empty }
        } else {
            Field { name: Name::Other { length: entry.name_length.into() }, empty_authority: false }
        })
    }

    /// Inserts a field. One that is too large for the table empties it and is not inserted (RFC 7541, section 4.4).
    pub(super) fn insert(&mut self, name: Name, value_length: usize) {
        let size = name.length() + value_length + ENTRY_OVERHEAD;
        if size > self.size_max {
            self.evict_to(0);
            return;
        }
        self.evict_to(self.size_max - size);
        self.newest = (self.newest + ENTRIES_MAX - 1) % ENTRIES_MAX;
        self.entries[self.newest] =
            Entry { authority: name == Name::Authority, name_length: name.length() as u16, size: size as u16 };
        self.count += 1;
        self.size += size;
    }

    /// Sets how much the table may count from now on; `None` if that is more than we allow.
    pub(super) fn resize(&mut self, size_max: usize) -> Option<()> {
        if size_max > TABLE_SIZE_MAX {
            return None;
        }
        self.size_max = size_max;
        self.evict_to(size_max);
        Some(())
    }

    /// Evicts the oldest until the table counts at most `size`.
    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            // A table that counts something has an entry.
            self.count -= 1;
            self.size -= usize::from(self.entries[(self.newest + self.count) % ENTRIES_MAX].size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(length: usize) -> Name {
        Name::Other { length }
    }

    fn name(table: &Table, index: usize) -> Option<Name> {
        table.get(index).map(|field| field.name)
    }

    #[test]
    fn the_static_table_has_authority_first_and_61_fields() {
        let table = Table::new();
        assert_eq!(table.get(0), None);
        assert_eq!(table.get(1), Some(Field { name: Name::Authority, empty_authority: true }));
        assert_eq!(name(&table, 2), Some(other(7)));
        assert_eq!(name(&table, 61), Some(other("www-authenticate".len())));
        assert_eq!(table.get(62), None);
        assert_eq!(table.get(usize::MAX), None);
    }

    #[test]
    fn the_static_names_are_those_of_another_implementation() {
        for (place, name) in STATIC_NAMES.iter().enumerate() {
            let mut fields = Vec::new();
            ::hpack::Decoder::default().decode(&mut vec![0x80 | (place as u8 + 1)], &mut fields).unwrap();
            assert_eq!(fields[0].0, name.as_bytes());
        }
    }

    #[test]
    fn new_entries_come_first_and_the_oldest_are_evicted() {
        let mut table = Table::new();
        table.insert(Name::Authority, 3);
        table.insert(other(5), 7);
        assert_eq!((name(&table, 62), name(&table, 63)), (Some(other(5)), Some(Name::Authority)));
        assert_eq!(table.size, 32 + 10 + 3 + 32 + 5 + 7);
        table.insert(other(1), TABLE_SIZE_MAX - 32 - 1 - (32 + 5 + 7));
        assert_eq!((table.count, table.size), (2, TABLE_SIZE_MAX), "exactly one entry had to go");
        table.insert(other(1), 0);
        assert_eq!((table.count, name(&table, 62)), (2, Some(other(1))));
    }

    #[test]
    fn an_entry_too_large_empties_the_table() {
        let mut table = Table::new();
        table.insert(other(1), 1);
        table.insert(other(1), TABLE_SIZE_MAX);
        assert_eq!((table.count, table.size), (0, 0));
        table.insert(other(1), usize::MAX / 2);
        assert_eq!((table.count, table.size), (0, 0));
    }

    #[test]
    fn a_size_update_evicts_and_may_not_exceed_the_default() {
        let mut table = Table::new();
        for _ in 0..200 {
            table.insert(other(0), 0);
        }
        assert_eq!((table.count, table.size), (ENTRIES_MAX, TABLE_SIZE_MAX));
        assert_eq!(table.resize(100), Some(()));
        assert_eq!((table.count, table.size), (3, 96));
        assert_eq!(table.resize(0), Some(()));
        table.insert(other(0), 0);
        assert_eq!((table.count, table.size), (0, 0));
        assert_eq!(table.resize(TABLE_SIZE_MAX), Some(()));
        assert_eq!(table.resize(TABLE_SIZE_MAX + 1), None);
    }

    #[test]
    fn an_empty_authority_is_known_as_such() {
        let mut table = Table::new();
        table.insert(Name::Authority, 1);
        table.insert(Name::Authority, 0);
        assert_eq!(table.get(62).map(|field| field.empty_authority), Some(true));
        assert_eq!(table.get(63).map(|field| field.empty_authority), Some(false));
    }
}
