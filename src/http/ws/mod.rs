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
use uuid::Uuid;

use super::error::{ApiError, ErrorBody};
use super::extract::Token;
use super::{AppState, request_id};
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
    )
)]
async fn upgrade(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    check_origin(&state, &parts.headers)?;
    let draining = state.gateway.stage() == Stage::Draining;
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
    let conn = Uuid::new_v4();
    // The request is over when the socket opens; what comes of its commands is still found by its id.
    let request = request_id::current();
    let serve = async move |socket| {
        let connection = Connection::new(socket, state, conn, request.into());
        match caller {
            // Told on the socket: a browser does not show a refused upgrade's status to its page.
            _ if draining => connection.end(Some(Close::GoingAway)).await,
            _ if !offered => connection.end(Some(Close::ProtocolUnsupported)).await,
            Err(error) => connection.end(Some(Close::of_token(&error))).await,
            Ok(caller) => connection.run(caller).await,
        }
    };
    Ok(upgrade.on_upgrade(serve).into_response())
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
