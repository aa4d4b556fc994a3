//! A proxy in front of a DynamoDB server that does to requests what a test says, and can go away and come back.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Fate {
    Pass,
    /// Refused with this status and error, without having reached the server.
    Refused(u16, &'static str),
    /// A transaction cancelled for this reason, without having reached the server.
    Cancelled(&'static str),
    /// Done by the server; the connection ends before the answer.
    AnswerLost,
    /// Done by the server; the answer comes this much later.
    AnswerLate(Duration),
    /// Reaches the server this much later.
    Slow(Duration),
    /// One item of a batch is done, the others are given back.
    OneOfBatch,
}

type Plan = Box<dyn FnMut(&str) -> Fate + Send>;

struct Shared {
    upstream: String,
    http: reqwest::Client,
    plan: Mutex<Plan>,
    seen: Mutex<HashMap<String, usize>>,
}

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of `upstream`; passes everything on.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            plan: Mutex::new(Box::new(|_| Fate::Pass)),
            seen: Mutex::default(),
        });
        let serving = Some(tokio::spawn(serve(listener, Arc::clone(&shared))));
        Self { address, shared, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `plan` decides, by the name of the operation.
    pub fn plan(&self, plan: impl FnMut(&str) -> Fate + Send + 'static) {
        *self.shared.plan.lock().unwrap() = Box::new(plan);
        self.shared.seen.lock().unwrap().clear();
    }

    /// The next `times` requests of this operation meet `fate`, all others pass.
    pub fn next(&self, times: usize, operation: &'static str, fate: Fate) {
        let mut left = times;
        self.plan(move |seen| {
            if seen != operation || left == 0 {
                return Fate::Pass;
            }
            left -= 1;
            fate.clone()
        });
    }

    /// How often an operation has come since the plan was made.
    pub fn seen(&self, operation: &str) -> usize {
        self.shared.seen.lock().unwrap().get(operation).copied().unwrap_or_default()
    }

    /// Ends every connection and takes none.
    pub async fn go_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Listens again, at the same address.
    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = Some(tokio::spawn(serve(listener, Arc::clone(&self.shared))));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let answer = service_fn(move |request| answer(Arc::clone(&shared), request));
            let connection = hyper::server::conn::http1::Builder::new();
            // An error is a lost answer or a client that has gone.
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

type Answer = Response<Full<Bytes>>;

/// Makes the server end the connection without a word.
#[derive(Debug, thiserror::Error)]
#[error("lost")]
struct Lost;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Lost> {
    let operation = operation(&request);
    *shared.seen.lock().unwrap().entry(operation.clone()).or_default() += 1;
    let fate = (shared.plan.lock().unwrap())(&operation);
    match fate {
        Fate::Pass => forward(&shared, request).await,
        Fate::Refused(status, code) => Ok(refusal(
            status,
            &json!({
                "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "as the test says",
            }),
        )),
        Fate::Cancelled(reason) => Ok(refusal(
            400,
            &json!({
                "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                "Message": "as the test says",
                "CancellationReasons": [{ "Code": "None" }, { "Code": reason, "Message": "busy" }],
            }),
        )),
        Fate::AnswerLost => forward(&shared, request).await.and(Err(Lost)),
        Fate::AnswerLate(by) => {
            // The server is done with it even if the client gives up waiting.
            let done = tokio::spawn(async move { forward(&shared, request).await }).await.unwrap();
            tokio::time::sleep(by).await;
            done
        }
        Fate::Slow(by) => {
            tokio::time::sleep(by).await;
            forward(&shared, request).await
        }
        Fate::OneOfBatch => one_of_batch(&shared, request).await,
    }
}

fn operation(request: &Request<Incoming>) -> String {
    let target = request.headers().get("x-amz-target").expect("a DynamoDB request");
    target.to_str().unwrap().rsplit('.').next().unwrap().to_owned()
}

async fn forward(shared: &Shared, request: Request<Incoming>) -> Result<Answer, Lost> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    send(shared, &head, body).await
}

async fn send(
    shared: &Shared,
    head: &hyper::http::request::Parts,
    body: Bytes,
) -> Result<Answer, Lost> {
    let mut headers = head.headers.clone();
    headers.remove(HOST);
    headers.remove(CONTENT_LENGTH);
    let request = shared.http.post(&shared.upstream).headers(headers).body(body);
    let answer = request.send().await.map_err(|_| Lost)?;
    let mut response = Response::builder().status(answer.status());
    for name in ["content-type", "x-amzn-requestid", "x-amz-crc32"] {
        if let Some(value) = answer.headers().get(name) {
            response = response.header(name, value);
        }
    }
    let body = answer.bytes().await.map_err(|_| Lost)?;
    Ok(response.body(Full::new(body)).unwrap())
}

fn refusal(status: u16, body: &Value) -> Answer {
    Response::builder().status(status).body(Full::new(body.to_string().into())).unwrap()
}

async fn one_of_batch(shared: &Shared, request: Request<Incoming>) -> Result<Answer, Lost> {
    let field = match operation(&request).as_str() {
        "BatchGetItem" => "UnprocessedKeys",
        "BatchWriteItem" => "UnprocessedItems",
        other => panic!("{other} is no batch"),
    };
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    let mut asked: Value = serde_json::from_slice(&body).unwrap();
    let mut rest = asked["RequestItems"].clone();
    let mut given_back = false;
    for (table, request) in asked["RequestItems"].as_object_mut().unwrap() {
        let (items, others) = match field {
            "UnprocessedKeys" => (&mut request["Keys"], &mut rest[table]["Keys"]),
            _ => (request, &mut rest[table]),
        };
        items.as_array_mut().unwrap().truncate(1);
        others.as_array_mut().unwrap().remove(0);
        given_back |= !others.as_array().unwrap().is_empty();
    }
    let answer = send(shared, &head, asked.to_string().into()).await?;
    let body = answer.into_body().collect().await.map_err(|e: Infallible| match e {})?.to_bytes();
    let mut answered: Value = serde_json::from_slice(&body).unwrap();
    answered[field] = if given_back { rest } else { json!({}) };
    Ok(Response::new(Full::new(answered.to_string().into())))
}
