//! What happens around a situation: promises that are kept, members of the cast who act, causes that show, secrets that
//! come out. Each takes effect only if there was room to tell it.

use super::{Plan, Table, Told, act};
use crate::storyteller::action::promised;
use crate::storyteller::chance::Key;
use crate::storyteller::content::{Cause, Goal, Need, Secret};
use crate::storyteller::template::{Role, Template};
use crate::storyteller::world::World;

/// Turns without a callback after which one has to be told.
pub const PATIENCE: u32 = 3;
/// A promise so many turns over its time is forgotten, if others were kept.
const STALE: u32 = 3;
/// Fewest turns between two causes that show.
const CAUSE_EVERY: u32 = 2;
/// Most secrets of a book.
const SECRETS: u32 = 2;

/// A late consequence that is due.
#[derive(Debug, Clone, Copy)]
pub struct Payoff<'a> {
    pub later: &'a Template,
    /// Position among the promises.
    pub at: usize,
    /// It has to be told now, whatever else there is.
    pub urgent: bool,
}

/// A step of a cast member.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    pub role: Role,
    pub goal: &'a Goal,
    pub step: usize,
}

/// A pressure that moves others.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    pub cause: &'a Cause,
    pub text: &'a Template,
}

/// A secret that comes out.
#[derive(Debug, Clone, Copy)]
pub struct Bared<'a> {
    pub role: Role,
    pub secret: &'a Secret,
    pub text: &'a Template,
}

/// One of `lines` that was not told, near where the key points.
pub fn untold<'a>(world: &World, lines: &'a [Template], key: Key) -> Option<&'a Template> {
    let start = key.below(lines.len());
    let fresh = |line: &&Template| !world.told.has(line);
    lines[start..].iter().find(fresh).or_else(|| lines[..start].iter().find(fresh))
}

pub fn payoff<'a>(world: &World, table: &Table<'a>) -> Option<Payoff<'a>> {
    let urgent = world.turn.saturating_sub(world.story.paid) >= PATIENCE;
    kept(world, table, |due| due <= world.turn).map(|payoff| Payoff { urgent, ..payoff })
}

/// Before the story closes, whatever was promised first and never told.
pub fn last_payoff<'a>(world: &World, table: &Table<'a>) -> Option<Payoff<'a>> {
    payoff(world, table).or_else(|| kept(world, table, |due| due <= world.turn + 1))
}

fn kept<'a>(world: &World, table: &Table<'a>, due: impl Fn(u32) -> bool) -> Option<Payoff<'a>> {
    let promises = world.story.promises.iter().enumerate();
    promises.filter(|(_, promise)| due(promise.due)).find_map(|(at, promise)| {
        let lines = promised(table.pack, table.content, &promise.from);
        let later = untold(world, lines, table.key.with("later"))?;
        Some(Payoff { later, at, urgent: false })
    })
}

/// Somebody acts on every turn but the first; whose goal is least advanced goes first, and whom the reader knows.
pub fn step<'a>(world: &World, table: &Table<'a>) -> Option<Step<'a>> {
    if world.story.arc < 2 {
        return None;
    }
    table
        .pack
        .role
        .iter()
        .enumerate()
        .filter_map(|(at, part)| {
            let role = Role(at as u8);
            if !role.is_core() && !world.has_met(role) {
                return None;
            }
            let member = world.cast.get(at)?;
            let goal = part.goal.get(member.aim).or_else(|| part.goal.first())?;
            let next = goal.moves.get(member.steps)?;
            (!world.told.has(next)).then_some(Step { role, goal, step: member.steps })
        })
        .min_by_key(|step| {
            (step.step, table.key.with("step").at(u64::from(step.role.0)).below(100))
        })
}

/// The cause with the most behind it, if it was not shown in these words before.
pub fn chain<'a>(world: &World, table: &Table<'a>) -> Option<Chain<'a>> {
    if world.story.arc < 2 || world.turn.saturating_sub(world.story.acted) < CAUSE_EVERY {
        return None;
    }
    let causes = table.pack.cause.iter().enumerate();
    causes
        .filter(|(_, cause)| world.meets(&cause.when))
        .filter_map(|(at, cause)| {
            let text = untold(world, &cause.text, table.key.with("cause"))?;
            let beyond = match &cause.when {
                Need::Below(key, bound) => bound.saturating_sub(world.level(key)),
                Need::Above(key, bound) => world.level(key).saturating_sub(*bound),
                Need::Flag(_) | Need::NoFlag(_) => 0,
            };
            let chance = table.key.with("cause").at(at as u64).below(12);
            Some((usize::from(beyond) + chance, Chain { cause, text }))
        })
        .max_by_key(|(weight, _)| *weight)
        .map(|(_, chain)| chain)
}

/// Secrets come out in the second and the third act, and only of those whom the reader has met.
pub fn secret<'a>(world: &World, table: &Table<'a>) -> Option<Bared<'a>> {
    let story = &world.story;
    let ripe = match story.secrets {
        0 => story.arc >= 4,
        1 => story.arc >= 6 && world.turn.saturating_sub(story.bared) >= 2,
        _ => false,
    };
    if !ripe || story.secrets >= SECRETS || act(world) < 2 {
        return None;
    }
    let order = Key::new(table.seed).with("secret").at(u64::from(world.book));
    let parts = table.pack.role.iter().enumerate();
    parts
        .filter_map(|(at, part)| {
            let role = Role(at as u8);
            let member = world.cast.get(at)?;
            let secret = part.secret.as_ref()?;
            if !world.has_met(role) || member.secret.is_some() {
                return None;
            }
            let text = untold(world, &secret.reveal, table.key.with("secret"))?;
            Some(Bared { role, secret, text })
        })
        // Not by turn: a long passage would lose its place to a shorter one.
        .min_by_key(|bared| order.at(u64::from(bared.role.0)).below(1_000))
}

pub fn settle(world: &mut World, plan: &Plan<'_>, table: &Table<'_>, told: Told) {
    let turn = world.turn;
    if let (Some(payoff), true) = (plan.payoff, told.paid) {
        world.story.promises.remove(payoff.at);
        world.told.add(turn, payoff.later);
        world.story.paid = turn;
    }
    world.story.promises.retain(|promise| promise.due.saturating_add(STALE) > turn);
    if let (Some(step), true) = (plan.step, told.stepped) {
        world.apply(&step.goal.effects);
        world.cast[step.role.index()].steps = step.step + 1;
    }
    if let (Some(chain), true) = (plan.chain, told.caused) {
        world.apply(&chain.cause.effects);
        world.story.acted = turn;
    }
    if let (Some(bared), true) = (plan.bared, told.bared) {
        world.apply(&bared.secret.effects);
        world.raise(&bared.secret.set);
        world.story.bared = turn;
        world.story.secrets += 1;
        let text = table.pack.words.fill(&bared.secret.text, world.band, table.seed);
        world.cast[bared.role.index()].secret = Some(text.into_owned().into());
    }
}
