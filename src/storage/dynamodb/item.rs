//! Attributes of items, read and written with names and types checked; and the cursors of lists.

use std::collections::HashMap;
use std::str::FromStr;

use aws_lc_rs::digest::{self, SHA256};
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::tables::{PK, SK};
use crate::storage::StoreError;

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A primary key; also the beginning of a new item.
pub(super) fn key(pk: impl Into<String>, sk: impl Into<String>) -> Item {
    HashMap::from([(PK.to_owned(), text(pk)), (SK.to_owned(), text(sk))])
}

/// An item being taken apart. An attribute that is missing or of another type makes it corrupt.
pub(super) struct Attributes(Item);

impl Attributes {
    pub(super) fn of(item: Item) -> Self {
        Self(item)
    }

    pub(super) fn opt_text(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(AttributeValue::S(value)) => Ok(Some(value)),
            Some(_) => Err(self.corrupt(name)),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, StoreError> {
        self.opt_text(name)?.ok_or_else(|| self.corrupt(name))
    }

    /// A text that has a type of its own: a time, an id.
    pub(super) fn parsed<T: FromStr>(&mut self, name: &str) -> Result<T, StoreError> {
        self.text(name)?.parse().map_err(|_| self.corrupt(name))
    }

    pub(super) fn opt_number<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, StoreError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(AttributeValue::N(value)) => {
                value.parse().map(Some).map_err(|_| self.corrupt(name))
            }
            Some(_) => Err(self.corrupt(name)),
        }
    }

    pub(super) fn number<T: FromStr>(&mut self, name: &str) -> Result<T, StoreError> {
        self.opt_number(name)?.ok_or_else(|| self.corrupt(name))
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, StoreError> {
        match self.0.remove(name) {
            Some(AttributeValue::Bool(value)) => Ok(value),
            _ => Err(self.corrupt(name)),
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, StoreError> {
        let Some(AttributeValue::L(values)) = self.0.remove(name) else {
            return Err(self.corrupt(name));
        };
        values
            .into_iter()
            .map(|value| match value {
                AttributeValue::S(value) => Ok(value),
                _ => Err(self.corrupt(name)),
            })
            .collect()
    }

    /// Names the item by its sort key alone: partition keys hold user ids.
    pub(super) fn corrupt(&self, name: &str) -> StoreError {
        let sk = self.0.get(SK).and_then(|sk| sk.as_s().ok()).map_or("?", String::as_str);
        StoreError::Corrupt(format!("attribute {name} of an item {sk}"))
    }
}

/// Bytes of the check sum in a cursor.
const CHECK: usize = 8;

/// An opaque cursor: the last entry given out, and a check sum over it and over `scope`, the list it belongs to. So a
/// cursor that was cut, altered or taken from another list is recognised. It protects against mistakes, not against
/// forgery, and need not: whatever it says, only entries of the caller's own list are read.
pub(super) fn write_cursor(scope: &str, last: Uuid) -> String {
    let mut bytes = last.as_bytes().to_vec();
    bytes.extend_from_slice(&check(scope, last));
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn read_cursor(scope: &str, cursor: &str) -> Result<Uuid, StoreError> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| StoreError::InvalidCursor)?;
    let (last, sum) = bytes.split_at_checked(16).ok_or(StoreError::InvalidCursor)?;
    let last = Uuid::from_slice(last).map_err(|_| StoreError::InvalidCursor)?;
    if sum == check(scope, last) { Ok(last) } else { Err(StoreError::InvalidCursor) }
}

fn check(scope: &str, last: Uuid) -> [u8; CHECK] {
    let mut context = digest::Context::new(&SHA256);
    context.update(scope.as_bytes());
    context.update(&[0]);
    context.update(last.as_bytes());
    let mut sum = [0; CHECK];
    sum.copy_from_slice(&context.finish().as_ref()[..CHECK]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_list_only_and_whole_only() {
        let last = Uuid::from_u128(7);
        let good = write_cursor("a", last);
        assert_eq!(read_cursor("a", &good).unwrap(), last);
        let altered = format!("B{}", &good[1..]);
        for (scope, bad) in [
            ("b", good.as_str()),
            ("a", &altered),
            ("a", &good[..good.len() - 1]),
            ("a", &format!("{good}AAAA")),
            ("a", ""),
            ("a", "not base64!"),
        ] {
            let read = read_cursor(scope, bad);
            assert!(matches!(read, Err(StoreError::InvalidCursor)), "{scope} {bad}: {read:?}");
        }
    }

    #[test]
    fn a_missing_or_mistyped_attribute_is_corrupt_not_a_default() {
        let mut item = key("p", "s");
        item.insert("count".to_owned(), text("7"));
        let mut attributes = Attributes::of(item);
        assert!(matches!(attributes.number::<u32>("count"), Err(StoreError::Corrupt(_))));
        let missing = attributes.text("title").unwrap_err();
        assert_eq!(missing.to_string(), "corrupt: attribute title of an item s");
    }
}
