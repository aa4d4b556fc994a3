//! A look at Redis before a replica starts with it. Asks with `INFO` alone, which managed services allow, and never
//! with `CONFIG`, which they refuse.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};

use super::connection::Target;
use super::failure::ConnectError;
use crate::config;

/// A single server needs `XADD NOMKSTREAM` and `XTRIM MINID`, a cluster sharded publishing.
const OLDEST: (u32, u32, &str) = (6, 2, "6.2");
const OLDEST_CLUSTER: (u32, u32, &str) = (7, 0, "7.0 (for a cluster)");

/// Finds out whether the first node that answers is fit, and warns of what will hurt later.
pub(super) async fn probe(target: &Target, config: &config::Redis) -> Result<(), ConnectError> {
    let info = first_answer(target, config).await.map_err(|error| target.unreachable(&error))?;
    let servers = target.servers.to_string();
    let field = |name| field(&info, name);
    let wants_cluster = target.servers.is_cluster;
    if wants_cluster != (field("cluster_enabled") == Some("1")) {
        const CLUSTER: &str = "a cluster (redis+cluster://…, or several nodes)";
        const SERVER: &str = "a single server";
        let (found, wanted) =
            if wants_cluster { (SERVER, CLUSTER) } else { ("a cluster's node", SERVER) };
        return Err(ConnectError::WrongKind { servers, found, wanted });
    }
    let found = field("redis_version").unwrap_or("unknown").to_owned();
    let (major, minor, wanted) = if wants_cluster { OLDEST_CLUSTER } else { OLDEST };
    if version(&found).is_some_and(|version| version < (major, minor)) {
        return Err(ConnectError::TooOld { servers, found, wanted });
    }
    if version(&found).is_some_and(|version| version < (7, 0)) {
        tracing::warn!(version = found, "this redis is old; 7 or newer is recommended");
    }
    if let Some(policy) = field("maxmemory_policy").filter(|policy| *policy != "noeviction") {
        tracing::warn!(
            policy,
            "this redis forgets running stories when it is full; set maxmemory-policy to noeviction"
        );
    }
    tracing::info!(%servers, version = found, "redis connected");
    Ok(())
}

async fn first_answer(target: &Target, config: &config::Redis) -> RedisResult<String> {
    let mut nodes = target.nodes.iter();
    loop {
        let client = nodes.next().map(|node| Client::open(node.clone()));
        let Some(client) = client else {
            return Err((redis::ErrorKind::InvalidClientConfig, "no node is named").into());
        };
        match info(client?, config).await {
            Err(_) if nodes.len() > 0 => {}
            answer => return answer,
        }
    }
}

async fn info(client: Client, config: &config::Redis) -> RedisResult<String> {
    let limits = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(Some(config.response_timeout));
    let mut server: MultiplexedConnection =
        client.get_multiplexed_async_connection_with_config(&limits).await?;
    redis::cmd("INFO").query_async(&mut server).await
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_by_whole_names() {
        let info = "# Server\r\nredis_version:7.0.15\r\nredis_version_x:1\r\nmaxmemory_policy:\r\n";
        assert_eq!(field(info, "redis_version"), Some("7.0.15"));
        assert_eq!(field(info, "version"), None);
        assert_eq!(version("7.0.15"), Some((7, 0)));
        assert!(version("6.2.7") < Some((7, 0)) && version("255.255.255") > Some((7, 0)));
        assert_eq!(version("unstable"), None);
    }
}
