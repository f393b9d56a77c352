//! JSON schemas of the configuration files, made of what reads them.
//!
//! They tell an editor which keys there are, what each is and may be. A file that they pass may
//! still be refused: whether files are there, fit each other, and whether keys may stand together,
//! only [`load_gateway`](super::load_gateway) and
//! [`load_connection_point`](super::load_connection_point) know.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::connection_point::RawConnectionPoint;
use super::gateway::RawGateway;

/// The schema of `gateway.toml`, by draft 2020-12 of JSON Schema.
pub fn gateway_schema() -> Value {
    schema::<RawGateway>("gateway.toml")
}

/// The schema of `connection-point.toml`, by draft 2020-12 of JSON Schema.
pub fn connection_point_schema() -> Value {
    schema::<RawConnectionPoint>("connection-point.toml")
}

fn schema<T: JsonSchema>(title: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|it| it.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    let mut schema = schema.to_value();
    adapt(&mut schema);
    schema
}

/// Takes away what TOML does not have: null. A key that may be left out is not among those that
/// are required.
fn adapt(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(adapt),
        Value::Object(members) => {
            if let Some(Value::Array(kinds)) = members.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = &kinds[..] {
                    let only = only.clone();
                    members.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(ways)) = members.remove("anyOf") {
                let is_null = |way: &Value| way.get("type").is_some_and(|kind| kind == "null");
                let mut ways: Vec<_> = ways.into_iter().filter(|way| !is_null(way)).collect();
                match (ways.pop(), ways.is_empty()) {
                    // What is said of the key goes before what is said of its kind.
                    (Some(Value::Object(only)), true) => {
                        for (key, value) in only {
                            members.entry(key).or_insert(value);
                        }
                    }
                    (last, _) => {
                        ways.extend(last);
                        members.insert("anyOf".to_owned(), ways.into());
                    }
                }
            }
            // Of the reader's own type: nothing that is not said by the range.
            members.remove("format");
            members.values_mut().for_each(adapt);
        }
        _ => {}
    }
}
