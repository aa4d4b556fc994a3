//! `whatif play` against a scripted server: whatever the connection does, the story is told letter for letter.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use whatif::play::{Options, Signal, Stage, Style, Width, run_with};

use self::server::{Fault, SCENARIO, Server, serve};

mod server;

/// What was written so far; a reader can wait for it.
#[derive(Clone)]
struct Paper(watch::Sender<Vec<u8>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send_modify(|written| written.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn new() -> Self {
        Self(watch::channel(Vec::new()).0)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }

    async fn shows(&self, end: &str) {
        self.0.subscribe().wait_for(|written| written.ends_with(end.as_bytes())).await.unwrap();
    }
}

struct Played {
    outcome: anyhow::Result<()>,
    out: String,
    err: String,
}

fn options(server: &str) -> Options {
    Options {
        prompt: Some("What if Rome never fell?".into()),
        server: server.into(),
        scenario: None,
        email: None,
        password: None,
        genre: None,
        tone: None,
        length: None,
        language: None,
        provider: None,
        model: None,
        seed: None,
        width: None,
    }
}

/// Plays these lines through a pipe.
async fn play(options: Options, home: &Path, script: &[&str]) -> Played {
    let (typed, lines) = mpsc::channel(script.len().max(1));
    for line in script {
        typed.try_send((*line).to_owned()).unwrap();
    }
    drop(typed);
    let (_signal, signals) = mpsc::channel::<Signal>(1);
    let (out, err) = (Paper::new(), Paper::new());
    let style =
        Style { color: false, width: Width::Free, interactive: false, shared: false, hush: false };
    let stage = Stage {
        lines,
        signals,
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        style,
        home: home.to_owned(),
    };
    let outcome = tokio::time::timeout(Duration::from_secs(60), run_with(options, stage)).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("stuck after: {}", out.text()));
    Played { outcome, out: out.text(), err: err.text() }
}

const SCRIPT: [&str; 3] = ["2", "the Huns turn back", "/quit"];

async fn play_script(fault: Fault) -> (Played, Server) {
    let (server, origin) = serve(fault).await;
    let home = tempfile::tempdir().unwrap();
    let played = play(options(&origin), home.path(), &SCRIPT).await;
    (played, server)
}

const STORY: &str = "\
What if Rome never fell?

Rome never fell, and the legions of 罗马 stayed. Roads 𝄞 were kept.

Nobody wrote of decline.

  1  Way 1
     it costs
  2  Way 2
     it costs
  3  Way 3
     it costs

› 2

Then came c2. It 𝄞 went on.

  1  Way 1
     it costs
  2  Way 2
     it costs

› the Huns turn back

Then came the Huns turn back. It 𝄞 went on.

  1  Way 1
     it costs
  2  Way 2
     it costs

› /quit
";

#[tokio::test]
async fn a_story_is_played_from_a_pipe() {
    let (played, server) = play_script(Fault::None).await;
    played.outcome.unwrap();
    assert_eq!(played.out, STORY);
    assert_eq!(played.err, "");
    let world = server.world.lock().unwrap();
    assert_eq!(world.creations.len(), 2, "the lost answer is asked for again");
    assert_eq!(world.creations[0], world.creations[1], "with the same key");
    assert_eq!(world.commands[0]["choice"], "c2");
    assert_eq!(world.commands[1]["text"], "the Huns turn back");
    assert!(world.idems.iter().all(|idem| uuid::Uuid::parse_str(idem).is_ok()));
}

#[tokio::test]
async fn a_cut_after_any_event_neither_loses_nor_doubles_a_letter() {
    let (_, server) = play_script(Fault::None).await;
    let events = server.world.lock().unwrap().log.len() as u64;
    assert!(events > 30);
    let codes = [None, Some(4000), Some(4001), Some(4002), Some(4003), Some(4004), Some(1011)];
    let all = (1..=events).map(|seq| {
        let code = codes[usize::try_from(seq).unwrap() % codes.len()];
        async move { (seq, code, play_script(Fault::CutAfter(seq, code)).await) }
    });
    for (seq, code, (played, server)) in futures::future::join_all(all).await {
        played.outcome.unwrap();
        assert_eq!(played.out, STORY, "cut after {seq} by {code:?}");
        // The player may have left before it noticed a cut after the last words.
        let connections = server.world.lock().unwrap().connections;
        assert!(connections == 2 || seq + 1 >= events, "cut after {seq}: {connections}");
    }
}

#[tokio::test]
async fn a_connection_that_lives_for_one_event_still_tells_the_story() {
    let (played, server) = play_script(Fault::CutEverywhere).await;
    played.outcome.unwrap();
    assert_eq!(played.out, STORY);
    assert!(played.err.lines().any(|line| line == "whatif: connection lost, resuming…"));
    assert!(server.world.lock().unwrap().connections > 30);
}

#[tokio::test]
async fn a_hole_is_filled_by_attaching_again() {
    let all = (1..=12).map(|seq| async move { (seq, play_script(Fault::Skip(seq)).await) });
    for (seq, (played, server)) in futures::future::join_all(all).await {
        played.outcome.unwrap();
        assert_eq!(played.out, STORY, "without {seq}");
        assert_eq!(server.world.lock().unwrap().connections, 1, "without {seq}");
    }
}

#[tokio::test]
async fn after_a_lost_log_the_snapshot_completes_what_was_shown() {
    let all = (1..=14).map(|seq| async move { (seq, play_script(Fault::LoseLogAfter(seq)).await) });
    for (seq, (played, _)) in futures::future::join_all(all).await {
        played.outcome.unwrap();
        assert_eq!(played.out, STORY, "lost after {seq}");
    }
}

#[tokio::test]
async fn a_command_cut_off_before_its_answer_is_carried_out_once() {
    for taken in [false, true] {
        let (played, server) = play_script(Fault::CutAtCommand { taken }).await;
        played.outcome.unwrap();
        assert_eq!(played.out, STORY, "taken: {taken}");
        assert_eq!(server.world.lock().unwrap().commands.len(), 2, "taken: {taken}");
    }
}

#[tokio::test]
async fn a_token_that_ran_out_is_renewed_without_a_word() {
    let (played, server) = play_script(Fault::RefuseFirstToken).await;
    played.outcome.unwrap();
    assert_eq!((played.out.as_str(), played.err.as_str()), (STORY, ""));
    assert_eq!(server.world.lock().unwrap().tokens, 2);
}

#[tokio::test]
async fn a_guest_whom_the_server_forgot_comes_in_again() {
    for (fault, registrations) in [(Fault::ForgetLogins, 1), (Fault::ForgetGuests, 2)] {
        let (played, server) = play_script(fault).await;
        played.outcome.unwrap();
        assert_eq!(played.out, STORY, "{fault:?}");
        assert_eq!(server.world.lock().unwrap().registrations, registrations, "{fault:?}");
    }
}

#[tokio::test]
async fn an_interrupt_stops_the_scene_and_at_the_prompt_ends_the_game() {
    let (_server, origin) = serve(Fault::HoldAfter(4)).await;
    let home = tempfile::tempdir().unwrap();
    let (_typed, lines) = mpsc::channel(1);
    let (interrupts, signals) = mpsc::channel(1);
    let (out, err) = (Paper::new(), Paper::new());
    let style =
        Style { color: false, width: Width::Free, interactive: true, shared: false, hush: false };
    let stage = Stage {
        lines,
        signals,
        out: Box::new(out.clone()),
        err: Box::new(err),
        style,
        home: home.path().to_owned(),
    };
    let player = async {
        out.shows("Rome never fell, ").await;
        interrupts.send(Signal::Interrupt).await.unwrap();
        out.shows("(stopped)\n\n› ").await;
        interrupts.send(Signal::Interrupt).await.unwrap();
    };
    let both = async { tokio::join!(run_with(options(&origin), stage), player) };
    let (outcome, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    outcome.unwrap();
    let farewell = format!("\n  whatif play --scenario {SCENARIO} --server {origin}\n");
    assert!(out.text().ends_with(&farewell), "{}", out.text());
}

#[tokio::test]
async fn a_guest_is_registered_once_and_a_story_is_taken_up_again() {
    use std::os::unix::fs::PermissionsExt;

    let (server, origin) = serve(Fault::None).await;
    let home = tempfile::tempdir().unwrap();
    let played = play(options(&origin), home.path(), &["1"]).await;
    played.outcome.unwrap();
    let accounts = std::fs::metadata(home.path().join("accounts.json")).unwrap();
    assert_eq!(accounts.permissions().mode() & 0o777, 0o600);

    let again =
        Options { prompt: None, scenario: Some(SCENARIO.parse().unwrap()), ..options(&origin) };
    let played = play(again, home.path(), &["9", "/tree"]).await;
    played.outcome.unwrap();
    assert_eq!(
        played.out,
        "\n· n2 ·\n\nThen came c1. It 𝄞 went on.\n\n  1  Way 1\n     it costs\n  2  Way 2\n     it costs\n\n\
         › 9\n\nchoose 1 to 2, or write what happens\n\n\
         › /tree\n\n  n1   Rome never fell, and the legions of 罗马 stayed. Roads…\n▸ n2   c1\n\n› \n"
    );
    assert_eq!(server.world.lock().unwrap().registrations, 1);
}

#[tokio::test]
async fn codes_that_forbid_a_reconnection_end_the_game() {
    for code in [4501, 4503, 4504, 4505] {
        let (played, server) = play_script(Fault::CutAfter(3, Some(code))).await;
        let error = played.outcome.unwrap_err().to_string();
        assert!(error.contains(&code.to_string()), "{error}");
        assert_eq!(server.world.lock().unwrap().connections, 1);
    }
}

#[tokio::test]
async fn a_story_that_could_not_begin_does_not_wait_for_ever() {
    let (played, _) = play_script(Fault::FailFirstTurn).await;
    assert!(played.outcome.is_err());
    assert!(played.out.contains("no provider answers"), "{}", played.out);
}

#[tokio::test]
async fn a_missing_server_is_explained_in_one_line() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let home = tempfile::tempdir().unwrap();
    let played = play(options(&origin), home.path(), &[]).await;
    let error = format!("{:#}", played.outcome.unwrap_err());
    assert!(error.contains(&origin) && error.contains("make run"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}
