use reqwest::Method;

use super::super::support::app::App;

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_listed_in_order_with_their_circuits() {
    let mut app = App::start_with(|config| {
        config.providers.openai.base_url = Some("http://127.0.0.1:1/v1/".into());
        config.providers.openai.model = "some-model".into();
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
          "model": "some-model",
          "name": "openai"
        },
        {
          "circuit": "closed",
          "model": "embedded-1",
          "name": "storyteller"
        }
      ]
    }
    "#);
    app.stop().await;
}
