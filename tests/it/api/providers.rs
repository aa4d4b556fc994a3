use reqwest::Method;

use super::super::support::app::App;

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_listed_in_order_with_their_circuits() {
    let mut app = App::start_with(|config| {
        for (name, model) in [("openai", "some-model"), ("anthropic", "another")] {
            let vendor = config.providers.vendors.get_mut(name).unwrap();
            vendor.base_url = Some("http://127.0.0.1:1/v1/".into());
            vendor.model = model.into();
            vendor.models = vec!["second".into()];
        }
        // Without credentials, but chosen: it is left out, and everything starts.
        config.providers.text =
            ["anthropic", "bedrock", "openai", "storyteller"].map(Into::into).into();
    })
    .await;
    let reader = app.reader().await;
    let answer = app.call(&reader, Method::GET, "/providers", None).await;
    assert_eq!(answer.status, 200);
    insta::assert_json_snapshot!(answer.body, @r#"
    {
      "speech": [],
      "text": [
        {
          "circuit": "closed",
          "model": "another",
          "models": [
            "another",
            "second"
          ],
          "name": "anthropic"
        },
        {
          "circuit": "closed",
          "model": "some-model",
          "models": [
            "some-model",
            "second"
          ],
          "name": "openai"
        },
        {
          "circuit": "closed",
          "model": "embedded-1",
          "models": [
            "embedded-1"
          ],
          "name": "storyteller"
        }
      ]
    }
    "#);

    let wish = |wish: serde_json::Value| {
        let mut body = serde_json::json!({"prompt": "What if?", "seed": 7});
        body.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        body
    };
    let unknown = wish(serde_json::json!({"model": "third"}));
    let (status, body) = app.ask(&reader, Method::POST, "/scenarios", Some(unknown)).await;
    assert_eq!((status, &body["details"][0]["field"]), (422, &"model".into()), "{body}");
    let known = wish(serde_json::json!({"model": "some-model"}));
    let (status, body) = app.ask(&reader, Method::POST, "/scenarios", Some(known)).await;
    assert_eq!((status, &body["provider"]), (201, &"openai".into()), "{body}");
    app.stop().await;
}
