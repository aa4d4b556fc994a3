//! Pages that are empty and not the last: a server may give one wherever it likes.

use serde_json::{Value, json};

use super::*;
use crate::storage::dynamodb::engine::Engine;

/// Where a page stopped that had not come to the first item yet.
const NOWHERE: &str = "!";

/// The engine, with an empty page before every query's first one.
#[derive(Debug, Clone)]
struct Hesitant(Engine);

impl HttpConnector for Hesitant {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let is_query = request.headers().get("x-amz-target") == Some("DynamoDB_20120810.Query");
        if !is_query {
            return self.0.call(request);
        }
        let mut body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        match body["ExclusiveStartKey"]["sk"]["S"].as_str() {
            None => {
                let pk = body["ExpressionAttributeValues"][":pk"].clone();
                let page = json!({ "Items": [], "Count": 0, "LastEvaluatedKey": { "pk": pk, "sk": { "S": NOWHERE } } });
                let answer = SdkBody::from(page.to_string());
                HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().unwrap(), answer)))
            }
            Some(NOWHERE) => {
                body.as_object_mut().unwrap().remove("ExclusiveStartKey");
                *request.body_mut() = SdkBody::from(body.to_string());
                self.0.call(request)
            }
            Some(_) => self.0.call(request),
        }
    }
}

impl HttpClient for Hesitant {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

#[tokio::test]
async fn an_empty_page_is_not_the_end() {
    let (dynamo, _access, _dir) = embedded().await;
    let store = through(Hesitant(dynamo.engine.unwrap())).scenarios();
    let made = scenario(UserId::new(NOW), 0);
    store.create_scenario(&made).await.unwrap();
    for (id, text) in [(1, "x".repeat(250_000)), (2, "Text".to_owned()), (3, "y".repeat(250_000))] {
        store.put_scene(&scene(made.id, id, (id > 1).then(|| id - 1), &text)).await.unwrap();
    }
    let numbers = |scenes: Vec<Scene>| scenes.iter().map(|s| s.id.0).collect::<Vec<_>>();
    assert_eq!(store.list_scenarios(made.owner, 5, None).await.unwrap().items.len(), 1);
    assert_eq!(numbers(store.list_scenes(made.id).await.unwrap()), [1, 2, 3]);
    let path = store.load_path(made.id, SceneId(3));
    let path = tokio::time::timeout(std::time::Duration::from_secs(30), path).await;
    assert_eq!(numbers(path.expect("an end").unwrap()), [1, 2, 3]);
    assert!(store.find_scene(made.id, SceneId(3)).await.unwrap().is_some());

    assert!(store.delete_scenario(made.id, NOW).await.unwrap());
    let later = NOW + SignedDuration::from_hours(24 * 31);
    assert_eq!(store.purge_deleted(later).await.unwrap(), 1);
    assert_eq!(store.purge_deleted(later).await.unwrap(), 0);
}
