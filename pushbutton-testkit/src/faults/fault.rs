use std::fmt;
use std::time::Duration;

use pushbutton_core::{Error, ErrorKind};

/// What goes wrong with one call.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Fault {
    /// The caller gets this error; the part is not called.
    Fail(fn() -> Error),
    /// The part is called; the caller gets this error, unless the part returned one itself.
    LoseResponse(fn() -> Error),
    /// The part is called after this time.
    Delay(Duration),
    /// The part is called after [`FaultPlan::release`](super::FaultPlan::release), or never.
    Hang,
    /// The part is called; the caller gets its response after [`FaultPlan::release`](super::FaultPlan::release), or
    /// never.
    NoResponse,
}

impl Fault {
    /// The part cannot be reached; temporary.
    pub fn unreachable() -> Self {
        Self::Fail(|| Error::temporary(ErrorKind::Unreachable, "the connection was refused"))
    }

    /// The connection breaks after the part has carried out the call; temporary.
    pub fn response_lost() -> Self {
        Self::LoseResponse(|| {
            Error::temporary(ErrorKind::Unreachable, "the connection broke before the response arrived")
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(error) => write!(f, "fails: {}", error()),
            Self::LoseResponse(_) => f.write_str("the response is lost"),
            Self::Delay(time) => write!(f, "is delayed by {time:?}"),
            Self::Hang => f.write_str("hangs"),
            Self::NoResponse => f.write_str("is carried out, then hangs"),
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How often calls go wrong at random: probabilities from 0 to 1, whose sum is at most 1. Default: never.
///
/// ```
/// use std::time::Duration;
///
/// use pushbutton_testkit::faults::Rates;
///
/// let flaky = Rates::none().with_fail(0.1).with_delay(0.2, Duration::from_secs(3));
/// assert_eq!((flaky.fail, flaky.lose_response), (0.1, 0.0));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// Calls that fail as [`Fault::unreachable`].
    pub fail: f64,
    /// Calls whose response is lost as [`Fault::response_lost`].
    pub lose_response: f64,
    /// Calls that are delayed.
    pub delay: f64,
    /// The longest delay; each delay is a random part of it.
    pub longest_delay: Duration,
    /// Calls that hang.
    pub hang: f64,
}

impl Rates {
    /// No faults.
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets [`fail`](Self::fail).
    #[must_use]
    pub fn with_fail(self, fail: f64) -> Self {
        Self { fail, ..self }
    }

    /// Sets [`lose_response`](Self::lose_response).
    #[must_use]
    pub fn with_lose_response(self, lose_response: f64) -> Self {
        Self { lose_response, ..self }
    }

    /// Sets [`delay`](Self::delay) and [`longest_delay`](Self::longest_delay).
    #[must_use]
    pub fn with_delay(self, delay: f64, longest_delay: Duration) -> Self {
        Self { delay, longest_delay, ..self }
    }

    /// Sets [`hang`](Self::hang).
    #[must_use]
    pub fn with_hang(self, hang: f64) -> Self {
        Self { hang, ..self }
    }

    /// The fault for two random numbers, each from 0 to below 1: the first chooses the fault, the second its delay.
    pub(super) fn draw(&self, which: f64, how_long: f64) -> Option<Fault> {
        let faults = [
            (self.fail, Fault::unreachable()),
            (self.lose_response, Fault::response_lost()),
            (self.delay, Fault::Delay(self.longest_delay.mul_f64(how_long))),
            (self.hang, Fault::Hang),
        ];
        let mut end = 0.0;
        faults.into_iter().find_map(|(rate, fault)| {
            end += rate;
            (which < end).then_some(fault)
        })
    }
}
