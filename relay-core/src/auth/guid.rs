//! GUIDs: what tenants, clients and tokens are called by.

use std::fmt;
use std::str::FromStr;

/// A GUID. Its text is 8-4-4-4-12 hexadecimal digits, written in lower case.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Guid(pub u128);

/// A text that is no [`Guid`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a GUID is 8-4-4-4-12 hexadecimal digits, without braces")]
pub struct ParseGuidError;

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, octet) in self.0.to_be_bytes().into_iter().enumerate() {
            let dash = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{octet:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Guid {
    type Err = ParseGuidError;

    /// Reads the text form; digits in either case.
    fn from_str(text: &str) -> Result<Self, ParseGuidError> {
        let is_at_place = |(place, octet): (usize, u8)| match place {
            8 | 13 | 18 | 23 => octet == b'-',
            _ => octet.is_ascii_hexdigit(),
        };
        if text.len() != 36 || !text.bytes().enumerate().all(is_at_place) {
            return Err(ParseGuidError);
        }
        let number = u128::from_str_radix(&text.replace('-', ""), 16);
        number.map(Self).map_err(|_| ParseGuidError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_read_in_either_case_and_written_in_lower_case() {
        let text = "0a1b2c3d-4e5F-6071-8293-A4b5c6d7e8f9";
        let read: Guid = text.parse().unwrap();
        assert_eq!(read.0, 0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);
        assert_eq!(read.to_string(), text.to_ascii_lowercase());
    }

    #[test]
    fn nothing_but_8_4_4_4_12_digits_is_a_guid() {
        for text in [
            "",
            "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
            "{0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9}",
            "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f",
            "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f90",
            "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8g9",
            "+a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
            "0a1b2c3d4-e5f-6071-8293-a4b5c6d7e8f9",
        ] {
            assert_eq!(text.parse::<Guid>(), Err(ParseGuidError), "{text}");
        }
    }
}
