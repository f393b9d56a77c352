//! Reads a document into its raw shape although it has faults, so that all of them are told.
//!
//! The reader of TOML ends at the first thing that does not fit the shape. Here that thing is noted
//! and a stand-in takes its place, and the document is read again, until it fits. Whoever judges
//! the shape afterwards may find fault with a stand-in, which is not the administrator's doing: a
//! stand-in has a place beyond the end of the text, by which [`Source`](super::source::Source)
//! knows it.
//!
//! It deliberately guesses nothing that is then used: a file with any fault is refused as a whole.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue, ValueDeserializer};

use super::explain::{Explained, Kind, explain};

/// Most faults of a file that are told at once.
pub(super) const FAULTS_MAX: usize = 100;

/// Most times that a document is read. A fault takes one, and at most one more for each type that
/// its stand-in is tried as.
const READS_MAX: usize = FAULTS_MAX * 8;

/// What was read of a document.
pub(super) struct Repaired<T> {
    /// The document, with stand-ins for what does not fit; `None` where it cannot be read even so.
    pub(super) document: Option<T>,
    /// What does not fit.
    pub(super) faults: Vec<Misfit>,
}

/// Something that does not fit, and where it is.
pub(super) struct Misfit {
    pub(super) span: Range<usize>,
    pub(super) told: Explained,
}

/// Reads `text`.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Repaired<T> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<Misfit> = Vec::new();
    for error in &errors {
        if faults.len() == FAULTS_MAX {
            break;
        }
        let span = error.span().unwrap_or(0..0);
        // What follows on the same line is mostly a consequence.
        let is_again = faults.last().is_some_and(|last| {
            let (one, other) = (last.span.start, span.start);
            let between = text.get(one.min(other)..one.max(other));
            between.is_some_and(|between| !between.contains('\n'))
        });
        if !is_again {
            faults.push(Misfit { span, told: explain(error.message()) });
        }
    }
    // What stands behind a fault of notation may be lost, and would be told as missing.
    if errors.iter().any(|error| error.message() != "duplicate key") {
        return Repaired { document: None, faults };
    }
    let span = document.span();
    let document = Spanned::new(span, DeValue::Table(document.into_inner()));
    let mut repair = Repair { text_len: text.len(), document, faults, tried_as: Vec::new() };
    Repaired { document: repair.read(), faults: repair.faults }
}

/// A document under repair.
struct Repair<'t> {
    text_len: usize,
    document: Spanned<DeValue<'t>>,
    faults: Vec<Misfit>,
    /// As the how manieth type each stand-in is tried: of [`Repair::next`], and a text at first.
    tried_as: Vec<usize>,
}

impl<'t> Repair<'t> {
    fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        for _ in 0..READS_MAX {
            let error = match T::deserialize(ValueDeserializer::from(self.document.clone())) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            let told = explain(error.message());
            let is_repaired = self.repair(&span, &told.kind);
            if span.start <= self.text_len {
                self.faults.push(Misfit { span, told });
            }
            if !is_repaired || self.faults.len() >= FAULTS_MAX {
                return None;
            }
        }
        None
    }

    /// Puts something in the place of what does not fit. Returns whether there was such a place.
    fn repair(&mut self, span: &Range<usize>, kind: &Kind) -> bool {
        match kind {
            Kind::UnknownKey { nearest } => {
                let by = self.stand_in();
                let nearest = nearest.as_deref();
                change(&mut self.document, &mut |value| rename(value, span, nearest, &by))
            }
            Kind::MissingKey { name } => {
                let by = self.stand_in();
                change(&mut self.document, &mut |value| insert(value, span, name, &by))
            }
            Kind::UnknownValue { first } => {
                let at = if self.is_stand_in(span) { span.clone() } else { self.stand_in().span() };
                let first = DeValue::String(Cow::Owned(first.clone()));
                self.replace(span, &Spanned::new(at, first))
            }
            Kind::Other => {
                let by =
                    if self.is_stand_in(span) { self.next(span) } else { Some(self.stand_in()) };
                by.is_some_and(|by| self.replace(span, &by))
            }
        }
    }

    fn is_stand_in(&self, span: &Range<usize>) -> bool {
        span.start > self.text_len
    }

    /// A new stand-in, with a place of its own.
    fn stand_in(&mut self) -> Spanned<DeValue<'t>> {
        let start = self.text_len + 1 + 2 * self.tried_as.len();
        self.tried_as.push(0);
        Spanned::new(start..start + 1, DeValue::String(Cow::Borrowed("")))
    }

    /// The stand-in at `span` as the next type; `None` if it was tried as each.
    fn next(&mut self, span: &Range<usize>) -> Option<Spanned<DeValue<'t>>> {
        let tried_as = self.tried_as.get_mut((span.start - self.text_len - 1) / 2)?;
        *tried_as += 1;
        let value = match *tried_as {
            1 => DeValue::Integer(DeInteger::default()),
            2 => DeValue::Boolean(false),
            3 => DeValue::Array(DeArray::new()),
            4 => DeValue::Table(DeTable::new()),
            _ => return None,
        };
        Some(Spanned::new(span.clone(), value))
    }

    fn replace(&mut self, span: &Range<usize>, by: &Spanned<DeValue<'t>>) -> bool {
        change(&mut self.document, &mut |value| {
            let is_it = value.span() == *span;
            if is_it {
                *value = by.clone();
            }
            is_it
        })
    }
}

/// Tries `change` on `value` and all in it, from the outside in, until it has changed one.
fn change<'t>(
    value: &mut Spanned<DeValue<'t>>,
    change_one: &mut dyn FnMut(&mut Spanned<DeValue<'t>>) -> bool,
) -> bool {
    if change_one(value) {
        return true;
    }
    match value.get_mut() {
        DeValue::Array(items) => items.iter_mut().any(|item| change(item, change_one)),
        DeValue::Table(table) => table.iter_mut().any(|(_, item)| change(item, change_one)),
        _ => false,
    }
}

/// Takes the key at `span` out of a table, and has `by` for the key that was probably meant.
fn rename<'t>(
    value: &mut Spanned<DeValue<'t>>,
    span: &Range<usize>,
    meant: Option<&str>,
    by: &Spanned<DeValue<'t>>,
) -> bool {
    let DeValue::Table(table) = value.get_mut() else { return false };
    let key = table.keys().find(|key| key.span() == *span).cloned();
    let Some(key) = key else { return false };
    table.remove(key.get_ref().as_ref());
    if let Some(meant) = meant.filter(|meant| !table.contains_key(*meant)) {
        table.insert(Spanned::new(span.clone(), Cow::Owned(meant.to_owned())), by.clone());
    }
    true
}

/// Adds the key `name` to the table at `span`.
fn insert<'t>(
    value: &mut Spanned<DeValue<'t>>,
    span: &Range<usize>,
    name: &str,
    by: &Spanned<DeValue<'t>>,
) -> bool {
    if value.span() != *span {
        return false;
    }
    let DeValue::Table(table) = value.get_mut() else { return false };
    if table.contains_key(name) {
        return false;
    }
    table.insert(Spanned::new(by.span(), Cow::Owned(name.to_owned())), by.clone());
    true
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "it is read, and that is all")]
    struct Shape {
        name: Spanned<String>,
        count: Spanned<i64>,
        table: Table,
        #[serde(default)]
        list: Vec<Table>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "it is read, and that is all")]
    struct Table {
        is_on: bool,
        colours: Option<Vec<Spanned<Colour>>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Colour {
        Red,
        DarkBlue,
    }

    /// The place and the problem of each misfit, by place.
    fn faults(text: &str) -> Vec<(usize, String)> {
        let read: Repaired<Shape> = read(text);
        assert!(read.document.is_some() || read.faults.len() == FAULTS_MAX, "{text}");
        let told = read.faults.into_iter().map(|it| (it.span.start, it.told.problem));
        let mut told: Vec<_> = told.collect();
        told.sort();
        told
    }

    const GOOD: &str = "name = \"a\"\ncount = 1\n[table]\nis_on = true\n";

    #[test]
    fn a_document_that_fits_has_no_fault() {
        assert_eq!(faults(GOOD), []);
        let read: Repaired<Shape> = read(GOOD);
        let shape = read.document.unwrap();
        assert_eq!((shape.name.get_ref().as_str(), *shape.count.get_ref()), ("a", 1));
        assert_eq!(shape.name.span(), 7..10);
    }

    #[test]
    fn each_key_that_is_missing_is_told_and_what_would_be_in_a_missing_table_is_not() {
        let problems = |text: &str| -> Vec<String> {
            faults(text).into_iter().map(|(_, problem)| problem).collect()
        };
        let [count, name, table] =
            ["count", "name", "table"].map(|key| format!("key `{key}` is missing"));
        assert_eq!(problems(""), [count.clone(), name, table.clone()]);
        assert_eq!(problems("name = \"a\""), [count, table]);
        let of_list = problems(&format!("{GOOD}[[list]]\n[[list]]\nis_on = false\n[[list]]\n"));
        assert_eq!(of_list, ["key `is_on` is missing", "key `is_on` is missing"]);
    }

    #[test]
    fn what_does_not_fit_is_told_once_wherever_it_is_and_nothing_besides() {
        let text = "nam = 5\ncount = []\nodd = 1\n[table]\nis_on = 3\n\
                    colours = [\"red\", \"dark-bleu\", 7]\n[[list]]\nison = true\n";
        let told: Vec<String> = faults(text).into_iter().map(|(_, problem)| problem).collect();
        assert_eq!(
            told,
            [
                "unknown key `nam`",
                "wrong type: found sequence",
                "unknown key `odd`",
                "wrong type: found integer `3`",
                "unknown value `dark-bleu`",
                "wrong type: found no text",
                "unknown key `ison`",
            ]
        );
    }

    #[test]
    fn a_key_that_stands_twice_hides_nothing_and_a_fault_of_notation_stands_alone() {
        let told = faults(&format!("count = 2\nodd = 1\n{GOOD}"));
        assert_eq!(told.len(), 2, "{told:?}");
        let read: Repaired<Shape> = read("name = \nodd = 1\n= 2\n");
        assert!(read.document.is_none());
        assert_eq!(read.faults.len(), 2, "one a line");
    }

    #[test]
    fn a_document_of_faults_alone_ends_at_the_most_that_are_told() {
        let lines: Vec<_> = (0..2 * FAULTS_MAX).map(|n| format!("k{n} = 1")).collect();
        assert_eq!(faults(&lines.join("\n")).len(), FAULTS_MAX);
    }
}
