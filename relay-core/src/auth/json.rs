//! JSON that has one reading.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// What the error of a duplicate member says; it never leaves this file.
const DUPLICATE: &str = "duplicate member";

/// A value. Numbers that are no integers of 64 bits without sign have no reading here: nothing that
/// is asked for is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Integer(u64),
    List(Vec<Value>),
    Object(Object),
    /// `null`, `true`, `false`, and all other numbers.
    Other,
}

/// An object. No name is there twice, nor in any object within.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object(Vec<(String, Value)>);

/// Octets that are no such object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotAnObject {
    /// They are no JSON text, or it is no object. RFC 8259.
    Json,
    /// A name is there twice.
    Duplicate,
}

impl Object {
    /// Reads one object and nothing behind it. At most 128 levels deep.
    pub(crate) fn read(octets: &[u8]) -> Result<Self, NotAnObject> {
        match serde_json::from_slice(octets) {
            Ok(Value::Object(object)) => Ok(object),
            // Whatever else is wrong behind the second member is not looked for.
            Err(error) if error.to_string().starts_with(DUPLICATE) => Err(NotAnObject::Duplicate),
            Ok(_) | Err(_) => Err(NotAnObject::Json),
        }
    }

    /// The member of that name, letter for letter.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value)
    }

    /// The names of its members.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The text of that name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = from.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut members: Vec<(String, Value)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = from.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(DUPLICATE));
            }
            members.push((name, from.next_value()?));
        }
        Ok(Value::Object(Object(members)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_there_once_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#, r#"{"b":[{"a":{"c":1,"c":2}}]}"#]
        {
            assert_eq!(Object::read(text.as_bytes()), Err(NotAnObject::Duplicate), "{text}");
        }
        let once = Object::read(br#"{"a":{"a":1},"A":[{"a":1},{"a":1}]}"#).unwrap();
        assert!(matches!(once.get("a"), Some(Value::Object(_))));
    }

    #[test]
    fn numbers_are_integers_of_64_bits_or_nothing() {
        let read = |number: &str| {
            let text = format!("{{\"n\":{number}}}");
            Object::read(text.as_bytes()).map(|it| it.get("n").cloned())
        };
        assert_eq!(read("0"), Ok(Some(Value::Integer(0))));
        assert_eq!(read("18446744073709551615"), Ok(Some(Value::Integer(u64::MAX))));
        for other in ["18446744073709551616", "-1", "1.0", "1e3", "1.5", "-0", "true", "null"] {
            assert_eq!(read(other), Ok(Some(Value::Other)), "{other}");
        }
        for none in ["1e999", "01", "+1", "0x1", "NaN", "Infinity", "1.", ".5", ""] {
            assert_eq!(read(none), Err(NotAnObject::Json), "{none}");
        }
    }

    #[test]
    fn what_is_no_object_or_has_something_behind_it_is_refused() {
        for text in
            ["", "[]", "1", "\"a\"", "null", "{} {}", "{}x", "{,}", "\u{feff}{}", "{\"\\ud800\":1}"]
        {
            assert_eq!(Object::read(text.as_bytes()), Err(NotAnObject::Json), "{text}");
        }
        assert_eq!(Object::read(b"{\"\xff\":1}"), Err(NotAnObject::Json));
        assert_eq!(Object::read(b"{\"a\0\":1}"), Err(NotAnObject::Json));
        let deep = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        assert!(Object::read(deep(126).as_bytes()).is_ok());
        assert_eq!(Object::read(deep(200).as_bytes()), Err(NotAnObject::Json));
    }
}
