//! What the scripts answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use crate::domain::event::Frame;
use crate::storage::log::{Claim, Extent, Fence, Lease, LogError, LogPage};
use crate::storage::redis::failure::Failure;

impl From<Failure> for LogError {
    fn from(failure: Failure) -> Self {
        LogError::Unavailable(failure.to_string())
    }
}

/// Of a change that wants the current fence.
pub(super) fn change(answer: Value) -> Result<(), LogError> {
    match answer {
        Value::Int(1) => Ok(()),
        Value::Int(0) => Err(LogError::Gone),
        Value::Int(-1) => Err(LogError::Fenced),
        Value::BulkString(head) => Err(LogError::OutOfSequence { head: number(&head)? }),
        other => Err(Failure::unexpected(other).into()),
    }
}

pub(super) fn claim(answer: Vec<Option<Bytes>>) -> Result<Claim, LogError> {
    match &answer[..] {
        [Some(holder), Some(ms)] => Ok(Claim::Held {
            holder: text(holder)?.to_owned(),
            expires_in: Duration::from_millis(number(ms)?),
        }),
        [Some(ms)] => Ok(Claim::Unsettled { wait: Duration::from_millis(number(ms)?) }),
        [Some(fence), Some(epoch), Some(first), Some(head), checkpoint] => {
            let fence = Fence(number(fence)?);
            let extent = extent(epoch, first, head)?;
            Ok(Claim::Granted(Lease { fence, extent, checkpoint: checkpoint.clone() }))
        }
        other => Err(Failure::unexpected(other).into()),
    }
}

pub(super) fn page(answer: Vec<Bytes>) -> Result<LogPage, LogError> {
    let mut parts = answer.into_iter();
    let (Some(epoch), Some(first), Some(head), Some(seq)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failure::unexpected("a page without an extent").into());
    };
    let frames = (number(&seq)?..).zip(parts).map(|(seq, bytes)| match Frame::from_stored(bytes) {
        Ok(frame) => Ok((seq, frame)),
        Err(error) => Err(Failure::unexpected(error).into()),
    });
    let frames = frames.collect::<Result<_, LogError>>()?;
    Ok(LogPage { extent: extent(&epoch, &first, &head)?, frames })
}

fn extent(epoch: &[u8], first: &[u8], head: &[u8]) -> Result<Extent, Failure> {
    let epoch: Arc<str> = text(epoch)?.into();
    Ok(Extent { epoch, first: number(first)?, head: number(head)? })
}

fn number(bytes: &[u8]) -> Result<u64, Failure> {
    text(bytes)?.parse().map_err(|_| Failure::unexpected(bytes))
}

fn text(bytes: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(bytes).map_err(|_| Failure::unexpected(bytes))
}
