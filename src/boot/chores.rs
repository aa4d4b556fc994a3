//! What housekeeping does from time to time, as data.

use crate::actors::answers::AnswersHandle;
use crate::actors::generation::GenerationHandle;
use crate::actors::housekeeping::Chore;
use crate::actors::user::UserHandle;
use crate::clock::Clock;
use crate::storage::dynamodb::Dynamo;

pub(super) fn chores(
    users: &UserHandle,
    answers: &AnswersHandle,
    generation: &GenerationHandle,
    dynamo: &Dynamo,
    clock: &Clock,
) -> Vec<Chore> {
    let (users, answers, dynamo) = (users.clone(), answers.clone(), dynamo.clone());
    let (scenarios, clock) = (dynamo.scenarios(), clock.clone());
    let generation = generation.clone();
    vec![
        Chore {
            name: "logins",
            run: Box::new(move || {
                let users = users.clone();
                Box::pin(async move { users.purge().await.map_err(|error| error.to_string()) })
            }),
        },
        Chore {
            name: "answers",
            run: Box::new(move || {
                let answers = answers.clone();
                Box::pin(async move { answers.purge().await.map_err(|error| error.to_string()) })
            }),
        },
        Chore {
            name: "model calls",
            run: Box::new(move || {
                let generation = generation.clone();
                Box::pin(async move {
                    generation.sweep_budget().await.map_err(|error| error.to_string())
                })
            }),
        },
        Chore {
            name: "deleted scenarios",
            run: Box::new(move || {
                let (scenarios, clock) = (scenarios.clone(), clock.clone());
                Box::pin(async move {
                    let purged = scenarios.purge_deleted(clock.now()).await;
                    purged.map(|count| count as u64).map_err(|error| error.to_string())
                })
            }),
        },
        Chore {
            name: "expired items",
            run: Box::new(move || {
                let dynamo = dynamo.clone();
                Box::pin(async move {
                    let swept = dynamo.sweep_expired().await;
                    swept.map(|count| count as u64).map_err(|error| error.to_string())
                })
            }),
        },
    ]
}
