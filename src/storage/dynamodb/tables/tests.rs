//! The description as it is printed, and what counts as another table.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription,
};
use serde_json::json;

use super::compare::differences;
use super::*;

/// As a later service may need it: a number in an index.
const INDEXED: Table = Table {
    service: "sharing",
    name: "shares",
    keys: Keys { partition: Attribute::text(PK), sort: None },
    indexes: &[Index {
        name: "by-owner",
        keys: Keys {
            partition: Attribute::text("owner"),
            sort: Some(Attribute { name: "at", kind: Kind::Number }),
        },
        whole_items: false,
    }],
    ttl_attribute: None,
    point_in_time_recovery: false,
};

#[test]
fn tables_print_as_infrastructure_code_wants_them() {
    let production = Deployment::new("acme", AppEnv::Production);
    assert_eq!(
        production.print(),
        json!([{
            "TableName": "acme-history",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                { "AttributeName": "pk", "AttributeType": "S" },
                { "AttributeName": "sk", "AttributeType": "S" },
            ],
            "KeySchema": [
                { "AttributeName": "pk", "KeyType": "HASH" },
                { "AttributeName": "sk", "KeyType": "RANGE" },
            ],
            "TimeToLiveSpecification": { "AttributeName": "expires_at", "Enabled": true },
            "PointInTimeRecoverySpecification": { "PointInTimeRecoveryEnabled": true },
            "DeletionProtectionEnabled": true,
            "Tags": [
                { "Key": "application", "Value": "whatif" },
                { "Key": "service", "Value": "history" },
                { "Key": "environment", "Value": "production" },
            ],
        }])
    );
    let indexed = Deployment::new("whatif", AppEnv::Development).print_table(&INDEXED);
    assert_eq!(indexed["DeletionProtectionEnabled"], json!(false));
    assert_eq!(
        indexed["AttributeDefinitions"][2],
        json!({"AttributeName": "at", "AttributeType": "N"})
    );
    assert_eq!(indexed["GlobalSecondaryIndexes"][0]["KeySchema"][1]["AttributeName"], json!("at"));
    assert_eq!(
        indexed["GlobalSecondaryIndexes"][0]["Projection"]["ProjectionType"],
        json!("KEYS_ONLY")
    );
}

fn described(keys: &[(&str, &str, KeyType)]) -> TableDescription {
    let mut found = TableDescription::builder();
    for (name, kind, role) in keys {
        let kind = ScalarAttributeType::from(*kind);
        let definition = AttributeDefinition::builder().attribute_name(*name).attribute_type(kind);
        let key = KeySchemaElement::builder().attribute_name(*name).key_type(role.clone());
        found = found
            .attribute_definitions(definition.build().unwrap())
            .key_schema(key.build().unwrap());
    }
    found.build()
}

#[test]
fn a_table_with_other_keys_is_told_apart_and_the_order_of_keys_is_not() {
    let (hash, range) = (KeyType::Hash, KeyType::Range);
    let same = described(&[("sk", "S", range.clone()), ("pk", "S", hash.clone())]);
    assert_eq!(differences(&HISTORY, &same), [""; 0]);
    for (found, said) in [
        (
            described(&[("id", "S", hash.clone())]),
            "keys: id (S, HASH), wanted pk (S, HASH) + sk (S, RANGE)",
        ),
        (
            described(&[("pk", "S", hash.clone()), ("sk", "N", range)]),
            "keys: pk (S, HASH) + sk (N, RANGE), wanted pk (S, HASH) + sk (S, RANGE)",
        ),
    ] {
        assert_eq!(differences(&HISTORY, &found), [said]);
    }
    assert_eq!(differences(&INDEXED, &described(&[("pk", "S", hash)])), ["no index by-owner"]);
}
