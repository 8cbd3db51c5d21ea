//! Reports 8 and 10, and point 9 of backends 4.1: the files that people have are read as openstacksdk reads them. Both
//! read each case here, and agree field by field; where they do not, the case says why.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use super::*;
use crate::cloud_files;

#[derive(Default)]
struct Case {
    name: &'static str,
    /// Below a directory of its own, which is the working directory; `home` in it is the home directory.
    files: Vec<(&'static str, String)>,
    /// `DIR` stands for the directory.
    variables: Vec<(&'static str, &'static str)>,
    cloud: Option<&'static str>,
    region: Option<&'static str>,
    /// Why the two do not agree.
    differs: Option<&'static str>,
}

const AUTH: &str = "auth: {auth_url: 'https://keystone.example:5000/v3', username: ci, password: s3, project_name: ci, user_domain_name: Default, project_domain_name: Default}";
const TOKEN_IS_LOST: &str = "openstacksdk 4.4 replaces a token in auth by the text None (magic_fixes sets a default beside auth, which then wins)";
const APPLICATION_CREDENTIAL: &str =
    "auth_url: 'https://keystone.example:5000/v3', application_credential_secret: s3";

/// A `clouds.yaml` with the cloud `lab`, which has this entry.
fn lab(name: &'static str, entry: &str) -> Case {
    Case { name, files: vec![("clouds.yaml", format!("clouds: {{lab: {{{entry}}}}}"))], ..Case::default() }
}

/// The same with a login.
fn with_login(name: &'static str, entry: &str) -> Case {
    lab(name, &format!("{AUTH}, {entry}"))
}

impl Case {
    fn file(mut self, path: &'static str, text: impl Into<String>) -> Self {
        self.files.push((path, text.into()));
        self
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    fn cloud(self, name: &'static str) -> Self {
        Self { cloud: Some(name), ..self }
    }

    fn region(self, name: &'static str) -> Self {
        Self { region: Some(name), ..self }
    }

    fn differs(self, why: &'static str) -> Self {
        Self { differs: Some(why), ..self }
    }
}

fn regions() -> Vec<Case> {
    let long = "regions: [{name: central-1, values: {interface: internal, networks: [{name: a}]}}, {name: central-2, values: {cacert: /two.pem}}, west]";
    vec![
        with_login("no region", "interface: public"),
        with_login("one region", "region_name: central-1"),
        with_login("a region that is a number", "region_name: 7"),
        with_login("regions as names", "regions: [central-1, central-2]"),
        with_login("regions with values", long),
        with_login("the second region", long).region("central-2"),
        with_login("a region without values", long).region("west"),
        with_login("an unknown region", long).region("east"),
        with_login("any region where none is known", "interface: public").region("east"),
        with_login("an unknown region of one", "region_name: west").region("east"),
        with_login("regions win over region_name", "region_name: central-2, regions: [central-1, central-2]"),
        with_login("an empty list of regions", "regions: []"),
        with_login("several names with commas", "region_name: 'central-1,central-2'"),
        with_login("several names as a list", "region_name: [central-1, central-2]"),
        with_login(
            "a region with a login of its own",
            "regions: [{name: r, values: {auth: {project_name: other}}}]",
        ),
        with_login("a region with an unknown key", "regions: [{name: r, value: {}}]"),
        with_login("a region with old words", "regions: [{name: r, values: {endpoint_type: adminURL}}]"),
        with_login(
            "a null value of a region",
            "cacert: /ca.pem, regions: [{name: r, values: {cacert: null}}]",
        ),
        lab(
            "a URL with the region in it",
            "region_name: west, compute_endpoint_override: 'https://{region_name}.nova.example/v2.1', auth: {auth_url: 'https://{region_name}.example/v3', username: a, password: b}",
        ),
    ]
}

fn profiles() -> Vec<Case> {
    let public = "public-clouds: {big: {auth: {auth_url: 'https://big.example/v3', user_domain_name: Big}, interface: internal, regions: [one, two]}, small: {region_name: only, auth: {auth_url: 'https://small.example/v3'}}}";
    let login = "auth: {username: a, password: b, project_name: p}";
    vec![
        lab("a profile", &format!("profile: big, {login}")).file("clouds-public.yaml", public),
        lab("a profile and its second region", &format!("profile: big, {login}"))
            .file("clouds-public.yaml", public)
            .region("two"),
        lab("a profile with one region", &format!("profile: small, {login}")).file("clouds-public.yaml", public),
        lab("an old word for a profile", &format!("cloud: big, {login}")).file("clouds-public.yml", public),
        lab("an entry wins over its profile", "profile: big, interface: admin, region_name: three, auth: {username: a, password: b, user_domain_name: Mine}")
            .file("clouds-public.yaml", public),
        lab("a profile in JSON in the home directory", &format!("profile: j, {login}")).file(
            "home/.config/openstack/clouds-public.json",
            r#"{"public-clouds": {"j": {"auth": {"auth_url": "https://j.example/v3"}}}}"#,
        ),
        with_login("an unknown profile", "profile: none-of-these"),
        with_login("a profile on the network", "profile: 'http://127.0.0.1:9'"),
        lab("a profile on the network that was saved", &format!("profile: 'https://big.example', {login}")).file(
            "clouds-public.yaml",
            "public-clouds: {'https://big.example': {auth: {auth_url: 'https://big.example/v3'}}}",
        ),
        lab("a profile of openstacksdk's own", &format!("profile: switchengines, {login}"))
            .differs("openstacksdk's own profiles are not included; the error says what to do"),
    ]
}

fn files() -> Vec<Case> {
    let other = "clouds: {other: {auth: {auth_url: 'https://other.example/v3', username: a, password: b}}}";
    let json = r#"{"clouds": {"lab": {"auth": {"auth_url": "https://j.example/v3", "username": "a", "password": "b"}, "region_name": "j"}}}"#;
    let no_password = "auth: {auth_url: 'https://k.example/v3', username: ci, project_name: ci}";
    let secret = "clouds: {lab: {auth: {password: s3}}}";
    let named = |name, path, text: &str| Case { name, ..Case::default() }.file(path, text);
    vec![
        named("clouds.yml", "clouds.yml", other),
        named("clouds.json", "clouds.json", json),
        with_login("yaml before yml and json", "region_name: yaml").file("clouds.yml", other).file("clouds.json", json),
        named("in the home directory", "home/.config/openstack/clouds.yaml", other),
        with_login("here before the home directory", "region_name: here")
            .file("home/.config/openstack/clouds.yaml", other),
        named("in XDG_CONFIG_HOME", "xdg/openstack/clouds.yaml", other).variable("XDG_CONFIG_HOME", "DIR/xdg"),
        named("named by a variable", "elsewhere/my.yaml", other).variable("OS_CLIENT_CONFIG_FILE", "DIR/elsewhere/my.yaml"),
        with_login("named by a variable, and not there", "region_name: here")
            .variable("OS_CLIENT_CONFIG_FILE", "DIR/nowhere.yaml")
            .differs("a file that was named and is missing is refused, where openstacksdk silently takes another"),
        named("no file", "unrelated", ""),
        lab("secure.yaml", no_password).file("secure.yaml", secret),
        lab("secure.json", no_password).file("secure.json", r#"{"clouds": {"lab": {"auth": {"password": "j"}}}}"#),
        lab("secure.yaml in the home directory", no_password).file("home/.config/openstack/secure.yaml", secret),
        lab("secure.yaml wins", &format!("{AUTH}, region_name: a")).file("secure.yaml", "clouds: {lab: {region_name: b, auth: {password: other}}}"),
        lab("secure.yaml named by a variable", no_password)
            .file("keys/s.yaml", secret)
            .variable("OS_CLIENT_SECURE_FILE", "DIR/keys/s.yaml"),
        named("secure.yaml beside a named file", "x/clouds.yaml", &format!("clouds: {{lab: {{{no_password}}}}}"))
            .file("x/secure.yaml", secret)
            .variable("OS_CLIENT_CONFIG_FILE", "DIR/x/clouds.yaml")
            .differs("openstacksdk does not look beside the file that was named"),
        lab("no password", no_password)
            .differs("openstacksdk notices it at the login; here the file is refused at the start"),
        named("chosen by OS_CLOUD", "clouds.yaml", &format!("clouds: {{a: {{{AUTH}, region_name: a}}, b: {{{AUTH}, region_name: b}}}}"))
            .variable("OS_CLOUD", "b"),
        named("one of several", "clouds.yaml", &format!("clouds: {{a: {{{AUTH}}}, b: {{{AUTH}, region_name: b}}}}")).cloud("b"),
        named("none of several", "clouds.yaml", &format!("clouds: {{a: {{{AUTH}}}, b: {{{AUTH}}}}}")),
        with_login("an unknown cloud", "region_name: a").cloud("labs"),
        named(
            "anchors",
            "clouds.yaml",
            "clouds:\n  a: &a\n    auth: {auth_url: 'https://a.example/v3', username: u, password: p}\n    region_name: one\n  b:\n    <<: *a\n    region_name: two\n",
        )
        .cloud("b"),
    ]
}

fn variables() -> Vec<Case> {
    let login = |name| {
        Case { name, ..Case::default() }
            .variable("OS_AUTH_URL", "https://env.example/v3")
            .variable("OS_USERNAME", "ci")
            .variable("OS_PASSWORD", "s3")
    };
    vec![
        login("variables alone")
            .variable("OS_PROJECT_NAME", "ci")
            .variable("OS_USER_DOMAIN_NAME", "Default")
            .variable("OS_PROJECT_DOMAIN_ID", "default")
            .variable("OS_REGION_NAME", "west")
            .variable("OS_INTERFACE", "internal")
            .variable("OS_IDENTITY_API_VERSION", "3"),
        login("old variables").variable("OS_TENANT_NAME", "ci").variable("OS_ENDPOINT_TYPE", "adminURL"),
        login("TLS by variables").variable("OS_CACERT", "DIR/ca.pem").variable("OS_CERT", "DIR/c.pem").variable("OS_KEY", "DIR/k.pem"),
        login("insecure by variable").variable("OS_INSECURE", "true"),
        login("an override by variable").variable("OS_COMPUTE_ENDPOINT_OVERRIDE", "https://nova.example/v2.1"),
        login("variables win over a file's only cloud").file("clouds.yaml", format!("clouds: {{lab: {{{AUTH}}}}}")),
        login("OS_CLOUD wins over variables")
            .file("clouds.yaml", format!("clouds: {{lab: {{{AUTH}}}}}"))
            .variable("OS_CLOUD", "lab"),
        login("the cloud of the variables by its name").file("clouds.yaml", format!("clouds: {{lab: {{{AUTH}}}}}")).cloud("envvars"),
        login("the cloud of the variables by a name of its own").variable("OS_CLOUD_NAME", "mine").cloud("mine"),
        Case { name: "an application credential by variables", ..Case::default() }
            .variable("OS_AUTH_TYPE", "v3applicationcredential")
            .variable("OS_AUTH_URL", "https://env.example/v3")
            .variable("OS_APPLICATION_CREDENTIAL_ID", "i")
            .variable("OS_APPLICATION_CREDENTIAL_SECRET", "s"),
        Case { name: "a token by variables", ..Case::default() }
            .variable("OS_AUTH_TYPE", "v3token")
            .variable("OS_AUTH_URL", "https://env.example/v3")
            .variable("OS_TOKEN", "t")
            .variable("OS_PROJECT_ID", "p"),
        with_login("a variable that selects nothing", "region_name: a").variable("OS_IDENTITY_API_VERSION", "3").differs(
            "openstacksdk takes any OS_* variable for a cloud, and then misses its auth_url; here OS_AUTH_URL makes one",
        ),
    ]
}

fn logins() -> Vec<Case> {
    let with = |name, rest: &str| {
        lab(name, &format!("auth_type: v3applicationcredential, auth: {{{APPLICATION_CREDENTIAL}, {rest}}}"))
    };
    vec![
        with("an application credential by id", "application_credential_id: i"),
        with("one by name", "application_credential_name: n, username: ci, user_domain_name: Default"),
        with("one by name and user id", "application_credential_name: n, user_id: u1"),
        lab("one without auth_type", &format!("auth: {{{APPLICATION_CREDENTIAL}, application_credential_id: i}}"))
            .differs("openstacksdk needs the auth_type; here the secret decides"),
        lab("a token", "auth_type: token, auth: {auth_url: 'https://k.example/v3', token: t, project_id: p}")
            .differs(TOKEN_IS_LOST),
        lab("a v3 token", "auth_type: v3token, auth: {auth_url: 'https://k.example/v3', token: t, project_name: p, project_domain_name: D}")
            .differs(TOKEN_IS_LOST),
        lab("a token by its old name", "auth_type: v3token, auth: {auth_url: 'https://k.example/v3', auth_token: t}"),
        lab("a token without auth_type", "auth: {auth_url: 'https://k.example/v3', token: t, project_id: p}")
            .differs("openstacksdk needs the auth_type; here the token decides"),
        lab("v3password", "auth_type: v3password, auth: {auth_url: 'https://k.example/v3', username: a, password: b, user_domain_id: d}"),
        lab("an unknown auth_type", "auth_type: v3nonsense, auth: {auth_url: 'https://k.example/v3'}"),
        lab("a tenant", "auth: {auth_url: 'https://k.example/v3', username: a, password: b, tenant_name: t}"),
        lab("a project wins over a tenant", "auth: {auth_url: 'https://k.example/v3', username: a, password: b, tenant_name: t, project_name: p}"),
        lab("a tenant's id", "auth: {auth_url: 'https://k.example/v3', username: a, password: b, tenant_id: 12}"),
        lab("dashes", "auth: {auth-url: 'https://k.example/v3', username: a, password: b, project-name: p, user-domain-name: D}, region-name: r"),
        lab("a login beside auth", "auth_url: 'https://k.example/v3', username: a, password: b, project_name: p, auth: {}"),
        lab("auth wins over what is beside it", "username: x, password: y, auth: {auth_url: 'https://k.example/v3', username: a, password: b}"),
        lab("a project beside auth", "project_name: x, auth: {auth_url: 'https://k.example/v3', username: a, password: b, project_name: p}"),
        lab("one domain for both", "auth: {auth_url: 'https://k.example/v3', username: a, password: b, project_name: p, domain_name: D}"),
        lab("one domain and one of the two", "auth: {auth_url: 'https://k.example/v3', username: a, password: b, project_id: p, domain_id: d, user_domain_id: u}"),
        lab("a domain without a project", "auth: {auth_url: 'https://k.example/v3', username: a, password: b, domain_id: d}"),
        lab("a default domain", "auth: {auth_url: 'https://k.example/v3', username: a, password: b, project_name: p, default_domain_id: d}"),
        lab("numbers", "auth: {auth_url: 'https://k.example/v3', username: 7, password: 1234, project_id: 99}"),
        lab("a password with a leading zero", "auth: {auth_url: 'https://k.example/v3', username: a, password: 0123}")
            .differs("YAML 1.1 takes it for an octal number (83), and the login fails; here it is what is written"),
    ]
}

fn connections() -> Vec<Case> {
    vec![
        with_login("an internal interface", "interface: internal"),
        with_login("an old interface", "interface: internalURL"),
        with_login("an endpoint_type", "endpoint_type: adminURL"),
        with_login(
            "an interface of a service",
            "interface: internal, compute_interface: public, volume_interface: admin",
        ),
        with_login("an endpoint_type of a service", "image_endpoint_type: internalURL"),
        with_login(
            "a region of a service",
            "region_name: a, image_region_name: b, block_storage_region_name: c",
        ),
        with_login("API versions", "compute_api_version: 2, volume_api_version: '3', image_api_version: 2"),
        with_login(
            "endpoint overrides",
            "compute_endpoint_override: 'https://nova.example/v2.1', volumev3_endpoint_override: 'https://cinder.example/v3/%(project_id)s'",
        ),
        with_login(
            "the official name of a service first",
            "volume_endpoint_override: 'https://old.example', block_storage_endpoint_override: 'https://new.example'",
        ),
        with_login("an endpoint", "network_endpoint: 'https://neutron.example'"),
        with_login("verify false", "verify: false"),
        with_login("verify no", "verify: no"),
        with_login("verify true", "verify: true"),
        with_login("verify with a path", "verify: /etc/ssl/lab.pem"),
        with_login("insecure", "insecure: true"),
        with_login("insecure wins", "insecure: true, verify: true"),
        with_login("not insecure", "insecure: false"),
        with_login("a cacert", "cacert: /etc/ssl/lab.pem"),
        with_login("a cacert at home", "cacert: ~/lab.pem"),
        with_login("a relative cacert", "cacert: certs/lab.pem"),
        with_login("a client certificate", "cert: ~/client.pem"),
        with_login("a client certificate and its key", "cert: certs/client.pem, key: ~/client.key"),
    ]
}

fn networks() -> Vec<Case> {
    vec![
        // The entry of report 10.
        with_login(
            "an unroutable IPv4",
            "networks: [{name: Gateway Network, routes_externally: false, routes_ipv6_externally: true}]",
        ),
        with_login("a routed network", "networks: [{name: a, routes_externally: true}, {name: b}]"),
        with_login(
            "an unroutable IPv6",
            "networks: [{name: a, routes_externally: true, routes_ipv6_externally: false}]",
        ),
        with_login("IPv4 alone", "networks: [{name: a, routes_ipv4_externally: true}]"),
        with_login("flags as texts", "networks: [{name: a, routes_externally: 'True', nat_source: 'false'}]"),
        with_login(
            "flags as YAML 1.1 has them",
            "networks: [{name: a, routes_externally: yes, default_interface: on, nat_source: off}]",
        ),
        with_login(
            "NAT",
            "networks: [{name: a, nat_source: true, routes_externally: true}, {name: b, nat_destination: true, default_interface: true}]",
        ),
        with_login(
            "two destinations",
            "networks: [{name: a, nat_destination: true}, {name: b, nat_destination: true}]",
        ),
        with_login(
            "two defaults",
            "networks: [{name: a, default_interface: true}, {name: b, default_interface: true}]",
        ),
        with_login("a network without a name", "networks: [{routes_externally: true}]"),
        with_login("old words", "external_network: public, internal_network: private"),
        with_login("old and new words", "external_network: public, networks: [{name: a}]"),
        with_login(
            "networks of a region",
            "networks: [{name: a}], regions: [{name: r, values: {networks: [{name: b, routes_externally: true}]}}]",
        ),
    ]
}

fn ours(case: &Case, environment: &Environment) -> Value {
    let mut config: OpenStackConfig = serde_yaml::from_str("nodes: {a: {image: i, flavor: f}}").unwrap();
    (config.cloud, config.region) = (case.cloud.map(str::to_owned), case.region.map(str::to_owned));
    let read = cloud_files::read(&config, environment)
        .and_then(|entry| Ok((entry.settings.clone(), CloudConfig::of_entry(entry, environment)?)));
    let (settings, cloud) = match read {
        Ok(read) => read,
        Err(error) => return json!({"error": error.to_string()}),
    };
    let service = |(service, choice): (&Service, &EndpointChoice)| {
        let versions = service.names().iter().map(|name| format!("{}_api_version", name.replace('-', "_")));
        let service_json = json!({
            "region": choice.region, "interface": choice.interface.to_string(), "endpoint": choice.url,
            "api_version": versions.into_iter().find_map(|key| text(&settings, &key)),
        });
        (service.catalog_type().to_owned(), service_json)
    };
    let network = |network: &CloudNetwork| {
        json!({
            "name": network.name, "routes_externally": network.routes_externally,
            "routes_ipv4_externally": network.routes_ipv4_externally,
            "routes_ipv6_externally": network.routes_ipv6_externally, "nat_source": network.nat_source,
            "nat_destination": network.nat_destination, "default_interface": network.default_interface,
        })
    };
    json!({
        "region": text(&settings, "region_name"),
        "auth_type": settings["auth_type"],
        "auth": settings["auth"],
        "verify": cloud.tls.verify,
        "cacert": cloud.tls.cacert.filter(|_| cloud.tls.verify),
        "cert": cloud.tls.cert,
        "key": cloud.tls.key,
        "networks": cloud.networks.iter().map(network).collect::<Value>(),
        "services": cloud.endpoints.iter().map(service).collect::<Map<_, _>>(),
    })
}

#[test]
fn report_8_report_10_clouds_yaml_is_read_as_openstacksdk_reads_it() {
    let cases: Vec<Case> = [regions(), profiles(), files(), variables(), logins(), connections(), networks()]
        .into_iter()
        .flatten()
        .collect();
    assert!(cases.len() >= 40);
    let root = tempfile::tempdir().unwrap();
    let mut environments = Vec::new();
    let mut for_openstacksdk = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let directory = root.path().join(number.to_string());
        for (path, text) in &case.files {
            let path = directory.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::create_dir_all(directory.join("home")).unwrap();
        let place = directory.to_str().unwrap();
        let mut variables: BTreeMap<String, String> = case
            .variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.replace("DIR", place)))
            .collect();
        variables.insert("HOME".into(), format!("{place}/home"));
        for_openstacksdk.push(json!({
            "directory": place, "variables": variables, "cloud": case.cloud, "region": case.region,
        }));
        environments.push(Environment { variables, directory });
    }
    let theirs = openstacksdk(&Value::Array(for_openstacksdk));
    assert_eq!(theirs.len(), cases.len());
    let mut disagreements = Vec::new();
    for ((case, environment), theirs) in cases.iter().zip(&environments).zip(&theirs) {
        let ours = ours(case, environment);
        let both_refuse = ours.get("error").is_some() && theirs.get("error").is_some();
        if (both_refuse || ours == *theirs) != case.differs.is_none() {
            let name = case.name;
            disagreements.push(format!("{name} ({:?})\n  ours   {ours}\n  theirs {theirs}", case.differs));
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} of {}:\n{}",
        disagreements.len(),
        cases.len(),
        disagreements.join("\n")
    );
}

fn openstacksdk(cases: &Value) -> Vec<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cloud_config/openstacksdk.py");
    let mut python = Command::new(pushbutton_testbed::openstack().python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(cases.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}
