//! `mute` and `unmute`: comments on reviews, on every handler.

use jiff::Timestamp;
use pushbutton_core::ControlMessage;

use crate::cancel::{broadcast, user};
use crate::config::Config;
use crate::exit::Exit;
use crate::print::print;

/// Stops comments on reviews.
pub(crate) async fn mute(config: &Config, why: String) -> anyhow::Result<Exit> {
    broadcast(config, &ControlMessage::Muted { by: user(), why, at: Timestamp::now() }).await?;
    print("muted: jobs still run, but no comment is posted until `pushbutton-bin unmute`; reports are kept");
    Ok(Exit::Ok)
}

/// Allows comments on reviews again.
pub(crate) async fn unmute(config: &Config) -> anyhow::Result<Exit> {
    broadcast(config, &ControlMessage::Unmuted { by: user(), at: Timestamp::now() }).await?;
    print("unmuted: results are posted again; `pushbutton-bin reports list` shows those that were withheld");
    Ok(Exit::Ok)
}
