//! Configuration: `config.toml` < environment, read and checked once at start, handed down by section.
//!
//! Every key, its unit and its default stands in `config.toml` at the top of the repository; the defaults here are
//! the same (a test compares them). `load.rs` reads and merges, `check.rs` holds the rules between keys; a section with
//! rules of its own has a file of its own.

pub mod budget;
mod chat;
mod check;
pub mod database;
mod dynamodb;
mod limits;
mod load;
mod moderation;
mod providers;
mod redis;
mod shared;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

pub use budget::Budget;
pub use chat::{Chat, SearXng, Search, SearchKind, Tavily, Wikipedia};
pub use database::Database;
pub use dynamodb::{DynamoDb, DynamoEngine};
pub use limits::{InvalidNetwork, Limits, Network};
pub use load::{ConfigError, Outcome, load};
pub use moderation::{Moderation, Moderator, OnFailure};
pub use providers::{Continuation, Hedge, Kind, Providers, Storyteller, Vendor};
pub use redis::{InvalidUrl, Redis, Servers};
pub use shared::{Cache, Logins};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppEnv {
    Development,
    Staging,
    Production,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub env: AppEnv,
    pub data_dir: PathBuf,
    pub server: Server,
    pub internal: Internal,
    pub log: Log,
    pub auth: Auth,
    pub logins: Logins,
    pub database: Database,
    pub limits: Limits,
    pub sockets: Sockets,
    pub sessions: Sessions,
    pub event_log: EventLog,
    pub redis: Redis,
    pub cache: Cache,
    pub dynamodb: DynamoDb,
    pub circuits: Circuits,
    pub providers: Providers,
    pub budget: Budget,
    pub moderation: Moderation,
    pub chat: Chat,
    pub search: Search,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            env: AppEnv::Development,
            data_dir: "data".into(),
            server: Server::default(),
            internal: Internal::default(),
            log: Log::default(),
            auth: Auth::default(),
            logins: Logins::default(),
            database: Database::default(),
            limits: Limits::default(),
            sockets: Sockets::default(),
            sessions: Sessions::default(),
            event_log: EventLog::default(),
            redis: Redis::default(),
            cache: Cache::default(),
            dynamodb: DynamoDb::default(),
            circuits: Circuits::default(),
            providers: Providers::default(),
            budget: Budget::default(),
            moderation: Moderation::default(),
            chat: Chat::default(),
            search: Search::default(),
        }
    }
}

/// The public gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub host: IpAddr,
    pub port: u16,
    /// Browser origins allowed to call the API and open sockets; `*` allows any.
    pub origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Whole-request deadline (streams and sockets excepted).
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// From SIGTERM to exit.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// How much of it the listeners stay open for, not ready any more, so that load balancers see it.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: IpAddr::from([0, 0, 0, 0]),
            port: 3000,
            origins: vec!["*".into()],
            trusted_proxies: Vec::new(),
            max_body_bytes: 256 * 1024,
            request_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(25),
            drain_delay: Duration::from_secs(2),
        }
    }
}

/// The services' own listeners; never reachable from outside.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Internal {
    pub enabled: bool,
    pub host: IpAddr,
    pub user_port: u16,
    pub generation_port: u16,
    pub history_port: u16,
    pub sharing_port: u16,
    pub video_port: u16,
    pub social_port: u16,
}

impl Default for Internal {
    fn default() -> Self {
        Self {
            enabled: true,
            host: IpAddr::from([127, 0, 0, 1]),
            user_port: 3001,
            generation_port: 3002,
            history_port: 3003,
            sharing_port: 3004,
            video_port: 3005,
            social_port: 3006,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` elsewhere.
    Auto,
    Pretty,
    Json,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A tracing filter, e.g. `info,whatif=debug`.
    pub level: String,
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// At least 32 bytes. Absent: generated once into the data directory (not in production).
    pub jwt_secret: Option<SecretString>,
    /// Life of an access token.
    #[serde(with = "humantime_serde")]
    pub access_ttl: Duration,
    /// Life of a login without a refresh.
    #[serde(with = "humantime_serde")]
    pub refresh_ttl: Duration,
    /// Password hashes computed at the same time; each takes about 19 MiB.
    pub hashing_workers: usize,
    /// Logins and registrations waiting for a hash before more are refused.
    pub hashing_queue: usize,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            access_ttl: Duration::from_secs(15 * 60),
            refresh_ttl: Duration::from_secs(30 * 24 * 3600),
            hashing_workers: 2,
            hashing_queue: 32,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sockets {
    /// Open sockets on this replica.
    pub max_connections: usize,
    /// Open sockets of one user on this replica.
    pub max_connections_per_user: usize,
    /// Scenarios attached to one socket.
    pub max_attachments: usize,
    /// Commands a second on one socket.
    pub commands_per_second: u32,
    #[serde(with = "humantime_serde")]
    pub hello_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// Silence after which a peer is taken for dead.
    #[serde(with = "humantime_serde")]
    pub pong_timeout: Duration,
    /// How long a reader may stay behind before it is closed.
    #[serde(with = "humantime_serde")]
    pub slow_timeout: Duration,
    /// Bytes written to one socket ahead of its reader.
    pub write_buffer_bytes: usize,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_connections_per_user: 20,
            max_attachments: 32,
            commands_per_second: 10,
            hello_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(35),
            slow_timeout: Duration::from_secs(30),
            write_buffer_bytes: 64 * 1024,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// Supervisors that the sessions are spread over.
    pub shards: usize,
    /// Turns running at the same time on this replica.
    pub max_turns: usize,
    /// An unused session stops after this.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub lease_ttl: Duration,
    #[serde(with = "humantime_serde")]
    pub lease_renew: Duration,
    /// Longest that a piece of text waits for more before it is logged and shown; `0s` turns merging off.
    #[serde(with = "humantime_serde")]
    pub coalesce: Duration,
    /// Longest that a finished scene waits for its store before the turn fails.
    #[serde(with = "humantime_serde")]
    pub store_wait: Duration,
    /// Begin the scenes that a reader may choose before one is chosen.
    pub speculate: bool,
    /// Most choices of a scene that are begun.
    pub speculate_choices: usize,
    /// Words that are read ahead of each.
    pub speculate_words: usize,
    /// Calls begun ahead at the same time on this replica.
    pub speculate_streams: usize,
    /// They are given up if nothing is chosen for this long.
    #[serde(with = "humantime_serde")]
    pub speculate_for: Duration,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            shards: 8,
            max_turns: 4_000,
            idle_timeout: Duration::from_secs(120),
            lease_ttl: Duration::from_secs(5),
            lease_renew: Duration::from_millis(1_500),
            coalesce: Duration::from_millis(25),
            store_wait: Duration::from_secs(120),
            speculate: false,
            speculate_choices: 4,
            speculate_words: 60,
            speculate_streams: 64,
            speculate_for: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Kept in SQLite in the data directory: survives the process.
    Disk,
    /// Kept in memory: lost with the process. For measurements and tests.
    Memory,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventLog {
    pub durability: Durability,
    /// How long events of finished turns stay replayable.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { durability: Durability::Disk, retention: Duration::from_secs(24 * 3600) }
    }
}

/// When a dependency's circuit opens and how it closes again.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Circuits {
    /// Sliding window over which calls are counted.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Fewest calls in the window before it can open.
    pub min_calls: u32,
    /// Share of failed calls (0-1] that opens it.
    pub failure_ratio: f64,
    /// First and longest wait before a probe.
    #[serde(with = "humantime_serde")]
    pub backoff_min: Duration,
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
}

impl Default for Circuits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            min_calls: 10,
            failure_ratio: 0.5,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(30),
        }
    }
}
