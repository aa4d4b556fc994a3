//! Reads and writes of one table's items, shared by the repositories: always strongly consistent, batches carried
//! through to their end, writes tried again when they meet others. Knows keys and conditions, not what items mean.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, DeleteRequest, KeysAndAttributes, Put, TransactWriteItem, Update,
    WriteRequest,
};
use uuid::Uuid;

use super::failure::{Attempts, WriteError, incomplete, store_error, write};
use super::item::Item;
use crate::storage::StoreError;

/// Most items of one [`Access::batch_get`].
pub(super) const MAX_GET: usize = 100;
/// Most items of one `BatchWriteItem`.
const MAX_WRITE: usize = 25;

/// Items in key order, and where the next page starts.
pub(super) type ItemPage = (Vec<Item>, Option<Item>);

/// A table and the client that reaches it.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) client: Client,
    pub(super) table: String,
    /// Tries at writes that meet others and at the rest of a batch, the first included.
    pub(super) contended_attempts: u32,
}

impl Access {
    pub(super) async fn get(&self, key: Item) -> Result<Option<Item>, StoreError> {
        let request = self.client.get_item().table_name(&self.table);
        let found = request.set_key(Some(key)).consistent_read(true).send().await;
        Ok(found.map_err(store_error)?.item)
    }

    /// In no particular order, without those that are not there.
    pub(super) async fn batch_get(&self, keys: Vec<Item>) -> Result<Vec<Item>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let request = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true);
        let request = request.build().map_err(incomplete)?;
        let mut rest = HashMap::from([(self.table.clone(), request)]);
        let (mut items, mut attempts) = (Vec::new(), self.attempts());
        loop {
            let request = self.client.batch_get_item().set_request_items(Some(rest));
            let found = request.send().await.map_err(store_error)?;
            items.extend(found.responses.into_iter().flatten().flat_map(|(_, items)| items));
            match found.unprocessed_keys {
                Some(left) if !left.is_empty() => rest = left,
                _ => return Ok(items),
            }
            attempts.again("out of capacity").await?;
        }
    }

    pub(super) async fn batch_delete(&self, mut keys: Vec<Item>) -> Result<(), StoreError> {
        while !keys.is_empty() {
            let later = keys.split_off(keys.len().min(MAX_WRITE));
            let mut writes = Vec::with_capacity(keys.len());
            for key in keys {
                let delete = DeleteRequest::builder().set_key(Some(key)).build();
                let delete = delete.map_err(incomplete)?;
                writes.push(WriteRequest::builder().delete_request(delete).build());
            }
            self.batch_write(writes).await?;
            keys = later;
        }
        Ok(())
    }

    async fn batch_write(&self, writes: Vec<WriteRequest>) -> Result<(), StoreError> {
        let mut rest = HashMap::from([(self.table.clone(), writes)]);
        let mut attempts = self.attempts();
        loop {
            let request = self.client.batch_write_item().set_request_items(Some(rest));
            match request.send().await.map_err(store_error)?.unprocessed_items {
                Some(left) if !left.is_empty() => rest = left,
                _ => return Ok(()),
            }
            attempts.again("out of capacity").await?;
        }
    }

    /// A query of a partition, to be narrowed down and given to [`Self::page`].
    pub(super) fn query(&self) -> QueryFluentBuilder {
        self.client.query().table_name(&self.table).consistent_read(true)
    }

    /// A page of at most 1 MB.
    pub(super) async fn page(
        &self,
        query: QueryFluentBuilder,
        after: Option<Item>,
    ) -> Result<ItemPage, StoreError> {
        let page = query.set_exclusive_start_key(after).send().await.map_err(store_error)?;
        Ok((page.items.unwrap_or_default(), page.last_evaluated_key))
    }

    pub(super) fn attempts(&self) -> Attempts {
        Attempts::new(self.contended_attempts)
    }

    /// All or nothing. One token for all attempts: a server that has done it says so again, whichever answer was lost
    /// on its way. Servers remember tokens for minutes and some not at all, so the conditions of `actions` have to
    /// tell a repetition too.
    pub(super) async fn transact(&self, actions: Vec<TransactWriteItem>) -> Result<(), WriteError> {
        let token = Uuid::new_v4().to_string();
        write(self.attempts(), || {
            self.client
                .transact_write_items()
                .client_request_token(&token)
                .set_transact_items(Some(actions.clone()))
                .send()
        })
        .await?;
        Ok(())
    }

    pub(super) fn put(
        &self,
        item: Item,
        condition: Option<&str>,
    ) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .set_condition_expression(condition.map(str::to_owned))
            .build()
            .map_err(incomplete)?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    pub(super) fn delete(&self, key: Item) -> Result<TransactWriteItem, StoreError> {
        let delete = Delete::builder().table_name(&self.table).set_key(Some(key)).build();
        Ok(TransactWriteItem::builder().delete(delete.map_err(incomplete)?).build())
    }

    pub(super) fn update<const N: usize>(
        &self,
        key: Item,
        condition: &str,
        change: impl Into<String>,
        values: [(&str, AttributeValue); N],
    ) -> Result<TransactWriteItem, StoreError> {
        let values = values.map(|(name, value)| (name.to_owned(), value));
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key))
            .condition_expression(condition)
            .update_expression(change)
            .set_expression_attribute_values(Some(values.into()))
            .build()
            .map_err(incomplete)?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}
