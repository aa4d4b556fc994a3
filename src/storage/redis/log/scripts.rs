//! The scripts: each changes a log as a whole, or not at all.

use std::sync::LazyLock;

use crate::storage::redis::script::Script;

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!($file)));
    };
}

script!(APPEND, "append.lua");
script!(CLAIM, "claim.lua");
script!(CONFIRM, "confirm.lua");
script!(DELETE, "delete.lua");
script!(OVERDUE, "overdue.lua");
script!(READ, "read.lua");
script!(RELEASE, "release.lua");
script!(RENEW, "renew.lua");
script!(TRIM, "trim.lua");
