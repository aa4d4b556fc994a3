//! `/metrics` (internal listeners only): what was counted along the way, and what is read off the handles when asked.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::AppState;
use crate::actors::circuit::State as Circuit;
use crate::actors::dependencies::Answering;
use crate::actors::status::Liveness;

/// Renders what was counted, in Prometheus' text format.
#[derive(Clone)]
pub struct MetricsPage(Arc<dyn Fn() -> String + Send + Sync>);

impl MetricsPage {
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }
}

pub(super) async fn page(State(state): State<AppState>) -> impl IntoResponse {
    let mut text = (state.metrics.0)();
    gauges(&state, &mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// One family: its name, type, help and samples.
fn family(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (String, f64)>,
) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
fn gauges(state: &AppState, out: &mut String) {
    let one = |value: usize| [(String::new(), value as f64)];
    let generation = &state.generation;
    family(out, "whatif_sockets", "gauge", "Open WebSockets.", one(state.gateway.open_sockets()));
    family(out, "whatif_sessions", "gauge", "Live sessions.", one(generation.live_sessions()));
    family(out, "whatif_turns_running", "gauge", "Turns running.", one(generation.running_turns()));
    family(out, "whatif_leases_held", "gauge", "Leases held.", one(generation.held_leases()));

    let (revocations, stale_for) = state.users.revocations();
    let help = "Ended logins and suspended users whose access tokens are refused.";
    family(out, "whatif_revocations", "gauge", help, one(revocations));
    let help = "Age of the last news of other replicas' revocations.";
    let stale = [(String::new(), stale_for.as_secs_f64())];
    family(out, "whatif_revocations_stale_seconds", "gauge", help, stale);

    let dependencies = state.gateway.dependencies();
    let labels = |name: &str| format!("{{dependency=\"{name}\"}}");
    let up = dependencies
        .iter()
        .map(|one| (labels(one.name()), f64::from(u8::from(one.answering() == Answering::Up))));
    let help = "Whether the dependency answered when it was last looked at.";
    family(out, "whatif_dependency_up", "gauge", help, up);
    let latency = dependencies.iter().filter_map(|one| {
        let (latency, _) = one.last_look()?;
        Some((labels(one.name()), latency.as_secs_f64()))
    });
    let help = "Time of the last look at the dependency.";
    family(out, "whatif_dependency_probe_seconds", "gauge", help, latency);

    let services = state.gateway.services();
    let up = services.iter().filter(|service| service.planned.is_none()).map(|service| {
        let up = service.liveness() == Liveness::Up;
        (format!("{{service=\"{}\"}}", service.name), f64::from(u8::from(up)))
    });
    family(out, "whatif_service_up", "gauge", "Whether the service is up.", up);
    let restarts = services
        .iter()
        .map(|service| (format!("{{service=\"{}\"}}", service.name), service.restarts() as f64));
    let help = "Restarts of the service.";
    family(out, "whatif_service_restarts_total", "counter", help, restarts);

    let pools: Vec<_> = services.iter().flat_map(|service| &service.pools).collect();
    let labels = |name: &str| format!("{{pool=\"{name}\"}}");
    let circuit = pools.iter().map(|pool| {
        let value = match pool.circuit() {
            Some(Circuit::Closed) => 0.0,
            Some(Circuit::HalfOpen) => 1.0,
            Some(Circuit::Open) => 2.0,
            None => 3.0,
        };
        (labels(pool.name()), value)
    });
    let help = "0 closed, 1 half-open, 2 open, 3 down.";
    family(out, "whatif_circuit_state", "gauge", help, circuit);
    let depth = pools.iter().map(|pool| (labels(pool.name()), pool.admitted() as f64));
    family(out, "whatif_pool_jobs", "gauge", "Jobs running and waiting.", depth);
    let calls = pools.iter().flat_map(|pool| {
        let totals = pool.totals();
        [("succeeded", totals.succeeded), ("failed", totals.failed), ("refused", totals.refused)]
            .map(|(outcome, count)| {
                let name = pool.name();
                (format!("{{pool=\"{name}\",outcome=\"{outcome}\"}}"), count as f64)
            })
    });
    family(out, "whatif_pool_calls_total", "counter", "Calls by outcome.", calls);
    let restarts = pools.iter().map(|pool| (labels(pool.name()), pool.totals().restarts as f64));
    let help = "Workers started in the place of dead ones.";
    family(out, "whatif_worker_restarts_total", "counter", help, restarts);
}
