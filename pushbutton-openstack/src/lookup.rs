//! From the names in the configuration to the cloud's ids.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pushbutton_core::text::suggest;
use pushbutton_core::{Error, ErrorKind, Result};
use serde_json::Value;
use tokio::time::Instant;

use crate::api::{Api, unless_missing};
use crate::api_types::{Named, timestamp};
use crate::catalog::Service::{Compute, Image, Network};
use crate::request::Request;

/// How long an id is cached. Sites rebuild their images under the same name every night.
const CACHE_TTL: Duration = Duration::from_secs(300);
/// How many names an error lists at most.
const MAX_NAMES_SHOWN: usize = 8;

/// What a name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Image,
    Flavor,
    Network,
    SecurityGroup,
    KeyPair,
    Zone,
    ServerGroup,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Flavor => "flavor",
            Self::Network => "network",
            Self::SecurityGroup => "security group",
            Self::KeyPair => "key pair",
            Self::Zone => "availability zone",
            Self::ServerGroup => "server group",
        }
    }
}

/// Looks up ids, and caches them.
#[derive(Debug, Default)]
pub(crate) struct Lookup(Mutex<HashMap<(Kind, String), (String, Instant)>>);

impl Lookup {
    /// The id of the thing with this name or id.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], permanent, if there is none or more than one, with a suggestion. Of several images the
    /// newest is taken; one that is still being uploaded is a temporary error.
    pub(crate) async fn id(&self, api: &Api, kind: Kind, name: &str) -> Result<String> {
        let key = (kind, name.to_owned());
        if let Some((id, since)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            if since.elapsed() < CACHE_TTL {
                return Ok(id.clone());
            }
        }
        let id = choose(kind, name, &candidates(api, kind, name).await?)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (id.clone(), Instant::now()));
        Ok(id)
    }

    /// Clears the cache, after the cloud refused an id.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What the name may stand for: a list that contains it if it exists.
async fn candidates(api: &Api, kind: Kind, name: &str) -> Result<Vec<Named>> {
    let named = |name: &str| Named {
        id: name.to_owned(),
        name: Some(name.to_owned()),
        status: None,
        created_at: None,
    };
    match kind {
        Kind::Image => images(api, name).await,
        Kind::Flavor => api.list(Request::get(Compute, ["flavors"]), "flavors").await,
        Kind::Network => api.list(Request::get(Network, ["networks"]), "networks").await,
        Kind::SecurityGroup => {
            api.list_of_extension(Request::get(Network, ["security-groups"]), "security_groups").await
        }
        Kind::ServerGroup => api.list(Request::get(Compute, ["os-server-groups"]), "server_groups").await,
        Kind::KeyPair => {
            let pairs: Vec<Value> = api.list(Request::get(Compute, ["os-keypairs"]), "keypairs").await?;
            Ok(pairs.iter().filter_map(|pair| pair["keypair"]["name"].as_str()).map(named).collect())
        }
        Kind::Zone => {
            let request = Request::get(Compute, ["os-availability-zone"]);
            let zones: Vec<Value> = api.fetch(&request, "availabilityZoneInfo").await?;
            Ok(zones.iter().filter_map(|zone| zone["zoneName"].as_str()).map(named).collect())
        }
    }
}

/// The images with this name, else the one with this id, else some images for a suggestion: a public cloud has
/// thousands.
async fn images(api: &Api, name: &str) -> Result<Vec<Named>> {
    let by_name: Vec<Named> = api.list(Request::get(Image, ["images"]).with("name", name), "images").await?;
    if !by_name.is_empty() {
        return Ok(by_name);
    }
    let is_id = name.len() >= 32 && name.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if is_id {
        // An image is the whole reply, without a key.
        let image = unless_missing(api.send(&Request::get(Image, ["images", name])).await)?;
        if let Some(image) = image.and_then(|body| serde_json::from_slice(&body).ok()) {
            return Ok(vec![image]);
        }
    }
    api.list(Request::get(Image, ["images"]).with("limit", "500"), "images").await
}

fn choose(kind: Kind, name: &str, all: &[Named]) -> Result<String> {
    let what = kind.text();
    let refuse = |message: String| Err(Error::permanent(ErrorKind::Config, message));
    // An image that is deactivated, or still being uploaded, cannot be booted.
    let is_usable =
        |one: &&Named| kind != Kind::Image || one.status.as_deref().is_none_or(|status| status == "active");
    let usable = || all.iter().filter(is_usable);
    if let Some(one) = usable().find(|one| one.id == name) {
        return Ok(one.id.clone());
    }
    let mut found: Vec<&Named> = usable().filter(|one| one.name.as_deref() == Some(name)).collect();
    if kind == Kind::Image {
        // Sites upload the image of the night before they delete the last one.
        found.sort_by_key(|one| one.created_at.as_deref().and_then(timestamp));
        found = found.split_off(found.len().saturating_sub(1));
    }
    match found.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => {
            let mut unusable = all.iter().filter(|one| one.name.as_deref() == Some(name) || one.id == name);
            let coming = ["queued", "saving", "uploading", "importing"];
            let is_coming =
                |one: &Named| one.status.as_deref().is_some_and(|status| coming.contains(&status));
            match unusable.clone().next() {
                Some(_) if unusable.any(is_coming) => {
                    let message = format!("the {what} {name:?} is still being uploaded");
                    Err(Error::temporary(ErrorKind::Remote, message))
                }
                Some(_) => refuse(format!("the {what} {name:?} is not active: activate it, or name another")),
                None => {
                    let names = all.iter().filter_map(|one| one.name.as_deref()).collect();
                    refuse(format!("the cloud has no {what} {name:?}: {}", suggestion(name, names)))
                }
            }
        }
        several => {
            let ids = several.iter().map(|one| one.id.as_str()).collect::<Vec<_>>().join(", ");
            refuse(format!("the cloud has several of the {what} {name:?}: give the id of one ({ids})"))
        }
    }
}

/// "did you mean ...?" if a name is similar, else the names that there are.
fn suggestion(wanted: &str, mut names: Vec<&str>) -> String {
    names.sort_unstable();
    names.dedup();
    // By edit distance, `ubuntu` is far from `ubuntu-noble`.
    let contains = |name: &&&str| {
        let (wanted, name) = (wanted.to_lowercase(), name.to_lowercase());
        name.contains(&wanted) || wanted.contains(&name)
    };
    match suggest(wanted, names.iter().copied()).or_else(|| names.iter().find(contains).copied()) {
        Some(name) => format!("did you mean {name}?"),
        None if names.is_empty() => "there are none at all".into(),
        None if names.len() <= MAX_NAMES_SHOWN => format!("there are {}", names.join(", ")),
        None => {
            let more = names.len() - MAX_NAMES_SHOWN;
            format!("there are {} and {more} more", names[..MAX_NAMES_SHOWN].join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, name: &str, status: &str, day: u8) -> Named {
        let created_at = Some(format!("2026-11-{day:02}T03:00:00Z"));
        Named { id: id.into(), name: Some(name.into()), status: Some(status.into()), created_at }
    }

    #[test]
    fn a_name_must_mean_one_usable_thing() {
        let all = [
            image("1", "noble", "active", 1),
            image("2", "noble", "deactivated", 2),
            image("3", "jammy", "deactivated", 3),
        ];
        assert_eq!(choose(Kind::Image, "noble", &all).unwrap(), "1");
        assert_eq!(choose(Kind::Image, "1", &all).unwrap(), "1");
        let error = |kind, name: &str, all: &[Named]| choose(kind, name, all).unwrap_err();
        let deactivated = error(Kind::Image, "jammy", &all);
        assert!(deactivated.to_string().contains("is not active") && !deactivated.is_temporary());
        assert!(error(Kind::Image, "nobel", &all).to_string().contains("did you mean noble?"));
        let twice = [image("1", "private", "", 1), image("2", "private", "", 2)];
        assert!(error(Kind::Network, "private", &twice).to_string().contains("the id of one (1, 2)"));
    }

    /// V7: every nightly rotation of images has a time with two of one name, or with one that is still being uploaded.
    #[test]
    fn v7_the_newest_of_several_images_is_taken_and_an_unfinished_one_is_awaited() {
        let night = [
            image("new", "noble", "active", 20),
            image("old", "noble", "active", 19),
            image("older", "noble", "active", 7),
        ];
        assert_eq!(choose(Kind::Image, "noble", &night).unwrap(), "new");
        let upload = [image("new", "noble", "saving", 20), image("old", "noble", "active", 19)];
        assert_eq!(choose(Kind::Image, "noble", &upload).unwrap(), "old");
        for status in ["queued", "saving", "uploading", "importing"] {
            let error = choose(Kind::Image, "noble", &[image("new", "noble", status, 20)]).unwrap_err();
            assert!(error.is_temporary() && error.to_string().contains("still being uploaded"), "{error}");
        }
    }

    #[test]
    fn a_similar_name_is_suggested_else_the_names_are_listed() {
        assert_eq!(suggestion("m1.larg", vec!["m1.large", "m1.tiny"]), "did you mean m1.large?");
        assert_eq!(suggestion("ubuntu", vec!["ubuntu-noble", "debian"]), "did you mean ubuntu-noble?");
        assert_eq!(suggestion("gpu", vec!["m1.large", "m1.tiny"]), "there are m1.large, m1.tiny");
        assert_eq!(suggestion("gpu", vec![]), "there are none at all");
        let many: Vec<String> = (0..20).map(|n| format!("flavor-{n:02}")).collect();
        assert!(suggestion("x", many.iter().map(String::as_str).collect()).ends_with("and 12 more"));
    }
}
