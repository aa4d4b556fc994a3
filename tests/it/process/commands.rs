use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tempfile::tempdir;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Server, whatif};

pub async fn run(folder: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = whatif(folder, arguments);
    command.envs(env.iter().copied()).output().await.unwrap()
}

/// That it refuses to start with one line that names each of `words`.
#[track_caller]
pub fn refuses(output: &Output, words: &[&str]) {
    let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(out.is_empty(), "{}", String::from_utf8_lossy(out));
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.starts_with("whatif: ") && err.ends_with('\n'), "{err}");
    for word in words {
        assert!(err.contains(word), "{err} does not say {word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_started_server_says_where_to_go() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), 0, &[]).await;
    let base = format!("http://127.0.0.1:{}", server.port);
    for part in ["/docs", "/health", "/api/v1/auth/register"] {
        assert!(server.greeting.contains(&format!("{base}{part}")), "{}", server.greeting);
    }
    let (status, _) = server.ask(server.request(Method::GET, "/health/ready")).await;
    assert_eq!(status, 200);
    let health = run(folder.path(), &["health", &base], &[]).await;
    assert!(health.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_starting_is_one_line() {
    let folder = tempdir().unwrap();
    let path = folder.path();
    let serve = |env: Vec<(&'static str, String)>| async move {
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        run(path, &["serve"], &env).await
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refuses(&serve(vec![("PORT", port.clone())]).await, &["cannot listen", &port]);
    let internal = vec![
        ("WHATIF__INTERNAL__ENABLED", "true".to_owned()),
        ("WHATIF__INTERNAL__USER_PORT", port.clone()),
    ];
    refuses(&serve(internal).await, &["cannot listen", &port, "WHATIF__INTERNAL__ENABLED"]);
    let file = path.join("file");
    std::fs::write(&file, "").unwrap();
    let inside = file.join("data").display().to_string();
    refuses(&serve(vec![("DATA_DIR", inside.clone())]).await, &["data directory", &inside]);
    for (name, value, words) in [
        ("PORT", "many", ["environment", "server.port"]),
        ("JWT_SECRET", "short", ["auth.jwt_secret", "32 bytes"]),
        ("JWT_EXPIRATION", "soon", ["JWT_EXPIRATION", "seconds"]),
        ("WHATIF__SERVER__PROT", "1", ["environment", "prot"]),
        ("WHATIF__SERVER__DRAIN_TIMEOUT", "late", ["environment", "drain_timeout"]),
        ("WHATIF__SERVER__DRAIN_DELAY", "25s", ["server.drain_delay", "drain_timeout"]),
        ("LOG_LEVEL", "a=b=c", ["log.level", "bad configuration"]),
        ("APP_ENV", "production", ["production", "JWT_SECRET"]),
    ] {
        refuses(&serve(vec![(name, value.into())]).await, &words);
    }
    std::fs::write(path.join("config.toml"), "[server]\nprot = 1\n").unwrap();
    refuses(&serve(vec![]).await, &["config.toml", "prot", "server"]);
    std::fs::write(path.join("config.toml"), "[server\n").unwrap();
    refuses(&serve(vec![]).await, &["config.toml"]);
    refuses(&run(path, &["serve", "--config", "none.toml"], &[]).await, &["none.toml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_to_read_its_greeting() {
    let folder = tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = whatif(folder.path(), &["serve"]);
    command.env("PORT", port.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let live = format!("http://127.0.0.1:{port}/health/live");
    let serves = async {
        while reqwest::get(&live).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), serves).await.expect("it serves");
    let pid = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let ended = timeout(Duration::from_secs(15), child.wait()).await.expect("it stops");
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_never_share_a_folder() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), 0, &[]).await;
    let data = folder.path().join("data").display().to_string();
    for command in ["serve", "migrate"] {
        let second = run(folder.path(), &[command], &[]).await;
        refuses(&second, &["in use", &data, "DATA_DIR"]);
    }
    let port = server.kill().await;
    // A lock that its holder cannot give back is gone with it.
    Server::start(folder.path(), port, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_shows_everything_but_secrets() {
    let folder = tempdir().unwrap();
    let secrets =
        [("JWT_SECRET", "hush-hush-hush-hush-hush-hush-hush"), ("OPENAI_API_KEY", "sk-hush-hush")];
    let file = folder.path().join("key");
    std::fs::write(&file, "sk-from-a-file\n").unwrap();
    let from_file = [("OPENAI_API_KEY_FILE", file.to_str().unwrap())];
    for env in [&secrets[..], &from_file[..]] {
        let output = run(folder.path(), &["config", "check"], env).await;
        assert!(output.status.success());
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(
            shown.contains("REDACTED") && shown.contains("openai (gpt-4o-mini), storyteller"),
            "{shown}"
        );
        assert!(!shown.contains("hush") && !shown.contains("sk-from"), "{shown}");
    }
    let bad = run(folder.path(), &["config", "check"], &[("JWT_SECRET", "tooshort")]).await;
    refuses(&bad, &["auth.jwt_secret"]);
    assert!(!String::from_utf8_lossy(&bad.stderr).contains("tooshort"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_description_is_the_served_one() {
    let folder = tempdir().unwrap();
    let printed = run(folder.path(), &["openapi"], &[]).await;
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let server = Server::start(folder.path(), 0, &[]).await;
    let (_, served) = server.ask(server.request(Method::GET, "/openapi.json")).await;
    assert_eq!(printed, served);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_twice_is_migrating_once() {
    let folder = tempdir().unwrap();
    let mut outputs = Vec::new();
    for _ in 0..2 {
        let output = run(folder.path(), &["migrate"], &[]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        outputs.push(String::from_utf8(output.stdout).unwrap());
    }
    assert_eq!(outputs[0], outputs[1]);
    assert_eq!(outputs[0].lines().filter(|line| line.ends_with("up to date")).count(), 5);
    Server::start(folder.path(), 0, &[]).await.register("ada@example.org").await;
}

/// The writing end of a pipe that nobody reads any more.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_has_seen_enough_is_no_failure() {
    let folder = tempdir().unwrap();
    let into = async |arguments: &[&str], stdout: Stdio| {
        let mut command = whatif(folder.path(), arguments);
        // What it does is logged; that is not at stake.
        command.env("LOG_LEVEL", "warn");
        let child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        child.wait_with_output().await.unwrap()
    };
    for arguments in [&["config", "check"][..], &["openapi"], &["migrate"], &["--help"]] {
        let output = into(arguments, closed()).await;
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && err.is_empty(), "{arguments:?}: {err}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    refuses(&into(&["config", "check"], full.into()).await, &["No space left"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_outlives_whoever_read_its_log() {
    let folder = tempdir().unwrap();
    let env = [("LOG_LEVEL", "debug")];
    let mut server = Server::start_logging_to(closed(), folder.path(), 0, &env).await;
    server.register("ada@example.org").await;
    server.signal("TERM").await;
    assert_eq!(server.ended(Duration::from_secs(15)).await, Some(0));
}
