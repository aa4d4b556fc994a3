//! Child processes of a run, and what the kernel says they used.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The kernel's clock ticks a second as `/proc` shows them: fixed by Linux's interface to user space.
const TICKS_PER_SECOND: f64 = 100.0;
/// Raises the limit of open files as far as allowed, then becomes the program.
const RAISE_LIMIT: &str = r#"ulimit -n "$(ulimit -H -n)"; exec "$0" "$@""#;

pub struct Process {
    name: String,
    pub pid: u32,
    child: tokio::process::Child,
    input: Option<ChildStdin>,
    output: Option<Lines<BufReader<ChildStdout>>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub rss_kib: u64,
    pub peak_kib: u64,
}

impl Process {
    /// Starts a program; it is killed when this is dropped.
    pub fn start(
        name: &str,
        program: &Path,
        args: &[String],
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(RAISE_LIMIT).arg(program).args(args).envs(env.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        let pid = child.id().context("ended at once")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Self { name: name.into(), pid, child, input, output: Some(output) })
    }

    /// Starts another role of this binary.
    pub fn role(name: &str, args: &[String], env: &[(String, String)]) -> anyhow::Result<Self> {
        Self::start(name, &std::env::current_exe()?, args, env)
    }

    pub async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .with_context(|| format!("tell {} `{line}`", self.name))
    }

    /// The next line of its output, which is JSON.
    pub async fn answer(&mut self, within: Duration) -> anyhow::Result<Value> {
        let output = self.output.as_mut().context("its output is discarded")?;
        let line = timeout(within, output.next_line()).await;
        let line =
            line.with_context(|| format!("{} did not answer within {within:?}", self.name))??;
        let line = line.with_context(|| format!("{} ended without an answer", self.name))?;
        serde_json::from_str(&line).with_context(|| format!("{} answered `{line}`", self.name))
    }

    /// Lets its output go by, so that a chatty server never blocks on a full pipe.
    pub fn discard_output(mut self) -> Self {
        if let Some(mut output) = self.output.take() {
            tokio::spawn(async move { while let Ok(Some(_)) = output.next_line().await {} });
        }
        self
    }

    /// Kills it and waits until it is gone, so that its end costs the next measurement nothing.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("stop {}", self.name))
    }

    pub fn ensure_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended: {status}", self.name),
            None => Ok(()),
        }
    }

    /// User and system time so far, in seconds, of all its threads.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        cpu_of(self.pid).with_context(|| self.name.clone())
    }

    pub fn memory(&self) -> anyhow::Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))
            .with_context(|| format!("{} is gone", self.name))?;
        let field = |name: &str| {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)).context("odd status")?;
            Ok::<u64, anyhow::Error>(line.trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Memory { rss_kib: field("VmRSS:")?, peak_kib: field("VmHWM:")? })
    }
}

/// User and system time of a process so far, in seconds, of all its threads.
pub fn cpu_of(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    // The second field is the program's name in brackets and may hold anything; the rest are numbers.
    let rest = stat.rsplit_once(')').context("odd stat")?.1;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks =
        || fields.next().and_then(|field| field.parse::<u64>().ok()).context("odd stat");
    Ok((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

/// Seconds that all processors of the machine were busy since boot.
pub fn machine_busy_s() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("empty /proc/stat")?;
    let fields: Vec<u64> =
        line.split_ascii_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user time already.
    let busy: u64 = fields
        .iter()
        .take(8)
        .enumerate()
        .filter(|(at, _)| *at != 3 && *at != 4)
        .map(|(_, ticks)| ticks)
        .sum();
    Ok(busy as f64 / TICKS_PER_SECOND)
}
