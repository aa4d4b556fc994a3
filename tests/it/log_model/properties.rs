//! What must hold in every state, and what has to happen in some: otherwise the rest would say little.

use stateright::Property;

use super::store::{Event, Kind, Log};
use super::world::{State, World};

pub const ONE_AUTHOR: &str = "a number has one event, whoever reads it and when";
pub const SHOWN_IS_STORED: &str = "an event that is shown was stored before";
pub const ACKNOWLEDGED_STAYS: &str = "an acknowledged event stays as it is within its epoch";
pub const FENCED_IS_POWERLESS: &str = "who is fenced off adds nothing";
pub const GAPLESS: &str = "events say where they are, without gaps";
pub const CHECKPOINT_FITS: &str = "a turn is open if the events say so";
pub const TAKEN_UP: &str = "an open turn can be taken up by every replica that runs";
pub const FORWARD: &str = "a checkpoint is never replaced by an older one";

pub fn all() -> Vec<Property<World>> {
    vec![
        Property::always(ONE_AUTHOR, |_, state: &State| {
            let seen: Vec<&Event> = state.witness.seen.iter().collect();
            let place = |event: &Event| (event.epoch, event.seq);
            seen.windows(2).all(|pair| place(pair[0]) != place(pair[1]))
        }),
        Property::always(SHOWN_IS_STORED, |_, state: &State| !state.witness.shown_unstored),
        Property::always(ACKNOWLEDGED_STAYS, |_, state: &State| {
            let Some(log) = &state.store.log else { return true };
            let known = state.witness.acknowledged.iter().filter(|event| event.epoch == log.epoch);
            known.into_iter().all(|event| log.at(event.seq) == Some(*event))
        }),
        Property::always(FENCED_IS_POWERLESS, |_, state: &State| !state.witness.trespassed),
        Property::always(GAPLESS, |_, state: &State| {
            let Some(log) = &state.store.log else { return true };
            let mut places = log.events.iter().zip(log.begin + 1..);
            places.all(|(event, seq)| (event.epoch, event.seq) == (log.epoch, seq))
        }),
        Property::always(CHECKPOINT_FITS, |_, state: &State| {
            state.store.log.as_ref().is_none_or(|log| log.open_turn == is_open(log))
        }),
        Property::always(TAKEN_UP, can_be_taken_up),
        Property::always(FORWARD, |_, state: &State| !state.witness.checkpoint_went_back),
        Property::sometimes("a turn of two owners is done", |_, state: &State| {
            state.store.log.as_ref().is_some_and(|log| {
                let authors = |at: usize| log.events.get(at).map(|event| event.author);
                !log.open_turn && log.events.len() > 1 && authors(0) != authors(1)
            })
        }),
        Property::sometimes("an append comes too late", |_, state: &State| state.has_latecomer()),
        Property::sometimes("a repeated append is recognized", |_, state: &State| {
            state.has_recognized()
        }),
        Property::sometimes(
            "a lost log is begun anew and written",
            |world: &World, state: &State| {
                world.bounds.losses == 0
                    || state.witness.acknowledged.iter().any(|event| event.epoch > 1)
            },
        ),
    ]
}

fn is_open(log: &Log) -> bool {
    log.events.iter().rev().find_map(|event| event.kind.open()).unwrap_or(false)
}

/// Not that somebody does it some day, which no clock promises, but that nothing can stand in the way for longer than a
/// lease lasts: then the turn is listed, whoever claims it is granted it, and what the new owner writes is taken.
fn can_be_taken_up(world: &World, state: &State) -> bool {
    let open = state.store.log.as_ref().is_some_and(|log| log.open_turn);
    let mut later = state.store.clone();
    later.expire();
    let mut replicas = 0..world.bounds.replicas;
    !open
        || later.is_orphan(world.rules)
            && replicas.all(|at| later.clone().would_take(world.rules, at, Kind::Text))
}
