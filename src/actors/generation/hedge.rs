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

/// Whose answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The first one's, whether or not the second was asked.
    First,
    /// The second one's stream, or the refusal of both.
    Both,
}

impl TextProviders {
    /// Opens a stream of `first`'s; or of `second`'s, which is asked, too, once `first` has been silent for the configured
    /// time, should that one speak earlier. Who refuses at once is left to the fail-over.
    ///
    /// # Errors
    /// As for [`TextHandle::open`], and whether it speaks for both.
    pub(super) async fn open_either(
        &self,
        first: &TextHandle,
        second: &TextHandle,
        request: impl Fn(&TextHandle) -> StoryRequest,
    ) -> Result<(Asked, TextStream), (Asked, String)> {
        let first_only = |opened: Result<TextStream, String>| {
            opened.map(|stream| (Asked::First, stream)).map_err(|why| (Asked::First, why))
        };
        let Some(hedging) = &self.hedging else {
            return first_only(first.open(request(first)).await);
        };
        hedging.budget.deposit();
        let (give_first_up, unwanted) = oneshot::channel();
        let mut open_first = std::pin::pin!(first.open_while_wanted(request(first), unwanted));
        if let Ok(opened) = tokio::time::timeout(hedging.after, open_first.as_mut()).await {
            return first_only(opened);
        }
        if !hedging.budget.withdraw() {
            return first_only(open_first.await);
        }
        metrics::counter!("whatif_hedges_total", "provider" => first.name.clone()).increment(1);
        let (give_second_up, unwanted) = oneshot::channel();
        let mut open_second = std::pin::pin!(second.open_while_wanted(request(second), unwanted));
        tokio::select! {
            opened = open_first.as_mut() => match opened {
                Ok(stream) => {
                    let _ = give_second_up.send(());
                    Ok((Asked::First, stream))
                }
                Err(_) => match open_second.await {
                    Ok(stream) => Ok((Asked::Both, stream)),
                    Err(why) => Err((Asked::Both, why)),
                },
            },
            opened = open_second.as_mut() => match opened {
                Ok(stream) => {
                    let _ = give_first_up.send(());
                    Ok((Asked::Both, stream))
                }
                Err(why) => match open_first.await {
                    Ok(stream) => Ok((Asked::First, stream)),
                    Err(_) => Err((Asked::Both, why)),
                },
            },
        }
    }
}
