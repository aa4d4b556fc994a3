//! The health check of a container: one request, one exit code. No shell, no curl in the image.

use std::time::Duration;

use anyhow::Context;

/// Asks the server at `url` (an origin such as `http://127.0.0.1:3000`) whether it is ready.
///
/// # Errors
/// If it does not answer within 3 seconds, or answers that it is not.
pub async fn health(url: &str) -> anyhow::Result<()> {
    let url = format!("{}/api/v1/health/ready", url.trim_end_matches('/'));
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(3)).build()?;
    let answer = http.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    anyhow::ensure!(answer.status().is_success(), "{url} answers {}", answer.status());
    Ok(())
}
