//! The TOML reader's messages in the administrator's words.

/// Longest difference at which a known key is offered for an unknown one, in single edits.
const TYPO_EDITS_MAX: usize = 3;

/// What a message of the TOML reader says.
#[derive(Debug)]
pub(super) struct Explained {
    /// What is wrong.
    pub(super) problem: String,
    /// What to do.
    pub(super) help: String,
    pub(super) kind: Kind,
}

/// What is wrong, for whoever goes on in spite of it.
#[derive(Debug)]
pub(super) enum Kind {
    /// The key does not exist.
    UnknownKey {
        /// The one that was probably meant.
        nearest: Option<String>,
    },
    /// The value is none of those that there are.
    UnknownValue {
        /// One of those.
        first: String,
    },
    /// A table lacks a key.
    MissingKey {
        /// The key.
        name: String,
    },
    /// The value cannot be what it is.
    Other,
}

/// Splits a message of the TOML reader into what is wrong and what to do.
///
/// The messages are serde's (`unknown field`, `missing field`, `invalid type` …) or TOML syntax
/// errors. A message of an unknown form passes as it is.
pub(super) fn explain(message: &str) -> Explained {
    // Syntax errors may run over several lines; the place is shown apart from the message.
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown("unknown key", "keys allowed here", rest, |nearest, _| Kind::UnknownKey {
            nearest: nearest.map(str::to_owned),
        });
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return unknown("unknown value", "values allowed here", rest, |_, allowed| {
            Kind::UnknownValue { first: (*allowed.first().unwrap_or(&"")).to_owned() }
        });
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return Explained {
            problem: format!("key {rest} is missing"),
            help: format!("add {rest} to the table that begins here"),
            kind: Kind::MissingKey { name: rest.trim_matches('`').to_owned() },
        };
    }
    let (problem, help) = of_value(message);
    Explained { problem, help, kind: Kind::Other }
}

/// What a message about a value, or about the notation, says.
fn of_value(message: String) -> (String, String) {
    let wrong = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "));
    if let Some((found, expected)) = wrong {
        let expected = match expected {
            "i64" => "a whole number",
            other => other,
        };
        return (format!("wrong type: found {found}"), format!("this must be {expected}"));
    }
    match message.as_str() {
        "wanted string or table" => {
            ("wrong type: found no text".to_owned(), "this must be a text in quotes".to_owned())
        }
        "duplicate key" => (
            message,
            "remove one of the two; a table is opened once, with all of its keys below".to_owned(),
        ),
        _ => {
            let help = "the text is not valid TOML here; see https://toml.io for the notation";
            (message, help.to_owned())
        }
    }
}

/// From "`name`, expected one of `a`, `b`" to the problem and a help that offers the nearest name.
fn unknown(
    problem: &str,
    allowed_here: &str,
    rest: &str,
    kind: impl FnOnce(Option<&str>, &[&str]) -> Kind,
) -> Explained {
    // Every second piece stands between backticks: first the unknown name, then the allowed ones.
    let mut names = rest.split('`').skip(1).step_by(2);
    let name = names.next().unwrap_or_default();
    let allowed: Vec<&str> = names.collect();
    let nearest = allowed
        .iter()
        .map(|candidate| (edits(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= TYPO_EDITS_MAX.min(candidate.len() / 2))
        .min()
        .map(|(_, candidate)| candidate);
    let list = allowed.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let help = match nearest {
        Some(candidate) => format!("did you mean `{candidate}`? {allowed_here}: {list}"),
        None => format!("{allowed_here}: {list}"),
    };
    Explained { problem: format!("{problem} `{name}`"), help, kind: kind(nearest, &allowed) }
}

/// Levenshtein distance, over one row. Quadratic, on keys a person typed.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_singly() {
        for (from, to, expected) in
            [("", "", 0), ("key", "key", 0), ("", "ab", 2), ("listn", "listen", 1), ("ab", "ba", 2)]
        {
            assert_eq!(edits(from, to), expected, "{from} to {to}");
        }
    }

    #[test]
    fn a_near_key_is_offered_and_a_far_one_is_not() {
        let near = explain("unknown field `listn`, expected one of `listen`, `key`").help;
        assert_eq!(near, "did you mean `listen`? keys allowed here: `listen`, `key`");
        let far = explain("unknown field `colour`, expected one of `listen`, `key`").help;
        assert_eq!(far, "keys allowed here: `listen`, `key`");
    }

    #[test]
    fn a_message_of_unknown_form_passes_on_one_line() {
        assert_eq!(explain("odd\n  thing").problem, "odd thing");
    }
}
