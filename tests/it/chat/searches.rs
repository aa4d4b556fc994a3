//! The search vendors' formats, as each describes its own, and what a vendor may do wrong.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use whatif::config::{Search, SearchKind};
use whatif::providers::search::{Found, SearchProvider, SearchQuery, search_provider};
use whatif::providers::text::{Deadline, ProviderErrorKind};

use super::super::support::raw_http::{RawHttp, Step};
use super::server::{Canned, Server};

const KINDS: [SearchKind; 3] = [SearchKind::SearXng, SearchKind::Tavily, SearchKind::Wikipedia];
const KEY: &str = "tvly-test-key";

fn configured(url: &str) -> Search {
    let mut config = Search { timeout: Duration::from_millis(500), ..Search::default() };
    config.searxng.base_url = Some(url.to_owned());
    config.tavily.api_key = Some(KEY.to_owned().into());
    config.tavily.base_url = url.to_owned();
    config.wikipedia.base_url = format!("{url}/{{language}}");
    config
}

fn provider(kind: SearchKind, url: &str) -> Arc<dyn SearchProvider> {
    search_provider(kind, &configured(url)).expect("a usable configuration")
}

fn query(language: &str) -> SearchQuery {
    SearchQuery { text: "Rome & fall".into(), language: language.into(), most: 2 }
}

fn found(title: &str, url: &str, snippet: &str) -> Found {
    Found { title: title.into(), url: url.into(), snippet: snippet.into() }
}

#[tokio::test]
async fn searxng_is_asked_for_json_in_the_readers_language() {
    let hit = |number: u32| json!({ "title": format!("T{number}"), "url": format!("https://s.example/{number}"), "content": "C", "engine": "x", "score": 1.5 });
    let bare = json!({ "title": "No text", "url": "https://s.example/", "content": null });
    let results = json!([bare, hit(1), hit(2), hit(3)]);
    let server = Server::start([Canned::json(json!({ "query": "q", "results": results }))]).await;
    let got = provider(SearchKind::SearXng, &server.url).search(&query("pt-BR")).await.unwrap();
    let want = [found("T1", "https://s.example/1", "C"), found("T2", "https://s.example/2", "C")];
    assert_eq!(got, want);
    let noted = &server.noted()[0];
    assert_eq!((noted.method.as_str(), noted.uri.path()), ("GET", "/search"));
    for (name, value) in [("q", "Rome & fall"), ("format", "json"), ("language", "pt")] {
        assert_eq!(noted.parameter(name).as_deref(), Some(value));
    }
    assert!(noted.headers["user-agent"].to_str().unwrap().starts_with("whatif/"));
}

#[tokio::test]
async fn tavily_gets_its_key_in_a_header() {
    let hit = json!({ "title": "T", "url": "https://t.example/", "content": "C", "score": 0.9 });
    let server =
        Server::start([Canned::json(json!({ "query": "q", "answer": null, "results": [hit] }))])
            .await;
    let got = provider(SearchKind::Tavily, &server.url).search(&query("en")).await.unwrap();
    assert_eq!(got, [found("T", "https://t.example/", "C")]);
    let noted = &server.noted()[0];
    assert_eq!((noted.method.as_str(), noted.uri.to_string().as_str()), ("POST", "/search"));
    assert_eq!(noted.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(noted.body["query"], "Rome & fall");
    assert_eq!(noted.body["max_results"], 2);
    assert!(!noted.body.to_string().contains(KEY));
}

#[tokio::test]
async fn wikipedia_is_asked_in_an_edition_that_is_configured() {
    let page = |index: u32| json!({ "pageid": index, "ns": 0, "index": index, "title": format!("T{index}"), "fullurl": format!("https://w.example/{index}"), "extract": "E" });
    let pages = json!({ "batchcomplete": true, "query": { "pages": [page(2), page(1)] } });
    let none = json!({ "batchcomplete": true });
    let refused = json!({ "error": { "code": "maxlag", "info": "later" } });
    let server = Server::start([pages, none, refused].map(Canned::json)).await;
    let provider = provider(SearchKind::Wikipedia, &server.url);
    let got = provider.search(&query("de-AT")).await.unwrap();
    let want = [found("T1", "https://w.example/1", "E"), found("T2", "https://w.example/2", "E")];
    assert_eq!(got, want, "in the order of the search");
    assert_eq!(provider.search(&query("../evil")).await.unwrap(), []);
    let error = provider.search(&query("en")).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::RateLimited { retry_after: None });
    let paths: Vec<_> = server.noted().iter().map(|noted| noted.uri.path().to_owned()).collect();
    assert_eq!(paths, ["/de/w/api.php", "/en/w/api.php", "/en/w/api.php"]);
    let noted = &server.noted()[0];
    for (name, value) in [("generator", "search"), ("gsrsearch", "Rome & fall"), ("gsrlimit", "2")]
    {
        assert_eq!(noted.parameter(name).as_deref(), Some(value));
    }
}

#[tokio::test]
async fn failures_have_their_class_and_tell_no_secret() {
    for kind in KINDS {
        for (status, class) in [
            (401, ProviderErrorKind::Auth),
            (403, ProviderErrorKind::Auth),
            (400, ProviderErrorKind::BadRequest),
            (429, ProviderErrorKind::RateLimited { retry_after: None }),
            (432, ProviderErrorKind::RateLimited { retry_after: None }),
            (503, ProviderErrorKind::Overloaded { retry_after: None }),
            (302, ProviderErrorKind::Protocol),
        ] {
            let server = Server::start([Canned::status(status, KEY)]).await;
            let provider = provider(kind, &server.url);
            let error = provider.search(&query("en")).await.unwrap_err();
            assert_eq!(error.kind, class, "{kind:?} {status}");
            assert!(!error.to_string().contains(KEY) && !error.to_string().contains("Rome"));
            let alive = provider.probe().await.is_ok();
            assert_eq!(alive, status == 400, "{kind:?} {status}");
        }
        let garbage = Server::start([Canned::status(200, "<html>")]).await;
        let error = provider(kind, &garbage.url).search(&query("en")).await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Protocol, "{kind:?}");
    }
}

#[tokio::test]
async fn nobody_waits_for_a_vendor_that_stalls_or_never_ends() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let flood = std::iter::repeat_n(Step::Chunk(vec![b' '; 100_000]), 20);
    let flood: Vec<Step> = std::iter::once(Step::Raw(head.into())).chain(flood).collect();
    let late = ProviderErrorKind::Timeout(Deadline::Whole);
    for kind in KINDS {
        for (name, steps, want) in [
            ("silent", vec![Step::Stall], late.clone()),
            (
                "stalls",
                vec![Step::Raw(head.into()), Step::Chunk(b"{".to_vec()), Step::Stall],
                late.clone(),
            ),
            ("floods", flood.clone(), ProviderErrorKind::Protocol),
            ("hangs up", vec![Step::Raw(head.into())], ProviderErrorKind::Network),
        ] {
            let server = RawHttp::start(vec![steps]).await;
            let error = provider(kind, &server.url).search(&query("en")).await.unwrap_err();
            assert_eq!(error.kind, want, "{kind:?} {name}");
        }
        let gone = provider(kind, "http://127.0.0.1:1").search(&query("en")).await.unwrap_err();
        assert_eq!(gone.kind, ProviderErrorKind::Network, "{kind:?}");
    }
}

#[test]
fn what_cannot_be_used_is_said_at_once() {
    let broken = |kind, change: fn(&mut Search)| {
        let mut config = configured("http://127.0.0.1:1");
        change(&mut config);
        search_provider(kind, &config).err().map(|error| error.kind)
    };
    let bad = Some(ProviderErrorKind::BadRequest);
    assert_eq!(
        broken(SearchKind::SearXng, |config| config.searxng.base_url = Some("file:///etc".into())),
        bad
    );
    assert_eq!(
        broken(SearchKind::Tavily, |config| config.tavily.api_key = None),
        Some(ProviderErrorKind::Auth)
    );
    assert_eq!(
        broken(SearchKind::Wikipedia, |config| config.wikipedia.base_url = "ftp://w".into()),
        bad
    );
    assert_eq!(broken(SearchKind::Wikipedia, |config| config.contact = Some("a\nb".into())), bad);
}
