//! The user service: accounts, logins and the tokens that prove them.

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;

use super::status::ServiceStatus;
use super::supervisor::ChildSpec;
use crate::clock::Clock;
use crate::config;
use crate::domain::ids::UserId;
use crate::domain::user::{Caller, Grant, Registration, User};
use crate::error::ServiceError;
use crate::storage::user::UserStore;

/// What the service is built from.
pub struct Parts {
    pub store: Arc<dyn UserStore>,
    pub secret: ServerSecret,
    pub cost: HashCost,
    pub clock: Clock,
}

/// Costs of a password hash.
#[derive(Debug, Clone, Copy)]
pub struct HashCost;

/// The secret that tokens are signed with and other keys are derived from.
#[derive(Clone)]
pub struct ServerSecret;

#[derive(Debug, thiserror::Error)]
#[error("secret")]
pub struct SecretError;

impl ServerSecret {
    /// The configured secret, else the one kept in `data_dir`, made there if there is none.
    pub fn load(_auth: &config::Auth, _data_dir: &Path) -> Result<Self, SecretError> {
        todo!()
    }
}

/// The way in; cheap to clone, outlives every restart of the service.
#[derive(Clone)]
pub struct UserHandle {}

/// The service's handle, its place in the tree and its state.
pub fn build(
    _auth: &config::Auth,
    _circuits: &config::Circuits,
    _parts: Parts,
) -> (UserHandle, ChildSpec, Arc<ServiceStatus>) {
    todo!()
}

impl UserHandle {
    /// Opens an account and signs in.
    pub async fn register(
        &self,
        _registration: Registration,
        _reserved: Option<UserId>,
    ) -> Result<Grant, ServiceError> {
        todo!()
    }

    pub async fn login(
        &self,
        _email: &str,
        _password: SecretString,
    ) -> Result<Grant, ServiceError> {
        todo!()
    }

    pub async fn refresh(&self, _token: &SecretString) -> Result<Grant, ServiceError> {
        todo!()
    }

    pub async fn logout(&self, _token: &SecretString) -> Result<(), ServiceError> {
        todo!()
    }

    pub async fn find(&self, _id: UserId) -> Result<Option<User>, ServiceError> {
        todo!()
    }

    pub fn verify(&self, _token: &str) -> Result<Caller, ServiceError> {
        todo!()
    }
}
