//! Identifiers. Entities carry UUIDv7 (time-ordered); scenes are numbered within their scenario (`n1`, `n2`, …).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A text that is not the identifier it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0} id")]
pub struct InvalidId(&'static str);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new UUIDv7 whose time part is `now`.
            pub fn new(now: Timestamp) -> Self {
                let seconds = u64::try_from(now.as_second()).unwrap_or(0);
                let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
                Self(Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Accepts the hyphenated form only, in either case.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match text.len() {
                    36 => Uuid::try_parse(text).map(Self).map_err(|_| InvalidId($what)),
                    _ => Err(InvalidId($what)),
                }
            }
        }
    };
}

uuid_id!(UserId, "user");
uuid_id!(
    /// Also the address of the scenario's live session and of its event log.
    ScenarioId,
    "scenario"
);
uuid_id!(TurnId, "turn");
uuid_id!(
    /// A conversation with the companion.
    ChatId,
    "chat"
);

/// A scene's number within its scenario, from 1 upwards; `n7` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SceneId(pub u32);

impl SceneId {
    pub const FIRST: SceneId = SceneId(1);

    pub const fn next(self) -> SceneId {
        SceneId(self.0 + 1)
    }
}

impl fmt::Display for SceneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl FromStr for SceneId {
    type Err = InvalidId;

    /// Only the canonical form: `n7`, never `n07` or `n+7`.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.strip_prefix('n')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0'))
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or(InvalidId("scene"))
    }
}

impl Serialize for SceneId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SceneId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scene_ids_have_one_spelling() {
        assert_eq!("n7".parse(), Ok(SceneId(7)));
        for bad in ["7", "n", "n0", "n07", "n+7", "N7", "n7 ", "n99999999999"] {
            assert_eq!(bad.parse::<SceneId>(), Err(InvalidId("scene")), "{bad}");
        }
    }

    #[test]
    fn entity_ids_sort_by_time_and_reject_other_spellings() {
        let early = ScenarioId::new(Timestamp::from_second(1_700_000_000).unwrap());
        let late = ScenarioId::new(Timestamp::from_second(1_800_000_000).unwrap());
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert!(early.0.simple().to_string().parse::<ScenarioId>().is_err());
    }
}
