//! Password hashing: argon2id, in a pool of its own so that a rush of logins cannot take every core and all memory.

use std::fmt::Write;

use argon2::password_hash::Error as HashError;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};

use crate::actors::pool::{Failure, Reply, Trip, TripKind, Work};
use crate::error::ServiceError;
use crate::storage::user::{Credential, PasswordScheme};

/// What one password hash costs.
#[derive(Debug, Clone)]
pub struct HashCost(Params);

impl Default for HashCost {
    /// What OWASP recommends: 19 MiB, 2 passes, 1 lane.
    fn default() -> Self {
        Self(Params::DEFAULT)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not costs that argon2id takes: {0}")]
pub struct InvalidCost(argon2::Error);

impl HashCost {
    /// # Errors
    /// [`InvalidCost`] below 8 KiB a lane, 1 pass or 1 lane.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, InvalidCost> {
        Params::new(memory_kib, passes, lanes, None).map(Self).map_err(InvalidCost)
    }
}

pub(super) enum Job {
    Make(SecretString, Reply<Credential>),
    /// Without a credential it takes as long and is wrong.
    Check(SecretString, Option<Credential>, Reply<Match>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Wrong,
    Right {
        /// Made at other costs than today's: make it anew.
        outdated: bool,
    },
}

#[derive(Clone)]
pub(super) struct Hashing {
    params: Params,
    /// A hash at today's costs that no password has.
    nobody: Credential,
}

impl Hashing {
    pub fn new(cost: HashCost) -> Self {
        let params = cost.0;
        let mut hash = String::from("$argon2id$v=19$");
        let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        let _ = write!(hash, "m={memory},t={passes},p={lanes}$");
        hash.push_str(&format!("{}${}", "A".repeat(22), "A".repeat(43)));
        Self { params, nobody: Credential { scheme: PasswordScheme::Argon2id, hash } }
    }

    fn argon2(&self) -> Argon2<'static> {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone())
    }

    fn make(&self, password: &SecretString) -> Result<Credential, Failure> {
        let hash = self.argon2().hash_password(password.expose_secret().as_bytes());
        let hash = hash.map_err(failure)?.to_string();
        Ok(Credential { scheme: PasswordScheme::Argon2id, hash })
    }

    fn check(&self, password: &SecretString, held: Option<&Credential>) -> Result<Match, Failure> {
        let credential = held.unwrap_or(&self.nobody);
        let PasswordScheme::Argon2id = credential.scheme;
        let hash = PasswordHash::new(&credential.hash).map_err(|error| {
            tracing::error!(%error, "a stored password hash cannot be read");
            ServiceError::internal()
        })?;
        // The costs come from the hash.
        match self.argon2().verify_password(password.expose_secret().as_bytes(), &hash) {
            Ok(()) if held.is_some() => Ok(Match::Right { outdated: self.outdated(&hash) }),
            Ok(()) | Err(HashError::PasswordInvalid) => Ok(Match::Wrong),
            Err(error) => Err(failure(error)),
        }
    }

    fn outdated(&self, hash: &PasswordHash) -> bool {
        Params::try_from(hash).map_or(true, |params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                != (self.params.m_cost(), self.params.t_cost(), self.params.p_cost())
        })
    }
}

/// What can go wrong is the machine's fault: no memory, no randomness.
fn failure(error: HashError) -> Failure {
    Failure::Dependency {
        shown: ServiceError::unavailable("user.hashing", std::time::Duration::from_secs(1)),
        trip: Trip::new(TripKind::Unavailable, error.to_string()),
    }
}

/// Runs on a thread that may block. A panic there is a panic here.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => {
                Err(ServiceError::unavailable("user.hashing", std::time::Duration::from_secs(1))
                    .into())
            }
        },
    }
}

impl Work for Hashing {
    type Job = Job;

    async fn run(&self, job: Job) -> Result<(), Trip> {
        let hashing = self.clone();
        match job {
            Job::Make(password, reply) => {
                reply.answer(blocking(move || hashing.make(&password)).await)
            }
            Job::Check(password, credential, reply) => {
                let check = move || hashing.check(&password, credential.as_ref());
                reply.answer(blocking(check).await)
            }
        }
    }

    async fn probe(&self) -> Result<(), Trip> {
        let hashing = self.clone();
        blocking(move || hashing.check(&SecretString::default(), None))
            .await
            .map(|_| ())
            .map_err(|_| Trip::new(TripKind::Unavailable, "cannot hash"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> Hashing {
        Hashing::new(HashCost::new(8, 1, 1).unwrap())
    }

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let hashing = cheap();
        let credential = hashing.make(&"correct horse".into()).unwrap();
        assert!(credential.hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        assert_ne!(hashing.make(&"correct horse".into()).unwrap(), credential, "salted");
        for (password, expected) in [
            ("correct horse", Match::Right { outdated: false }),
            ("correct hors", Match::Wrong),
            ("Correct horse", Match::Wrong),
            ("", Match::Wrong),
        ] {
            let found = hashing.check(&password.into(), Some(&credential)).unwrap();
            assert_eq!(found, expected, "{password}");
        }
    }

    #[test]
    fn long_passwords_are_not_cut() {
        let hashing = cheap();
        let long = "x".repeat(1_024);
        let credential = hashing.make(&long.as_str().into()).unwrap();
        let found = hashing.check(&long[..1_023].into(), Some(&credential)).unwrap();
        assert_eq!(found, Match::Wrong);
    }

    #[test]
    fn hashes_at_other_costs_are_right_and_outdated() {
        let dearer = Hashing::new(HashCost::new(16, 2, 1).unwrap());
        let credential = cheap().make(&"correct horse".into()).unwrap();
        let found = dearer.check(&"correct horse".into(), Some(&credential)).unwrap();
        assert_eq!(found, Match::Right { outdated: true });
    }

    #[test]
    fn nobody_costs_as_much_as_anybody_and_is_always_wrong() {
        for cost in [HashCost::new(8, 1, 1).unwrap(), HashCost::default()] {
            let hashing = Hashing::new(cost);
            let nobody = PasswordHash::new(&hashing.nobody.hash).unwrap();
            assert!(!hashing.outdated(&nobody), "today's costs");
        }
        assert_eq!(cheap().check(&"anything".into(), None).unwrap(), Match::Wrong);
    }

    #[test]
    fn the_default_costs_are_the_recommended_ones() {
        let params = HashCost::default().0;
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (19_456, 2, 1));
    }

    #[test]
    fn an_unreadable_hash_is_our_fault_and_no_ones_password() {
        let broken = Credential { scheme: PasswordScheme::Argon2id, hash: "nonsense".into() };
        let outcome = cheap().check(&"anything".into(), Some(&broken));
        assert!(matches!(outcome, Err(Failure::Refused(_))));
    }
}
