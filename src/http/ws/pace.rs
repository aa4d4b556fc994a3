//! How often a socket may ask: a token bucket, and patience with those who do not heed it.

use tokio::time::Instant;

/// Refusals after which the socket is closed; they are forgiven as fast as commands are allowed, so that only who
/// goes on at more than twice the pace gets there.
const PATIENCE: f64 = 100.0;

#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    tokens: f64,
    at: Instant,
    refused: f64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    TooFast,
    /// Too fast for too long.
    Enough,
}

impl Pace {
    pub fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, tokens: per_second, at: Instant::now(), refused: 0.0 }
    }

    pub fn ask(&mut self) -> Verdict {
        let now = Instant::now();
        let earned = now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + earned).min(self.per_second);
        self.refused = (self.refused - earned).max(0.0);
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Verdict::Go;
        }
        self.refused += 1.0;
        if self.refused > PATIENCE { Verdict::Enough } else { Verdict::TooFast }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_a_second_and_no_more() {
        let mut pace = Pace::new(10);
        assert!((0..10).all(|_| pace.ask() == Verdict::Go));
        assert_eq!(pace.ask(), Verdict::TooFast);
        tokio::time::advance(Duration::from_millis(101)).await;
        assert_eq!(pace.ask(), Verdict::Go);
        assert!((0..100).all(|_| pace.ask() == Verdict::TooFast));
        assert_eq!(pace.ask(), Verdict::Enough);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pace.ask(), Verdict::Go, "a pause is forgiven");
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_at_any_pace_that_does_not_heed_the_limit() {
        for (per_second, endured) in [(10, true), (15, true), (19, true), (25, false), (500, false)]
        {
            let mut pace = Pace::new(10);
            let mut verdicts = Vec::new();
            for _ in 0..per_second * 60 {
                tokio::time::advance(Duration::from_secs(1) / per_second).await;
                verdicts.push(pace.ask());
            }
            assert_eq!(!verdicts.contains(&Verdict::Enough), endured, "{per_second} a second");
        }
    }
}
