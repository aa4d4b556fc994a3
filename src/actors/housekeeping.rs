//! What has to be tidied up from time to time, wherever nobody else does: expired answers, logins and items.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::supervisor::ChildSpec;

/// How often.
const EVERY: Duration = Duration::from_secs(600);

/// Something to be done now and then; it tells how much there was to do.
pub struct Chore {
    pub name: &'static str,
    pub run: Box<dyn Fn() -> BoxFuture<'static, Result<u64, String>> + Send + Sync>,
}

pub fn child(chores: Vec<Chore>) -> ChildSpec {
    let chores = Arc::new(chores);
    ChildSpec::permanent("housekeeping", move |parent| {
        let chores = Arc::clone(&chores);
        Box::pin(async move {
            let (keeper, _) = Actor::spawn_linked(None, Housekeeper, chores, parent).await?;
            Ok(keeper.get_cell())
        })
    })
}

struct Housekeeper;

struct Tick;

struct State {
    chores: Arc<Vec<Chore>>,
    ticker: JoinHandle<()>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

impl Actor for Housekeeper {
    type Msg = Tick;
    type State = State;
    type Arguments = Arc<Vec<Chore>>;

    async fn pre_start(
        &self,
        myself: ActorRef<Tick>,
        chores: Arc<Vec<Chore>>,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { chores, ticker: myself.send_interval(EVERY, || Tick) })
    }

    /// Nobody waits for the housekeeper, so it may wait for the stores.
    async fn handle(
        &self,
        _myself: ActorRef<Tick>,
        _tick: Tick,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        for chore in state.chores.iter() {
            match (chore.run)().await {
                Ok(0) => {}
                Ok(count) => tracing::info!(chore = chore.name, count, "tidied up"),
                Err(error) => tracing::warn!(chore = chore.name, error, "could not tidy up"),
            }
        }
        Ok(())
    }
}
