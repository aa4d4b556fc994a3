//! A real store beside the model: both take every step, and have to say the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use whatif::domain::event::{self, Frame};
use whatif::domain::ids::{ScenarioId, TurnId};
use whatif::storage::log::{self, Claim, Extent, LogError, LogStore, Origin};

use super::store::{Answer, Batch, Checkpoint, Epoch, Event, Grant, Log};
use super::world::{Action, Replica, State, World};

const TTL: Duration = Duration::from_secs(5);

/// One scenario of a real store, and how the model's names are called there.
pub struct Beside<'a> {
    store: &'a dyn LogStore,
    scenario: ScenarioId,
    /// By grant, from 1 on.
    fences: Vec<log::Fence>,
    epochs: HashMap<Epoch, Arc<str>>,
}

impl<'a> Beside<'a> {
    pub fn new(store: &'a dyn LogStore) -> Self {
        let scenario = ScenarioId::new(Timestamp::UNIX_EPOCH);
        Self { store, scenario, fences: Vec::new(), epochs: HashMap::new() }
    }

    /// Takes the step that leads the model from `before` to `after`.
    pub async fn step(&mut self, world: &World, before: &State, action: Action, after: &State) {
        let (store, scenario) = (self.store, self.scenario);
        match action {
            Action::Claim { replica, .. } => self.claim(before, replica, after).await,
            Action::Renew(at) => {
                let lost =
                    store.renew(&[(scenario, self.fence_of(before, at))], TTL).await.unwrap();
                let kept = matches!(after.replicas[at], Replica::Owner(_));
                assert_eq!(lost.is_empty(), kept, "{action:?}");
            }
            Action::Release(at) => {
                store.release(scenario, self.fence_of(before, at)).await.unwrap();
            }
            Action::Deliver(index) => {
                let batch = before.flying[index].batch;
                let expected = before.store.clone().append(world.rules, batch);
                let fence = self.fences[usize::from(batch.event.author) - 1];
                let answer = store.append(scenario, fence, self.batch(batch)).await;
                assert!(agree(expected, &answer), "{action:?}: {expected:?}, {answer:?}");
            }
            // Real time passes for everybody; there is one lease here.
            Action::Expire => tokio::time::advance(TTL).await,
            Action::Lose => store.delete(scenario).await.unwrap(),
            Action::Send(..) | Action::Hear(_) | Action::TimeOut(_) | Action::Crash(_) => {}
            Action::Copy | Action::FailOver => unreachable!("not in these bounds"),
        }
    }

    async fn claim(&mut self, before: &State, replica: usize, after: &State) {
        let origin = match &before.store.log {
            None if before.store.epochs > 0 => Origin::Lost,
            _ => Origin::New,
        };
        let claimed = self.store.claim(self.scenario, &name(replica), TTL, origin).await.unwrap();
        let Claim::Granted(lease) = claimed else { panic!("{replica} is not granted its claim") };
        assert!(self.fences.last().is_none_or(|last| *last < lease.fence), "fences rise");
        self.fences.push(lease.fence);
        let log = after.store.log.as_ref().expect("a claim begins a log");
        let epoch = &lease.extent.epoch;
        if !self.epochs.contains_key(&log.epoch) {
            assert!(self.epochs.values().all(|old| old != epoch), "a lost log's epoch came back");
            self.epochs.insert(log.epoch, Arc::clone(epoch));
        }
        assert_eq!(lease.extent, self.extent(log));
        assert_eq!(lease.checkpoint, log.checkpoint.map(bytes));
    }

    /// Everything that can be asked without changing anything.
    pub async fn compare(&self, world: &World, state: &State) {
        let page = self.store.read(self.scenario, 0, usize::MAX).await.unwrap();
        let found = page.map(|page| (page.extent, page.frames));
        let expected = state.store.log.as_ref().map(|log| {
            let frames = log.events.iter().map(|event| (event.seq.into(), self.frame(*event)));
            (self.extent(log), frames.collect::<Vec<_>>())
        });
        assert_eq!(found, expected);
        let orphans = self.store.list_orphans(usize::MAX).await.unwrap();
        assert_eq!(orphans.contains(&self.scenario), state.store.is_orphan(world.rules));
        for replica in 0..world.bounds.replicas {
            if state.store.clone().claim(world.rules, replica).is_none() {
                let claim = self.store.claim(self.scenario, &name(replica), TTL, Origin::New).await;
                let holder = state.store.log.as_ref().and_then(|log| log.lease.as_ref());
                let expected = holder.map(|lease| name(lease.holder));
                let Ok(Claim::Held { holder, .. }) = claim else { panic!("granted to {replica}") };
                assert_eq!(Some(holder), expected);
            }
        }
    }

    /// What the next owner would be told, and leaves the store as it was found.
    pub async fn done(self, state: &State) {
        if let Some(log) = &state.store.log {
            tokio::time::advance(TTL).await;
            let orphans = self.store.list_orphans(usize::MAX).await.unwrap();
            assert_eq!(orphans.contains(&self.scenario), log.open_turn);
            let claim = self.store.claim(self.scenario, "next", TTL, Origin::New).await.unwrap();
            let Claim::Granted(lease) = claim else { panic!("the lease does not run out") };
            assert_eq!(lease.extent, self.extent(log));
            assert_eq!(lease.checkpoint, log.checkpoint.map(bytes));
        }
        self.store.delete(self.scenario).await.unwrap();
    }

    fn fence_of(&self, state: &State, at: usize) -> log::Fence {
        let Replica::Owner(pen) = &state.replicas[at] else { panic!("{at} has no pen") };
        self.fences[usize::from(pen.grant) - 1]
    }

    fn extent(&self, log: &Log) -> Extent {
        let epoch = Arc::clone(&self.epochs[&log.epoch]);
        Extent { epoch, first: u64::from(log.begin) + 1, head: log.head().into() }
    }

    fn batch(&self, batch: Batch) -> log::Batch {
        let frames = (batch.events() > 0).then(|| self.frame(batch.event));
        log::Batch {
            first_seq: batch.event.seq.into(),
            frames: frames.into_iter().collect(),
            checkpoint: batch.checkpoint().map(bytes),
            open_turn: batch.event.kind.open(),
        }
    }

    /// Another one for each author.
    fn frame(&self, Event { epoch, seq, author, kind }: Event) -> Frame {
        let turn = TurnId(self.scenario.0);
        let delta = event::Event::TextDelta { turn, off: author.into(), text: format!("{kind:?}") };
        Frame::encode(self.scenario, &self.epochs[&epoch], seq.into(), &delta)
    }
}

fn name(replica: usize) -> String {
    format!("replica-{replica}")
}

fn bytes(Checkpoint { author, version }: Checkpoint) -> Bytes {
    let author: Grant = author;
    Bytes::from(vec![author, version])
}

fn agree(expected: Answer, answer: &Result<(), LogError>) -> bool {
    match (expected, answer) {
        (Answer::Stored, Ok(()))
        | (Answer::Fenced, Err(LogError::Fenced))
        | (Answer::Gone, Err(LogError::Gone | LogError::Fenced)) => true,
        (Answer::OutOfSequence { head }, Err(LogError::OutOfSequence { head: real })) => {
            u64::from(head) == *real
        }
        _ => false,
    }
}
