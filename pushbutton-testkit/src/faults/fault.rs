use std::fmt;
use std::time::Duration;

use pushbutton_core::{Error, ErrorKind};

/// What goes wrong with one call.
#[derive(Clone, Copy)]
pub enum Fault {
    /// The caller hears this error; the part never hears of the call.
    Fail(fn() -> Error),
    /// The part does what it was asked; the caller hears this error, unless the part had one of its own.
    LoseAnswer(fn() -> Error),
    /// The part hears of the call so much later.
    Delay(Duration),
    /// The part hears of the call once [`FaultPlan::release`](super::FaultPlan::release) is called, or never.
    Hang,
    /// The part does what it was asked; the caller hears of it once [`FaultPlan::release`](super::FaultPlan::release) is called, or never.
    NoAnswer,
}

impl Fault {
    /// The part cannot be reached; temporary.
    pub fn unreachable() -> Self {
        Self::Fail(|| Error::temporary(ErrorKind::Unreachable, "the connection was refused"))
    }

    /// The connection breaks after the part has done what it was asked; temporary.
    pub fn answer_lost() -> Self {
        Self::LoseAnswer(|| {
            Error::temporary(ErrorKind::Unreachable, "the connection broke before the answer came")
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(error) => write!(f, "fails: {}", error()),
            Self::LoseAnswer(_) => f.write_str("the answer is lost"),
            Self::Delay(time) => write!(f, "comes {time:?} later"),
            Self::Hang => f.write_str("hangs"),
            Self::NoAnswer => f.write_str("is carried out, and hangs"),
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How often calls go wrong by chance: parts of 1, together at most 1. Default: never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Of calls that fail as [`Fault::unreachable`].
    pub fail: f64,
    /// Of calls whose answer is lost as [`Fault::answer_lost`].
    pub lose_answer: f64,
    /// Of calls that are delayed.
    pub delay: f64,
    /// Of calls that hang.
    pub hang: f64,
    /// Delays are drawn between nothing and this.
    pub longest_delay: Duration,
}

impl Rates {
    /// The fault for these two draws, each at least 0 and below 1.
    pub(super) fn draw(&self, which: f64, how_long: f64) -> Option<Fault> {
        let faults = [
            (self.fail, Fault::unreachable()),
            (self.lose_answer, Fault::answer_lost()),
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
