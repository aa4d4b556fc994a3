//! The listeners: the gateway's, and one for each service inside.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http::Service;

pub(super) async fn bind(host: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

pub(super) async fn bind_internal(config: &Config) -> anyhow::Result<Vec<(Service, TcpListener)>> {
    let internal = &config.internal;
    if !internal.enabled {
        return Ok(Vec::new());
    }
    let mut listeners = Vec::new();
    for (service, port) in [
        (Service::User, internal.user_port),
        (Service::Generation, internal.generation_port),
        (Service::History, internal.history_port),
        (Service::Sharing, internal.sharing_port),
        (Service::Video, internal.video_port),
        (Service::Social, internal.social_port),
    ] {
        let listener = bind(internal.host, port).await.with_context(|| {
            format!("internal listener of the {} service (WHATIF__INTERNAL__ENABLED=false turns them off)", service.name())
        })?;
        listeners.push((service, listener));
    }
    Ok(listeners)
}

pub(super) fn serve(
    listener: TcpListener,
    router: Router,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    // Small frames must not wait for each other (Nagle).
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
    let stop = stop.clone();
    tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let served = axum::serve(listener, service)
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "listener failed");
        }
    })
}
