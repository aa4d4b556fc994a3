//! Logs and metrics of the process, set up once by `main`.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Seconds; from a pool call to a long turn.
const BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Libraries that talk too much. Before the configured filter, which may say otherwise.
const QUIET: &str = "ractor=warn,aws_sdk_dynamodb=info,aws_smithy_runtime=info,\
                     aws_smithy_runtime_api=info,tungstenite=info,hyper=info,h2=info,sqlx=info";

/// Sends logs to stderr as configured.
///
/// # Errors
/// If `log.level` is no filter.
pub fn init_logs(config: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.level))
        .map_err(|error| anyhow::anyhow!("bad configuration: log.level: {error}"))?;
    let pretty = match config.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would complain to the same stderr, and panic if that is gone: the server outlives its log's reader.
        .log_internal_errors(false);
    if pretty {
        builder.compact().init();
    } else {
        builder.json().flatten_event(true).with_current_span(true).init();
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A panic as a line like any other: supervision deals with it, the log says where and under which request.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("no message");
    let location = panic.location().map(ToString::to_string);
    tracing::error!(text, location, "panicked");
}

/// The process's one recorder of metrics, installed by whoever asks first.
///
/// # Errors
/// If another recorder is installed.
pub fn metrics() -> Result<&'static PrometheusHandle, BuildError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    // Replicas of one process may start at the same moment.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _turn = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = HANDLE.get() {
        return Ok(handle);
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), BUCKETS)?
        .install_recorder()?;
    Ok(HANDLE.get_or_init(|| handle))
}

/// Keeps the recorder's memory bounded; runs until dropped.
pub async fn upkeep(handle: &'static PrometheusHandle) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}
