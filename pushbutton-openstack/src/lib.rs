#![doc = include_str!("../README.md")]

mod api;
mod ask;
mod body;
mod boot;
mod calls;
mod catalog;
mod check;
mod clouds;
mod config;
mod console;
mod credentials;
mod entry;
mod error;
mod identity;
mod inflight;
mod lookup;
mod make;
mod marks;
mod near;
mod poll;
mod progress;
mod provisioner;
mod release;
mod reply;
mod ssh;
mod wire;

pub use config::{BootVolume, FloatingIpClass, HostKeys, NodeClass, OpenStackConfig, UserData};
pub use provisioner::OpenStackProvisioner;
