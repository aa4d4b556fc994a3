//! Every silence has its deadline, in every format.

use std::time::{Duration, Instant};

use whatif::config::{Kind, Vendor};
use whatif::providers::text::{Deadline, EndReason, ProviderErrorKind};

use super::format::{Reason, end, start, text};
use super::{configured, provider, read, request};
use crate::support::raw_http::{RawHttp, Step};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_silent_server_is_left_in_time() {
    for kind in Kind::ALL {
        let a = || Step::Chunk([start(kind), text(kind, "A")].concat());
        let half = {
            let mut text = text(kind, "half");
            text.truncate(text.len() / 2);
            text
        };
        let trickle = (0..1_000)
            .flat_map(|_| [Step::Chunk(text(kind, "A")), Step::Pause(Duration::from_millis(10))]);
        let trickle = [Step::Head].into_iter().chain(trickle).collect();
        for (name, [first_byte, between_bytes, whole], steps, deadline) in [
            ("no head", [SHORT, LONG, LONG], vec![Step::Stall], Deadline::FirstByte),
            ("no event", [SHORT, LONG, LONG], vec![Step::Head, Step::Stall], Deadline::FirstByte),
            (
                "a stall",
                [LONG, SHORT, LONG],
                vec![Step::Head, a(), Step::Stall],
                Deadline::BetweenBytes,
            ),
            (
                "half an event",
                [LONG, SHORT, LONG],
                vec![Step::Head, a(), Step::Chunk(half), Step::Stall],
                Deadline::BetweenBytes,
            ),
            ("a trickle", [LONG, LONG, SHORT], trickle, Deadline::Whole),
        ] {
            let server = RawHttp::start(vec![steps]).await;
            let config = Vendor {
                first_byte_timeout: first_byte,
                between_bytes_timeout: between_bytes,
                whole_timeout: whole,
                max_attempts: 3,
                ..configured(kind, &server.url)
            };
            let started = Instant::now();
            let (_, outcome) = read(&provider(&config), request("m")).await;
            let took = started.elapsed();
            assert_eq!(outcome, Err(ProviderErrorKind::Timeout(deadline)), "{kind:?}: {name}");
            assert!((SHORT..LONG / 2).contains(&took), "{kind:?}: {name}: {took:?}");
            assert_eq!(server.connections(), 1, "{kind:?}: {name}: it is not tried again");
        }
    }
}

#[tokio::test]
async fn signs_of_life_keep_a_slow_answer() {
    for kind in Kind::ALL {
        let pauses = (0..4).flat_map(|_| [Step::Pause(SHORT), Step::Chunk(start(kind))]);
        let a = Step::Chunk(text(kind, "A"));
        let last = Step::Chunk(end(kind, Reason::Stop));
        let steps = [Step::Head, a].into_iter().chain(pauses).chain([last, Step::End]).collect();
        let server = RawHttp::start(vec![steps]).await;
        let config = Vendor { between_bytes_timeout: SHORT * 3, ..configured(kind, &server.url) };
        let (texts, outcome) = read(&provider(&config), request("m")).await;
        let reason = outcome.map(|(reason, _)| reason);
        assert_eq!((texts.concat().as_str(), reason), ("A", Ok(EndReason::Complete)), "{kind:?}");
    }
}
