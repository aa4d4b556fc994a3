//! The tables, described once as data: what they are called, keyed and indexed by, and how they are kept.
//!
//! From the same description `create` makes them, `compare` says how an existing one differs, and [`Deployment::print`]
//! writes it down for infrastructure code. Nothing here knows what the items mean.

mod compare;
mod create;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::config::AppEnv;

pub use create::TablesError;
pub(super) use create::{check, ensure};

/// The partition key of every table; a string.
pub(super) const PK: &str = "pk";
/// The sort key of every table; a string.
pub(super) const SK: &str = "sk";
/// Seconds since the epoch after which an item may be deleted. Servers are late with that, so readers check for
/// themselves.
pub(super) const EXPIRES_AT: &str = "expires_at";

/// One table, billed on demand.
#[derive(Debug)]
pub struct Table {
    /// Whose it is.
    pub service: &'static str,
    pub name: &'static str,
    pub keys: Keys,
    pub indexes: &'static [Index],
    pub ttl_attribute: Option<&'static str>,
    /// Continuous backups, where the server has them.
    pub point_in_time_recovery: bool,
}

/// What items are found by.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    pub partition: Attribute,
    pub sort: Option<Attribute>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    pub name: &'static str,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Binary,
}

/// A global secondary index: always a moment behind its table.
#[derive(Debug)]
pub struct Index {
    pub name: &'static str,
    pub keys: Keys,
    /// Whole items; the keys alone otherwise.
    pub whole_items: bool,
}

/// Scenarios and their scenes.
///
/// | pk             | sk            | item                                                    |
/// |----------------|---------------|---------------------------------------------------------|
/// | `U#<user>`     | `S#<id>`      | the owner's list: a pointer, newest last                |
/// | `S#<id>`       | `META`        | the scenario                                            |
/// | `S#<id>`       | `N#<n>`       | a scene, or its beginning                               |
/// | `S#<id>`       | `N#<n>#C#<k>` | the rest of a large scene                               |
/// | `PURGE`        | `<due>#<id>`  | a deleted scenario that waits for its items' deletion   |
pub const HISTORY: Table = Table {
    service: "history",
    name: "history",
    keys: Keys { partition: Attribute::text(PK), sort: Some(Attribute::text(SK)) },
    indexes: &[],
    ttl_attribute: Some(EXPIRES_AT),
    point_in_time_recovery: true,
};

/// Every table of the product.
pub const ALL: &[&Table] = &[&HISTORY];

impl Attribute {
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: Kind::Text }
    }
}

impl Kind {
    /// As the API writes it.
    pub const fn letter(self) -> &'static str {
        match self {
            Kind::Text => "S",
            Kind::Number => "N",
            Kind::Binary => "B",
        }
    }
}

impl Keys {
    /// With their roles, the partition key first.
    fn roles(self) -> impl Iterator<Item = (&'static str, Attribute)> {
        let sort = self.sort.map(|sort| ("RANGE", sort));
        [("HASH", self.partition)].into_iter().chain(sort)
    }

    fn print(self) -> Value {
        let key = |(role, attribute): (&str, Attribute)| json!({"AttributeName": attribute.name, "KeyType": role});
        self.roles().map(key).collect()
    }
}

impl Index {
    const fn projection(&self) -> &'static str {
        if self.whole_items { "ALL" } else { "KEYS_ONLY" }
    }
}

impl Table {
    /// Every attribute that is a key of the table or of an index, once.
    fn attributes(&self) -> Vec<Attribute> {
        let keys = [self.keys].into_iter().chain(self.indexes.iter().map(|index| index.keys));
        let mut attributes = Vec::new();
        for (_, attribute) in keys.flat_map(Keys::roles) {
            if !attributes.contains(&attribute) {
                attributes.push(attribute);
            }
        }
        attributes
    }
}

/// The tables of one deployment: their names, and what is the same for all of them.
#[derive(Debug, Clone)]
pub struct Deployment {
    prefix: String,
    env: AppEnv,
}

impl Deployment {
    pub fn new(prefix: impl Into<String>, env: AppEnv) -> Self {
        Self { prefix: prefix.into(), env }
    }

    pub fn table_name(&self, table: &Table) -> String {
        format!("{}-{}", self.prefix, table.name)
    }

    /// Whether a table can only be deleted after somebody has switched this off.
    fn is_protected(&self) -> bool {
        self.env == AppEnv::Production
    }

    fn tags(&self, table: &Table) -> [(&'static str, String); 3] {
        let env = match self.env {
            AppEnv::Development => "development",
            AppEnv::Staging => "staging",
            AppEnv::Production => "production",
        };
        [
            ("application", "whatif".to_owned()),
            ("service", table.service.to_owned()),
            ("environment", env.to_owned()),
        ]
    }

    /// All tables, each as the properties of CloudFormation's `AWS::DynamoDB::Table`.
    pub fn print(&self) -> Value {
        ALL.iter().map(|table| self.print_table(table)).collect()
    }

    fn print_table(&self, table: &Table) -> Value {
        let attribute =
            |a: &Attribute| json!({"AttributeName": a.name, "AttributeType": a.kind.letter()});
        let tag = |(key, value): (&str, String)| json!({"Key": key, "Value": value});
        let mut printed = json!({
            "TableName": self.table_name(table),
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": table.attributes().iter().map(attribute).collect::<Value>(),
            "KeySchema": table.keys.print(),
            "PointInTimeRecoverySpecification":
                { "PointInTimeRecoveryEnabled": table.point_in_time_recovery },
            "DeletionProtectionEnabled": self.is_protected(),
            "Tags": self.tags(table).into_iter().map(tag).collect::<Value>(),
        });
        if let Some(ttl) = table.ttl_attribute {
            printed["TimeToLiveSpecification"] = json!({ "AttributeName": ttl, "Enabled": true });
        }
        if !table.indexes.is_empty() {
            let index = |index: &Index| {
                json!({
                    "IndexName": index.name,
                    "KeySchema": index.keys.print(),
                    "Projection": { "ProjectionType": index.projection() },
                })
            };
            printed["GlobalSecondaryIndexes"] = table.indexes.iter().map(index).collect();
        }
        printed
    }
}
