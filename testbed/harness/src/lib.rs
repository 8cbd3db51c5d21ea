#![doc = include_str!("../README.md")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "test support: a testbed that does not work must end the test, loudly"
)]

mod broker;
mod curl;
mod gerrit;
mod git_server;
mod instance;
mod mail_server;
mod openstack;
mod process;
mod sshd;
mod until;

pub use broker::{Broker, Version, rabbitmq};
pub use gerrit::{Change, Gerrit, Message, Vote, gerrit};
pub use git_server::GitServer;
pub use instance::{ansible_bin, browser, stock_image, stock_wheels};
pub use mail_server::MailServer;
pub use openstack::{FloatingIp, Keypair, NovaService, OpenStack, Port, Server, Volume, openstack};
pub use sshd::{Sshd, SshdOptions};
pub use until::until;
