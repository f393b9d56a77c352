//! Which keys differ between two texts of a configuration file: by name, never by value.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// Keys of a table that tell it from others of its list.
const NAMES: [&str; 3] = ["name", "id", "instance"];

/// The keys that differ, in order, each as `added`, `removed` or `changed` and its path, such as
/// `changed limits.dial_seconds` or `added endpoint.mp-2`. Values are not among them: some are
/// secrets, and all are in the file. Nothing of a text that is no TOML.
pub fn changed_keys(before: &str, now: &str) -> Vec<String> {
    let (Ok(before), Ok(now)) = (before.parse::<Table>(), now.parse::<Table>()) else {
        return Vec::new();
    };
    let mut changed = Vec::new();
    of_tables(&before, &now, "", &mut changed);
    changed
}

fn of_tables(before: &Table, now: &Table, path: &str, changed: &mut Vec<String>) {
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for key in keys {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        of_values(before.get(key), now.get(key), &path, changed);
    }
}

fn of_values(before: Option<&Value>, now: Option<&Value>, path: &str, changed: &mut Vec<String>) {
    match (before, now) {
        (Some(Value::Table(before)), Some(Value::Table(now))) => {
            of_tables(before, now, path, changed);
        }
        (Some(before), Some(now)) if before == now => {}
        (Some(Value::Array(before)), Some(Value::Array(now))) => {
            match (named(before), named(now)) {
                (Some(before), Some(now)) => of_tables(&before, &now, path, changed),
                _ => changed.push(format!("changed {path}")),
            }
        }
        (Some(_), Some(_)) => changed.push(format!("changed {path}")),
        (None, Some(_)) => changed.push(format!("added {path}")),
        (Some(_), None) => changed.push(format!("removed {path}")),
        (None, None) => {}
    }
}

/// The tables of a list by their names; `None` where it is no list of tables that have one each.
fn named(list: &[Value]) -> Option<Table> {
    let mut all = Table::new();
    for item in list {
        let table = item.as_table()?;
        let name = NAMES.iter().find_map(|key| table.get(*key))?;
        let name = match name {
            Value::String(name) => name.clone(),
            Value::Integer(number) => number.to_string(),
            _ => return None,
        };
        if all.insert(name, item.clone()).is_some() {
            return None;
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "name = \"cp\"\n[limits]\ndial_seconds = 1\ndrain_seconds = 2\n\
                          [[endpoint]]\nname = \"mp\"\nrole_id = 1\npaths = [\"a\"]\n\
                          [[endpoint]]\nname = \"sup\"\nrole_id = 2\n";

    #[test]
    fn keys_are_named_that_were_added_removed_or_changed_and_no_other() {
        let now = "name = \"cp\"\nsite = \"s\"\n[limits]\ndial_seconds = 9\n\
                   [[endpoint]]\nname = \"new\"\nrole_id = 3\n\
                   [[endpoint]]\nname = \"mp\"\nrole_id = 1\npaths = [\"b\"]\n";
        assert_eq!(
            changed_keys(BEFORE, now),
            [
                "changed endpoint.mp.paths",
                "added endpoint.new",
                "removed endpoint.sup",
                "changed limits.dial_seconds",
                "removed limits.drain_seconds",
                "added site",
            ]
        );
        assert!(changed_keys(BEFORE, &format!("# a word\n{BEFORE}")).is_empty());
        assert!(changed_keys(BEFORE, "name =").is_empty());
    }

    #[test]
    fn no_value_is_among_what_is_told() {
        let text =
            |secret: &str| format!("[web_proxy]\nuser = \"{secret}\"\nbypass = [\"{secret}\"]");
        let told = changed_keys(&text("hunter2"), &text("hunter3"));
        assert_eq!(told, ["changed web_proxy.bypass", "changed web_proxy.user"]);
    }

    #[test]
    fn lists_whose_tables_have_no_names_or_one_name_twice_are_told_as_a_whole() {
        let (twice, once) = ("[[e]]\nname = 1\n[[e]]\nname = 1\n", "[[e]]\nname = 1\n");
        assert_eq!(changed_keys(twice, once), ["changed e"]);
        assert_eq!(changed_keys("[[e]]\na = 1\n", "[[e]]\na = 2\n"), ["changed e"]);
    }
}
