//! A second provider for a scene whose first one is slow to begin: whoever speaks first tells it, the other's call is given
//! up. Off unless configured, and bounded by a budget, since the call that loses may be charged.
//!
//! Called by the turn's fail-over only.

use std::time::Duration;

use tokio::sync::oneshot;

use super::text::{TextHandle, TextProviders};
use crate::providers::budget::Budget;
use crate::providers::text::{StoryRequest, TextStream};

pub struct Hedging {
    after: Duration,
    budget: Budget,
}

impl Hedging {
    /// `None` if it is turned off.
    pub(super) fn new(after: Duration, budget: f64) -> Option<Self> {
        (!after.is_zero() && budget > 0.0).then(|| Self { after, budget: Budget::new(budget) })
    }
}

/// Whose stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Winner {
    First,
    Second,
}

/// What came of it.
pub(super) struct Race<P> {
    /// What the second one's call was paid with; `None`: it was never asked.
    pub paid: Option<P>,
    /// Who lost had refused by then, and so owes nothing; else it was sent the request.
    pub loser_refused: bool,
    /// The stream, or the last refusal of all who were asked.
    pub outcome: Result<(Winner, TextStream), String>,
}

impl TextProviders {
    /// Opens a stream of `first`'s; or of `second`'s, which is asked, too, once `first` has been silent for the configured
    /// time, should that one speak earlier. Who refuses at once is left to the fail-over.
    /// `pay` is asked before the second one is; `None` from it means that it must not be.
    pub(super) async fn open_either<P>(
        &self,
        first: &TextHandle,
        second: &TextHandle,
        request: impl Fn(&TextHandle) -> StoryRequest,
        pay: impl AsyncFnOnce() -> Option<P>,
    ) -> Race<P> {
        let alone = |opened: Result<TextStream, String>| Race {
            paid: None,
            loser_refused: false,
            outcome: opened.map(|stream| (Winner::First, stream)),
        };
        let Some(hedging) = &self.hedging else {
            return alone(first.open(request(first)).await);
        };
        hedging.budget.deposit();
        let (give_first_up, unwanted) = oneshot::channel();
        let mut open_first = std::pin::pin!(first.open_while_wanted(request(first), unwanted));
        if let Ok(opened) = tokio::time::timeout(hedging.after, open_first.as_mut()).await {
            return alone(opened);
        }
        if !hedging.budget.withdraw() {
            return alone(open_first.await);
        }
        let Some(paid) = pay().await else {
            return alone(open_first.await);
        };
        metrics::counter!("whatif_hedges_total", "provider" => first.name.clone()).increment(1);
        let (give_second_up, unwanted) = oneshot::channel();
        let mut open_second = std::pin::pin!(second.open_while_wanted(request(second), unwanted));
        let (loser_refused, outcome) = tokio::select! {
            opened = open_first.as_mut() => match opened {
                Ok(stream) => {
                    let _ = give_second_up.send(());
                    (false, Ok((Winner::First, stream)))
                }
                Err(_) => (true, open_second.await.map(|stream| (Winner::Second, stream))),
            },
            opened = open_second.as_mut() => match opened {
                Ok(stream) => {
                    let _ = give_first_up.send(());
                    (false, Ok((Winner::Second, stream)))
                }
                Err(why) => match open_first.await {
                    Ok(stream) => (true, Ok((Winner::First, stream))),
                    Err(_) => (true, Err(why)),
                },
            },
        };
        Race { paid: Some(paid), loser_refused, outcome }
    }
}
