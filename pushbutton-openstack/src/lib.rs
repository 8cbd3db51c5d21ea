#![doc = include_str!("../README.md")]

mod addresses;
mod api;
mod api_types;
mod boot;
mod catalog;
mod check;
mod cloud_config;
mod cloud_files;
mod config;
mod console;
mod create;
mod create_spec;
mod credentials;
mod endpoints;
mod error;
mod host_key;
mod identity;
mod lookup;
mod ownership_tags;
mod provisioner;
mod release;
mod request;
mod response;
mod ssh;
mod user_data;

pub use config::{
    AddressChoice, FloatingIpConfig, HostKeys, NetworkConfig, NodeLabelConfig, OpenStackConfig, UserData,
    VolumeConfig,
};
pub use provisioner::OpenStackProvisioner;
