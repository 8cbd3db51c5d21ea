//! Runs one command on the shared connection: input on stdin, bounded output, exit status, deadline.

use std::sync::Arc;

use pushbutton_core::{Error, ErrorKind, Result};
use russh::client::Msg;
use russh::{Channel, ChannelMsg};

use crate::client::Gerrit;
use crate::client::connection::{Connection, Excerpt, with_deadline};
use crate::error::{from_command, from_russh};
use crate::lines::LineSplitter;

/// The longest line of a reply: a change with all its comments. Gerrit's default limit for the comments of a change
/// is 3 MiB.
const MAX_REPLY_LINE: usize = 32 << 20;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct CommandEnd {
    status: u32,
    stderr: String,
    /// How many lines of the output were skipped: too long, or not UTF-8.
    pub(crate) skipped: u32,
}

impl CommandEnd {
    /// Success, or the error that Gerrit reports.
    pub(crate) fn success(&self) -> Result<()> {
        if self.status == 0 { Ok(()) } else { Err(from_command(self.status, &self.stderr)) }
    }
}

impl Gerrit {
    /// Runs a command and passes each line of its output to `each`. Arguments in the command line must be quoted: see
    /// [`quote`].
    ///
    /// A connection that turns out to be dead before the command is started is replaced, once. After that nothing is
    /// retried: a review may have been posted although its answer was lost.
    ///
    /// # Errors
    /// Those of the connection; a command that ran and failed is `Ok` with its status.
    /// [`ErrorKind::TimedOut`] after the command's deadline, which includes connecting and waiting for others that
    /// connect.
    pub(crate) async fn run(
        &self,
        command: &str,
        input: Option<&[u8]>,
        mut each: impl FnMut(&str) + Send,
    ) -> Result<CommandEnd> {
        let mut used = None;
        let work = async {
            let (connection, channel) = self.start(command).await?;
            used = Some(connection);
            transfer(channel, input, &mut each).await
        };
        let end = with_deadline(self.config().deadlines.command, "the command", work).await;
        if let (Err(_), Some(connection)) = (&end, used) {
            // Whatever the error is, the next command may get no answer on this connection either.
            self.discard(&connection).await;
        }
        let name: String = command.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        end.map_err(|error| {
            error.during("gerrit::command").with("command", name).with("server", &self.config().host)
        })
    }

    async fn start(&self, command: &str) -> Result<(Arc<Connection>, Channel<Msg>)> {
        let connection = self.connection().await?;
        let error = match connection.exec(command).await {
            Ok(channel) => return Ok((connection, channel)),
            Err(error) => error,
        };
        tracing::debug!("the command connection is lost, connecting again: {error}");
        self.discard(&connection).await;
        let connection = self.connection().await?;
        let channel = connection.exec(command).await?;
        Ok((connection, channel))
    }
}

/// Writes the input, then reads all output. The input must be smaller than the SSH window of any server: a review has
/// 16 KiB.
async fn transfer(
    mut channel: Channel<Msg>,
    input: Option<&[u8]>,
    each: &mut (impl FnMut(&str) + Send),
) -> Result<CommandEnd> {
    let (mut lines, mut stderr, mut status, mut skipped) =
        (LineSplitter::new(MAX_REPLY_LINE), Excerpt::default(), None, 0);
    let mut take = |line: crate::lines::Line<'_>| match line {
        Ok(line) => each(line),
        Err(reason) => {
            skipped += 1;
            tracing::warn!("skipping a line of Gerrit's reply: {reason}");
        }
    };
    if let Some(input) = input {
        channel.data_bytes(input.to_vec()).await.map_err(from_russh)?;
    }
    channel.eof().await.map_err(from_russh)?;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => lines.feed(&data, &mut take),
            ChannelMsg::ExtendedData { data, ext: 1 } => stderr.push(&data),
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
    lines.finish(take);
    // A channel that ends without a status: the connection was lost.
    let status = status.ok_or_else(|| {
        Error::temporary(ErrorKind::Unreachable, "the connection broke before the command ended")
    })?;
    Ok(CommandEnd { status, stderr: stderr.text(), skipped })
}

/// Quotes one argument for Gerrit, which splits the command line itself: a backslash makes the next character literal.
pub(crate) fn quote(argument: &str) -> String {
    let mut quoted = String::with_capacity(argument.len() + 8);
    for c in argument.chars() {
        if !(c.is_ascii_alphanumeric() || "-_./:,={}+@".contains(c)) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gerrit's own rules (BaseCommand.split): blanks separate, quotes group, a backslash outside of single quotes
    /// escapes the next character.
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
