//! What goes over the turn queue, and what it says about others. No input, no output.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::Mark;

/// Nobody is certain of a turn for longer: the longest heartbeat that may be configured.
const LONGEST_CERTAINTY: Duration = Duration::from_secs(60);

/// One message on the turn queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token {
    /// By this its writer knows it again.
    pub(super) mark: Mark,
    #[serde(flatten)]
    pub(super) says: Says,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "kebab-case")]
pub(super) enum Says {
    /// Is it my turn? Sent by each newcomer, so that the very first gets an answer.
    Knock,
    /// Sent over and over by whoever RabbitMQ delivers to. So long after it was sent its writer is certain of its turn, if it gets it back.
    Held { candidate: Mark, term: Mark, certain_ms: u64 },
    /// That term is over: its holder stopped before it wrote this.
    Released { term: Mark },
}

impl Token {
    pub(super) fn new(says: Says) -> Self {
        Self { mark: Mark::new(), says }
    }
}

/// What the tokens say that a newcomer finds before its own.
#[derive(Debug, Default)]
pub(super) struct Predecessors {
    held: HashMap<Mark, (Mark, Duration)>,
    released: HashSet<Mark>,
}

impl Predecessors {
    pub(super) fn hear(&mut self, token: &Token) {
        match token.says {
            Says::Knock => {}
            Says::Held { candidate, term, certain_ms } => {
                let certain = Duration::from_millis(certain_ms).min(LONGEST_CERTAINTY);
                self.held.insert(term, (candidate, certain));
            }
            Says::Released { term } => {
                self.released.insert(term);
            }
        }
    }

    /// How long from now one of the others may still be certain of its turn. What `me` had before is known to be over.
    pub(super) fn certain_for(&self, me: Mark) -> Option<Duration> {
        let others = self.held.iter().filter(|(term, (who, _))| *who != me && !self.released.contains(term));
        others.map(|(_, (_, certain))| *certain).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(candidate: Mark, term: Mark, seconds: u64) -> Token {
        Token::new(Says::Held { candidate, term, certain_ms: seconds * 1000 })
    }

    #[test]
    fn only_a_turn_of_another_that_was_not_released_is_waited_out() {
        let (me, other) = (Mark::new(), Mark::new());
        let (mine, first, second) = (Mark::new(), Mark::new(), Mark::new());
        let certain = |tokens: &[Token]| {
            let mut predecessors = Predecessors::default();
            tokens.iter().for_each(|token| predecessors.hear(token));
            predecessors.certain_for(me)
        };
        let released = |term| Token::new(Says::Released { term });
        assert_eq!(certain(&[]), None);
        assert_eq!(certain(&[Token::new(Says::Knock), held(me, mine, 9)]), None);
        assert_eq!(certain(&[held(other, first, 9)]), Some(Duration::from_secs(9)));
        assert_eq!(certain(&[held(other, first, 9), released(first)]), None);
        assert_eq!(certain(&[released(first), held(other, first, 9)]), None);
        // Its last turn it released, but then it had another.
        assert_eq!(certain(&[released(first), held(other, second, 8)]), Some(Duration::from_secs(8)));
        assert_eq!(certain(&[held(other, first, u64::MAX / 1000)]), Some(LONGEST_CERTAINTY));
    }

    #[test]
    fn a_token_is_written_as_it_is_read() {
        for says in [
            Says::Knock,
            Says::Held { candidate: Mark::new(), term: Mark::new(), certain_ms: 7 },
            Says::Released { term: Mark::new() },
        ] {
            let token = Token::new(says);
            let text = serde_json::to_string(&token).unwrap();
            assert_eq!(serde_json::from_str::<Token>(&text).unwrap(), token, "{text}");
        }
    }
}
