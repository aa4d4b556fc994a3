//! What model calls may cost. Every cap may be left out: then nothing is refused on its account.

use serde::Deserialize;

use crate::domain::budget::Cap;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    pub turn_tokens: Option<u64>,
    pub turn_usd: Option<f64>,
    pub scenario_tokens: Option<u64>,
    pub scenario_usd: Option<f64>,
    /// Of one user on one day (UTC).
    pub user_tokens: Option<u64>,
    pub user_usd: Option<f64>,
    /// Of all users together on one day (UTC).
    pub day_tokens: Option<u64>,
    pub day_usd: Option<f64>,
    pub when_exhausted: WhenExhausted,
}

/// What becomes of a turn for whose model there is no money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenExhausted {
    /// `budget_exhausted`.
    #[default]
    Refuse,
    /// The next provider that costs nothing tells it; at last the storyteller.
    Storyteller,
}

impl Budget {
    pub fn turn(&self) -> Cap {
        cap(self.turn_tokens, self.turn_usd)
    }

    pub fn scenario(&self) -> Cap {
        cap(self.scenario_tokens, self.scenario_usd)
    }

    pub fn user(&self) -> Cap {
        cap(self.user_tokens, self.user_usd)
    }

    pub fn day(&self) -> Cap {
        cap(self.day_tokens, self.day_usd)
    }

    /// The first sum of money that is none.
    pub(super) fn not_money(&self) -> Option<&'static str> {
        [
            ("budget.turn_usd", self.turn_usd),
            ("budget.scenario_usd", self.scenario_usd),
            ("budget.user_usd", self.user_usd),
            ("budget.day_usd", self.day_usd),
        ]
        .into_iter()
        .find_map(|(key, usd)| usd.is_some_and(|usd| !(0.0..=1e9).contains(&usd)).then_some(key))
    }
}

fn cap(tokens: Option<u64>, usd: Option<f64>) -> Cap {
    // Checked to be neither negative nor huge.
    Cap { tokens, micros: usd.map(|usd| (usd * 1e6).round() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_become_micro_dollars() {
        let budget = Budget { user_usd: Some(0.29), user_tokens: Some(7), ..Budget::default() };
        assert_eq!(budget.user(), Cap { tokens: Some(7), micros: Some(290_000) });
        assert!(budget.day().is_endless());
        for broken in [-0.01, f64::NAN, f64::INFINITY] {
            let budget = Budget { day_usd: Some(broken), ..Budget::default() };
            assert_eq!(budget.not_money(), Some("budget.day_usd"));
        }
    }
}
