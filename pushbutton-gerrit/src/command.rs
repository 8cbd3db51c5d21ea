//! Runs one command on Gerrit: input on stdin, bounded output, exit status, deadline.

use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, Result};
use russh::client::Msg;
use russh::{Channel, ChannelMsg};

use crate::client::Gerrit;
use crate::connect::{Session, within};
use crate::error::{from_command, from_russh};
use crate::lines::{Line, LineSplitter};

/// How much of stderr is kept.
const MAX_STDERR: usize = 16 << 10;

/// The longest line of a reply: a change with all its comments. Gerrit lets a change hold 3 MiB of them by default.
const MAX_REPLY_LINE: usize = 32 << 20;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: u32,
    pub(crate) stderr: String,
    /// How many lines of the output were too long, and are left out.
    pub(crate) left_out: u32,
}

impl Ended {
    /// Success, or what Gerrit says went wrong.
    pub(crate) fn ok(&self) -> Result<()> {
        if self.status == 0 { Ok(()) } else { Err(from_command(self.status, &self.stderr)) }
    }
}

impl Gerrit {
    /// Runs a command and gives each line of its output to `each`. The command line must have been quoted: see [`quote`].
    ///
    /// A session that turns out to be dead before the command is started is replaced, once. After that nothing is repeated: a
    /// review may have been posted though its answer was lost.
    ///
    /// # Errors
    /// Of the connection; a command that ran and failed is `Ok` with its status. [`ErrorKind::TimedOut`] after the command's deadline,
    /// connecting included: however many wait for a connection that cannot be had, none waits longer.
    pub(crate) async fn run(
        &self,
        command: &str,
        input: Option<&[u8]>,
        mut each: impl FnMut(&[u8]) + Send,
    ) -> Result<Ended> {
        let mut started = None;
        let work = async {
            let (session, channel) = self.start(command).await?;
            started = Some(session);
            drain(channel, input, &mut each).await
        };
        let done = within(self.config().deadlines.command, "the command", work).await;
        if let (Err(_), Some(session)) = (&done, started) {
            // Whatever it was, this session cannot be trusted to answer.
            self.abandon(&session).await;
        }
        let name: String = command.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        done.map_err(|error| {
            error.during("gerrit::command").with("command", name).with("server", &self.config().host)
        })
    }

    async fn start(&self, command: &str) -> Result<(Arc<Session>, Channel<Msg>)> {
        let session = self.session().await?;
        let first = match session.exec(command).await {
            Ok(channel) => return Ok((session, channel)),
            Err(error) => error,
        };
        tracing::debug!("the command connection is gone, connecting anew: {first}");
        self.abandon(&session).await;
        let session = self.session().await?;
        let channel = session.exec(command).await?;
        Ok((session, channel))
    }
}

/// Writes the input and reads all that comes, side by side: a server may answer before it has read everything.
async fn drain(
    mut channel: Channel<Msg>,
    input: Option<&[u8]>,
    each: &mut (impl FnMut(&[u8]) + Send),
) -> Result<Ended> {
    let (mut lines, mut stderr, mut status, mut left_out) =
        (LineSplitter::new(MAX_REPLY_LINE), Vec::new(), None, 0);
    if let Some(input) = input {
        // Smaller than the window of any server: a review is 16 KiB.
        channel.data_bytes(input.to_vec()).await.map_err(from_russh)?;
    }
    channel.eof().await.map_err(from_russh)?;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => lines.feed(&data, |line| match line {
                Line::Whole(line) => each(line),
                Line::TooLong(bytes) => {
                    left_out += 1;
                    tracing::warn!(
                        bytes,
                        "a line of Gerrit's reply is longer than {MAX_REPLY_LINE} bytes and is left out"
                    );
                }
            }),
            ChannelMsg::ExtendedData { data, ext: 1 } => {
                let room = MAX_STDERR.saturating_sub(stderr.len());
                stderr.extend_from_slice(&data[..data.len().min(room)]);
            }
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            ChannelMsg::ExitSignal { .. } => status = Some(128),
            ChannelMsg::Failure => {
                return Err(Error::permanent(
                    ErrorKind::Denied,
                    "the server refuses to run commands on this connection",
                ));
            }
            _ => {}
        }
    }
    if let Some(rest) = lines.finish() {
        each(&rest);
    }
    // A channel that ends without a status: the connection was lost on the way.
    let status = status.ok_or_else(|| {
        Error::temporary(ErrorKind::Unreachable, "the connection broke before the command ended")
    })?;
    Ok(Ended { status, stderr: String::from_utf8_lossy(&stderr).into_owned(), left_out })
}

/// Quotes one argument for Gerrit, which splits the command line by itself: a backslash takes any mark's meaning away.
pub(crate) fn quote(argument: &str) -> String {
    let mut quoted = String::with_capacity(argument.len() + 8);
    for c in argument.chars() {
        if !(c.is_ascii_alphanumeric()
            || matches!(c, '-' | '_' | '.' | '/' | ':' | ',' | '=' | '{' | '}' | '+' | '@'))
        {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gerrit's own rules (BaseCommand.split): blanks part, quotes hold together, a backslash outside of single quotes takes the next.
    fn gerrit_splits(line: &str) -> Vec<String> {
        let (mut words, mut word, mut single, mut double) = (Vec::new(), String::new(), false, false);
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                ' ' | '\t' if !single && !double => words.push(std::mem::take(&mut word)),
                '\'' if !double => single = !single,
                '"' if !single => double = !double,
                '\\' if !single => word.extend(chars.next()),
                c => word.push(c),
            }
        }
        words.push(word);
        words
    }

    #[test]
    fn an_argument_stays_one_argument_whatever_it_holds() {
        for text in [
            "since:{2026-11-23 03:24:35 +0000}",
            "a'b\"c\\d",
            "$(id) `x`; rm -rf / | & > < * ?",
            "é 漢",
            "x\ty",
        ] {
            assert_eq!(gerrit_splits(&format!("gerrit query {}", quote(text))), ["gerrit", "query", text]);
        }
        assert_eq!(quote("since:{2026-11-23"), "since:{2026-11-23");
    }
}
