use reqwest::Method;

use super::super::support::app::{App, Reader};
use super::send;

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_sees_the_own_account_and_no_hash() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let answer = app.call(&reader, Method::GET, "/users/me", None).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["email"], reader.email);
    insta::assert_json_snapshot!(answer.body, {
        ".id" => "[uuid]", ".email" => "[email]", ".created_at" => "[time]", ".updated_at" => "[time]",
    }, @r#"
    {
      "created_at": "[time]",
      "display_name": "Ada",
      "email": "[email]",
      "id": "[uuid]",
      "role": "reader",
      "updated_at": "[time]"
    }
    "#);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_valid_access_token_speaks_for_someone() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    send(app.request(Method::GET, "/users/me")).await.is_error(401, "unauthenticated");
    for header in ["Basic YTpi", "Bearer", "Bearer  ", "bearer\tx"] {
        let request = app.request(Method::GET, "/users/me").header("Authorization", header);
        send(request).await.is_error(401, "unauthenticated");
    }
    let mut forged = reader.token.clone();
    let last = forged.pop().unwrap();
    // A bit that counts, not the padding of the last character.
    forged.pop();
    forged.push_str(if last == 'A' { "BB" } else { "AA" });
    for token in [&forged, &reader.refresh, "x.y.z", "wif_unknown"] {
        let stranger = Reader { token: token.to_owned(), ..reader.clone() };
        let answer = app.call(&stranger, Method::GET, "/users/me", None).await;
        answer.is_error(401, "invalid_token");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    app.stop().await;
}
