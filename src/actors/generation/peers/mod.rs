//! Between replicas: a command that arrives where its session does not live is done where it does.
//!
//! [`Peers::forward`] asks the owner over the bus and waits for the answer; the [`child`] of the tree listens and has
//! what others ask done by the sessions here. Nobody passes on what was passed to him: who is asked for a session that
//! lives elsewhere says so, and the first replica looks again whose it is. A message may get lost, so an ask is sent
//! again; that does no harm, since every command carries a key.

mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::{Answered, GenerationHandle};
use crate::actors::supervisor::ChildSpec;
use crate::domain::ids::ScenarioId;
use crate::error::ServiceError;
use crate::storage::bus::{BusError, ReplicaBus};

pub use wire::Ask;
use wire::{Message, Reply};

/// Commands on their way to other replicas at the same time; further ones are refused.
const MAX_FORWARDED: usize = 1_024;
/// Asks of others that are worked on at the same time; further ones are dropped, and asked again.
const MAX_SERVED: usize = 512;
/// Longest that one try of a forwarded command waits for its answer; then it is looked again who the owner is.
const TRY_DEADLINE: Duration = Duration::from_secs(3);
/// Wait before an ask is sent again within a try; doubled each time.
const AGAIN: Duration = Duration::from_millis(400);
/// Longest that the bus may take to accept a message.
const SEND_DEADLINE: Duration = Duration::from_secs(1);
/// Wait before the bus is listened to again.
const LISTEN_AGAIN: Duration = Duration::from_millis(250);

pub struct Peers {
    bus: Arc<dyn ReplicaBus>,
    /// This replica's name.
    name: String,
    asked: Mutex<HashMap<Uuid, oneshot::Sender<Reply>>>,
    forwarded: Semaphore,
    served: Arc<Semaphore>,
}

impl Peers {
    pub fn new(bus: Arc<dyn ReplicaBus>, name: String) -> Self {
        Self {
            bus,
            name,
            asked: Mutex::default(),
            forwarded: Semaphore::new(MAX_FORWARDED),
            served: Arc::new(Semaphore::new(MAX_SERVED)),
        }
    }

    /// Has `owner` do it. `None`: it did not, or did not say so; asking again is harmless.
    pub async fn forward(&self, owner: &str, scenario: ScenarioId, ask: &Ask) -> Option<Answered> {
        let Ok(_place) = self.forwarded.try_acquire() else {
            count("refused");
            return Some(Err(ServiceError::unavailable("this replica", Duration::from_secs(1))));
        };
        let answered = self.ask(owner, scenario, ask).await;
        let (outcome, answered) = match answered {
            Some(Reply::Done(turn)) => ("done", Some(Ok(turn))),
            Some(Reply::Refused(error)) => ("done", Some(Err(error))),
            Some(Reply::NotHere) => ("not_here", None),
            Some(Reply::Unsupported) => {
                tracing::warn!(owner, "the owner's version does not know what it was asked");
                ("unsupported", None)
            }
            None => ("unanswered", None),
        };
        count(outcome);
        answered
    }

    async fn ask(&self, owner: &str, scenario: ScenarioId, ask: &Ask) -> Option<Reply> {
        let mut asked = Asked::new(self);
        let message = wire::encode_ask(asked.id, &self.name, scenario, ask);
        let give_up = Instant::now() + TRY_DEADLINE;
        let (mut copies, mut wait) = (1, AGAIN);
        loop {
            for _ in 0..copies {
                match self.send(owner, message.clone()).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::debug!(%scenario, owner, "owner does not listen");
                        return None;
                    }
                    Err(error) => {
                        tracing::warn!(%scenario, %error, "command was not forwarded");
                        return None;
                    }
                }
            }
            match timeout_at(give_up.min(Instant::now() + wait), &mut asked.answer).await {
                Ok(answer) => return answer.ok(),
                Err(_) if Instant::now() >= give_up => return None,
                // What loses messages in a rhythm should not lose each one or its answer.
                Err(_) => (copies, wait) = (2, wait * 2),
            }
        }
    }

    async fn send(&self, to: &str, message: Bytes) -> Result<bool, BusError> {
        match timeout(SEND_DEADLINE, self.bus.send(to, message)).await {
            Ok(sent) => sent,
            Err(_) => Err(BusError::Unavailable("no answer in time".into())),
        }
    }

    /// Takes one message from the bus.
    fn receive(self: &Arc<Self>, message: &[u8], sessions: &GenerationHandle) {
        let (id, from, asked) = match wire::decode(message) {
            Ok(Message::Reply { id, reply }) => {
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(asker) = asked.remove(&id) {
                    let _ = asker.send(reply);
                }
                return;
            }
            Ok(Message::Ask { id, from, scenario, ask }) => (id, from, Some((scenario, ask))),
            Ok(Message::Unknown { id, from }) => (id, from, None),
            Err(error) => {
                tracing::warn!(%error, "message of another replica is unreadable");
                return;
            }
        };
        let Ok(place) = Arc::clone(&self.served).try_acquire_owned() else {
            tracing::warn!(from, "too much is asked by other replicas");
            return;
        };
        let (peers, sessions) = (Arc::clone(self), sessions.clone());
        tokio::spawn(async move {
            let reply = match asked {
                Some((scenario, ask)) => match sessions.serve(scenario, &ask).await {
                    Some(Ok(turn)) => Reply::Done(turn),
                    Some(Err(error)) => Reply::Refused(error),
                    None => Reply::NotHere,
                },
                None => Reply::Unsupported,
            };
            if let Err(error) = peers.send(&from, wire::encode_reply(id, reply)).await {
                tracing::warn!(from, %error, "answer to another replica was not sent");
            }
            drop(place);
        });
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("whatif_commands_forwarded_total", "outcome" => outcome).increment(1);
}

/// An ask that waits for its answer.
struct Asked<'a> {
    peers: &'a Peers,
    id: Uuid,
    answer: oneshot::Receiver<Reply>,
}

impl<'a> Asked<'a> {
    fn new(peers: &'a Peers) -> Self {
        let (asker, answer) = oneshot::channel();
        let id = Uuid::new_v4();
        peers.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(id, asker);
        Self { peers, id, answer }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.peers.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// The listener's row in the tree.
pub fn child(peers: Arc<Peers>, sessions: GenerationHandle) -> ChildSpec {
    ChildSpec::permanent("peers", move |parent| {
        let args = (Arc::clone(&peers), sessions.clone());
        Box::pin(async move {
            let (listener, _) = Actor::spawn_linked(None, Listener, args, parent).await?;
            Ok(listener.get_cell())
        })
    })
    // It waits for messages as long as it lives; what it began goes on without it.
    .stop_with(|cell, budget| {
        Box::pin(async move {
            let _ = cell.kill_and_wait(Some(budget)).await;
        })
    })
}

struct Listener;

struct Listen;

impl Actor for Listener {
    type Msg = Listen;
    type State = (Arc<Peers>, GenerationHandle);
    type Arguments = (Arc<Peers>, GenerationHandle);

    async fn pre_start(
        &self,
        _myself: ActorRef<Listen>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(args)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Listen>,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(myself.cast(Listen)?)
    }

    /// Ends never: whoever sent it is the only one, and nobody waits.
    async fn handle(
        &self,
        _myself: ActorRef<Listen>,
        _listen: Listen,
        (peers, sessions): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        loop {
            match peers.bus.listen(&peers.name).await {
                Ok(mut messages) => listen(peers, sessions, &mut messages).await,
                Err(error) => tracing::warn!(%error, "other replicas cannot be heard"),
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }
}

async fn listen(
    peers: &Arc<Peers>,
    sessions: &GenerationHandle,
    messages: &mut mpsc::Receiver<Bytes>,
) {
    while let Some(message) = messages.recv().await {
        peers.receive(&message, sessions);
    }
}
