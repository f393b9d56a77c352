//! The query of a grant, read so that it has one reading.

use std::fmt::Write as _;

use super::GrantFault;

/// The parameters by their names, each there at most once.
pub(super) struct Parameters<const N: usize> {
    names: [&'static str; N],
    values: [Option<String>; N],
}

impl<const N: usize> Parameters<N> {
    /// Reads `name=value` pairs with `&` between them. Names are letter for letter those given;
    /// values are decoded once.
    pub(super) fn read(query: &str, names: [&'static str; N]) -> Result<Self, GrantFault> {
        let mut values = [const { None }; N];
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').ok_or(GrantFault::Unknown)?;
            let mut known = names.iter().zip(&mut values);
            let (name, place) = known.find(|it| *it.0 == name).ok_or(GrantFault::Unknown)?;
            let value = decoded(value).ok_or(GrantFault::Form(name))?;
            if place.replace(value).is_some() {
                return Err(GrantFault::Twice(name));
            }
        }
        Ok(Self { names, values })
    }

    /// The value of a parameter, if it is there.
    pub(super) fn if_any(&self, name: &'static str) -> Option<&str> {
        let place = self.names.iter().position(|it| *it == name)?;
        self.values.get(place)?.as_deref()
    }

    /// The value of a parameter that must be there.
    pub(super) fn get(&self, name: &'static str) -> Result<&str, GrantFault> {
        self.if_any(name).ok_or(GrantFault::Missing(name))
    }
}

/// Whether an octet stands for itself in a value. A plus does not: some read it as a space.
fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~/:*".contains(&octet)
}

/// Decodes a value; `None` if an octet stands there that must be escaped, an escape is none, or the
/// whole is no UTF-8.
fn decoded(value: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(value.len());
    let mut raw = value.bytes();
    while let Some(octet) = raw.next() {
        if octet == b'%' {
            let (high, low) = (hexadecimal(raw.next()?)?, hexadecimal(raw.next()?)?);
            octets.push(high << 4 | low);
        } else if is_plain(octet) {
            octets.push(octet);
        } else {
            return None;
        }
    }
    String::from_utf8(octets).ok()
}

fn hexadecimal(octet: u8) -> Option<u8> {
    let digit = char::from(octet).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Adds a parameter, escaped.
pub(super) fn push(query: &mut String, name: &str, value: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(name);
    query.push('=');
    for octet in value.bytes() {
        if is_plain(octet) {
            query.push(char::from(octet));
        } else {
            let _ = write!(query, "%{octet:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_has_one_reading_or_none() {
        assert_eq!(decoded("a%2fB%2Bc:*").as_deref(), Some("a/B+c:*"));
        assert_eq!(decoded("%c3%A9").as_deref(), Some("\u{e9}"));
        for bad in ["a+b", "a b", "%", "%2", "%zz", "%+1", "%ff", "a=b", "\u{e9}", "a;b", "a#"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in "\\PC{0,20}") {
            let mut query = String::new();
            push(&mut query, "a", &value);
            push(&mut query, "b", "1");
            let read = Parameters::read(&query, ["b", "a"]).unwrap();
            prop_assert_eq!(read.get("a"), Ok(&*value));
        }
    }
}
