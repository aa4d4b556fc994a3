//! Several replicas over one log: readers and commands anywhere, owners that come and go, a log that is lost.

mod asking;
mod lost;
mod reading;
mod skew;
mod takeover;

use std::sync::Mutex;

use super::*;
use crate::domain::event::Frame;
use crate::storage::log::LogStore;

/// A reader that does what a socket does: takes what there is, reads what is older, attaches anew when its position
/// means nothing any more. Every event it gets must follow the one before.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
pub struct Seen {
    pub epoch: String,
    /// `seq` of the snapshot or position that `frames` follow.
    pub after: u64,
    pub frames: Vec<Frame>,
    /// The open turn of the snapshot.
    pub open: Option<Draft>,
    pub snapshots: usize,
}

impl Seen {
    pub fn events(&self) -> Vec<Event> {
        self.frames.iter().map(|frame| frame.decode().unwrap().event).collect()
    }

    /// The open turn as a client has it, from snapshot and events.
    pub fn draft(&self) -> Option<Draft> {
        let open = self.open.iter().flat_map(Draft::retold);
        Draft::fold(
            open.chain(self.events()).filter(|event| !is_last(event)).collect::<Vec<_>>().iter(),
        )
    }
}

impl Watch {
    pub async fn begin(replica: &Replica, id: ScenarioId) -> Self {
        let (handle, seen) = (replica.handle.clone(), Arc::new(Mutex::new(Seen::default())));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let wake = Arc::new(Wake::default());
            let mut position = (None, 0);
            loop {
                let epoch: Option<String> = position.0.take();
                let attached = handle.attach(OWNER, id, epoch.as_deref(), position.1, &wake).await;
                let Ok(attached) = attached else {
                    // A client comes back after a moment, with where it was.
                    position.0 = epoch;
                    pause(100).await;
                    continue;
                };
                let Attached { mut reader, snapshot, .. } = attached;
                {
                    let mut seen = shared.lock().unwrap();
                    if let Some(snapshot) = snapshot {
                        *seen = Seen {
                            after: snapshot.seq,
                            open: snapshot.open_turn,
                            snapshots: seen.snapshots + 1,
                            ..Seen::default()
                        };
                    }
                    seen.epoch = reader.epoch().to_string();
                }
                if follow(&mut reader, &wake, &shared).await {
                    position = (Some("-".to_owned()), 0);
                } else {
                    position = (Some(reader.epoch().to_string()), reader.cursor());
                }
            }
        });
        let watch = Self { seen, task };
        until("a reader is attached", || !watch.seen().epoch.is_empty()).await;
        watch
    }

    pub fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Waits until it has seen the whole log; every byte of it is what the store has.
    pub async fn sees_everything(&self, world: &World, id: ScenarioId) {
        let page = world.log.inner.read(id, 0, usize::MAX).await.unwrap().unwrap();
        let head = page.extent.head;
        let what = format!("a reader sees all of {} up to {head}", page.extent.epoch);
        let is_level = || {
            let seen = self.seen();
            seen.epoch == *page.extent.epoch && seen.after + seen.frames.len() as u64 == head
        };
        for _ in 0..100 {
            if is_level() {
                break;
            }
            pause(100).await;
        }
        assert!(is_level(), "never: {what}");
        let seen = self.seen();
        let stored = page.frames.into_iter().filter(|(seq, _)| *seq > seen.after);
        let stored: Vec<Frame> = stored.map(|(_, frame)| frame).collect();
        assert!(seen.frames == stored, "a reader saw something else");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the reader's position is lost; else something was away.
async fn follow(reader: &mut LogReader, wake: &Wake, seen: &Mutex<Seen>) -> bool {
    loop {
        let before = reader.cursor();
        let mut frames = Vec::new();
        match reader.take(4_096, &mut frames) {
            Taken::Frames => {}
            Taken::Level => std::future::poll_fn(|context| wake.poll(context)).await,
            Taken::Older => match reader.read_older().await {
                Ok(older) if reader.advance(&older) => frames = older,
                Ok(_) => return true,
                Err(_) => return false,
            },
            Taken::Lost => return true,
        }
        let mut seen = seen.lock().unwrap();
        for (at, (seq, frame)) in (before + 1..).zip(frames) {
            let addressed = frame.decode().unwrap();
            assert_eq!((seq, addressed.seq), (at, at), "a gap");
            assert_eq!(addressed.epoch, seen.epoch);
            assert_eq!(seq, seen.after + seen.frames.len() as u64 + 1);
            seen.frames.push(frame);
        }
    }
}

/// The first events after `before` of them, and how long they took.
pub async fn goes_on(world: &World, id: ScenarioId, turn: TurnId, before: usize) -> Duration {
    let since = tokio::time::Instant::now();
    until("the turn goes on", || {
        let events = futures::executor::block_on(world.turn_events(id, turn));
        let news = events.iter().skip(before);
        news.filter(|event| !matches!(event, Event::TurnFailover { .. })).count() > 0
    })
    .await;
    since.elapsed()
}
