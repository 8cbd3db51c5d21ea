//! Whether people can open the URL of the log folder.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use pushbutton_core::LogLocation;
use pushbutton_core::check::{Check, Finding};
use tokio::net::TcpStream;
use url::Url;

/// The timeout of the web server.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Checks `logs:`. That the folder is writable was checked when the configuration was read.
pub(crate) struct LogUrlCheck<'c>(pub(crate) &'c LogLocation);

#[async_trait]
impl Check for LogUrlCheck<'_> {
    async fn check(&self) -> Vec<Finding> {
        let mut findings = vec![Finding::ok(format!("{} can be written", self.0.dir.display()))];
        findings.push(retention(self.0.keep));
        let Some(url) = &self.0.url else {
            let fix = "let a web server show the folder, and name its URL in `logs.url`";
            findings.push(Finding::warn("no `logs.url`: comments will not link to the logs", fix));
            return findings;
        };
        let Some((host, port)) = host_and_port(url) else {
            findings
                .push(Finding::fail(format!("{url:?} is not a URL"), "write it as https://logs.example.org"));
            return findings;
        };
        if host.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback()) {
            let fix = "use a DNS name: OpenStack's third-party CI requirements ask for one";
            findings.push(Finding::warn(format!("{url} has an IP address"), fix));
        }
        let connected = tokio::time::timeout(TIMEOUT, TcpStream::connect((host.as_str(), port))).await;
        let problem = match connected {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!(": {error}")),
            Err(_) => Some(String::new()),
        };
        findings.push(match problem {
            None => Finding::ok(format!("{host}:{port} accepts connections")),
            Some(why) => Finding::warn(
                format!("{host}:{port} does not answer{why}"),
                "start the web server, or fix `logs.url`",
            ),
        });
        findings
    }
}

/// OpenStack's third-party CI requirements ask for logs of a month.
const A_MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

fn retention(keep: Duration) -> Finding {
    let days = keep.as_secs() / (24 * 3600);
    if keep.is_zero() {
        return Finding::ok("logs are kept forever: watch the disk, or set `logs.keep`".to_owned());
    }
    if keep < A_MONTH {
        let fix = "set `logs.keep` to 32d: OpenStack's third-party CI requirements ask for a month";
        return Finding::warn(format!("logs are deleted after {days} days"), fix);
    }
    Finding::ok(format!("logs are deleted after {days} days"))
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty())?;
    // Brackets around an IPv6 address belong to the URL, not to the address.
    let host = url.host_str()?.trim_matches(['[', ']']);
    Some((host.to_owned(), url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_a_month_is_a_warning() {
        use pushbutton_core::check::Level;
        let day = Duration::from_secs(24 * 3600);
        for (keep, level, text) in [
            (29 * day, Level::Warn, "after 29 days"),
            (30 * day, Level::Ok, "after 30 days"),
            (Duration::ZERO, Level::Ok, "forever"),
        ] {
            let finding = retention(keep);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.what.contains(text), "{finding:?}");
        }
    }

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
