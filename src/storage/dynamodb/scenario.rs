//! The repository of scenarios and scenes. Its table is described in `tables`, its rows in `row`.
//!
//! Every write is conditional and may be repeated: an answer lost on its way changes nothing when the caller asks
//! again. No call ever scans.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use jiff::Timestamp;

use super::access::{Access, MAX_GET};
use super::failure::{WriteError, write};
use super::item::{Item, key, number, read_cursor, text, write_cursor};
use super::row::{self, META, Pieces};
use super::tables::EXPIRES_AT;
use super::{path, purge};
use crate::domain::ids::{ScenarioId, SceneId, UserId};
use crate::domain::scenario::{Scenario, ScenarioChange, Scene};
use crate::storage::scenario::ScenarioStore;
use crate::storage::{Page, StoreError};

const IS_NEW: &str = "attribute_not_exists(pk)";
const IS_THERE: &str = "attribute_exists(pk) AND attribute_not_exists(deleted_at)";

/// Scenarios and scenes in DynamoDB. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DynamoScenarios {
    history: Access,
}

impl DynamoScenarios {
    pub(super) fn new(history: Access) -> Self {
        Self { history }
    }

    /// Deletes for good what was soft-deleted thirty days before `now` and returns how many scenarios, 100 at most:
    /// to be called from time to time, by any number of replicas.
    ///
    /// # Errors
    /// As every call of a store; the next run goes on where this one failed.
    pub async fn purge_deleted(&self, now: Timestamp) -> Result<usize, StoreError> {
        purge::run(&self.history, now).await
    }

    /// The scenarios that `pointers` name, in their order, without those that have been deleted meanwhile.
    async fn resolve(&self, pointers: &[Item]) -> Result<Vec<Scenario>, StoreError> {
        let mut ids = Vec::with_capacity(pointers.len());
        for pointer in pointers {
            let sk = row::sort_key(pointer)?;
            let id = sk.strip_prefix(row::LISTED).and_then(|id| id.parse().ok());
            ids.push(id.ok_or_else(|| StoreError::Corrupt(format!("a list entry {sk}")))?);
        }
        let found = self.history.batch_get(ids.iter().copied().map(meta_key).collect()).await?;
        let mut scenarios = HashMap::with_capacity(found.len());
        for item in found {
            if let Some(scenario) = row::scenario_from(item)? {
                scenarios.insert(scenario.id, scenario);
            }
        }
        Ok(ids.iter().filter_map(|id| scenarios.remove(id)).collect())
    }

    /// Changes a scenario that is there; `None` if it is not.
    async fn change<const N: usize>(
        &self,
        id: ScenarioId,
        fields: [(&str, Option<AttributeValue>); N],
    ) -> Result<Option<Scenario>, StoreError> {
        let (mut sets, mut names, mut values) = (Vec::new(), HashMap::new(), HashMap::new());
        for (name, value) in fields {
            if let Some(value) = value {
                sets.push(format!("#{name} = :{name}"));
                names.insert(format!("#{name}"), name.to_owned());
                values.insert(format!(":{name}"), value);
            }
        }
        let updated = write(self.history.attempts(), || {
            self.history
                .client
                .update_item()
                .table_name(&self.history.table)
                .set_key(Some(meta_key(id)))
                .condition_expression(IS_THERE)
                .update_expression(format!("SET {}", sets.join(", ")))
                .set_expression_attribute_names(Some(names.clone()))
                .set_expression_attribute_values(Some(values.clone()))
                .return_values(ReturnValue::AllNew)
                .send()
        })
        .await;
        match updated {
            Ok(updated) => updated.attributes.map_or(Ok(None), row::scenario_from),
            Err(e) => e.or_condition(None),
        }
    }
}

fn meta_key(id: ScenarioId) -> Item {
    key(row::scenario_pk(id), META)
}

#[async_trait]
impl ScenarioStore for DynamoScenarios {
    async fn create_scenario(&self, scenario: &Scenario) -> Result<(), StoreError> {
        // The list holds a pointer and no copy: a copy would have to follow every finished scene, the most frequent
        // write there is, while a list is read seldom and costs one batch more.
        let pointer = key(row::owner_pk(scenario.owner), row::listed_sk(scenario.id));
        let created = self
            .history
            .transact(vec![
                self.history.put(row::scenario_item(scenario)?, Some(IS_NEW))?,
                self.history.put(pointer, None)?,
            ])
            .await;
        match created {
            Ok(()) => Ok(()),
            Err(WriteError::Store(e)) => Err(e),
            Err(WriteError::Condition(_)) => match self.history.get(meta_key(scenario.id)).await? {
                Some(item)
                    if !item.contains_key("deleted_at")
                        && row::was_created_as(&item, scenario)? =>
                {
                    Ok(())
                }
                _ => Err(StoreError::Conflict("the id belongs to another scenario")),
            },
        }
    }

    async fn find_scenario(&self, id: ScenarioId) -> Result<Option<Scenario>, StoreError> {
        self.history.get(meta_key(id)).await?.map_or(Ok(None), row::scenario_from)
    }

    async fn list_scenarios(
        &self,
        owner: UserId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Scenario>, StoreError> {
        let limit = limit.clamp(1, MAX_GET);
        let pk = row::owner_pk(owner);
        let mut after = cursor
            .map(|cursor| read_cursor(&pk, cursor))
            .transpose()?
            .map(|last| key(&pk, row::listed_sk(ScenarioId(last))));
        let mut items: Vec<Scenario> = Vec::with_capacity(limit);
        // A pointer goes in the same step as its scenario, but a deletion may come between the two reads: then the
        // page is filled up from what follows. One entry more than asked for tells whether there is a next page.
        loop {
            let missing = limit + 1 - items.len();
            let query = self
                .history
                .query()
                .key_condition_expression("pk = :pk AND begins_with(sk, :listed)")
                .expression_attribute_values(":pk", text(&pk))
                .expression_attribute_values(":listed", text(row::LISTED))
                .scan_index_forward(false)
                .limit(i32::try_from(missing.min(MAX_GET)).unwrap_or(i32::MAX));
            let (pointers, more) = self.history.page(query, after).await?;
            items.extend(self.resolve(&pointers).await?);
            if items.len() > limit {
                items.truncate(limit);
                let next = items.last().map(|last| write_cursor(&pk, last.id.0));
                return Ok(Page { items, next_cursor: next });
            }
            if more.is_none() {
                return Ok(Page { items, next_cursor: None });
            }
            after = more;
        }
    }

    async fn update_scenario(
        &self,
        id: ScenarioId,
        change: &ScenarioChange,
        now: Timestamp,
    ) -> Result<Option<Scenario>, StoreError> {
        row::check_change(change)?;
        let fields = [
            ("title", change.title.as_ref().map(text)),
            ("tags", change.tags.as_ref().map(|tags| row::tags(tags))),
            ("favorite", change.favorite.map(AttributeValue::Bool)),
            ("updated_at", Some(text(now.to_string()))),
        ];
        self.change(id, fields).await
    }

    async fn delete_scenario(&self, id: ScenarioId, now: Timestamp) -> Result<bool, StoreError> {
        let Some(scenario) = self.find_scenario(id).await? else {
            return Ok(false);
        };
        let due = purge::due(now);
        let pointer = key(row::owner_pk(scenario.owner), row::listed_sk(id));
        let deleted = self
            .history
            .transact(vec![
                self.history.update(
                    meta_key(id),
                    IS_THERE,
                    format!("SET deleted_at = :now, {EXPIRES_AT} = :due"),
                    [(":now", text(now.to_string())), (":due", number(due))],
                )?,
                self.history.delete(pointer)?,
                self.history.put(purge::entry(due, id), None)?,
            ])
            .await;
        match deleted {
            Ok(()) => Ok(true),
            Err(WriteError::Store(e)) => Err(e),
            // Gone: by somebody else's deletion, or by this very one, whose answer was lost on its way.
            Err(WriteError::Condition(_)) => {
                let found = self.history.get(meta_key(id)).await?;
                let deleted_at = found.as_ref().and_then(|item| item.get("deleted_at"));
                Ok(deleted_at == Some(&text(now.to_string())))
            }
        }
    }

    async fn put_scene(&self, scene: &Scene) -> Result<(), StoreError> {
        // What lets every reader trust that a path ends.
        if scene.parent.is_some_and(|parent| parent >= scene.id) {
            return Err(StoreError::Conflict("a scene's parent has a lower number"));
        }
        let mut actions = Vec::new();
        for (index, item) in row::scene_items(scene)?.into_iter().enumerate() {
            // The chunks follow their head: they are written when it is new.
            actions.push(self.history.put(item, (index == 0).then_some(IS_NEW))?);
        }
        actions.push(self.history.update(
            meta_key(scene.scenario),
            IS_THERE,
            "SET current_scene = :scene, updated_at = :at ADD scene_count :one",
            [
                (":scene", number(scene.id.0)),
                (":at", text(scene.created_at.to_string())),
                (":one", number(1)),
            ],
        )?);
        let failed = match self.history.transact(actions).await {
            Ok(()) => return Ok(()),
            Err(WriteError::Store(e)) => return Err(e),
            Err(WriteError::Condition(failed)) => failed,
        };
        let is_taken = failed.first() == Some(&true);
        if !is_taken {
            return Err(StoreError::Conflict("the scenario is gone"));
        }
        match self.find_scene(scene.scenario, scene.id).await? {
            Some(stored) if row::is_same(&stored, scene)? => Ok(()),
            Some(_) => Err(StoreError::Conflict("the id belongs to another scene")),
            None => Err(StoreError::Conflict("the scenario is gone")),
        }
    }

    async fn set_current_scene(
        &self,
        scenario: ScenarioId,
        scene: SceneId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        // A scene never goes while its scenario is there, so reading it first is as good as a transaction and
        // costs half.
        if self.history.get(key(row::scenario_pk(scenario), row::scene_sk(scene))).await?.is_none()
        {
            return Ok(false);
        }
        let fields =
            [("current_scene", Some(number(scene.0))), ("updated_at", Some(text(now.to_string())))];
        Ok(self.change(scenario, fields).await?.is_some())
    }

    async fn find_scene(
        &self,
        scenario: ScenarioId,
        scene: SceneId,
    ) -> Result<Option<Scene>, StoreError> {
        let (pk, sk) = (row::scenario_pk(scenario), row::scene_sk(scene));
        let found = self.history.batch_get(vec![meta_key(scenario), key(&pk, &sk)]).await?;
        let (mut visible, mut pieces) = (false, Pieces::default());
        for item in found {
            if row::sort_key(&item)? == META {
                visible = row::scenario_from(item)?.is_some();
            } else {
                pieces.add(item)?;
            }
        }
        if !visible || pieces.is_empty() {
            return Ok(None);
        }
        let (chunks, mut after) = (format!("{sk}#"), None);
        while !pieces.is_whole() {
            let query = self
                .history
                .query()
                .key_condition_expression("pk = :pk AND begins_with(sk, :chunks)")
                .expression_attribute_values(":pk", text(&pk))
                .expression_attribute_values(":chunks", text(&chunks));
            let (items, more) = self.history.page(query, after).await?;
            for item in items {
                pieces.add(item)?;
            }
            after = more;
            if after.is_none() {
                break;
            }
        }
        pieces.assemble(scenario, scene).map(Some)
    }

    async fn list_scenes(&self, scenario: ScenarioId) -> Result<Vec<Scene>, StoreError> {
        // The scenario's own item sorts first: one query tells whether it is there and reads its scenes.
        let (pk, mut after) = (row::scenario_pk(scenario), None);
        let mut scenes = Vec::new();
        let mut open: Option<(SceneId, Pieces)> = None;
        let mut visible = false;
        loop {
            let query = self
                .history
                .query()
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", text(&pk));
            let (items, more) = self.history.page(query, after).await?;
            for item in items {
                if row::sort_key(&item)? == META {
                    visible = row::scenario_from(item)?.is_some();
                    continue;
                }
                if !visible {
                    return Ok(Vec::new());
                }
                let id = Pieces::scene_of(&item)?;
                let (_, pieces) = match &mut open {
                    Some(open) if open.0 == id => open,
                    _ => {
                        if let Some((id, pieces)) = open.take() {
                            scenes.push(pieces.assemble(scenario, id)?);
                        }
                        open.insert((id, Pieces::default()))
                    }
                };
                pieces.add(item)?;
            }
            after = more;
            if after.is_none() {
                break;
            }
        }
        if let Some((id, pieces)) = open {
            scenes.push(pieces.assemble(scenario, id)?);
        }
        Ok(scenes)
    }

    async fn load_path(
        &self,
        scenario: ScenarioId,
        scene: SceneId,
    ) -> Result<Vec<Scene>, StoreError> {
        let path = path::load(&self.history, scenario, scene);
        let (visible, path) = futures::join!(self.find_scenario(scenario), path);
        // What a purge has left of a path is nobody's business.
        if visible?.is_none() { Ok(Vec::new()) } else { path }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.history.get(key("PROBE", "PROBE")).await?;
        Ok(())
    }
}
