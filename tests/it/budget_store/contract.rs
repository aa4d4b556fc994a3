use std::sync::Arc;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use whatif::domain::budget::{Amount, Cap, Purse, day_of};
use whatif::domain::ids::{ScenarioId, TurnId, UserId};
use whatif::storage::budget::{BudgetStore, NewReservation, OpenReservation, Reserved, Taken};

const NOTHING: Amount = Amount { tokens: 0, micros: 0 };

pub async fn run(store: Arc<dyn BudgetStore>) {
    all_purses_give_or_none(&*store).await;
    a_settled_call_counts_once_and_with_what_it_came_to(&*store).await;
    what_is_due_is_found(&*store).await;
    purses_are_forgotten_in_time(&*store).await;
    no_purse_gives_more_than_its_cap(&store).await;
    large_numbers_are_as_good_as_endless(&*store).await;
    store.probe().await.unwrap();
}

fn now() -> Timestamp {
    "2026-11-20T10:00:00Z".parse().unwrap()
}

fn amount(tokens: u64, micros: u64) -> Amount {
    Amount { tokens, micros }
}

fn cap(tokens: u64, micros: u64) -> Cap {
    Cap { tokens: Some(tokens), micros: Some(micros) }
}

fn reservation(turn: TurnId, amount: Amount, purses: &[(Purse, Cap)]) -> NewReservation {
    NewReservation {
        id: Uuid::new_v4(),
        turn,
        amount,
        purses: purses.to_vec(),
        now: now(),
        due: now() + SignedDuration::from_mins(10),
    }
}

async fn taken(store: &dyn BudgetStore, purse: Purse) -> Taken {
    store.look(&[purse]).await.unwrap()[0]
}

async fn all_purses_give_or_none(store: &dyn BudgetStore) {
    let turn = TurnId::new(now());
    let scenario = Purse::Scenario(ScenarioId::new(now()));
    let user = Purse::User(UserId::new(now()), day_of(now()));
    let purses =
        [(Purse::Turn(turn), Cap::default()), (scenario, cap(100, 50)), (user, cap(70, 90))];

    let first = reservation(turn, amount(60, 40), &purses);
    assert_eq!(store.reserve(&first).await.unwrap(), Reserved::Granted);
    assert_eq!(store.reserve(&first).await.unwrap(), Reserved::Granted, "a repeat");
    let all = store.look(&[user, scenario, Purse::Turn(turn)]).await.unwrap();
    assert_eq!(all, [Taken { spent: NOTHING, reserved: amount(60, 40) }; 3], "taken once");

    // The one is short of money, the other of tokens; neither takes anything from anybody.
    for (asked, short) in [(amount(5, 11), scenario), (amount(11, 1), user)] {
        let refused = store.reserve(&reservation(turn, asked, &purses)).await.unwrap();
        assert_eq!(refused, Reserved::Exhausted(short));
        assert_eq!(taken(store, Purse::Turn(turn)).await.reserved, amount(60, 40));
    }
    assert_eq!(store.list_open(turn).await.unwrap().len(), 1, "nothing is left of a refusal");
    // To the last drop.
    let rest = reservation(turn, amount(10, 10), &purses);
    assert_eq!(store.reserve(&rest).await.unwrap(), Reserved::Granted);
    // A purse that was never used gives no more than its cap either.
    let fresh = Purse::Scenario(ScenarioId::new(now()));
    let over = reservation(turn, amount(101, 0), &[(fresh, cap(100, 50))]);
    assert_eq!(store.reserve(&over).await.unwrap(), Reserved::Exhausted(fresh));
    assert_eq!(taken(store, fresh).await, Taken::default());
}

async fn a_settled_call_counts_once_and_with_what_it_came_to(store: &dyn BudgetStore) {
    let turn = TurnId::new(now());
    let purse = Purse::Scenario(ScenarioId::new(now()));
    let purses = [(Purse::Turn(turn), Cap::default()), (purse, cap(100, 100))];
    let call = reservation(turn, amount(100, 100), &purses);
    store.reserve(&call).await.unwrap();
    let again = reservation(turn, amount(1, 1), &purses);
    assert_eq!(store.reserve(&again).await.unwrap(), Reserved::Exhausted(purse));

    let open = OpenReservation { id: call.id, amount: amount(100, 100) };
    assert_eq!(store.list_open(turn).await.unwrap(), [open]);
    assert!(store.settle(call.id, amount(30, 20)).await.unwrap());
    assert!(!store.settle(call.id, amount(30, 20)).await.unwrap(), "it is settled once");
    assert_eq!(store.list_open(turn).await.unwrap(), []);
    let after = Taken { spent: amount(30, 20), reserved: NOTHING };
    assert_eq!(store.look(&[purse, Purse::Turn(turn)]).await.unwrap(), [after; 2]);
    // What was not needed may be taken again; and a call may come to more than was thought.
    let again = reservation(turn, amount(70, 80), &purses);
    assert_eq!(store.reserve(&again).await.unwrap(), Reserved::Granted);
    assert!(store.settle(again.id, amount(90, 85)).await.unwrap());
    assert_eq!(taken(store, purse).await.all(), amount(120, 105));
    assert!(!store.settle(Uuid::new_v4(), NOTHING).await.unwrap());
}

async fn what_is_due_is_found(store: &dyn BudgetStore) {
    let turn = TurnId::new(now());
    let purses = [(Purse::Turn(turn), Cap::default())];
    let soon = NewReservation { due: now(), ..reservation(turn, amount(1, 1), &purses) };
    let later = reservation(turn, amount(2, 2), &purses);
    for call in [&later, &soon] {
        store.reserve(call).await.unwrap();
    }
    let due = async |at: Timestamp| -> Vec<Uuid> {
        let due = store.list_due(at, 100).await.unwrap();
        due.iter().map(|open| open.id).filter(|id| [soon.id, later.id].contains(id)).collect()
    };
    assert_eq!(due(now()).await, [soon.id]);
    assert_eq!(due(later.due).await, [soon.id, later.id], "the oldest first");
    assert_eq!(store.list_due(later.due, 1).await.unwrap().len(), 1);
    store.settle(soon.id, NOTHING).await.unwrap();
    store.settle(later.id, NOTHING).await.unwrap();
}

async fn purses_are_forgotten_in_time(store: &dyn BudgetStore) {
    let turn = TurnId::new(now());
    let (gone, kept) = (Purse::Turn(turn), Purse::Scenario(ScenarioId::new(now())));
    let long_ago = now() - SignedDuration::from_hours(400 * 24);
    let used = |now, purse| NewReservation {
        now,
        ..reservation(turn, amount(1, 1), &[(purse, Cap::default())])
    };
    let calls = [used(now(), kept), used(long_ago, gone), used(long_ago, kept)];
    for call in &calls {
        store.reserve(call).await.unwrap();
    }
    assert_eq!(store.purge(now(), 100).await.unwrap(), 0, "a call still runs");
    for call in &calls[..2] {
        store.settle(call.id, amount(1, 1)).await.unwrap();
    }
    assert_eq!(store.purge(now(), 100).await.unwrap(), 1);
    assert_eq!(taken(store, gone).await, Taken::default());
    assert_eq!(taken(store, kept).await.spent, amount(1, 1));
}

/// Many at once, over purses that they share in different orders.
async fn no_purse_gives_more_than_its_cap(store: &Arc<dyn BudgetStore>) {
    let day = Purse::Day(day_of(now() + SignedDuration::from_hours(240)));
    let users: Vec<_> = (0..4).map(|_| Purse::User(UserId::new(now()), day_of(now()))).collect();
    let calls = (0..60).map(|n: usize| {
        let (store, user, turn) = (Arc::clone(store), users[n % 4], TurnId::new(now()));
        let mut purses = vec![(day, cap(300, 300)), (user, cap(90, 1_000))];
        if n.is_multiple_of(2) {
            purses.reverse();
        }
        let call = reservation(turn, amount(10, 10), &purses);
        tokio::spawn(async move {
            let granted = store.reserve(&call).await.unwrap() == Reserved::Granted;
            if granted && n.is_multiple_of(3) {
                assert!(store.settle(call.id, amount(10, 10)).await.unwrap());
            }
            granted
        })
    });
    let granted = join_all(calls).await.into_iter().filter(|granted| *granted.as_ref().unwrap());
    assert_eq!(granted.count(), 30, "as much as the day has, and no more");
    assert_eq!(taken(&**store, day).await.all(), amount(300, 300));
    let mut sum = NOTHING;
    for user in users {
        let all = taken(&**store, user).await.all();
        assert!(all.tokens <= 90, "{all:?}");
        sum = sum.plus(all);
    }
    assert_eq!(sum, amount(300, 300), "what one purse gave the other gave as well");
}

async fn large_numbers_are_as_good_as_endless(store: &dyn BudgetStore) {
    let turn = TurnId::new(now());
    let purse = Purse::Turn(turn);
    let call = reservation(turn, amount(1, 1), &[(purse, cap(u64::MAX, u64::MAX))]);
    assert_eq!(store.reserve(&call).await.unwrap(), Reserved::Granted);
    assert!(store.settle(call.id, NOTHING).await.unwrap());
}
