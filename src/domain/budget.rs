//! What model calls may cost: amounts, prices, and the purses that a call is paid from.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::ids::{ScenarioId, TurnId, UserId};

/// Tokens and money. Money is in micro-dollars (1 000 000 are 1 USD).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    pub tokens: u64,
    pub micros: u64,
}

impl Amount {
    pub fn plus(self, other: Amount) -> Amount {
        Amount {
            tokens: self.tokens.saturating_add(other.tokens),
            micros: self.micros.saturating_add(other.micros),
        }
    }

    pub fn minus(self, other: Amount) -> Amount {
        Amount {
            tokens: self.tokens.saturating_sub(other.tokens),
            micros: self.micros.saturating_sub(other.micros),
        }
    }
}

/// Most that a purse gives; `None` is without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cap {
    pub tokens: Option<u64>,
    pub micros: Option<u64>,
}

impl Cap {
    pub const fn is_endless(self) -> bool {
        self.tokens.is_none() && self.micros.is_none()
    }

    /// Whether a purse from which `taken` is gone already gives `more` as well.
    pub fn allows(self, taken: Amount, more: Amount) -> bool {
        let within = |cap: Option<u64>, taken: u64, more: u64| {
            cap.is_none_or(|cap| taken.saturating_add(more) <= cap)
        };
        within(self.tokens, taken.tokens, more.tokens)
            && within(self.micros, taken.micros, more.micros)
    }
}

/// Out of which every call is paid, each up to its own cap. Days are UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purse {
    Turn(TurnId),
    Scenario(ScenarioId),
    User(UserId, Date),
    /// Everybody's, of one day.
    Day(Date),
}

impl Purse {
    /// The name that stores keep it under; sorts as text.
    pub fn key(&self) -> String {
        match self {
            Purse::Turn(turn) => format!("turn:{turn}"),
            Purse::Scenario(scenario) => format!("scenario:{scenario}"),
            Purse::User(user, day) => format!("user:{user}:{day}"),
            Purse::Day(day) => format!("day:{day}"),
        }
    }

    /// For metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Purse::Turn(_) => "turn",
            Purse::Scenario(_) => "scenario",
            Purse::User(..) => "user",
            Purse::Day(_) => "day",
        }
    }

    /// For a person who hears that it is empty.
    pub const fn whose(&self) -> &'static str {
        match self {
            Purse::Turn(_) => "of this turn",
            Purse::Scenario(_) => "of this scenario",
            Purse::User(..) => "of your day",
            Purse::Day(_) => "of all readers for today",
        }
    }

    /// How long it is remembered after something was last taken from it.
    pub const fn kept_for(&self) -> Duration {
        const DAY: u64 = 24 * 3600;
        match self {
            Purse::Turn(_) => Duration::from_secs(2 * DAY),
            Purse::Scenario(_) | Purse::User(..) | Purse::Day(_) => Duration::from_secs(400 * DAY),
        }
    }

    /// When it is full again; `None`: never.
    pub fn refills_at(&self) -> Option<Timestamp> {
        match self {
            Purse::User(_, day) | Purse::Day(day) => {
                let next = day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?;
                Some(next.timestamp())
            }
            Purse::Turn(_) | Purse::Scenario(_) => None,
        }
    }
}

/// The UTC day of a time.
pub fn day_of(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

/// About how many tokens a text has, for texts that nobody has counted: four characters of Latin script to a token, two
/// of other alphabets, one of a script without spaces between its words. Vendors give the first figure as a rule of
/// thumb for English; the others err on the high side, which a reservation may.
pub fn estimate_tokens(text: &str) -> u64 {
    let quarters: u64 = text
        .chars()
        .map(|c| match c {
            '\0'..='\u{24f}' => 1,
            '\u{1e00}'..='\u{1eff}' | '\u{2000}'..='\u{206f}' => 2,
            '\u{2e80}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7af}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'.. => 4,
            _ => 2,
        })
        .sum();
    quarters.div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_hold_for_each_measure_by_itself() {
        let cap = Cap { tokens: Some(100), micros: Some(50) };
        let taken = Amount { tokens: 60, micros: 50 };
        for (tokens, micros, allowed) in [(40, 0, true), (41, 0, false), (0, 1, false)] {
            assert_eq!(cap.allows(taken, Amount { tokens, micros }), allowed, "{tokens} {micros}");
        }
        let most = Amount { tokens: u64::MAX, micros: u64::MAX };
        assert!(Cap::default().allows(most, most) && Cap::default().is_endless());
        assert!(!cap.allows(most, Amount { tokens: 1, micros: 0 }), "no overflow");
    }

    #[test]
    fn a_days_purse_is_full_again_at_midnight() {
        let now: Timestamp = "2026-12-31T23:59:59Z".parse().unwrap();
        let purse = Purse::Day(day_of(now));
        assert_eq!(purse.key(), "day:2026-12-31");
        assert_eq!(purse.refills_at(), Some("2027-01-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn tokens_are_estimated_by_script() {
        for (text, tokens) in [
            ("", 0),
            ("What if Rome never fell?", 6),
            ("Nếu La Mã không sụp đổ?", 7),
            ("もしローマが", 6),
            ("Если бы", 4),
        ] {
            assert_eq!(estimate_tokens(text), tokens, "{text}");
        }
    }
}
