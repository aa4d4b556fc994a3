//! What a language model may say about the world's state. Its patch is taken entry by entry: what keeps the rules is taken, the rest
//! is left out.

use serde_json::Value;

use super::patch::Object;

/// Most keys at the top, and in an object below it.
const MAX_KEYS: usize = 48;
const MAX_INNER_KEYS: usize = 16;
const MAX_ITEMS: usize = 16;
const MAX_KEY_CHARS: usize = 40;
const MAX_TEXT_CHARS: usize = 240;
/// The storyteller's own memory: it would not know its story again if somebody else wrote in it.
const STORYTELLERS: [&str; 10] =
    ["act", "book", "cast", "ended", "ending", "flags", "pressures", "story", "tension", "turn"];

/// The part of a model's patch that may be applied to `state`.
pub fn admissible(patch: &Object, state: &Object) -> Object {
    let mut room = MAX_KEYS.saturating_sub(state.len());
    let mut admitted = Object::new();
    for (key, value) in patch {
        if !is_key(key) || STORYTELLERS.contains(&key.as_str()) || !is_sound(value, true) {
            continue;
        }
        let is_new = !state.contains_key(key);
        if is_new && (value.is_null() || room == 0) {
            continue;
        }
        room -= usize::from(is_new);
        admitted.insert(key.clone(), value.clone());
    }
    admitted
}

/// `snake_case`, beginning with a letter.
fn is_key(key: &str) -> bool {
    key.len() <= MAX_KEY_CHARS
        && key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_sound(value: &Value, at_top: bool) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= 1e15),
        Value::String(text) => {
            text.chars().count() <= MAX_TEXT_CHARS && !text.contains(char::is_control)
        }
        Value::Array(items) => {
            at_top && items.len() <= MAX_ITEMS && items.iter().all(|item| is_sound(item, false))
        }
        Value::Object(inner) => {
            at_top
                && inner.len() <= MAX_INNER_KEYS
                && inner.iter().all(|(key, value)| is_key(key) && is_sound(value, false))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_patch_is_taken_entry_by_entry() {
        let state = object(json!({ "grain": 4, "story": { "arc": 3 }, "old": 1 }));
        let patch = object(json!({
            "grain": 3, "old": null, "allies": ["Ada", "Bo"], "rome": { "asleep": true },
            "story": { "arc": 99 }, "pressures": {}, "Bad Key": 1, "long": "x".repeat(241),
            "deep": { "a": { "b": 1 } }, "gone": null, "huge": 1e300, "many": vec![0; 17], "a\nb": 1,
        }));
        let admitted = admissible(&patch, &state);
        assert_eq!(
            Value::Object(admitted),
            json!({ "grain": 3, "old": null, "allies": ["Ada", "Bo"], "rome": { "asleep": true } })
        );
    }

    #[test]
    fn a_state_stays_bounded() {
        let state: Object = (0..47).map(|n| (format!("key_{n}"), json!(n))).collect();
        let patch = object(json!({ "one": 1, "two": 2, "key_3": null }));
        assert_eq!(Value::Object(admissible(&patch, &state)), json!({ "one": 1, "key_3": null }));
    }
}
