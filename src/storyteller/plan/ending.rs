//! How a book ends: by where its pressures lean and what was decided.

use super::{Table, nth_telling, wants_actor, wording};
use crate::storyteller::chance::Key;
use crate::storyteller::content::{Ending, Pack};
use crate::storyteller::world::World;

/// No book ends before this turn of it.
const SHORTEST: u32 = 8;
/// Turns by which books differ.
const SWING: usize = 4;

/// The ending the world leans to, once the book is long enough, or sooner when a pressure is at the end of its scale.
pub fn ending<'a>(world: &World, table: &Table<'a>) -> Option<(&'a Ending, usize)> {
    let arc = world.story.arc;
    let book = Key::new(table.seed).with("book").at(u64::from(world.book));
    let last = SHORTEST + 1 + book.below(SWING) as u32;
    let extreme = world.pressures.iter().any(|(_, level)| *level <= 2 || *level >= 98);
    if arc < SHORTEST || (arc < last && !extreme) {
        return None;
    }
    let mut ranked: Vec<(f32, &Ending)> = table
        .pack
        .ending
        .iter()
        .map(|ending| (weight(world, table.pack, ending, table.key), ending))
        .collect();
    ranked.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.id.cmp(&y.id)));
    let tellings: Vec<(&Ending, usize)> =
        ranked.iter().map(|(_, ending)| (*ending, ending.text.len())).collect();
    let (ending, telling) = nth_telling(&tellings, table.variation)?;
    Some((ending, wording(world, &ending.text, wants_actor(world), table.key, telling)))
}

/// How much speaks for an ending: how far its pressures are from where books tend
/// to leave them, in the direction it leans; its
/// flags; a little chance; and that it was not told.
fn weight(world: &World, pack: &Pack, ending: &Ending, key: Key) -> f32 {
    let all: f32 = ending.leans.values().map(|weight| weight.abs()).sum();
    let lean: f32 = ending
        .leans
        .iter()
        .map(|(pressure, weight)| {
            let rest = pack.pressure.iter().find(|known| known.key == *pressure);
            let rest = rest.map_or(50.0, |known| known.rest);
            weight * (f32::from(world.level(pressure)) - rest)
        })
        .sum();
    let flags = ending.flags.iter().filter(|flag| world.flags.contains(flag)).count() as f32 * 9.0;
    let told = world.told.count(&ending.text) as f32 * 40.0;
    let chance = key.with(&ending.id).below(30) as f32;
    lean / all.max(0.1) + flags + chance - told
}
