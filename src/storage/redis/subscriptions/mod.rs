//! Everything that this replica listens to in Redis, over one connection (in a cluster one per node) of its own.
//!
//! What arrives is handed on at once, on the connection's own task: listeners must be quick. Subscriptions follow the
//! listeners: a channel is subscribed while somebody listens to it. `keeper` brings Redis up to date.

mod keeper;
mod wire;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::connection::Redis;

/// What a listener is told.
#[derive(Debug)]
pub(super) enum Heard {
    /// From now on it hears everything, and it may have missed something until now.
    Begun,
    Message(Bytes),
    /// The connection is away; it may be missing something.
    Deaf,
}

type Ear = Box<dyn Fn(Heard) + Send + Sync>;

/// The listeners of this replica. Cheap to clone; ends with the last clone.
#[derive(Clone)]
pub struct Subscriptions {
    shared: Arc<Shared>,
    /// The command that publishes what subscriptions hear: sharded publishing in a cluster.
    publish: &'static str,
    _keeper: Arc<Keeper>,
}

struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct Shared {
    channels: Mutex<Channels>,
    /// There is something in [`Channels::changed`].
    changed: Notify,
    /// A connection was lost.
    lost: Notify,
    /// Whether all that is listened to is subscribed, as far as anyone knows.
    healthy: AtomicBool,
}

#[derive(Default)]
struct Channels {
    ears: HashMap<Arc<str>, Vec<(u64, Ear)>>,
    /// Channels to subscribe (if they have ears) or to unsubscribe (if not).
    changed: HashSet<Arc<str>>,
    last_number: u64,
}

/// Ends when it is dropped.
pub(super) struct Subscription {
    shared: Arc<Shared>,
    channel: Arc<str>,
    number: u64,
}

impl Subscriptions {
    /// Connects in the background. Within a tokio runtime.
    pub fn start(redis: &Redis) -> Self {
        let shared = Arc::new(Shared::default());
        let keeper = tokio::spawn(keeper::keep(Arc::clone(&shared), redis.clone()));
        let publish = if redis.is_cluster() { "SPUBLISH" } else { "PUBLISH" };
        Self { shared, publish, _keeper: Arc::new(Keeper(keeper)) }
    }

    /// Listens to `channel` until what is returned is dropped. `ear` is told [`Heard::Begun`] soon.
    pub(super) fn listen(
        &self,
        channel: &str,
        ear: impl Fn(Heard) + Send + Sync + 'static,
    ) -> Subscription {
        let channel: Arc<str> = channel.into();
        let mut channels = self.shared.channels();
        channels.last_number += 1;
        let number = channels.last_number;
        channels.ears.entry(Arc::clone(&channel)).or_default().push((number, Box::new(ear)));
        channels.changed.insert(Arc::clone(&channel));
        drop(channels);
        self.shared.changed.notify_one();
        Subscription { shared: Arc::clone(&self.shared), channel, number }
    }

    pub(super) fn publish_command(&self) -> &'static str {
        self.publish
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut channels = self.shared.channels();
        let Some(ears) = channels.ears.get_mut(&self.channel) else { return };
        ears.retain(|(number, _)| *number != self.number);
        if ears.is_empty() {
            channels.ears.remove(&self.channel);
            channels.changed.insert(Arc::clone(&self.channel));
            drop(channels);
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    /// No code panics while it holds this halfway through a change, so a poisoned one is whole.
    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the connection was sent.
    fn take(&self, push: PushInfo) {
        let mut values = push.data.into_iter();
        let channel = match values.next() {
            Some(Value::BulkString(channel)) => channel,
            _ if push.kind == PushKind::Disconnection => {
                self.lost.notify_one();
                return;
            }
            _ => return,
        };
        let Ok(channel) = std::str::from_utf8(&channel) else { return };
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                if let Some(Value::BulkString(message)) = values.next() {
                    self.tell(channel, &Bytes::from(message));
                }
            }
            // Unasked, when a cluster moves a channel to another node.
            PushKind::Unsubscribe | PushKind::SUnsubscribe => self.mend(channel),
            _ => {}
        }
    }

    fn tell(&self, channel: &str, message: &Bytes) {
        let channels = self.channels();
        for (_, ear) in channels.ears.get(channel).into_iter().flatten() {
            ear(Heard::Message(message.clone()));
        }
    }

    /// Subscribes again what is still listened to.
    fn mend(&self, channel: &str) {
        let mut channels = self.channels();
        let key = channels.ears.get_key_value(channel).map(|(key, _)| Arc::clone(key));
        if let Some(key) = key {
            channels.changed.insert(key);
            drop(channels);
            self.changed.notify_one();
        }
    }

    /// Channels that could not be unsubscribed yet.
    fn put_back(&self, unwanted: Vec<Arc<str>>) {
        self.channels().changed.extend(unwanted);
    }

    fn begun(&self, channels: &[Arc<str>]) {
        let held = self.channels();
        for channel in channels {
            for (_, ear) in held.ears.get(channel).into_iter().flatten() {
                ear(Heard::Begun);
            }
        }
    }

    fn deaf(&self) {
        let channels = self.channels();
        for (_, ear) in channels.ears.values().flatten() {
            ear(Heard::Deaf);
        }
    }

    /// What to subscribe and what to unsubscribe, of all channels or of those that changed.
    fn due(&self, all: bool) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let mut channels = self.channels();
        let changed = std::mem::take(&mut channels.changed);
        let (mut wanted, unwanted): (Vec<_>, _) =
            changed.into_iter().partition(|channel| channels.ears.contains_key(channel));
        if all {
            wanted = channels.ears.keys().cloned().collect();
        }
        (wanted, unwanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(kind: PushKind, channel: &str, message: &str) -> PushInfo {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        PushInfo { kind, data: vec![bulk(channel), bulk(message)] }
    }

    /// Without a keeper.
    fn subscriptions() -> Subscriptions {
        let keeper = Arc::new(Keeper(tokio::spawn(async {})));
        Subscriptions { shared: Arc::default(), publish: "PUBLISH", _keeper: keeper }
    }

    #[tokio::test]
    async fn channels_are_wanted_while_they_have_ears() {
        let subscriptions = subscriptions();
        let shared = &subscriptions.shared;
        let names =
            |channels: Vec<Arc<str>>| channels.iter().map(|c| c.to_string()).collect::<Vec<_>>();
        let due = |all| {
            let (wanted, unwanted) = shared.due(all);
            (names(wanted), names(unwanted))
        };
        let (told, heard) = std::sync::mpsc::channel();
        let listen = || {
            let told = told.clone();
            subscriptions.listen("a", move |what| told.send(format!("{what:?}")).unwrap())
        };
        let (first, second) = (listen(), listen());
        assert_eq!(due(false), (vec!["a".to_owned()], vec![]));
        assert_eq!(due(false), (vec![], vec![]), "once");
        assert_eq!(due(true), (vec!["a".to_owned()], vec![]), "after a loss");

        shared.take(push(PushKind::SMessage, "a", "7"));
        shared.take(push(PushKind::Message, "b", "8"));
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [r#"Message(b"7")"#; 2]);

        drop(first);
        assert_eq!(due(false), (vec![], vec![]), "somebody still listens");
        shared.take(push(PushKind::SUnsubscribe, "a", "0"));
        assert_eq!(due(false), (vec!["a".to_owned()], vec![]), "taken away, but still wanted");
        drop(second);
        assert_eq!(due(false), (vec![], vec!["a".to_owned()]));
        shared.take(push(PushKind::Unsubscribe, "a", "0"));
        shared.take(push(PushKind::Message, "a", "9"));
        assert_eq!((due(true), heard.try_iter().count()), ((vec![], vec![]), 0));
    }
}
