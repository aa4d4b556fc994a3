//! Where the servers are that `make test` starts (`scripts/servers`). Tests run in parallel and share them: each uses
//! databases, tables and keys of its own.

/// An empty PostgreSQL server's database; anybody may create others beside it.
pub fn postgres() -> String {
    address("WHATIF_TEST_POSTGRES_URL")
}

/// A streaming replica of [`postgres`]: reads only, and a moment behind.
pub fn postgres_replica() -> String {
    address("WHATIF_TEST_POSTGRES_REPLICA_URL")
}

pub fn redis() -> String {
    address("WHATIF_TEST_REDIS_URL")
}

/// The nodes of a cluster, each with a third of the slots.
pub fn redis_cluster() -> Vec<String> {
    address("WHATIF_TEST_REDIS_CLUSTER_URL").split(',').map(str::to_owned).collect()
}

/// A DynamoDB-compatible server on the engine that is embedded, too.
pub fn dynamodb() -> String {
    address("WHATIF_TEST_DYNAMODB_URL")
}

/// A DynamoDB-compatible server by other people; one request at a time.
pub fn moto() -> String {
    address("WHATIF_TEST_MOTO_URL")
}

/// llama.cpp with a model of random weights: OpenAI's API below `/v1`, and Anthropic's.
pub fn llama() -> String {
    address("WHATIF_TEST_LLAMA_URL")
}

/// Nothing is skipped quietly: without servers there is no answer to the test's question.
#[track_caller]
fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `make test`, or `scripts/servers with target/servers cargo test`")
    })
}
