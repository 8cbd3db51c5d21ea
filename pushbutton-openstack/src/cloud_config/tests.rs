use std::path::Path;

use secrecy::ExposeSecret;

use super::*;

const CLOUDS: &str = "
clouds:
  lab: &lab
    auth: {auth_url: 'http://cloud.example.com/v3', username: ci, project_name: ci, user_domain_id: default}
    auth_type: v3password
    region_name: 7
  second:
    <<: *lab
    interface: internalURL
    compute_endpoint_override: 'http://nova.example.com/v2.1'
";

fn config(dir: &Path, cloud: Option<&str>) -> OpenStackConfig {
    let mut config: OpenStackConfig = serde_yaml::from_str("nodes: {a: {image: i, flavor: f}}").unwrap();
    config.clouds_file = Some(dir.join("clouds.yaml"));
    config.cloud = cloud.map(str::to_owned);
    config
}

fn read(config: &OpenStackConfig) -> Result<CloudConfig> {
    CloudConfig::read(config, &Environment::default())
}

/// The cloud with this entry, which gets a login.
fn entry(text: &str) -> Result<CloudConfig> {
    let dir = tempfile::tempdir().unwrap();
    let login = "auth: {auth_url: u, username: a, password: b}";
    std::fs::write(dir.path().join("clouds.yaml"), format!("clouds: {{lab: {{{login}, {text}}}}}")).unwrap();
    read(&config(dir.path(), None))
}

#[test]
fn a_file_at_any_path_is_read_with_the_secrets_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("clouds.yaml"), CLOUDS).unwrap();
    std::fs::write(dir.path().join("secure.yaml"), "clouds: {lab: {auth: {password: hush}}}").unwrap();
    let cloud = read(&config(dir.path(), Some("lab"))).unwrap();
    assert_eq!(cloud.endpoints[&Service::Compute].region.as_deref(), Some("7"));
    assert!(cloud.credentials.body.expose_secret().contains(r#""password":"hush""#));
    assert!(!format!("{cloud:?}").contains("hush"));

    let error = |name: Option<&str>| read(&config(dir.path(), name)).unwrap_err().to_string();
    assert!(error(None).contains("lab, second") && error(None).contains("`cloud`"), "{}", error(None));
    assert!(error(Some("labs")).contains("no cloud \"labs\": it has lab, second"), "{}", error(Some("labs")));
    let incomplete = error(Some("second"));
    assert!(incomplete.contains("has no password: add `auth.password`"), "{incomplete}");
}

#[test]
fn a_file_that_was_named_and_is_not_there_is_refused() {
    let error = read(&config(Path::new("/nowhere"), None)).unwrap_err().to_string();
    assert!(error.contains("cannot read /nowhere/clouds.yaml"), "{error}");
}

#[test]
fn a_broken_file_is_refused_with_the_line_and_never_quoted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("clouds.yaml"), "clouds:\n  lab:\n    password: 'hush\n  x").unwrap();
    let error = format!("{:?}", read(&config(dir.path(), None)).unwrap_err());
    assert!(error.contains("is not YAML") && !error.contains("hush"), "{error}");
}

#[test]
fn an_entry_is_read_with_its_interface_and_endpoint_overrides() {
    let cloud = entry(
        "endpoint_type: internalURL, volumev3_endpoint_override: 'http://c', other_endpoint_override: x",
    )
    .unwrap();
    let storage = &cloud.endpoints[&Service::BlockStorage];
    assert_eq!((storage.interface, storage.url.as_deref()), (InterfaceType::Internal, Some("http://c")));
    for (more, says) in [
        ("interface: outside", "none of public, internal and admin"),
        ("compute_endpoint_override: nova", "is not a URL"),
    ] {
        let error = entry(more).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Backends 4.1, item 6.
#[test]
fn certificates_that_are_not_verified_are_allowed_with_a_loud_warning() {
    for more in ["verify: false", "verify: no", "insecure: true", "insecure: 'yes'"] {
        let cloud = entry(more).unwrap();
        assert!(!cloud.tls.verify, "{more}");
        assert!(cloud.warnings.iter().any(|one| one.contains("NOT verified")), "{:?}", cloud.warnings);
    }
    for more in ["verify: true", "insecure: false", "cacert: /ca.pem"] {
        let cloud = entry(more).unwrap();
        assert!(cloud.tls.verify && cloud.warnings.is_empty(), "{more}: {:?}", cloud.warnings);
    }
}

#[test]
fn an_api_version_that_is_not_supported_is_a_warning() {
    assert!(
        entry("compute_api_version: 2, network_api_version: '2.0', volume_api_version: 3")
            .unwrap()
            .warnings
            .is_empty()
    );
    let cloud = entry("volume_api_version: 2").unwrap();
    assert!(
        cloud.warnings[0].contains("the API version 2 of block-storage is not supported"),
        "{:?}",
        cloud.warnings
    );
}

/// Report 8: a region that does not exist is refused with those that do.
#[test]
fn report_8_an_unknown_region_is_refused_with_the_regions_that_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "clouds: {lab: {auth: {auth_url: u, username: a, password: b}, regions: [central-1, {name: central-2}]}}";
    std::fs::write(dir.path().join("clouds.yaml"), yaml).unwrap();
    let of = |region: Option<&str>| {
        let mut config = config(dir.path(), None);
        config.region = region.map(str::to_owned);
        read(&config).map(|cloud| cloud.endpoints[&Service::Compute].region.clone().unwrap_or_default())
    };
    assert_eq!(of(None).unwrap(), "central-1");
    assert_eq!(of(Some("central-2")).unwrap(), "central-2");
    let error = of(Some("west")).unwrap_err().to_string();
    assert!(error.contains("no region \"west\": it has central-1, central-2"), "{error}");
}

/// Backends 4.1, item 9.
#[test]
fn a_profile_on_the_network_is_refused_with_what_to_do() {
    let error = entry("profile: 'https://vexxhost.example'").unwrap_err().to_string();
    assert!(
        error.contains("not fetched from the network") && error.contains("clouds-public.yaml"),
        "{error}"
    );
    let missing = entry("profile: vexxhost").unwrap();
    assert!(missing.warnings[0].contains("no clouds-public.yaml has the profile"), "{:?}", missing.warnings);
}
