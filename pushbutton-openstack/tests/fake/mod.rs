//! A small cloud on 127.0.0.1 that can be told to hang, to refuse, or to act and then fail.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status, with `Retry-After` where seconds are given; nothing is done.
    Refuse(u16, Option<u64>, &'static str),
    /// It is carried out, and then this status is sent.
    DoneBut(u16),
    /// It is carried out, and the reply cannot be read.
    Garbled,
    /// It is carried out after this time; then the reply is sent.
    Late(Duration),
    /// It is carried out, and no reply is sent.
    Silent,
    /// A redirect to this URL; nothing is done.
    Redirect(u16, String),
}

/// What Nova answers to a request for its version.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum VersionDocument {
    /// Its own URL.
    #[default]
    Correct,
    /// A dashboard's page.
    HtmlPage,
    /// A URL that only the cloud's own hosts can reach.
    UnreachableHost,
}

/// What the cloud holds.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) tokens: BTreeSet<String>,
    pub(crate) logins: usize,
    pub(crate) password: String,
    pub(crate) token_seconds: i64,
    pub(crate) servers: BTreeMap<String, Value>,
    pub(crate) floating_ips: BTreeMap<String, Value>,
    pub(crate) ports: BTreeMap<String, Value>,
    pub(crate) volumes: BTreeMap<String, Value>,
    /// The bodies of the creates, by path.
    pub(crate) bodies: Vec<(String, Value)>,
    pub(crate) images: Value,
    /// The fixed addresses of new servers, on each of their networks.
    pub(crate) addresses: Vec<&'static str>,
    /// The regions of each service, in the catalogue's order.
    pub(crate) regions: Vec<(&'static str, Vec<&'static str>)>,
    /// The status of new volumes, and what Cinder says about it.
    pub(crate) volume_status: &'static str,
    pub(crate) volume_message: &'static str,
    /// The status that new servers have.
    pub(crate) status: String,
    /// Whether a deleted server leaves its port behind.
    pub(crate) leaves_ports: bool,
    /// Method and beginning of the path, with what goes wrong; each is used once, in order.
    pub(crate) faults: Vec<(Method, &'static str, Fault)>,
    /// Method and beginning of the path of requests that are always refused, with the status and the body.
    pub(crate) refuses: Vec<(Method, &'static str, u16, &'static str)>,
    /// The beginning of the paths that answer 503, and until when.
    pub(crate) down: Option<(&'static str, Instant)>,
    /// Whether Neutron has no router extension, and so no floating IPs.
    pub(crate) no_router: bool,
    /// The id of the project of a login.
    pub(crate) project: String,
    /// All requests, with their times.
    pub(crate) requests: Vec<(Instant, Method, String)>,
    /// The number of resources created so far.
    pub(crate) made: usize,
    pub(crate) version_document: VersionDocument,
    /// Whether the catalogue's URLs name the API version.
    pub(crate) versions_in_catalog: bool,
    /// Whether lists ignore `marker` and never end.
    pub(crate) ignores_marker: bool,
}

/// The cloud, up until dropped.
pub(crate) struct FakeCloud {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) base: String,
    /// Where its nodes "answer SSH".
    pub(crate) ssh_port: u16,
    _tasks: JoinSet<()>,
}

type Shared = (Arc<Mutex<World>>, String);

impl FakeCloud {
    pub(crate) async fn start() -> Self {
        let world = World {
            password: "hush".into(),
            token_seconds: 3600,
            status: "ACTIVE".into(),
            versions_in_catalog: true,
            images: json!([{"id": "i1", "name": "noble", "status": "active"}]),
            addresses: vec!["127.0.0.1"],
            volume_status: "available",
            project: "p1".into(),
            ..World::default()
        };
        let world = Arc::new(Mutex::new(world));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let ssh = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ssh_port = ssh.local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let yaml = format!(
            "clouds: {{fake: {{auth: {{auth_url: '{base}/identity', username: ci, password: hush, project_name: ci}}}}}}"
        );
        std::fs::write(dir.path().join("clouds.yaml"), yaml).unwrap();
        let app = Router::new().fallback(answer).with_state((Arc::clone(&world), base.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = ssh.accept().await.unwrap();
                let _ = stream.write_all(b"SSH-2.0-fake\r\n").await;
            }
        });
        Self { world, dir, base, ssh_port, _tasks: tasks }
    }

    /// The entry of `clouds.yaml`, with more settings.
    pub(crate) fn write_entry(&self, more: &str) {
        let auth = format!(
            "auth: {{auth_url: '{}/identity', username: ci, password: hush, project_name: ci}}",
            self.base
        );
        let yaml = format!("clouds: {{fake: {{{auth}, {more}}}}}");
        std::fs::write(self.dir.path().join("clouds.yaml"), yaml).unwrap();
    }

    /// Writes another password into `clouds.yaml`.
    pub(crate) fn write_password(&self, password: &str) {
        let path = self.dir.path().join("clouds.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("password: hush", &format!("password: {password}"))).unwrap();
    }

    /// The body of the first create at this path.
    pub(crate) fn body(&self, path: &str) -> Value {
        let world = self.world();
        let found = world.bodies.iter().find(|(of, _)| of == path);
        found.unwrap_or_else(|| panic!("nothing was created at {path}")).1.clone()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// The next request of this kind goes wrong; several calls are for as many requests.
    pub(crate) fn fault(&self, method: Method, path: &'static str, fault: Fault) {
        self.world().faults.push((method, path, fault));
    }

    /// The times of the requests of this kind.
    pub(crate) fn times(&self, method: &Method, path: &str) -> Vec<Instant> {
        let world = self.world();
        let of_kind = world.requests.iter().filter(|(_, m, p)| m == method && p.starts_with(path));
        of_kind.map(|(at, ..)| *at).collect()
    }
}

async fn answer(
    State((world, base)): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().trim_end_matches('/').to_owned();
    let fault = {
        let mut world = world.lock().unwrap();
        world.requests.push((Instant::now(), method.clone(), path.clone()));
        let is_of = |m: &Method, p: &str| *m == method && path.starts_with(p);
        if world.down.is_some_and(|(p, until)| path.starts_with(p) && Instant::now() < until) {
            return (StatusCode::SERVICE_UNAVAILABLE, "<h1>503 Service Unavailable</h1>").into_response();
        }
        if let Some((_, _, status, body)) = world.refuses.iter().find(|(m, p, ..)| is_of(m, p)) {
            return (StatusCode::from_u16(*status).unwrap(), *body).into_response();
        }
        let at = world.faults.iter().position(|(m, p, _)| is_of(m, p));
        at.map(|at| world.faults.remove(at).2)
    };
    let act = || act(&world, &base, &method, &path, &headers, &body);
    match fault {
        None => act(),
        Some(Fault::Refuse(status, retry_after, body)) => {
            let status = StatusCode::from_u16(status).unwrap();
            let mut reply = (status, body).into_response();
            if let Some(seconds) = retry_after {
                reply.headers_mut().insert("retry-after", seconds.into());
            }
            reply
        }
        Some(Fault::Redirect(status, location)) => {
            (StatusCode::from_u16(status).unwrap(), [("location", location)], "").into_response()
        }
        Some(Fault::DoneBut(status)) => {
            act();
            (StatusCode::from_u16(status).unwrap(), "<h1>Service Unavailable</h1>").into_response()
        }
        Some(Fault::Garbled) => {
            act();
            (StatusCode::ACCEPTED, "{\"server\": {").into_response()
        }
        Some(Fault::Late(time)) => {
            // In a task of its own: a service goes on when its client is gone.
            let (world, base) = (Arc::clone(&world), base.clone());
            let late = tokio::spawn(async move {
                tokio::time::sleep(time).await;
                self::act(&world, &base, &method, &path, &headers, &body)
            });
            late.await.unwrap()
        }
        Some(Fault::Silent) => {
            act();
            std::future::pending().await
        }
    }
}

fn ok(body: Value) -> Response {
    (StatusCode::OK, axum::Json(body)).into_response()
}

fn not_found() -> Response {
    let body = json!({"itemNotFound": {"code": 404, "message": "not there"}});
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}

fn act(
    world: &Mutex<World>,
    base: &str,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let mut world = world.lock().unwrap();
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if path == "/identity/v3/auth/tokens" {
        return log_in(&mut world, base, &body);
    }
    let token = headers.get("x-auth-token").and_then(|token| token.to_str().ok()).unwrap_or_default();
    if !world.tokens.contains(token) {
        let body =
            json!({"error": {"code": 401, "message": "The request you have made requires authentication."}});
        return (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response();
    }
    if *method == Method::POST {
        world.bodies.push((path.to_owned(), body.clone()));
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').skip(2).collect();
    match (method.as_str(), path.split('/').nth(1).unwrap_or_default(), parts.as_slice()) {
        ("GET", "compute", []) => version_document(world.version_document, base),
        ("GET", "compute", ["flavors"]) => {
            let mut flavors = json!({"flavors": [{"id": "f1", "name": "small", "links": []}]});
            if world.ignores_marker {
                flavors["flavors_links"] = json!([{"rel": "next", "href": "?marker=f1"}]);
            }
            ok(flavors)
        }
        ("GET", "compute", ["os-keypairs"]) => ok(json!({"keypairs": [{"keypair": {"name": "ci"}}]})),
        ("GET", "compute", ["limits"]) => ok(json!({"limits": {"absolute": {}}})),
        ("GET", "image", ["images"]) => ok(json!({"images": world.images})),
        ("GET", "network", ["networks"]) => ok(json!({"networks": [
            {"id": "n1", "name": "public"}, {"id": "n2", "name": "second"}, {"id": "n3", "name": "third"},
        ]})),
        ("GET", "network", ["security-groups"]) => {
            ok(json!({"security_groups": [{"id": "g1", "name": "open"}]}))
        }
        ("GET", "compute", ["os-server-groups"]) => {
            ok(json!({"server_groups": [{"id": "sg1", "name": "apart"}]}))
        }
        ("POST", "network", ["ports"]) => {
            world.made += 1;
            let mut port = body["port"].clone();
            port["id"] = json!(format!("made-{}", world.made));
            let addresses: Vec<_> = world.addresses.iter().map(|ip| json!({"ip_address": ip})).collect();
            if port["fixed_ips"].is_null() {
                port["fixed_ips"] = json!(addresses);
            }
            world.ports.insert(port["id"].as_str().unwrap().into(), port.clone());
            ok(json!({"port": port}))
        }
        ("POST", "volume", ["volumes"]) => {
            world.made += 1;
            let mut volume = body["volume"].clone();
            volume["id"] = json!(format!("volume-{}", world.made));
            volume["status"] = json!(world.volume_status);
            world.volumes.insert(volume["id"].as_str().unwrap().into(), volume.clone());
            ok(json!({"volume": volume}))
        }
        ("GET", "volume", ["volumes", "detail"]) => {
            ok(json!({"volumes": world.volumes.values().collect::<Vec<_>>()}))
        }
        ("GET", "volume", ["messages"]) => {
            let id = world.volumes.keys().next().cloned().unwrap_or_default();
            ok(json!({"messages": [{"resource_uuid": id, "user_message": world.volume_message}]}))
        }
        ("GET", "volume", ["volumes", id]) => match world.volumes.get(*id) {
            Some(volume) => ok(json!({"volume": volume})),
            None => not_found(),
        },
        ("DELETE", "volume", ["volumes", id]) => removed(world.volumes.remove(*id)),
        ("POST", "compute", ["servers"]) => create_server(&mut world, &body),
        ("GET", "compute", ["servers", "detail"]) => {
            ok(json!({"servers": world.servers.values().collect::<Vec<_>>()}))
        }
        ("GET", "compute", ["servers", id]) => match world.servers.get(*id) {
            Some(server) => ok(json!({"server": server})),
            None => not_found(),
        },
        ("DELETE", "compute", ["servers", id]) => match world.servers.remove(*id) {
            Some(_) => {
                if !world.leaves_ports {
                    world.ports.retain(|name, port| port["device_id"] != *id || name.starts_with("made-"));
                }
                StatusCode::NO_CONTENT.into_response()
            }
            None => not_found(),
        },
        ("POST", "compute", ["servers", _, "action"]) => ok(json!({"output": ""})),
        ("GET", "network", ["ports"]) => ok(json!({"ports": world.ports.values().collect::<Vec<_>>()})),
        ("DELETE", "network", ["ports", id]) => removed(world.ports.remove(*id)),
        (_, "network", ["floatingips", ..]) if world.no_router => not_found(),
        ("POST", "network", ["floatingips"]) => {
            world.made += 1;
            let mut ip = body["floatingip"].clone();
            ip["id"] = json!(format!("ip-{}", world.made));
            ip["floating_ip_address"] = json!("127.0.0.1");
            world.floating_ips.insert(ip["id"].as_str().unwrap().into(), ip.clone());
            ok(json!({"floatingip": ip}))
        }
        ("GET", "network", ["floatingips"]) => {
            ok(json!({"floatingips": world.floating_ips.values().collect::<Vec<_>>()}))
        }
        ("GET", "network", ["floatingips", id]) => match world.floating_ips.get(*id) {
            Some(ip) => ok(json!({"floatingip": ip})),
            None => not_found(),
        },
        ("DELETE", "network", ["floatingips", id]) => removed(world.floating_ips.remove(*id)),
        _ => not_found(),
    }
}

fn version_document(document: VersionDocument, base: &str) -> Response {
    let root = match document {
        VersionDocument::Correct => base,
        VersionDocument::HtmlPage => {
            return (StatusCode::OK, [("content-type", "text/html")], "<html>Dashboard</html>")
                .into_response();
        }
        // Reserved for documentation (RFC 5737): never routed.
        VersionDocument::UnreachableHost => "http://192.0.2.1:8774",
    };
    ok(json!({"version": {
        "id": "v2.1", "status": "CURRENT", "version": "2.96", "min_version": "2.1",
        "links": [{"rel": "self", "href": format!("{root}/compute/v2.1/")}],
    }}))
}

fn removed(thing: Option<Value>) -> Response {
    if thing.is_some() { StatusCode::NO_CONTENT.into_response() } else { not_found() }
}

fn log_in(world: &mut World, base: &str, body: &Value) -> Response {
    world.logins += 1;
    if body["auth"]["identity"]["password"]["user"]["password"] != world.password {
        let body =
            json!({"error": {"code": 401, "message": "The request you have made requires authentication."}});
        return (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response();
    }
    let token = format!("token-{}", world.logins);
    world.tokens.insert(token.clone());
    let now = jiff::Timestamp::now();
    let versions = world.versions_in_catalog;
    let regions = |kind: &str| match world.regions.iter().find(|(of, _)| *of == kind) {
        Some((_, regions)) => regions.clone(),
        None => vec!["here"],
    };
    let catalog: Vec<Value> = [
        ("compute", "compute/v2.1"),
        ("network", "network/v2.0"),
        ("image", "image/v2"),
        ("volumev3", "volume/v3"),
    ]
    .into_iter()
    .map(|(kind, path)| {
        let path = if versions { path } else { path.split('/').next().unwrap_or_default() };
        let endpoint =
            |region: &str| json!({"interface": "public", "region": region, "url": format!("{base}/{path}")});
        json!({"type": kind, "endpoints": regions(kind).into_iter().map(endpoint).collect::<Vec<_>>()})
    })
    .collect();
    let token_body = json!({"token": {
        "issued_at": now.to_string(),
        "expires_at": (now + Duration::from_secs(world.token_seconds.unsigned_abs())).to_string(),
        "project": {"id": world.project}, "catalog": catalog,
    }});
    (StatusCode::CREATED, [("x-subject-token", token)], axum::Json(token_body)).into_response()
}

fn create_server(world: &mut World, body: &Value) -> Response {
    let wanted = &body["server"];
    let reply = add_server(world, wanted["name"].clone(), wanted["metadata"].clone());
    // As Nova: a port that was created before belongs to the server; others are made.
    for network in wanted["networks"].as_array().into_iter().flatten() {
        let device = json!(reply);
        match network["port"].as_str() {
            Some(port) => {
                let port = world.ports.get_mut(port).unwrap();
                port["device_id"] = device;
            }
            None => {
                let addresses: Vec<_> = world.addresses.iter().map(|ip| json!({"ip_address": ip})).collect();
                let id = format!("port-{reply}-{}", network["uuid"].as_str().unwrap_or_default());
                let port = json!({"id": id, "device_id": device, "network_id": network["uuid"], "fixed_ips": addresses});
                world.ports.insert(id, port);
            }
        }
        world.ports.remove(&format!("port-{reply}"));
    }
    (StatusCode::ACCEPTED, axum::Json(json!({"server": {"id": reply}}))).into_response()
}

/// Puts a server there with a port of its own; returns its id.
pub(crate) fn add_server(world: &mut World, name: Value, metadata: Value) -> String {
    world.made += 1;
    let id = format!("server-{}", world.made);
    let server = json!({"id": id, "name": name, "metadata": metadata, "status": world.status});
    world.servers.insert(id.clone(), server);
    let addresses: Vec<_> = world.addresses.iter().map(|ip| json!({"ip_address": ip})).collect();
    let port =
        json!({"id": format!("port-{id}"), "device_id": id, "network_id": "n1", "fixed_ips": addresses});
    world.ports.insert(format!("port-{id}"), port);
    id
}
