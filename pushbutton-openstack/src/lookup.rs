//! From the names in the configuration to the cloud's ids.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openstack::compute::KeyPair;
use pushbutton_core::{Error, ErrorKind, Result};
use serde_json::Value;
use tokio::time::Instant;

use crate::api::Api;
use crate::ask::{Ask, Service};
use crate::near::suggest;
use crate::wire::Named;

/// How long an id is believed. A site's nightly image build replaces images under their names.
const BELIEVED: Duration = Duration::from_secs(300);

/// What a name may be the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Image,
    Flavor,
    Network,
    SecurityGroup,
    KeyPair,
    Zone,
}

impl What {
    /// The word that people use, and that the configuration uses.
    fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Flavor => "flavor",
            Self::Network => "network",
            Self::SecurityGroup => "security group",
            Self::KeyPair => "key pair",
            Self::Zone => "availability zone",
        }
    }
}

/// Ids that were looked up.
#[derive(Debug, Default)]
pub(crate) struct Lookup(Mutex<HashMap<(What, String), (String, Instant)>>);

impl Lookup {
    /// The id of what has this name, or this id.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent, when there is none or more than one, with what was probably meant.
    pub(crate) async fn id(&self, api: &Api, what: What, name: &str) -> Result<String> {
        let key = (what, name.to_owned());
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((id, since)) = known.get(&key) {
                if since.elapsed() < BELIEVED {
                    return Ok(id.clone());
                }
            }
        }
        let id = look_up(api, what, name).await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (id.clone(), Instant::now()));
        Ok(id)
    }

    /// Forgets all, after the cloud refused an id.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

async fn look_up(api: &Api, what: What, name: &str) -> Result<String> {
    let all = match what {
        What::Image => {
            // Thousands of them on a public cloud: by name first, all of them only to say what was meant.
            let named = api.list(Ask::get(Service::Image, ["images"]).with("name", name), "images").await?;
            let by_id = if named.is_empty() && is_id(name) { image(api, name).await? } else { None };
            if by_id.is_some() || !named.is_empty() {
                by_id.into_iter().chain(named).collect()
            } else {
                let some = Ask::get(Service::Image, ["images"]).with("limit", "500");
                api.list::<Named>(some, "images").await?
            }
        }
        What::Flavor => {
            let flavors = api.through_crate(|cloud| async move { cloud.list_flavors().await }).await?;
            let named = |flavor: &openstack::compute::FlavorSummary| named(flavor.id(), flavor.name());
            flavors.iter().map(named).collect()
        }
        What::KeyPair => {
            let pairs = api.through_crate(|cloud| async move { cloud.list_keypairs().await }).await?;
            pairs.iter().map(|pair: &KeyPair| named(pair.name(), pair.name())).collect()
        }
        What::Network => api.list(Ask::get(Service::Network, ["networks"]), "networks").await?,
        What::Zone => {
            let zones: Vec<Value> = api
                .fetch(&Ask::get(Service::Compute, ["os-availability-zone"]), "availabilityZoneInfo")
                .await?;
            zones
                .iter()
                .filter_map(|zone| zone.get("zoneName")?.as_str())
                .map(|name| named(name, name))
                .collect()
        }
        What::SecurityGroup => {
            api.list(Ask::get(Service::Network, ["security-groups"]), "security_groups").await?
        }
    };
    choose(what, name, &all)
}

fn named(id: &str, name: &str) -> Named {
    Named { id: id.to_owned(), name: Some(name.to_owned()), status: None }
}

async fn image(api: &Api, id: &str) -> Result<Option<Named>> {
    // An image is not wrapped in a key of its own.
    match api.send(&Ask::get(Service::Image, ["images", id])).await {
        Ok(body) => Ok(serde_json::from_slice(&body).ok()),
        Err(failed) if failed.error.kind() == ErrorKind::NotFound => Ok(None),
        Err(failed) => Err(failed.error),
    }
}

fn is_id(text: &str) -> bool {
    text.len() >= 32 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

fn choose(what: What, name: &str, all: &[Named]) -> Result<String> {
    let word = what.word();
    let refuse = |message: String| Err(Error::permanent(ErrorKind::Config, message));
    // A deactivated image, or one that is still being uploaded, is none that boots.
    let usable =
        |one: &&Named| what != What::Image || one.status.as_deref().is_none_or(|status| status == "active");
    if let Some(one) = all.iter().filter(usable).find(|one| one.id == name) {
        return Ok(one.id.clone());
    }
    let of_name: Vec<&Named> =
        all.iter().filter(usable).filter(|one| one.name.as_deref() == Some(name)).collect();
    match of_name.as_slice() {
        [one] => Ok(one.id.clone()),
        [] if all.iter().any(|one| one.name.as_deref() == Some(name) || one.id == name) => {
            refuse(format!("the {word} {name:?} is not active: wait for its upload, or name another"))
        }
        [] => {
            let names = all.iter().filter_map(|one| one.name.as_deref());
            refuse(format!("the cloud has no {word} {name:?}: {}", suggest(name, names)))
        }
        several => {
            let ids = several.iter().map(|one| one.id.as_str()).collect::<Vec<_>>().join(", ");
            refuse(format!("the cloud has several of the {word} {name:?}: say which by its id ({ids})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, name: &str, status: &str) -> Named {
        Named { id: id.into(), name: Some(name.into()), status: Some(status.into()) }
    }

    #[test]
    fn a_name_must_mean_one_thing_that_can_be_used() {
        let all = [
            image("1", "noble", "active"),
            image("2", "noble", "deactivated"),
            image("3", "jammy", "queued"),
        ];
        assert_eq!(choose(What::Image, "noble", &all).unwrap(), "1");
        assert_eq!(choose(What::Image, "1", &all).unwrap(), "1");
        let says = |name: &str, all: &[Named]| choose(What::Image, name, all).unwrap_err().to_string();
        assert!(says("jammy", &all).contains("is not active"));
        assert!(says("nobel", &all).contains("did you mean noble?"));
        let twice = [image("1", "noble", "active"), image("2", "noble", "active")];
        assert!(says("noble", &twice).contains("by its id (1, 2)"));
    }
}
