//! The keeper of login sessions: writes down what was noted of them, so that no request has to.

use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, timeout};

use super::logins::{AT_ONCE, Logins};
use crate::actors::supervisor::ChildSpec;

/// How often uses are written down.
const EVERY: Duration = Duration::from_secs(1);
/// Longest that the end of the process waits for what is not written yet.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) fn child(logins: &Logins) -> ChildSpec {
    let logins = logins.clone();
    ChildSpec::permanent("logins", move |parent| {
        let logins = logins.clone();
        Box::pin(async move {
            let (keeper, _) = Actor::spawn_linked(None, Keeper, logins, parent).await?;
            Ok(keeper.get_cell())
        })
    })
}

struct Keeper;

enum Msg {
    Tick,
    Bell,
}

struct State {
    logins: Logins,
    /// Whether the last writing failed: an outage is told once, and looked at once a second.
    away: bool,
    looked_through: Instant,
    ticker: JoinHandle<()>,
    listener: JoinHandle<()>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.ticker.abort();
        self.listener.abort();
    }
}

impl Actor for Keeper {
    type Msg = Msg;
    type State = State;
    type Arguments = Logins;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        logins: Logins,
    ) -> Result<State, ActorProcessingErr> {
        let ticker = myself.send_interval(EVERY, || Msg::Tick);
        let heard = logins.clone();
        let listener = tokio::spawn(async move {
            loop {
                heard.bell().await;
                if myself.cast(Msg::Bell).is_err() {
                    return;
                }
            }
        });
        Ok(State { logins, away: false, looked_through: Instant::now(), ticker, listener })
    }

    /// Nobody waits for the keeper, so it may wait for the store.
    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let State { logins, away, looked_through, .. } = state;
        if matches!(message, Msg::Bell) && *away {
            return Ok(());
        }
        if looked_through.elapsed() >= logins.touch_every() {
            logins.forget_old_notes();
            *looked_through = Instant::now();
        }
        // One look is enough to see whether a store is still away.
        let first = if *away { 1 } else { AT_ONCE };
        match (*away, logins.write(first).await) {
            (false, Err(error)) => {
                tracing::warn!(%error, "login sessions cannot be written");
                *away = true;
            }
            (true, Ok(())) => {
                tracing::info!("login sessions are written again");
                *away = false;
            }
            _ => {}
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let _ = timeout(FAREWELL, state.logins.write(AT_ONCE)).await;
        Ok(())
    }
}
