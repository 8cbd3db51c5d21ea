//! Durations as people write and read them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind};

/// A duration that a configuration writes as `90s`, `45m`, `2h 30m` (jiff's friendly format) or `32d`, and people read as
/// `2h 30m 00s`. A day has 24 hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// So many seconds; for defaults.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl fmt::Display for HumanDuration {
    /// Zuul's way of writing times in result lines: `1h 02m 03s`, `2m 45s`, `5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        match (hours, minutes) {
            (0, 0) => write!(f, "{rest}s"),
            (0, _) => write!(f, "{minutes}m {rest:02}s"),
            _ => write!(f, "{hours}h {minutes:02}m {rest:02}s"),
        }
    }
}

impl FromStr for HumanDuration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let message = format!("{text:?} is not a duration such as 90s, 45m or 2h 30m");
            Error::permanent(ErrorKind::Invalid, message)
        };
        // jiff reads no days, because a day of a calendar may have another length.
        let (days, rest) =
            match text.split_once('d').map(|(days, rest)| (days.trim().parse::<u32>(), rest.trim())) {
                Some((Ok(days), rest)) => (days, rest),
                _ => (0, text),
            };
        let days = Duration::from_secs(u64::from(days) * 24 * 3600);
        if rest.is_empty() && !text.is_empty() {
            return Ok(Self(days));
        }
        let parsed: jiff::SignedDuration = rest.parse().map_err(|_| wrong())?;
        let rest = Duration::try_from(parsed).map_err(|_| wrong())?;
        days.checked_add(rest).map(Self).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // The units of jiff's friendly format, and days.
        const PATTERN: &str =
            "^([0-9]+ ?(d|h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?|ms|millis?)(, | )?)+$";
        schemars::json_schema!({ "type": "string", "title": "duration", "pattern": PATTERN })
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// `#[serde(with = "...")]` for a [`Duration`] that a configuration writes as a [`HumanDuration`].
pub(crate) mod human {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::HumanDuration;

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        HumanDuration(*duration).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        HumanDuration::deserialize(deserializer).map(Duration::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_it_in_several_ways() {
        for (text, seconds) in
            [("\"90s\"", 90), ("\"45m\"", 2700), ("\"2h 30m\"", 9000), ("\"1h30m\"", 5400), ("\"0s\"", 0)]
        {
            assert_eq!(
                serde_json::from_str::<HumanDuration>(text).unwrap(),
                HumanDuration::secs(seconds),
                "{text}"
            );
        }
        for text in ["\"-5s\"", "\"90\"", "\"soon\"", "\"1 month\""] {
            let error = serde_json::from_str::<HumanDuration>(text).unwrap_err().to_string();
            assert!(error.contains("is not a duration such as"), "{error}");
        }
    }

    #[test]
    fn a_day_has_24_hours() {
        let day = 24 * 3600;
        for (text, seconds) in [("32d", 32 * day), ("1d 12h", day + day / 2), ("0d", 0), ("2 d", 2 * day)] {
            assert_eq!(text.parse::<HumanDuration>().unwrap(), HumanDuration::secs(seconds), "{text}");
        }
        for text in ["d", "-1d", "1.5d", "1d-5s", "1day", "", "99999999999d", "1d 1d"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn it_reads_as_zuul_writes_it_and_back() {
        for (seconds, text) in [(5, "5s"), (165, "2m 45s"), (3723, "1h 02m 03s")] {
            assert_eq!(HumanDuration::secs(seconds).to_string(), text);
            assert_eq!(
                serde_json::from_str::<HumanDuration>(&format!("{text:?}")).unwrap(),
                HumanDuration::secs(seconds)
            );
        }
    }
}
