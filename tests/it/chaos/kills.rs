//! `kill -9` of the owner after every single event of a turn, with another replica there to go on: the text is whole, no
//! number is missing or twice, and the reader, who is at the other replica, waits for no longer than a lease.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::reader::{Address, Reader, Standing};
use super::world::World;
use super::writer::{Caller, PATIENCE};

/// Leases that run out fast, and events that are far enough apart to be told apart.
const ENV: [(&str, &str); 4] = [
    ("WHATIF__SESSIONS__LEASE_TTL", "1s"),
    ("WHATIF__SESSIONS__LEASE_RENEW", "300ms"),
    ("WHATIF__SESSIONS__COALESCE", "80ms"),
    ("WHATIF__PROVIDERS__STORYTELLER__WORDS_PER_SECOND", "100"),
];

/// On the way to Redis and back, so that events which are made at the same moment come one after the other.
const APART: Duration = Duration::from_millis(15);

/// A lease, two looks for orphans, and what a busy machine adds.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// Silence that no living owner leaves.
const SILENCE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_survives_its_owner_after_every_event() {
    let mut world = World::start(2, &ENV).await;
    let token = world.register().await;
    world.redis_wire.slow(APART);
    let events = tell(&mut world, &token, 0, None).await.events;
    assert!(events > 12, "a turn of {events} events has no middle");
    let (mut waits, mut places) = (Vec::new(), Vec::new());
    let mut over = 0;
    for after in 1..events {
        let owner = after as usize % 2;
        let death = tell(&mut world, &token, owner, Some(after)).await;
        places.push(death.last);
        waits.extend(death.wait);
        // The end of a turn is one append: nobody can die in the middle of it.
        over = if death.last == death.events { over + 1 } else { 0 };
        if over == 2 {
            break;
        }
    }
    waits.sort();
    let part = |part: usize| waits[(waits.len() - 1) * part / 100];
    println!(
        "killed after {places:?} of {events}; takeover p50 {:?}, p99 {:?}, {} of {} deaths noticed",
        part(50),
        part(99),
        waits.len(),
        places.len()
    );
    assert!(waits.len() > 4, "deaths come in the middle of the turn: {places:?}");
    assert!(*waits.last().unwrap() < TAKEN_OVER, "{waits:?}");
}

struct Death {
    /// Of the whole turn.
    events: u64,
    /// The last event of the dead owner.
    last: u64,
    /// From the kill to the next event, unless the turn was over by then.
    wait: Option<Duration>,
}

/// Tells a scene at one replica to a reader at the other, and kills the first after that event.
async fn tell(world: &mut World, token: &str, owner: usize, after: Option<u64>) -> Death {
    let base = |number: usize| world.replicas[number].server().url("");
    let caller = Caller::new(&base(owner), token);
    let scenario = caller.begin("What if Rome never fell?", "storyteller", 7).await;
    let at = Address { base: base(1 - owner), token: token.into(), scenario };
    let end = CancellationToken::new();
    let (mut seen, reading) = Reader::start(at.clone(), end.clone());
    let mut death = Death { events: 0, last: 0, wait: None };
    if let Some(after) = after {
        until(&mut seen, |standing| standing.seq >= after).await;
        let killed = Instant::now();
        world.kill(owner).await;
        (death.last, death.wait) = silence(&mut seen, killed).await;
    }
    until(&mut seen, |standing| standing.turn.as_ref().is_some_and(|(_, over)| *over)).await;
    death.events = seen.borrow().seq;
    end.cancel();
    let told = match reading.await {
        Ok(told) => told,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    if after.is_some() {
        world.revive(owner).await;
    }
    // The revived one is asked: it has seen nothing of all this.
    let tree = caller.get(&format!("/scenarios/{}/tree", at.scenario)).await;
    told.story.agrees_with_tree(&tree);
    assert!(told.past.is_empty(), "no log was lost");
    assert_eq!(told.story.newest().finish(), "complete");
    death
}

async fn until(seen: &mut watch::Receiver<Standing>, reached: impl Fn(&Standing) -> bool) {
    let waiting = timeout(PATIENCE, seen.wait_for(|standing| reached(standing))).await;
    let came = matches!(waiting, Ok(Ok(_)));
    drop(waiting);
    if !came {
        panic!("the reader is stuck, or has failed: {:?}", seen.borrow());
    }
}

/// Follows events until one comes after a silence, or the turn is over; the last `seq` before it, and its distance from
/// the kill.
async fn silence(seen: &mut watch::Receiver<Standing>, killed: Instant) -> (u64, Option<Duration>) {
    loop {
        let (seq, over) = {
            let standing = seen.borrow_and_update();
            (standing.seq, standing.turn.as_ref().is_some_and(|(_, over)| *over))
        };
        if over {
            return (seq, None);
        }
        let quiet = Instant::now();
        let next = timeout(PATIENCE, seen.wait_for(|standing| standing.seq > seq)).await;
        let came = matches!(next, Ok(Ok(_)));
        drop(next);
        if !came {
            panic!("nobody goes on after {seq}: {:?}", seen.borrow());
        }
        if quiet.elapsed() > SILENCE {
            return (seq, Some(killed.elapsed()));
        }
    }
}
