use super::super::script::PROSE;
use super::*;

#[tokio::test(start_paused = true)]
async fn clocks_that_are_minutes_apart_do_no_harm() {
    let world = World::new();
    let minutes = |minutes: i64| Clock::starting_at(NOW + jiff::SignedDuration::from_mins(minutes));
    let replicas = [
        world.replica_at("slow", minutes(-5), |_| {}).await,
        world.replica("right").await,
        world.replica_at("fast", minutes(5), |_| {}).await,
    ];
    let id = world.told(&replicas[2]).await;
    let watches = [Watch::begin(&replicas[0], id).await, Watch::begin(&replicas[2], id).await];
    let mut answers = Vec::new();
    for round in 1..13_u32 {
        let key = Some(format!("k{round}"));
        let request = Request { key, ..world.say(round) };
        let replica = &replicas[round as usize % 3];
        let turn = replica.command(id, request.clone()).await.unwrap();
        answers.push((request, turn));
        pause(400).await;
        if round % 4 == 0 {
            // Taken up by one whose clock is minutes away.
            for turn in replicas.iter().flat_map(|replica| replica.actors::<turn::Run>()) {
                turn.kill();
            }
        }
        let events = world.end_of(id, turn).await;
        assert_eq!(world.scene_of(id, &events).text, PROSE);
        pause(if round % 2 == 0 { 7_000 } else { 10 }).await;
        // Whoever is asked knows every answer.
        for (request, turn) in &answers {
            let asked = replicas[(round as usize + 1) % 3].command(id, request.clone()).await;
            assert_eq!(asked.unwrap(), *turn);
        }
    }
    for watch in watches {
        watch.sees_everything(&world, id).await;
        assert_eq!(watch.seen().snapshots, 0, "nothing was trimmed too early");
    }
}
