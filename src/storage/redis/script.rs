//! Lua scripts, called by their digest. A server that does not know one yet is sent its text with the same call.

use redis::{Arg, Cmd, ErrorKind, FromRedisValue, ServerErrorKind, ToRedisArgs};

use super::connection::Redis;
use super::failure::Failure;

const NO_SCRIPT: ErrorKind = ErrorKind::Server(ServerErrorKind::NoScript);

/// A script; make it once (in a `LazyLock`) and call it often.
pub struct Script {
    text: &'static str,
    digest: String,
}

impl Script {
    pub fn new(text: &'static str) -> Self {
        Self { text, digest: redis::Script::new(text).get_hash().to_owned() }
    }

    /// Begins a call with its `KEYS`, which must be on one node; [`Call::arg`] adds to its `ARGV`.
    pub fn on<K: ToRedisArgs>(&self, keys: &[K]) -> Call<'_> {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.digest).arg(keys.len()).arg(keys);
        Call { script: self, cmd }
    }
}

/// A call of a script that was not made yet.
pub struct Call<'a> {
    script: &'a Script,
    cmd: Cmd,
}

impl Call<'_> {
    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.cmd.arg(arg);
        self
    }

    /// Calls the script.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub async fn run<T: FromRedisValue>(self, redis: &Redis) -> Result<T, Failure> {
        let value = match redis.answer(&self.cmd).await? {
            Err(error) if error.kind() == NO_SCRIPT => redis.answer(&self.with_text()).await?,
            answer => answer,
        };
        Ok(T::from_redis_value(value?)?)
    }

    /// The same call as `EVAL`, after which the server knows the script.
    fn with_text(&self) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(self.script.text);
        for arg in self.cmd.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                cmd.arg(arg);
            }
        }
        cmd
    }
}
