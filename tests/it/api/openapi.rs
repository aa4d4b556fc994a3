//! The description itself: valid, whole, and shown by a page that needs nobody else.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::Value;

use super::super::support::app::App;
use super::send;

const VERBS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Every operation with its path and method.
pub fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        let verbs = VERBS.into_iter();
        verbs.filter_map(|verb| Some((path.as_str(), verb, item.get(verb)?)))
    })
}

fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| match value {
            Value::String(text) if key == "$ref" => found.push(text),
            _ => references(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_sound() {
    let mut app = App::start().await;
    let answer = send(app.request(Method::GET, "/openapi.json")).await;
    assert_eq!(answer.status, 200);
    let document = answer.body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("nothing outside of the document");
        assert!(document.pointer(pointer).is_some(), "{reference} names nothing");
    }
    let tags: BTreeSet<_> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].clone().to_string())
        .collect();
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    let mut ids = BTreeMap::new();
    for (path, verb, operation) in operations(&document) {
        let name = format!("{verb} {path}");
        assert!(path.starts_with('/'));
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no id"));
        if let Some(other) = ids.insert(id.to_owned(), name.clone()) {
            panic!("{name} and {other} are both called {id}");
        }
        for tag in operation["tags"].as_array().unwrap() {
            assert!(tags.contains(&tag.to_string()), "{name}: {tag} is not declared");
        }
        let in_path: BTreeSet<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let named = parameters.iter().filter(|parameter| parameter["in"] == "path");
        let named: BTreeSet<&str> = named
            .inspect(|parameter| assert_eq!(parameter["required"], true, "{name}"))
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(named, in_path, "{name}");
        for need in operation["security"].as_array().into_iter().flatten() {
            assert!(
                need.as_object().unwrap().keys().all(|key| schemes.contains_key(key)),
                "{name}"
            );
        }
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| matches!(&status[..1], "1" | "2")), "{name}");
        for (status, response) in responses {
            let code: u16 = status.parse().expect("a status");
            assert!(response["description"].is_string(), "{name} {status}");
            let health = path.contains("/health");
            if code >= 400 && !health {
                let schema = &response["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Error", "{name} {status}");
            }
        }
        if let Some(body) = operation.get("requestBody") {
            assert!(body["content"]["application/json"]["schema"].is_object(), "{name}");
        }
    }
    app.stop().await;
}

/// What the router serves under the API's base is what the description names: every other method of a described path
/// is refused, and the refusal names the described ones.
#[tokio::test(flavor = "multi_thread")]
async fn no_method_is_served_that_is_not_described() {
    let mut app = App::start().await;
    let document = send(app.request(Method::GET, "/openapi.json")).await.body;
    let mut described: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, verb, _) in operations(&document) {
        described.entry(path.into()).or_default().insert(verb.to_uppercase());
    }
    for (path, methods) in described {
        let url = format!("{}{}", app.base, path.replace("{id}", "x").replace("{turn}", "x"));
        for verb in VERBS.map(str::to_uppercase).iter().filter(|verb| !methods.contains(*verb)) {
            let answer = send(app.http.request(verb.parse().unwrap(), &url)).await;
            answer.is_error(405, "method_not_allowed");
            let allowed = answer.header("allow").expect("an Allow header").split(',');
            let mut allowed: BTreeSet<_> = allowed.map(str::to_owned).collect();
            allowed.remove("HEAD");
            assert_eq!(allowed, methods, "{path}");
        }
    }
    app.stop().await;
}

/// Routes come into the router by `routes!`, which describes them. What is routed by hand is listed here.
#[test]
fn no_route_of_the_api_goes_round_the_description() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut by_hand = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text: String = std::fs::read_to_string(&path).unwrap().split_whitespace().collect();
            let calls = text.split(".route(").skip(1).map(|rest| rest.split(',').next().unwrap());
            by_hand.extend(calls.map(str::to_owned));
        }
    }
    by_hand.sort();
    // Planned services, an internal listener's two pages, and the way from the root to the docs.
    let expected = [
        "\"/\"",
        "\"/health\"",
        "\"/metrics\"",
        "&format!(\"{BASE}{prefix}\")",
        "&format!(\"{BASE}{prefix}/{{*rest}}\")",
    ];
    assert_eq!(by_hand, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docs_page_needs_nothing_from_elsewhere() {
    let mut app = App::start().await;
    let root = send(app.http.get(format!("{}/", app.base))).await;
    assert_eq!(root.status, 200, "the root leads to the docs");
    let page = send(app.http.get(format!("{}/docs/", app.base))).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.text, root.text);
    let mut asked = 0;
    for attribute in ["src=\"", "href=\""] {
        for link in page.text.split(attribute).skip(1) {
            let link = link.split('"').next().unwrap();
            assert!(!link.contains("//"), "{link} is elsewhere");
            let file = link.trim_start_matches("./");
            let file = send(app.http.get(format!("{}/docs/{file}", app.base))).await;
            assert_eq!(file.status, 200, "{link}");
            asked += 1;
        }
    }
    assert!(asked >= 3, "styles and scripts");
    let start = send(app.http.get(format!("{}/docs/swagger-initializer.js", app.base))).await.text;
    assert!(start.contains("/api/v1/openapi.json"), "{start}");
    assert!(!start.contains("http://") && !start.contains("https://"), "{start}");
    assert!(
        start.contains("\"validatorUrl\": \"none\""),
        "the page would ask a validator: {start}"
    );
    app.stop().await;
}
