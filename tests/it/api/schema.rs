//! Checks a JSON value against the part of JSON Schema that the API's description uses. Stricter than the standard in
//! two ways: a property that the schema does not name is an error, and so is a keyword that is not known here.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Says what is wrong, with the place, or nothing.
pub fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    Checker { document }.check(schema, value, "$")
}

struct Checker<'a> {
    document: &'a Value,
}

/// Keywords that say nothing about validity, and those handled with another one.
const SILENT: &[&str] = &["description", "example", "examples", "title", "default", "deprecated"];

impl<'a> Checker<'a> {
    fn resolve(&self, schema: &'a Value) -> Result<&'a Value, String> {
        match schema.get("$ref").and_then(Value::as_str) {
            None => Ok(schema),
            Some(reference) => {
                let pointer = reference.strip_prefix('#').ok_or("foreign $ref")?;
                let found = self.document.pointer(pointer);
                self.resolve(found.ok_or_else(|| format!("{reference} names nothing"))?)
            }
        }
    }

    fn check(&self, schema: &'a Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = self.resolve(schema)?;
        let rules = schema.as_object().ok_or_else(|| format!("{at}: schema is no object"))?;
        for (keyword, rule) in rules {
            self.keyword(keyword, rule, value, at)?;
        }
        if let Value::Object(object) = value {
            self.no_extra(schema, object, at)?;
        }
        Ok(())
    }

    fn keyword(&self, word: &str, rule: &'a Value, value: &Value, at: &str) -> Result<(), String> {
        let wrong = |what: String| Err(format!("{at}: {what}: {value}"));
        let list = || rule.as_array().into_iter().flatten();
        match word {
            "type" => {
                let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                let fits = types.iter().any(|name| is_type(name.as_str().unwrap_or(""), value));
                if !fits { wrong(format!("is not {rule}")) } else { Ok(()) }
            }
            "required" => {
                match list().filter_map(Value::as_str).find(|k| value.get(*k).is_none()) {
                    Some(missing) if value.is_object() => wrong(format!("lacks {missing}")),
                    _ => Ok(()),
                }
            }
            "properties" => rule.as_object().into_iter().flatten().try_for_each(|(key, rule)| {
                let held =
                    value.get(key).map(|held| self.check(rule, held, &format!("{at}.{key}")));
                held.unwrap_or(Ok(()))
            }),
            "items" => value
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
                .try_for_each(|(index, item)| self.check(rule, item, &format!("{at}[{index}]"))),
            // Properties of all parts together are judged by the whole.
            "allOf" => list().try_for_each(|part| match (self.resolve(part)?, value) {
                (part, Value::Object(object)) => {
                    let known = self.properties(part);
                    let own = object.iter().filter(|(key, _)| known.contains(key));
                    let own: Map<_, _> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
                    self.check(part, &Value::Object(own), at)
                }
                (part, other) => self.check(part, other, at),
            }),
            "oneOf" | "anyOf" => {
                let tried: Vec<_> = list().map(|option| self.check(option, value, at)).collect();
                match tried.iter().filter(|outcome| outcome.is_ok()).count() {
                    1 => Ok(()),
                    0 => wrong(format!("fits no option: {tried:?}")),
                    many => wrong(format!("fits {many} options")),
                }
            }
            "enum" if list().any(|option| option == value) => Ok(()),
            "enum" => wrong(format!("is not one of {rule}")),
            "format" => match (rule.as_str(), value.as_str()) {
                (Some("uuid"), Some(text)) if text.parse::<Uuid>().is_err() => {
                    wrong("no uuid".into())
                }
                (Some("date-time"), Some(text)) if text.parse::<Timestamp>().is_err() => {
                    wrong("no time".into())
                }
                _ => Ok(()),
            },
            "minimum" if value.as_f64() < rule.as_f64() && value.is_number() => {
                wrong(format!("is below {rule}"))
            }
            "maximum" if value.as_f64() > rule.as_f64() && value.is_number() => {
                wrong(format!("is above {rule}"))
            }
            "minimum" | "maximum" | "minLength" | "maxLength" => Ok(()),
            "propertyNames" | "additionalProperties" => Ok(()),
            silent if SILENT.contains(&silent) => Ok(()),
            unknown => wrong(format!("keyword {unknown} is not known to this check")),
        }
    }

    fn no_extra(
        &self,
        schema: &'a Value,
        object: &Map<String, Value>,
        at: &str,
    ) -> Result<(), String> {
        if let Some(rule) = schema.get("additionalProperties").filter(|rule| rule.is_object()) {
            return object
                .iter()
                .try_for_each(|(key, held)| self.check(rule, held, &format!("{at}.{key}")));
        }
        // A schema that names no property at all is a free object.
        let known = self.properties(schema);
        match object.keys().find(|key| !known.is_empty() && !known.contains(key)) {
            Some(extra) => Err(format!("{at}: {extra} is not in the schema")),
            None => Ok(()),
        }
    }

    fn properties(&self, schema: &'a Value) -> Vec<&'a String> {
        let Ok(schema) = self.resolve(schema) else { return Vec::new() };
        let own = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let parts = ["allOf", "oneOf", "anyOf"].into_iter().filter_map(|word| schema.get(word));
        let parts = parts.filter_map(Value::as_array).flatten();
        own.map(|(key, _)| key).chain(parts.flat_map(|part| self.properties(part))).collect()
    }
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[test]
fn the_check_itself_tells_right_from_wrong() {
    let document = json!({ "components": { "schemas": {
        "Id": { "type": "string", "format": "uuid" },
        "Base": {
            "type": "object", "required": ["id"],
            "properties": { "id": { "$ref": "#/components/schemas/Id" }, "note": { "type": ["string", "null"] } },
        },
        "Whole": { "allOf": [
            { "$ref": "#/components/schemas/Base" },
            { "type": "object", "properties": {
                "size": { "type": "integer", "minimum": 0 },
                "next": { "oneOf": [{ "type": "null" }, { "$ref": "#/components/schemas/Base" }] },
                "free": { "type": "object" },
                "map": { "type": "object", "additionalProperties": { "type": "boolean" } },
            } },
        ] },
    } } });
    let schema = json!({ "$ref": "#/components/schemas/Whole" });
    let id = Uuid::max().to_string();
    for (name, value, good) in [
        ("least", json!({ "id": id }), true),
        (
            "all",
            json!({ "id": id, "note": null, "size": 3, "next": { "id": id }, "free": { "a": 1 }, "map": { "a": true } }),
            true,
        ),
        ("missing", json!({ "size": 3 }), false),
        ("no uuid", json!({ "id": "x" }), false),
        ("wrong type", json!({ "id": id, "size": "3" }), false),
        ("below", json!({ "id": id, "size": -1 }), false),
        ("extra", json!({ "id": id, "surprise": 1 }), false),
        ("extra inside", json!({ "id": id, "next": { "id": id, "surprise": 1 } }), false),
        ("wrong in a map", json!({ "id": id, "map": { "a": 1 } }), false),
    ] {
        let outcome = check(&document, &schema, &value);
        assert_eq!(outcome.is_ok(), good, "{name}: {outcome:?}");
    }
}
