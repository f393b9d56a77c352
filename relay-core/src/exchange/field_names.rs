//! Names of fields in the case in which a client wrote them.

use bytes::Bytes;

/// A list of field names with `,` between them, at most 4 KiB long: in which case a client wrote
/// those whose case is not the usual one.
///
/// Of a name that occurs more than once, the first here is that of the first value, and so on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldNames(Bytes);

impl FieldNames {
    /// Octets of the longest list.
    pub const OCTETS_MAX: usize = 4 << 10;

    /// Takes a list; `None` if it is too long, or one of its names is none.
    pub fn new(list: Bytes) -> Option<Self> {
        let is_list =
            list.len() <= Self::OCTETS_MAX && list.split(|octet| *octet == b',').all(is_name);
        is_list.then_some(Self(list))
    }

    /// The names, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|octet| *octet == b',')
    }

    /// The list as it travels.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// RFC 9110, section 5.6.2.
fn is_name(name: &[u8]) -> bool {
    let is_token = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet);
    !name.is_empty() && name.iter().all(is_token)
}
