//! Whether the log folder's URL can be what people click on.

use std::net::IpAddr;
use std::time::Duration;

use pushbutton_core::check::Finding;
use tokio::net::TcpStream;

use crate::config::LogsConfig;

/// A web server that takes longer to accept than this is none to send reviewers to.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Looks at `logs:`. The folder itself was tried when the configuration was read.
pub(crate) async fn check_logs(logs: &LogsConfig) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(format!("{} can be written", logs.dir.display()))];
    let Some(url) = &logs.url else {
        let remedy = "let a web server show the folder, and say where in `logs.url`";
        findings.push(Finding::warn("no `logs.url`: comments will not link to the logs", remedy));
        return findings;
    };
    let Some((host, port)) = host_and_port(url) else {
        findings.push(Finding::fail(format!("{url:?} is no URL"), "write it as https://logs.example.org"));
        return findings;
    };
    if host.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback()) {
        let remedy = "use a DNS name: OpenStack's third-party CI requirements ask for one";
        findings.push(Finding::warn(format!("{url} is an IP address"), remedy));
    }
    findings.push(
        match tokio::time::timeout(ANSWER_WITHIN, TcpStream::connect((host.as_str(), port))).await {
            Ok(Ok(_)) => Finding::ok(format!("{host}:{port} answers")),
            Ok(Err(error)) => Finding::warn(
                format!("{host}:{port} does not answer: {error}"),
                "start the web server, or mend `logs.url`",
            ),
            Err(_) => Finding::warn(
                format!("{host}:{port} does not answer"),
                "start the web server, or mend `logs.url`",
            ),
        },
    );
    findings
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (rest, default) = match url.strip_prefix("https://") {
        Some(rest) => (rest, 443),
        None => (url.strip_prefix("http://")?, 80),
    };
    let authority =
        rest.split(['/', '?', '#']).next().filter(|text| !text.is_empty() && !text.contains('@'))?;
    if let Some((host, port)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = if port.is_empty() { default } else { port.strip_prefix(':')?.parse().ok()? };
        return Some((host.to_owned(), port));
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host.to_owned(), port.parse().ok()?)),
        None => Some((authority.to_owned(), default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_and_port() {
        for (url, expected) in [
            ("https://logs.example.org/ci", Some(("logs.example.org", 443))),
            ("http://127.0.0.1:8080", Some(("127.0.0.1", 8080))),
            ("http://[::1]:80/x", Some(("::1", 80))),
            ("ftp://x", None),
            ("https://", None),
            ("https://a:b", None),
        ] {
            assert_eq!(host_and_port(url), expected.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }
}
