//! HTTP by the curl program: a test needs a handful of calls, not a client library.

use std::process::Command;

use serde_json::Value;

use crate::process::try_run;

/// What an HTTP server said.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Lines up to the body, as received.
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// Sends one request; `body` goes as JSON. Panics when there is no answer at all.
pub(crate) fn request(method: &str, url: &str, options: &[&str], body: Option<&Value>) -> Reply {
    match try_request(method, url, options, body) {
        Ok(reply) => reply,
        Err(why) => panic!("{method} {url}: {why}"),
    }
}

/// As [`request`]; that there is no answer is returned, with the reason.
pub(crate) fn try_request(
    method: &str,
    url: &str,
    options: &[&str],
    body: Option<&Value>,
) -> Result<Reply, String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--max-time", "60", "-X", method, "-H", "Expect:"]).args(options);
    if body.is_some() {
        command.args(["-H", "Content-Type: application/json", "--data-binary", "@-"]);
    }
    let output = try_run(command.arg(url), &body.map(Value::to_string).unwrap_or_default())?;
    let (headers, body) = output.split_once("\r\n\r\n").unwrap_or((output.as_str(), ""));
    let status = headers.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok(Reply {
        status: status.ok_or_else(|| format!("no status in {headers}"))?,
        headers: headers.to_owned(),
        body: body.to_owned(),
    })
}
