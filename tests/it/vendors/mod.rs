//! All vendors' formats against the same demands: on a mock server by other people ([`mocked`]), on one that misbehaves
//! ([`faults`], [`silence`]), and where a real one can be had, on that ([`llama`]); and whole scenes of theirs ([`scenes`]).

mod continuing;
mod faults;
mod format;
mod llama;
mod mocked;
mod scenes;
mod silence;

use std::sync::Arc;

use futures::StreamExt;
use serde_json::Value;
use whatif::config::{Kind, Vendor};
use whatif::domain::patch::Object;
use whatif::domain::scenario::{Length, Usage, Via};
use whatif::providers::remote_text;
use whatif::providers::text::{
    Brief, EndReason, ProviderError, ProviderErrorKind, StoryRequest, TextChunk, TextProvider,
};

const KEY: &str = "sk-test-key";

type Outcome = Result<(EndReason, Usage), ProviderErrorKind>;

/// With one try, so that a failure is told as it came.
fn configured(kind: Kind, url: &str) -> Vendor {
    let secret = |text: &str| Some(text.to_owned().into());
    let bedrock = kind == Kind::Bedrock;
    let version = if kind == Kind::OpenAi { "/v1" } else { "" };
    Vendor {
        api_key: if bedrock { None } else { secret(KEY) },
        region: bedrock.then(|| "eu-central-1".into()),
        access_key_id: if bedrock { secret("AKIDEXAMPLE") } else { None },
        secret_access_key: if bedrock { secret(KEY) } else { None },
        base_url: Some(format!("{url}{version}")),
        max_attempts: 1,
        ..Vendor::of(kind)
    }
}

fn provider(config: &Vendor) -> Arc<dyn TextProvider> {
    remote_text(config.kind.as_str(), config).expect("a usable configuration")
}

fn request(model: &str) -> StoryRequest {
    StoryRequest {
        brief: Arc::new(Brief {
            prompt: "What if Rome never fell?".into(),
            genre: None,
            tone: None,
            length: Length::Short,
            language: "en".into(),
            seed: 1,
        }),
        path: Arc::new(Vec::new()),
        chapters: Arc::default(),
        state: Arc::new(Object::new()),
        via: Via::Prompt,
        variation: 0,
        shown: String::new(),
        prose_done: false,
        model: Some(model.into()),
    }
}

/// The texts of a whole call and how it ended.
async fn read(provider: &Arc<dyn TextProvider>, request: StoryRequest) -> (Vec<String>, Outcome) {
    let mut texts = Vec::new();
    let mut stream = match provider.open(request).await {
        Ok(stream) => stream,
        Err(error) => return (texts, Err(error.kind)),
    };
    let mut outcome = None;
    while let Some(item) = stream.next().await {
        assert!(outcome.is_none(), "nothing comes after the end");
        match item {
            Ok(TextChunk::Text(text)) => texts.push(text),
            Ok(TextChunk::End { reason, usage }) => outcome = Some(Ok((reason, usage))),
            Err(error) => outcome = Some(Err(error.kind)),
        }
    }
    (texts, outcome.expect("a stream says how it ended"))
}

async fn open_error(provider: &Arc<dyn TextProvider>, model: &str) -> ProviderError {
    provider.open(request(model)).await.err().expect("the call fails")
}

/// What a mock server says that it was told: roles and texts.
fn told(call: &Value) -> Vec<(String, String)> {
    let messages = call["body"]["messages"].as_array().expect("messages");
    let text = |value: &'_ Value| value.as_str().map(str::to_owned).expect("text");
    messages.iter().map(|message| (text(&message["role"]), text(&message["content"]))).collect()
}
