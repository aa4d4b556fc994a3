//! How a table that exists differs from its description, as far as the code depends on it: keys and indexes. What an
//! operator may choose otherwise (billing, tags, encryption) is left alone.

use aws_sdk_dynamodb::types::{AttributeDefinition, KeySchemaElement, TableDescription};

use super::{Keys, Table};

/// What differs, for a person; empty if nothing does.
pub(super) fn differences(table: &Table, found: &TableDescription) -> Vec<String> {
    let attributes = found.attribute_definitions();
    let mut differences = Vec::new();
    let mut compare = |what: String, wanted: Keys, schema: &[KeySchemaElement]| {
        let (wanted, is) = (wanted_keys(wanted), found_keys(schema, attributes));
        if wanted != is {
            differences.push(format!("{what}: {is}, wanted {wanted}"));
        }
    };
    compare("keys".to_owned(), table.keys, found.key_schema());
    let mut missing = Vec::new();
    for index in table.indexes {
        let is_it = |i: &&aws_sdk_dynamodb::types::GlobalSecondaryIndexDescription| {
            i.index_name() == Some(index.name)
        };
        match found.global_secondary_indexes().iter().find(is_it) {
            Some(is) => {
                compare(format!("keys of index {}", index.name), index.keys, is.key_schema())
            }
            None => missing.push(format!("no index {}", index.name)),
        }
    }
    differences.extend(missing);
    differences
}

fn wanted_keys(keys: Keys) -> String {
    let key = |(role, attribute): (&str, super::Attribute)| {
        format!("{} ({}, {role})", attribute.name, attribute.kind.letter())
    };
    keys.roles().map(key).collect::<Vec<_>>().join(" + ")
}

fn found_keys(schema: &[KeySchemaElement], attributes: &[AttributeDefinition]) -> String {
    let mut keys: Vec<_> = schema.iter().collect();
    keys.sort_by_key(|key| key.key_type().as_str());
    let key = |key: &KeySchemaElement| {
        let name = key.attribute_name();
        let kind = attributes.iter().find(|attribute| attribute.attribute_name() == name);
        let kind = kind.map_or("?", |attribute| attribute.attribute_type().as_str());
        format!("{name} ({kind}, {})", key.key_type().as_str())
    };
    keys.into_iter().map(key).collect::<Vec<_>>().join(" + ")
}
