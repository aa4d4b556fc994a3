//! The world state's merge patches (RFC 7386): applying one, and finding the one that leads from a state to another.

use serde_json::{Map, Value};

/// A JSON object; the world state of a scenario and a patch on it.
pub type Object = Map<String, Value>;

/// Applies `patch` to `target`: `null` deletes a key, an object merges, anything else replaces.
pub fn merge(target: &mut Object, patch: &Object) {
    for (key, change) in patch {
        match change {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(inner) => {
                let slot = target.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

/// All words in it, keys included, a line each.
pub fn texts(patch: &Object) -> String {
    fn add(words: &mut Vec<String>, value: &Value) {
        match value {
            Value::String(text) => words.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| add(words, item)),
            Value::Object(inner) => inner.iter().for_each(|(key, value)| {
                words.push(key.replace('_', " "));
                add(words, value);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut words = Vec::new();
    for (key, value) in patch {
        words.push(key.replace('_', " "));
        add(&mut words, value);
    }
    words.join("\n")
}

/// The smallest patch that leads from `before` to `after`.
///
/// RFC 7386 cannot write a `null` value, so `after` must hold none (the world state never does).
pub fn diff(before: &Object, after: &Object) -> Object {
    let mut patch = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, now) in after {
        match (before.get(key), now) {
            (Some(was), now) if was == now => {}
            (Some(Value::Object(was)), Value::Object(now)) => {
                patch.insert(key.clone(), Value::Object(diff(was, now)));
            }
            _ => {
                patch.insert(key.clone(), now.clone());
            }
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        match value {
            Value::Object(map) => map,
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn the_examples_of_rfc_7386_hold() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut state = object(target.clone());
            merge(&mut state, &object(patch.clone()));
            assert_eq!(Value::Object(state), result, "{target} + {patch}");
        }
    }

    fn states() -> impl Strategy<Value = Object> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        prop::collection::btree_map("[a-d]", value, 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_diff_applied_gives_the_later_state(before in states(), after in states()) {
            let mut state = before.clone();
            merge(&mut state, &diff(&before, &after));
            prop_assert_eq!(state, after);
        }
    }
}
