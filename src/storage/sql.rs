//! What the SQL back ends share.

/// SQL has no unsigned numbers. What is larger than any of theirs is as good as the largest.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that a column's check keeps from being negative.
pub(super) fn told(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
