//! What a model is told of a long story: what bears on the reader's action, however long ago it was told, and nothing of
//! branches that were left.

use super::*;
use crate::providers::prompt;
use crate::providers::prompt::Message;

const FACT: &str = "Old Varro hid the bronze astrolabe beneath the seventh cypress.";
/// Told on a branch that is left again.
const ELSEWHERE: &str = "Young Livia sank the bronze astrolabe in the salt lagoon.";
const TURNS: u32 = 60;

/// A scene's text by the reader: long enough that sixty of them do not fit a prompt.
fn scene(number: u32, fact: &str) -> String {
    let filler = |line: u32| {
        format!(
            "On day {number}, watch {line}, the guard changed and the river stood at mark {}. ",
            number * 31 + line
        )
    };
    let (before, after): (String, String) =
        ((0..12).map(filler).collect(), (12..24).map(filler).collect());
    format!("Day {number} began. {before}{fact} {after}")
}

/// All that the vendor was sent for its newest call.
fn sent(world: &World) -> Vec<Message> {
    let requests = world.script.requests.lock().unwrap();
    prompt::messages(requests.last().expect("a call"))
}

/// A turn from its command to its end. Nobody reads the log: it is long.
async fn act(world: &World, a: &Replica, id: ScenarioId, command: Command) {
    a.command(id, world.request(command)).await.unwrap();
    until("the turn is over", || a.handle.running_turns() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_fact_of_the_second_scene_is_told_fifty_scenes_later_and_none_of_another_branch() {
    let world = World::new();
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    let mut at = 1;
    let mut newest = 1;
    let mut turns = 1;
    let mut asked = None;
    while turns < TURNS {
        turns += 1;
        // The reader says something; then writes the scene that came of it anew, so that its words are known.
        let text = match turns {
            58 => "Where did he hide the bronze astrolabe?".to_owned(),
            _ => format!("Wait for day {turns}."),
        };
        act(&world, &a, id, Command::Say { scene: SceneId(at), text }).await;
        newest += 1;
        if turns == 58 {
            asked = Some(sent(&world));
        }
        let fact = match turns {
            2 => FACT,
            // A branch off the thirtieth scene.
            31 => ELSEWHERE,
            _ => "",
        };
        let text = scene(turns, fact);
        act(&world, &a, id, Command::Edit { scene: SceneId(newest), text }).await;
        newest += 1;
        if turns == 31 {
            act(&world, &a, id, Command::Jump { scene: SceneId(at) }).await;
        } else {
            at = newest;
        }
    }
    let asked = asked.expect("the fifty-eighth turn");
    let all: String = asked.iter().map(|message| message.content.as_str()).collect();
    assert!(all.contains("Where did he hide the bronze astrolabe?"));
    assert!(!all.contains("day 2, watch 3"), "the scene itself is long out of the prompt");
    assert_eq!(all.matches(FACT).count(), 1, "the fact is there once");
    assert!(!all.contains("Livia") && !all.contains("lagoon"), "another branch's fact");
    assert!(crate::domain::budget::estimate_tokens(&all) < 12_000, "and the prompt is bounded");

    // On its own branch the other fact is known, and so is the one from before the fork.
    let forked = world.scenes.scene_with(id, ELSEWHERE).expect("the branch that was left");
    act(&world, &a, id, Command::Jump { scene: forked }).await;
    let text = "Ask Livia about the bronze astrolabe.".to_owned();
    act(&world, &a, id, Command::Say { scene: forked, text }).await;
    let all: String = sent(&world).iter().map(|message| message.content.clone()).collect();
    assert!(all.contains(ELSEWHERE) && all.contains(FACT), "both are on the way here");
    assert!(!all.contains("Day 32 began."), "what followed on the other branch is not");
}
