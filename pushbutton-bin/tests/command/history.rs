//! One history for all: what the operators of several hosts did is in every dashboard and command; and a process says
//! whether it can do its work.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use pushbutton_amqp::{AmqpConfig, AmqpQueue};
use pushbutton_core::{Queue as _, samples};
use pushbutton_testbed::{Version, gerrit, rabbitmq, until};
use pushbutton_testkit::faults::Proxy;
use serde_json::{Value, json};

use crate::handler::{Handler, TIMEOUT};
use crate::lab::{Lab, Running};

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Status and body; none when nobody listens yet.
pub(crate) fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let answer = std::io::read_to_string(stream).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn get_json(port: u16, path: &str) -> Option<Value> {
    serde_json::from_str(&get(port, path)?.1).ok()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn history_of_lost_hosts(version: Version) {
    let broker = rabbitmq(version);
    let prefix = format!("history-{version:?}-{}", std::process::id());
    let rabbitmq = format!("rabbitmq: {{url: {:?}, prefix: {prefix}}}\n", broker.url);
    let config: AmqpConfig =
        serde_yaml::from_str(&format!("{{url: {:?}, prefix: {prefix}}}", broker.url)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let publish = |change: u64| {
        runtime.block_on(async {
            let queue = AmqpQueue::connect(config.clone()).await.unwrap();
            queue.publish(&samples::job_on(change, "wait")).await.unwrap();
            queue.close().await;
        });
    };
    // One host after the other: each runs a job, and is then lost with its state folder.
    for change in [7, 8] {
        let host = Lab::new().with_ansible();
        host.configure(&(host.config() + &rabbitmq));
        let mut operator = Running::start(&mut host.command(&["operator", "--wait", "1m"]));
        publish(change);
        operator.says("SUCCESS in");
        operator.signal("-TERM");
        let (status, said) = operator.ends();
        assert_eq!(status.code(), Some(0), "{said}");
    }
    // A host with nothing but the address of the broker: no key, no cloud, no playbooks.
    let host = Lab::new();
    let port = free_port();
    host.configure(&format!("owner: lab\nstate: state\nweb: {{listen: \"127.0.0.1:{port}\"}}\n{rabbitmq}"));
    std::fs::remove_file(host.path("key")).unwrap();
    std::fs::remove_dir_all(host.path("playbooks")).unwrap();
    let dashboard = Running::start(&mut host.command(&["dashboard", "--wait", "1m"]));
    let changes = |runs: &Value| {
        let runs = runs["runs"].as_array().unwrap();
        runs.iter().map(|run| run["job"]["change"]["number"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let runs = until("the dashboard shows the runs of both hosts", TIMEOUT, || {
        get_json(port, "/api/runs").filter(|runs| changes(runs) == [8, 7])
    });
    for run in runs["runs"].as_array().unwrap() {
        assert_eq!(run["verdict"], json!({"verdict": "success"}));
        assert_eq!(run["stages"][0]["stage"], "wait");
    }
    assert_eq!(get(port, "/readyz").unwrap().0, 200);
    let participants = get_json(port, "/api/participants").unwrap();
    let ended = participants["participants"].as_array().unwrap().iter();
    assert_eq!(
        ended.filter(|it| it["ended"] == json!(true) && it["slots"] == json!(1)).count(),
        2,
        "{participants}"
    );

    // Commands on one more fresh host, which is an operator's.
    let host = Lab::new();
    host.configure(&(host.config() + &rabbitmq));
    host.run(&["cancel", "7"]).with(0);
    let listed = lines(&host.run(&["runs", "--json"]).with(0).out);
    assert_eq!(listed.len(), 2);
    let id = listed[1]["run"].as_str().unwrap();
    let shown: Value = serde_json::from_str(&host.run(&["show", id, "--json"]).with(0).out).unwrap();
    assert_eq!(shown["run"], listed[1]);
    assert_eq!(
        host.run(&["show", "no-such-run"]).with(6).out.trim(),
        "no run no-such-run; `pushbutton-bin runs` lists them"
    );
    let status: Value = serde_json::from_str(&host.run(&["status", "--json"]).with(0).out).unwrap();
    assert_eq!(status["runs"].as_array().unwrap().len(), 2, "{status}");
    // And who cancelled what is in the dashboard that runs already.
    until("the dashboard shows the cancellation", TIMEOUT, || {
        let actions = get_json(port, "/api/actions")?;
        let known = actions["actions"]
            .as_array()?
            .iter()
            .any(|it| it["message"] == "cancel-all" && it["change"] == 7);
        known.then_some(())
    });
    dashboard.signal("-TERM");
    assert_eq!(dashboard.ends().0.code(), Some(0));
}

#[test]
fn a_fresh_dashboard_shows_the_runs_of_hosts_that_are_lost_on_rabbitmq_3_10() {
    history_of_lost_hosts(Version::V3);
}

#[test]
fn a_fresh_dashboard_shows_the_runs_of_hosts_that_are_lost_on_rabbitmq_4() {
    history_of_lost_hosts(Version::V4);
}

#[test]
fn a_handler_is_not_ready_while_its_event_stream_is_cut_and_ready_again_after_it() {
    let gerrit = gerrit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let proxy = runtime.block_on(Proxy::start(&format!("{}:{}", gerrit.ssh_host, gerrit.ssh_port))).unwrap();
    let (ssh, web) = (proxy.address().port(), free_port());
    let lab = Lab::with_gerrit(&format!(
        "host: 127.0.0.1\n  port: {ssh}\n  user: acme-ci\n  key: {}\n  host_key: {{known_hosts: known_hosts}}",
        gerrit.key("acme-ci").display(),
    ));
    let known_hosts = std::fs::read_to_string(&gerrit.known_hosts).unwrap();
    lab.write("known_hosts", &known_hosts.replace(&format!("]:{}", gerrit.ssh_port), &format!("]:{ssh}")));
    lab.configure(&(lab.config() + &format!("web: {{listen: \"127.0.0.1:{web}\"}}\n")));
    let mut handler = Handler::start(&lab);
    let ready = |expected: u16| {
        until(&format!("/readyz says {expected}"), TIMEOUT, || {
            let (status, body) = get(web, "/readyz")?;
            assert_eq!(get(web, "/healthz")?.0, 200, "the process lives");
            (status == expected).then_some(body)
        })
    };
    let gauge = || {
        let (_, metrics) = get(web, "/metrics").unwrap();
        metrics.lines().any(|line| line == "pushbutton_stream_connected 1")
    };
    ready(200);
    assert!(gauge());
    runtime.block_on(proxy.refuse()).unwrap();
    proxy.reset();
    let body: Value = serde_json::from_str(&ready(503)).unwrap();
    assert_eq!((&body["stream"], &body["queue"]), (&json!("disconnected"), &json!("ok")));
    let reasons = body["reasons"].as_array().unwrap();
    assert!(
        reasons.len() == 1
            && reasons[0]
                .as_str()
                .unwrap()
                .starts_with("the event stream of the review server is not connected"),
        "{reasons:?}"
    );
    assert!(!gauge());
    let status = until("`status` says so, too", TIMEOUT, || {
        Some(lab.run(&["status"]).with(0).out).filter(|said| said.contains("event stream NOT connected"))
    });
    assert!(status.contains("handler "), "{status}");
    runtime.block_on(proxy.accept()).unwrap();
    ready(200);
    assert!(gauge());
    handler.ends();
}
