//! `GET /ws`: the socket. `frames` is its language, `connection` the task that speaks it, `commands` what a client can
//! ask for, `pace` how often, `merge` what a slow reader gets instead of many small deltas.

mod commands;
mod connection;
mod frames;
mod merge;
mod pace;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::{ApiError, ErrorBody};
use super::extract::Token;
use crate::actors::gateway::Stage;
use crate::error::{Code, ServiceError};
use connection::Connection;
use frames::{Close, MAX_FRAME_BYTES};

const SUBPROTOCOL: &str = "whatif.v1";
/// A socket's read buffer: nearly all sockets are quiet, and commands are small.
const READ_BUFFER_BYTES: usize = 512;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(upgrade))
}

/// Opens the socket (subprotocol `whatif.v1`; see docs/PROTOCOL.md).
#[utoipa::path(
    get, path = "/ws", tag = "turns",
    responses(
        (status = 101, description = "The socket is open"),
        (status = 400, body = ErrorBody, description = "Not a WebSocket upgrade"),
        (status = 403, body = ErrorBody, description = "The browser's origin is not allowed"),
        (status = 503, body = ErrorBody, description = "The replica is draining"),
    )
)]
async fn upgrade(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    check_origin(&state, &parts.headers)?;
    if state.gateway.stage() == Stage::Draining {
        let wait = std::time::Duration::from_secs(1);
        return Err(ServiceError::unavailable("this replica", wait).into());
    }
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &state)
        .await
        .map_err(|rejection| ServiceError::new(Code::MalformedRequest, rejection.body_text()))?;
    let offered = offers_subprotocol(&parts.headers);
    // A token in the header spares the one in the hello; a bad one is told like a bad hello.
    let Token(caller) = match parts.extensions.remove::<Token>() {
        Some(token) => token,
        None => Token::of(&parts, &state),
    };
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_message_size(MAX_FRAME_BYTES);
    let response = upgrade.on_upgrade(move |socket| async move {
        let connection = Connection::new(socket, state);
        match caller {
            _ if !offered => connection.refuse(Close::ProtocolUnsupported).await,
            Err(error) => connection.refuse(Close::without_standing(&error)).await,
            Ok(caller) => connection.run(caller).await,
        }
    });
    Ok(response.into_response())
}

fn check_origin(state: &AppState, headers: &HeaderMap) -> Result<(), ServiceError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let allowed = &state.config.server.origins;
    match allowed.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes()) {
        true => Ok(()),
        false => {
            let text = "this origin may not open sockets";
            Err(ServiceError::new(Code::InsufficientPermissions, text))
        }
    }
}

fn offers_subprotocol(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offered| offered.trim() == SUBPROTOCOL)
}
