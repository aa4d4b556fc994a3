//! Frames on their way to the server: sent, sent again after a cut or a passing refusal, and ticked off.
//!
//! `session` decides what is asked; here is only the promise that it is asked until it is answered. A repeated
//! command carries the idempotency key of the first try, so the server carries it out once.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::wire::Refusal;

/// Tries of a frame that the server refuses for the moment.
const MAX_TRIES: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Attach,
    /// Starts a turn.
    Turn,
    Stop,
}

/// A frame that is not answered yet.
struct Pending {
    id: String,
    frame: Value,
    kind: Kind,
    tries: u32,
    /// Refused for the moment: when to send it again.
    due: Option<Instant>,
}

#[derive(Default)]
pub struct Outgoing {
    /// Where frames go while there is a connection.
    outbox: Option<mpsc::Sender<String>>,
    pending: Vec<Pending>,
    last_id: u64,
}

impl Outgoing {
    pub fn is_connected(&self) -> bool {
        self.outbox.is_some()
    }

    /// Whether a frame of this kind waits for its answer.
    pub fn awaits(&self, kind: Kind) -> bool {
        self.pending.iter().any(|pending| pending.kind == kind)
    }

    /// From now on frames go to this connection. What is unanswered waits for [`Outgoing::repeat_all`].
    pub fn connected(&mut self, outbox: mpsc::Sender<String>) {
        self.outbox = Some(outbox);
        // It belonged to the connection before.
        self.forget(Kind::Attach);
    }

    pub fn disconnected(&mut self) {
        self.outbox = None;
    }

    /// Gives up on all frames of this kind.
    pub fn forget(&mut self, kind: Kind) {
        self.pending.retain(|pending| pending.kind != kind);
    }

    /// Sends a frame, now or as soon as there is a connection, until it is answered.
    pub async fn submit(&mut self, kind: Kind, mut frame: Value) {
        self.last_id += 1;
        let id = self.last_id.to_string();
        frame["id"] = json!(id);
        transmit(self.outbox.as_ref(), &frame).await;
        self.pending.push(Pending { id, frame, kind, tries: 1, due: None });
    }

    /// Sends what the connection before left unanswered, in the order of asking; an attach is not repeated.
    pub async fn repeat_all(&mut self) {
        for pending in self.pending.iter_mut().filter(|pending| pending.kind != Kind::Attach) {
            pending.due = None;
            transmit(self.outbox.as_ref(), &pending.frame).await;
        }
    }

    /// When [`Outgoing::repeat_due`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        self.pending.iter().filter_map(|pending| pending.due).min()
    }

    /// Sends again what was refused for a moment that is over.
    pub async fn repeat_due(&mut self) {
        let now = Instant::now();
        for pending in &mut self.pending {
            if pending.due.take_if(|due| *due <= now).is_some() {
                transmit(self.outbox.as_ref(), &pending.frame).await;
            }
        }
    }

    /// Ticks off an acknowledged frame. `None` for one that nobody waits for.
    pub fn acknowledged(&mut self, id: &str) -> Option<Kind> {
        let index = self.pending.iter().position(|pending| pending.id == id)?;
        Some(self.pending.remove(index).kind)
    }

    /// Takes a refusal: `None` while the frame will be tried again, or if nobody waits for it.
    pub fn refused(&mut self, refusal: &Refusal) -> Option<Kind> {
        let id = refusal.id.as_ref()?;
        let index = self.pending.iter().position(|pending| pending.id == *id)?;
        let pending = &mut self.pending[index];
        // A turn in progress is seen by the player, who then decides again.
        let passing = refusal.retryable && refusal.code != "turn_in_progress";
        if passing && pending.tries < MAX_TRIES {
            pending.due = Some(Instant::now() + Duration::from_millis(300 << pending.tries));
            pending.tries += 1;
            return None;
        }
        Some(self.pending.remove(index).kind)
    }
}

/// A frame that is lost with its connection is sent again on the next.
async fn transmit(outbox: Option<&mpsc::Sender<String>>, frame: &Value) {
    if let Some(outbox) = outbox {
        let _ = outbox.send(frame.to_string()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> (mpsc::Sender<String>, mpsc::Receiver<String>) {
        mpsc::channel(16)
    }

    fn refusal(code: &str, retryable: bool) -> Refusal {
        Refusal { id: Some("1".into()), code: code.into(), message: String::new(), retryable }
    }

    #[tokio::test]
    async fn what_is_unanswered_goes_out_again_on_the_next_connection_with_the_same_key() {
        let mut outgoing = Outgoing::default();
        outgoing.submit(Kind::Turn, json!({ "type": "say", "idem": "k" })).await;
        let (first, mut sent) = connection();
        outgoing.connected(first);
        outgoing.submit(Kind::Attach, json!({ "type": "attach" })).await;
        outgoing.repeat_all().await;
        assert!(sent.recv().await.unwrap().contains("attach"));
        let before = sent.recv().await.unwrap();
        outgoing.disconnected();
        let (second, mut sent) = connection();
        outgoing.connected(second);
        outgoing.repeat_all().await;
        assert_eq!(sent.recv().await.unwrap(), before);
        assert_eq!(outgoing.acknowledged("1"), Some(Kind::Turn));
        assert_eq!(outgoing.acknowledged("1"), None);
        assert!(!outgoing.awaits(Kind::Turn) && !outgoing.awaits(Kind::Attach));
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_refusal_is_tried_again_later_and_not_for_ever() {
        let mut outgoing = Outgoing::default();
        let (outbox, mut sent) = connection();
        outgoing.connected(outbox);
        outgoing.submit(Kind::Turn, json!({ "type": "retry", "idem": "k" })).await;
        let first = sent.recv().await.unwrap();
        for _ in 1..MAX_TRIES {
            assert_eq!(outgoing.refused(&refusal("rate_limited", true)), None);
            outgoing.repeat_due().await;
            assert!(sent.try_recv().is_err(), "too early");
            tokio::time::sleep_until(outgoing.next_due().unwrap()).await;
            outgoing.repeat_due().await;
            assert_eq!(sent.try_recv().unwrap(), first);
        }
        assert_eq!(outgoing.refused(&refusal("rate_limited", true)), Some(Kind::Turn));
        assert_eq!(outgoing.next_due(), None);
    }

    #[tokio::test]
    async fn a_refusal_that_the_player_must_see_is_not_tried_again() {
        for (code, retryable) in [("stale_scene", false), ("turn_in_progress", true)] {
            let mut outgoing = Outgoing::default();
            outgoing.submit(Kind::Turn, json!({})).await;
            assert_eq!(outgoing.refused(&refusal(code, retryable)), Some(Kind::Turn), "{code}");
        }
    }
}
