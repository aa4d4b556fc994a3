//! Servers that speak DynamoDB's API: the contract on two that know nothing of each other, and their tables.
//!
//! What moto does unlike DynamoDB, and what that means here:
//! - It answers one request at a time (several at once are not atomic there), so calls get more time.
//! - It ignores a transaction's token, so a repetition is told by the conditions alone: two ways to the same outcome,
//!   and each is tested where it is taken (`faults`).

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tempfile::tempdir;
use uuid::Uuid;
use whatif::config::{AppEnv, DynamoDb};
use whatif::storage::dynamodb::Dynamo;
use whatif::storage::dynamodb::tables::TablesError;

use super::super::process::{Server, commands, whatif};
use super::contract;

pub use crate::support::servers::{dynamodb as dynoxide, moto};

/// Tables of its own for every test.
pub fn config(endpoint: String) -> DynamoDb {
    DynamoDb {
        endpoint: Some(endpoint),
        table_prefix: format!("t{}", Uuid::new_v4().simple()),
        attempt_timeout: Duration::from_secs(20),
        operation_timeout: Duration::from_secs(30),
        ..DynamoDb::default()
    }
}

pub async fn open(config: &DynamoDb) -> Dynamo {
    open_in(config, AppEnv::Development).await
}

async fn open_in(config: &DynamoDb, env: AppEnv) -> Dynamo {
    Dynamo::open(config, env, "unused".as_ref()).await.unwrap()
}

/// With its tables.
pub async fn ready(config: &DynamoDb) -> Dynamo {
    let dynamo = open(config).await;
    dynamo.ensure_tables().await.unwrap();
    dynamo
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_keeps_the_contract() {
    contract(&ready(&config(dynoxide())).await.scenarios()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_make_of_server_keeps_the_contract() {
    contract(&ready(&config(moto())).await.scenarios()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_made_once_however_many_make_them() {
    for (url, env) in [(dynoxide(), AppEnv::Development), (moto(), AppEnv::Production)] {
        let config = config(url);
        let dynamo = open_in(&config, env).await;
        let missing = dynamo.check_tables().await.unwrap_err().to_string();
        let name = format!("{}-history", config.table_prefix);
        assert_eq!(missing, format!("table {name} is missing: run `whatif migrate`"));
        let makers: Vec<_> = join_all((0..4).map(|_| open_in(&config, env))).await;
        for made in join_all(makers.iter().map(Dynamo::ensure_tables)).await {
            assert_eq!(made.unwrap(), [name.as_str()]);
        }
        dynamo.check_tables().await.unwrap();
        dynamo.ensure_tables().await.expect("again");

        let described = call(&config, "DescribeTable", json!({ "TableName": name })).await;
        let table = &described["Table"];
        assert_eq!(table["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST", "{described}");
        let protected = env == AppEnv::Production;
        assert_eq!(table["DeletionProtectionEnabled"].as_bool().unwrap_or_default(), protected);
        let tags = json!({ "ResourceArn": table["TableArn"] });
        let tags = call(&config, "ListTagsOfResource", tags).await["Tags"].to_string();
        assert!(tags.contains("whatif") && tags.contains("history"), "{tags}");
        let ttl = call(&config, "DescribeTimeToLive", json!({ "TableName": name })).await;
        let ttl = &ttl["TimeToLiveDescription"];
        assert_eq!(
            (&ttl["TimeToLiveStatus"], &ttl["AttributeName"]),
            (&json!("ENABLED"), &json!("expires_at"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_switched_on_where_there_are_any() {
    let config = config(moto());
    ready(&config).await;
    let name = json!({ "TableName": format!("{}-history", config.table_prefix) });
    let backups = call(&config, "DescribeContinuousBackups", name).await;
    let recovery = &backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"];
    assert_eq!(recovery["PointInTimeRecoveryStatus"], "ENABLED", "{backups}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_another_make_is_refused_with_what_differs() {
    for url in [dynoxide(), moto()] {
        let config = config(url);
        let name = format!("{}-history", config.table_prefix);
        call(
            &config,
            "CreateTable",
            json!({
                "TableName": name,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "N" }],
                "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }],
            }),
        )
        .await;
        let dynamo = open(&config).await;
        for outcome in [dynamo.ensure_tables().await.map(drop), dynamo.check_tables().await] {
            let refused = outcome.unwrap_err();
            assert!(matches!(refused, TablesError::Different { .. }), "{refused}");
            let said = refused.to_string();
            assert!(
                said.contains(&name) && said.contains("id (N, HASH), wanted pk (S, HASH)"),
                "{said}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_makes_tables_in_development_and_asks_for_them_elsewhere() {
    let folder = tempdir().unwrap();
    let prefix = config(String::new()).table_prefix;
    let url = dynoxide();
    let env = [
        ("DYNAMODB_ENDPOINT", url.as_str()),
        ("WHATIF__DYNAMODB__TABLE_PREFIX", prefix.as_str()),
        ("APP_ENV", "staging"),
    ];
    let name = format!("{prefix}-history");
    let refused = commands::run(folder.path(), &["serve"], &env).await;
    commands::refuses(&refused, &["DynamoDB at", &name, "whatif migrate"]);

    let printed = commands::run(folder.path(), &["migrate", "--print-tables"], &env).await;
    let printed: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(printed[0]["TableName"], name.as_str());

    let others: Vec<_> = (0..3).map(|_| tempdir().unwrap()).collect();
    let migrations = others.iter().map(|folder| commands::run(folder.path(), &["migrate"], &env));
    for migrated in join_all(migrations).await {
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        let told = String::from_utf8(migrated.stdout).unwrap();
        assert!(told.contains(&format!("table {name}: up to date")), "{told}");
    }
    Server::start(folder.path(), 0, &env).await.register("ada@example.org").await;

    let fresh = config(String::new()).table_prefix;
    let env = [env[0], ("WHATIF__DYNAMODB__TABLE_PREFIX", fresh.as_str())];
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), 0, &env).await;
    let reader = server.register("ada@example.org").await;
    server.scenario(reader["access_token"].as_str().unwrap(), "What if Rome never fell?").await;

    // Nobody listens, and nobody says who asks.
    let nowhere = [("DYNAMODB_ENDPOINT", "http://127.0.0.1:1")];
    let folder = tempdir().unwrap();
    let refused = commands::run(folder.path(), &["serve"], &nowhere).await;
    commands::refuses(&refused, &["DynamoDB at http://127.0.0.1:1", "no connection"]);
    let aws = [("AWS_REGION", "eu-central-1"), ("AWS_EC2_METADATA_DISABLED", "true")];
    let mut command = whatif(folder.path(), &["serve"]);
    let refused = command.envs(aws).output().await.unwrap();
    commands::refuses(&refused, &["DynamoDB in eu-central-1", "no AWS credentials"]);
}

/// A call as it goes over the wire, past the code under test.
pub async fn call(
    config: &DynamoDb,
    operation: &str,
    body: serde_json::Value,
) -> serde_json::Value {
    let credential = "Credential=local/20260101/us-east-1/dynamodb/aws4_request";
    let request = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = request
        .post(config.endpoint.as_ref().unwrap())
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
        .header("x-amz-date", "20260101T000000Z")
        .header(
            "authorization",
            format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"),
        )
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{operation}: {text}");
    serde_json::from_str(&text).unwrap()
}
