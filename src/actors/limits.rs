//! What the gateway limits, and by what: requests by user and by address, sign-ins by account, turns by user.
//!
//! The buckets are counted in a store that replicas share, if there is one. It is never waited for longer than a
//! moment: while it is away or slow, this replica counts for itself - at once, behind a circuit of its own, since the
//! callers have no pool to stand in - and goes back to the shared count by itself.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::time::{Instant, sleep, timeout};

use super::circuit::{Circuit, Gate, Policy, State};
use crate::config;
use crate::domain::ids::UserId;
use crate::domain::user::EmailKey;
use crate::storage::embedded::LocalRateLimiter;
use crate::storage::limits::{Ask, Quota, RateLimiter};

pub use crate::storage::limits::Decision;

/// When the shared store is given up, and how often it is looked at again.
const CIRCUIT: Policy = Policy {
    window: Duration::from_secs(5),
    min_calls: 5,
    failure_ratio: 0.5,
    backoff_min: Duration::from_millis(100),
    backoff_max: Duration::from_secs(5),
};
/// Successes between two entries in the circuit's window: it needs no exact count of them.
const SAMPLE: u32 = 16;
/// Bits of an IPv6 address that tell one network from another: hosts have the rest to themselves.
const IPV6_NETWORK_BITS: u32 = 64;

/// Who asks, as far as it is known: one host, or one network of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl Origin {
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let mask = u128::MAX << (128 - IPV6_NETWORK_BITS);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// What kind of request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Common,
    /// Opens, begins, renews or ends a login.
    Auth,
    /// Begins a turn, with or without a scenario, or an answer of the companion.
    Turn,
}

/// The way in; cheap to clone.
#[derive(Clone)]
pub struct LimitsHandle(Arc<Inner>);

struct Inner {
    enabled: bool,
    per_user: Quota,
    per_address: Quota,
    auth_per_address: Quota,
    auth_per_account: Quota,
    turns_per_user: Quota,
    local: LocalRateLimiter,
    shared: Option<Shared>,
}

/// The store that replicas share, and whether it is worth asking.
struct Shared {
    store: Arc<dyn RateLimiter>,
    deadline: Duration,
    gate: Gate,
    circuit: Mutex<(Circuit, u32)>,
}

impl LimitsHandle {
    /// Without a `shared` store every replica counts for itself. Must be called inside a runtime.
    pub fn new(config: &config::Limits, shared: Option<Arc<dyn RateLimiter>>) -> Self {
        let shared = shared.map(|store| Shared {
            store,
            deadline: config.store_timeout,
            gate: Gate::default(),
            circuit: Mutex::new((Circuit::new(CIRCUIT), 0)),
        });
        Self(Arc::new(Inner {
            enabled: config.enabled,
            per_user: Quota::per_minute(config.per_user),
            per_address: Quota::per_minute(config.per_address),
            auth_per_address: Quota::per_minute(config.auth_per_address),
            auth_per_account: Quota::per_minute(config.auth_per_account),
            turns_per_user: Quota::per_minute(config.turns_per_user),
            local: LocalRateLimiter::default(),
            shared,
        }))
    }

    /// The circuit of the shared store, if there is one.
    pub fn circuit(&self) -> Option<State> {
        self.0.shared.as_ref()?.gate.state()
    }

    /// A request of `class`, from `origin`, by `user` if it is known: one decision for each limit that it falls under.
    pub async fn request(
        &self,
        class: Class,
        origin: Origin,
        user: Option<UserId>,
    ) -> Vec<Decision> {
        let limits = &self.0;
        let Origin(address) = origin;
        let mut asks = vec![Ask::one(format!("address:{address}"), limits.per_address)];
        if class == Class::Auth {
            asks.push(Ask::one(format!("auth:{address}"), limits.auth_per_address));
        }
        if let Some(user) = user {
            asks.push(Ask::one(format!("user:{user}"), limits.per_user));
            if class == Class::Turn {
                asks.push(self.turn_of(user));
            }
        }
        self.check(asks).await
    }

    /// An attempt to sign in to the account of `email`, from `origin`. The pair is limited: strangers elsewhere keep
    /// nobody out of an account, and one address gets few guesses at it.
    pub async fn account(&self, origin: Origin, email: &str) -> Option<Decision> {
        // No address in the store: a hash tells accounts apart just as well.
        let email = EmailKey::new(email);
        let hash = digest::digest(&digest::SHA256, email.as_str().as_bytes());
        let hash =
            u128::from_be_bytes(hash.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"));
        let key = format!("account:{hash:032x}:{}", origin.0);
        self.check(vec![Ask::one(key, self.0.auth_per_account)]).await.pop()
    }

    /// A turn that `user` begins over a socket.
    pub async fn turn(&self, user: UserId) -> Option<Decision> {
        self.check(vec![self.turn_of(user)]).await.pop()
    }

    fn turn_of(&self, user: UserId) -> Ask {
        Ask::one(format!("turns:{user}"), self.0.turns_per_user)
    }

    /// Nothing while limits are off.
    async fn check(&self, asks: Vec<Ask>) -> Vec<Decision> {
        if !self.0.enabled {
            return Vec::new();
        }
        let decisions = match self.check_shared(&asks).await {
            Some(decisions) => decisions,
            None => asks.iter().map(|ask| self.0.local.check_now(ask)).collect(),
        };
        for (ask, _) in asks.iter().zip(&decisions).filter(|(_, decision)| !decision.allowed) {
            let limit = ask.key.split(':').next().unwrap_or_default().to_owned();
            metrics::counter!("whatif_limited_total", "limit" => limit).increment(1);
        }
        decisions
    }

    /// `None` if there is no shared store, or none that answers now.
    async fn check_shared(&self, asks: &[Ask]) -> Option<Vec<Decision>> {
        let shared = self.0.shared.as_ref()?;
        let answer = match shared.gate.state() {
            Some(State::Closed) => shared.ask(asks).await,
            _ => Err(None),
        };
        match answer {
            Ok(decisions) => {
                shared.succeeded();
                return Some(decisions);
            }
            Err(Some(reason)) if shared.failed() => {
                tracing::warn!(
                    reason,
                    "shared rate limits are away: this replica counts for itself"
                );
                tokio::spawn(self.clone().probe());
            }
            Err(_) => {}
        }
        metrics::counter!("whatif_limits_checked_locally_total").increment(1);
        None
    }

    /// Asks again and again until the store answers. No request waits for this; it ends with the replica.
    async fn probe(self) {
        let weak = Arc::downgrade(&self.0);
        drop(self);
        let asks = [Ask::one("probe".to_owned(), Quota::per_minute(u32::MAX))];
        loop {
            let Some(inner) = weak.upgrade() else { return };
            let Some(shared) = &inner.shared else { return };
            let wait = {
                let circuit = shared.circuit.lock().unwrap_or_else(PoisonError::into_inner);
                circuit.0.backoff(rand::random())
            };
            shared.gate.open_until(Instant::now() + wait);
            drop(inner);
            sleep(wait).await;
            let Some(inner) = weak.upgrade() else { return };
            let Some(shared) = &inner.shared else { return };
            shared.gate.half_open();
            let alive = shared.ask(&asks).await.is_ok();
            shared.circuit.lock().unwrap_or_else(PoisonError::into_inner).0.end_probe(alive);
            if alive {
                shared.gate.close();
                tracing::info!("shared rate limits are back");
                return;
            }
        }
    }
}

impl Shared {
    async fn ask(&self, asks: &[Ask]) -> Result<Vec<Decision>, Option<String>> {
        match timeout(self.deadline, self.store.check(asks)).await {
            Ok(Ok(decisions)) if decisions.len() == asks.len() => Ok(decisions),
            Ok(Ok(_)) => Err(Some("an answer to another question".to_owned())),
            Ok(Err(error)) => Err(Some(error.to_string())),
            Err(_) => Err(Some(format!("no answer within {} ms", self.deadline.as_millis()))),
        }
    }

    fn succeeded(&self) {
        // A window that fills is not worth waiting for.
        if let Ok(mut held) = self.circuit.try_lock() {
            held.1 += 1;
            if held.1 >= SAMPLE {
                let count = std::mem::take(&mut held.1);
                held.0.record_successes(Instant::now(), u64::from(count));
            }
        }
    }

    /// Counts a failure; whether that opened the circuit.
    fn failed(&self) -> bool {
        let mut held = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = held.0.record_failure(Instant::now());
        if opened {
            self.gate.open_until(Instant::now() + CIRCUIT.backoff_min);
        }
        opened
    }
}

#[cfg(test)]
mod tests;
