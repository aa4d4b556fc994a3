//! That the servers of the tests are what their names say; whatever fails here explains what fails elsewhere.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::support::servers;

/// Longest that a replica or a cluster may be behind.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn postgresql_is_copied_to_its_replica() {
    let table = format!("t{}", Uuid::new_v4().simple());
    let mut primary = PgConnection::connect(&servers::postgres()).await.unwrap();
    let create = format!("CREATE TABLE {table} AS SELECT 7 AS number");
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut primary).await.unwrap();

    let mut replica = PgConnection::connect(&servers::postgres_replica()).await.unwrap();
    let recovering: bool =
        sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut replica).await.unwrap();
    assert!(recovering, "a replica refuses writes");
    let read = format!("SELECT number FROM {table}");
    let copied = timeout(SOON, async {
        loop {
            let query = sqlx::query_scalar::<_, i32>(sqlx::AssertSqlSafe(read.clone()));
            if let Ok(number) = query.fetch_one(&mut replica).await {
                break number;
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(copied.await.expect("the replica follows"), 7);
}

#[test]
fn redis_answers_alone_and_as_a_cluster() {
    let key = format!("servers:{}", Uuid::new_v4());
    let mut single = redis::Client::open(servers::redis()).unwrap().get_connection().unwrap();
    let set: String =
        redis::cmd("SET").arg(&key).arg(1).arg("EX").arg(60).query(&mut single).unwrap();
    assert_eq!(set, "OK");

    let nodes = servers::redis_cluster();
    let slots: u32 = nodes.iter().map(|node| slots_of(node)).sum();
    assert_eq!((nodes.len(), slots), (3, 16_384));
}

/// How many slots a node says it serves; what it does not serve it must refuse.
fn slots_of(node: &str) -> u32 {
    let mut node = redis::Client::open(node).unwrap().get_connection().unwrap();
    let nodes: String = redis::cmd("CLUSTER").arg("NODES").query(&mut node).unwrap();
    let myself = nodes.lines().find(|line| line.contains("myself")).expect("a line for itself");
    let slots = myself.split_whitespace().skip(8);
    slots
        .map(|range| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            to.parse::<u32>().unwrap() - from.parse::<u32>().unwrap() + 1
        })
        .sum()
}

#[tokio::test]
async fn both_dynamodb_engines_list_tables() {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for url in [servers::dynamodb(), servers::moto()] {
        // A signature as to its form; neither engine verifies it.
        let signed = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, \
                      SignedHeaders=host;x-amz-date, Signature=0";
        let request = http
            .post(&url)
            .header("x-amz-target", "DynamoDB_20120810.ListTables")
            .header("x-amz-date", "20260101T000000Z")
            .header("content-type", "application/x-amz-json-1.0")
            .header("authorization", signed)
            .body("{}");
        let response = request.send().await.unwrap();
        let status = response.status();
        let body = response.text().await.unwrap();
        assert!(status.is_success() && body.contains("TableNames"), "{url}: {status} {body}");
    }
}
