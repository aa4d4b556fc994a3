//! Coming back: at every place of a log, in the middle of a turn, to another epoch, after a restart.

use futures::future::join_all;
use serde_json::{Value, json};

use super::super::support::app::App;
use super::super::support::socket::{Socket, kind, seq};
use super::super::support::story::Story;
use super::{app, begin, first_choice, paced, quick, told, whole_log};

#[tokio::test(flavor = "multi_thread")]
async fn every_place_of_the_log_is_taken_up_exactly() {
    let mut app = app().await;
    let reader = app.reader().await;
    let (scenario, mut socket, mut log) = told(&app, &reader).await;
    let choice = first_choice(&log);
    let choose = json!({ "type": "choose", "scenario": scenario, "scene": "n1", "choice": choice });
    socket.turn(choose).await;
    log.extend(socket.until_turn_over().await);
    assert_eq!(
        log.iter().map(|frame| seq(frame)).collect::<Vec<_>>(),
        (1..=log.len() as u64).collect::<Vec<_>>()
    );
    let epoch = Story::of(&log).epoch;
    // From memory, then from the store alone.
    for restarted in [false, true] {
        if restarted {
            app.restart().await;
        }
        let mut socket = Socket::hello(&app, &reader).await;
        for after in 0..=log.len() {
            let attached = socket.attach(&scenario, Some((&epoch, after as u64))).await;
            assert_eq!(attached["recovered"], true, "after {after}");
            assert_eq!(attached["epoch"], epoch.as_str());
            assert_eq!(attached["head"], log.len());
            assert_eq!(socket.take(log.len() - after).await, log[after..], "after {after}");
            let detach = json!({ "type": "detach", "scenario": scenario });
            assert_eq!(socket.ask(detach).await["type"], "ack");
            assert!(socket.kept().is_empty(), "and nothing more");
        }
        // Left out or 0: from the start.
        for question in [json!({}), json!({ "after": 0 }), json!({ "epoch": epoch })] {
            let mut question = question;
            question["type"] = "attach".into();
            question["scenario"] = scenario.as_str().into();
            assert_eq!(socket.ask(question).await["result"]["recovered"], true);
            assert_eq!(socket.take(log.len()).await, log);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_not_held_gets_one_snapshot() {
    let app = app().await;
    let reader = app.reader().await;
    let (scenario, mut socket, log) = told(&app, &reader).await;
    let (epoch, head) = (Story::of(&log).epoch, log.len() as u64);
    let positions: [(&str, u64); 5] =
        [("other", 0), ("other", 3), (&epoch, head + 1), (&epoch, u64::MAX), ("", 2)];
    for (other, after) in positions {
        let mut client = Socket::hello(&app, &reader).await;
        let attached = client.attach(&scenario, Some((other, after))).await;
        assert_eq!(attached["recovered"], false, "{other} {after}");
        assert_eq!(attached["head"], head);
        let snapshot = client.event().await;
        assert_eq!(kind(&snapshot), "snapshot");
        let read: Value = serde_json::from_str(&snapshot).unwrap();
        assert_eq!(read["scenario"], scenario.as_str());
        assert_eq!((&read["epoch"], &read["seq"]), (&json!(epoch), &json!(head)));
        assert_eq!(read["open_turn"], json!(null));
        let mut story = Story::default();
        story.apply(&snapshot);
        story.agrees_with(&app, &reader, &scenario).await;
        assert_eq!(client.ask(json!({ "type": "ping" })).await["type"], "pong");
        assert!(client.kept().is_empty(), "one snapshot and no replay");
    }
    // After a snapshot comes what happens next.
    let mut client = Socket::hello(&app, &reader).await;
    client.attach(&scenario, Some(("other", 1))).await;
    let mut story = Story::default();
    story.apply(&client.event().await);
    let say = json!({ "type": "say", "scenario": scenario, "scene": "n1", "text": "go" });
    client.turn(say).await;
    let after = client.until_turn_over().await;
    after.iter().for_each(|event| story.apply(event));
    assert_eq!(socket.until_turn_over().await, after);
    story.agrees_with(&app, &reader, &scenario).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_a_turn_everyone_gets_the_same() {
    let app = paced(60.0).await;
    let reader = app.reader().await;
    let scenario = begin(&app, &reader).await;
    let mut leader = Socket::hello(&app, &reader).await;
    leader.attach(&scenario, None).await;
    let mut log = Vec::new();
    let mut replays = Vec::new();
    let mut snapshots = Vec::new();
    // A reader of each kind comes at each of several moments of the turn.
    loop {
        let event = leader.event().await;
        let over = kind(&event) == "turn.done";
        log.push(event);
        if over {
            break;
        }
        if log.len() % 4 == 1 {
            let epoch = Story::of(&log).epoch;
            let mut socket = Socket::hello(&app, &reader).await;
            let after = log.len() as u64 / 2;
            let attached = socket.attach(&scenario, Some((&epoch, after))).await;
            assert_eq!(attached["recovered"], true);
            replays.push((after as usize, socket));
            let mut socket = Socket::hello(&app, &reader).await;
            let attached = socket.attach(&scenario, Some(("other", after))).await;
            assert_eq!(attached["recovered"], false);
            snapshots.push(socket);
        }
    }
    assert!(replays.len() >= 3, "the turn was over too soon");
    for (after, mut socket) in replays {
        assert_eq!(socket.until_turn_over().await, log[after..]);
    }
    let mut open = 0;
    for mut socket in snapshots {
        let mut story = Story::default();
        story.apply(&socket.event().await);
        open += story.turns.len();
        while story.last < log.len() as u64 {
            let event = socket.event().await;
            assert_eq!(event, log[story.last as usize]);
            story.apply(&event);
        }
        story.agrees_with(&app, &reader, &scenario).await;
    }
    assert!(open >= 2, "a snapshot in the middle shows the open turn");
}

/// Readers that attach look at the store at moments when the writer has stored events and not shown them yet.
#[tokio::test(flavor = "multi_thread")]
async fn attaching_disturbs_nobody() {
    let app = App::start_with(|config| {
        quick(config);
        config.providers.storyteller.words_per_second = 150.0;
        config.sessions.coalesce = std::time::Duration::ZERO;
    })
    .await;
    let reader = app.reader().await;
    let scenario = begin(&app, &reader).await;
    let watch = async |from: Option<(&str, u64)>| {
        let mut socket = Socket::hello(&app, &reader).await;
        let mut stories: Vec<Story> = Vec::new();
        // Again and again until the turn is over; each time everything has to fit.
        loop {
            let epoch = stories.last().map(|story| (story.epoch.clone(), story.last));
            let place = epoch.as_ref().map(|(epoch, last)| (epoch.as_str(), *last));
            let replay = from.is_none();
            let detach = json!({ "type": "detach", "scenario": scenario });
            socket.ask(detach).await;
            socket.kept();
            socket.attach(&scenario, if replay { place } else { from }).await;
            let mut story = match (replay, stories.pop()) {
                (true, Some(story)) => story,
                _ => Story::default(),
            };
            let wanted = 4;
            for _ in 0..wanted {
                let event = socket.event().await;
                story.apply(&event);
                let over = story.turns.last().is_none_or(|turn| turn.end.is_some());
                if over {
                    return story;
                }
            }
            stories.push(story);
        }
    };
    let stories = join_all((0..12).map(|number| match number % 2 {
        0 => watch(None),
        _ => watch(Some(("other", 1))),
    }))
    .await;
    for story in stories {
        story.agrees_with(&app, &reader, &scenario).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn detach_ends_the_events_and_nothing_else() {
    let app = paced(60.0).await;
    let reader = app.reader().await;
    let scenario = begin(&app, &reader).await;
    let mut socket = Socket::hello(&app, &reader).await;
    let epoch = socket.attach(&scenario, None).await["epoch"].clone();
    let seen = socket.take(3).await;
    assert_eq!(socket.ask(json!({ "type": "detach", "scenario": scenario })).await["type"], "ack");
    let seen = [seen, socket.kept()].concat();
    // The turn goes on without its reader.
    let mut other = Socket::hello(&app, &reader).await;
    other.attach(&scenario, None).await;
    let log = other.until_turn_over().await;
    assert!(log.len() > seen.len());
    assert_eq!(log[..seen.len()], seen);
    assert_eq!(socket.ask(json!({ "type": "ping" })).await["type"], "pong");
    assert!(socket.kept().is_empty(), "events after a detach");
    socket.attach(&scenario, Some((epoch.as_str().unwrap(), seen.len() as u64))).await;
    assert_eq!(socket.take(log.len() - seen.len()).await, log[seen.len()..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_socket_reads_several_stories() {
    let app = App::start_with(|config| {
        quick(config);
        config.sockets.max_attachments = 4;
    })
    .await;
    let reader = app.reader().await;
    let mut socket = Socket::hello(&app, &reader).await;
    let mut stories = std::collections::BTreeMap::new();
    for _ in 0..4 {
        let scenario = begin(&app, &reader).await;
        socket.attach(&scenario, None).await;
        stories.insert(scenario, Story::default());
    }
    let fifth = begin(&app, &reader).await;
    let too_many = json!({ "type": "attach", "scenario": fifth });
    assert_eq!(socket.ask(too_many.clone()).await["type"], "error");
    while stories.values().any(|story| story.turns.last().is_none_or(|turn| turn.end.is_none())) {
        let event = socket.event().await;
        let read: Value = serde_json::from_str(&event).unwrap();
        stories.get_mut(read["scenario"].as_str().unwrap()).unwrap().apply(&event);
    }
    for (scenario, story) in &stories {
        story.agrees_with(&app, &reader, scenario).await;
    }
    let first = stories.keys().next().unwrap();
    socket.ask(json!({ "type": "detach", "scenario": first })).await;
    assert_eq!(socket.ask(too_many).await["type"], "ack", "there is a place again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_turn_loses_and_doubles_nothing() {
    let mut app = paced(40.0).await;
    let reader = app.reader().await;
    let scenario = begin(&app, &reader).await;
    let mut socket = Socket::hello(&app, &reader).await;
    socket.attach(&scenario, None).await;
    let mut story = Story::default();
    for event in socket.take(8).await {
        story.apply(&event);
    }
    let (_, shown) = tokio::join!(app.restart(), async {
        // To the very end of what the old replica shows.
        let code = socket.closed().await;
        (code, socket.kept())
    });
    assert_eq!(shown.0, Some(4000));
    shown.1.iter().for_each(|event| story.apply(event));
    assert!(story.newest().end.is_none(), "the turn was over before the restart");
    let before = (story.epoch.clone(), story.last);

    let mut socket = Socket::hello(&app, &reader).await;
    let attached = socket.attach(&scenario, Some((&before.0, before.1))).await;
    assert_eq!(attached["recovered"], true);
    for event in socket.until_turn_over().await {
        story.apply(&event);
    }
    assert_eq!(story.turns.len(), 1, "the same turn goes on");
    assert_eq!(story.newest().finish(), "complete");
    story.agrees_with(&app, &reader, &scenario).await;
    let (epoch, log) = whole_log(&app, &reader, &scenario).await;
    assert_eq!(epoch, before.0);
    Story::of(&log).agrees_with(&app, &reader, &scenario).await;
    // The story that nobody interrupted, letter for letter.
    let calm = self::app().await;
    let other = calm.reader().await;
    let (_, _, events) = told(&calm, &other).await;
    let calm = Story::of(&events);
    assert_eq!(story.newest().text, calm.newest().text);
    assert_eq!(story.newest().choices, calm.newest().choices);
    assert_eq!(story.newest().patch, calm.newest().patch);
}

/// A snapshot above the socket library's write buffer used to end the socket without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_may_be_larger_than_any_buffer() {
    let mut app = app().await;
    let reader = app.reader().await;
    let (scenario, mut socket, _) = told(&app, &reader).await;
    let text = "x".repeat(20_000);
    for _ in 0..20 {
        let edit = json!({ "type": "edit", "scenario": scenario, "scene": "n1", "text": text });
        socket.turn(edit).await;
        socket.until_turn_over().await;
    }
    let mut late = Socket::hello(&app, &reader).await;
    assert_eq!(late.attach(&scenario, Some(("elsewhere", 1))).await["recovered"], false);
    let snapshot: Value = serde_json::from_str(&late.event().await).unwrap();
    assert_eq!(snapshot["scenes"].as_array().unwrap().len(), 21);
    app.stop().await;
}
