//! A configuration that changes while the command runs: on real servers, with real playbooks on this machine.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::Command;

use pushbutton_core::{Queue as _, samples};
use pushbutton_store::Store;
use pushbutton_testbed::until;

use crate::handler::{Handler, Site, TIMEOUT};
use crate::lab::Lab;

/// A playbook that waits for a file.
const GATE: &str = "\
- hosts: nodes
  gather_facts: false
  tasks:
    - name: Wait for the gate
      ansible.builtin.wait_for: {path: '{{ gate }}', timeout: 600}
";

const SECOND_MACHINE: &str = "  \
  - {label: here, name: second, local: true, vars: {ansible_python_interpreter: /usr/bin/python3}}\n";

/// Changes the file in one step, as editors do.
fn rewrite(lab: &Lab, change: impl FnOnce(String) -> String) {
    lab.write("new.yml", &change(lab.config()));
    std::fs::rename(lab.path("new.yml"), lab.path("pushbutton.yml")).unwrap();
}

fn line_of(lab: &Lab, text: &str) -> usize {
    lab.config().lines().position(|line| line.contains(text)).unwrap() + 1
}

fn get(url: &str) -> String {
    let output = Command::new("curl").args(["-s", "--max-time", "10", url]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_new_trigger_takes_effect_without_a_restart_while_a_run_goes_on_as_it_began() {
    let site = Site::new("reload-run");
    let lab = site.lab().with_ansible();
    lab.write("playbooks/gate.yml", GATE);
    let gate = lab.path("gate");
    let job = format!(
        "\n  guarded:\n    node: here\n    vars: {{gate: {}}}\n    stages:\n      - {{name: first, playbook: gate.yml}}\n      - {{name: second, playbook: wait.yml, vars: {{seconds: 0}}}}\n",
        gate.display()
    );
    rewrite(&lab, |text| text.replace("      - wait\n", "      - guarded\n") + job.trim_start_matches('\n'));
    let mut run = Handler::of(&lab, lab.command(&["run", "--wait", "2m", "--dry-run"]));
    run.says("the event stream runs");
    let first = site.recheck();
    run.says(&format!("{first},1/guarded stage first ..."));

    // The job goes while it runs, a second machine comes, and another comment calls for another job.
    rewrite(&lab, |text| {
        let text = text
            .replace(&job, "\n")
            .replace("^recheck", "^run-acme")
            .replace("      - guarded\n", "      - wait\n");
        let text = text.replace("machines:\n", &format!("machines:\n{SECOND_MACHINE}"));
        text.replace("  shutdown_deadline: 1s\n", "  shutdown_deadline: 1s\n  slots: 2\n")
    });
    run.says("is reloaded; changed: jobs.guarded, machines, operator.slots, triggers[0]");
    let ignored = site.recheck();
    let second = site.comment("run-acme");
    run.says(&format!("{second},1/wait SUCCESS in"));
    assert!(
        !run.log().contains(&format!("{first},1/guarded SUCCESS")),
        "the first one still runs: {}",
        run.log()
    );
    lab.write("gate", "");
    run.says(&format!("{first},1/guarded SUCCESS in"));
    assert!(run.log().contains(&format!("{first},1/guarded stage second ...")), "{}", run.log());
    assert!(!run.log().contains(&format!("{ignored},1/")), "the old trigger is gone: {}", run.log());
    run.ends();
}

#[test]
fn what_cannot_be_applied_is_refused_with_its_line_and_the_old_rules_go_on() {
    let site = Site::new("reload-refused");
    let lab = site.lab();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    site.name_rabbitmq(&lab);
    lab.configure(&format!(
        "{}web: {{listen: \"127.0.0.1:{port}\"}}\nstore: {{lock_wait: 5s}}\n",
        lab.config()
    ));
    let web = |path: &str| get(&format!("http://127.0.0.1:{port}/{path}"));
    let successful = |wanted: u8| {
        let wanted = format!("\npushbutton_config_last_reload_successful {wanted}\n");
        until("the metric", TIMEOUT, || web("metrics").contains(&wanted).then_some(()));
    };
    let mut handler = Handler::start(&lab);
    handler.says("the event stream runs");
    successful(1);
    let good = lab.config();
    let file = lab.path("pushbutton.yml");
    let refused = |line: usize, rest: &str| {
        format!("the configuration is not reloaded: {}:{line}: {rest}", file.display())
    };

    // Two errors of the file, each with its line and remedy.
    rewrite(&lab, |text| {
        text.replace("      - wait\n", "      - wiat\n").replace("    node: here\n", "    node: there\n")
    });
    handler.says(&refused(
        line_of(&lab, "- wiat"),
        "triggers[0].jobs[0]: no job is named \"wiat\"; did you mean \"wait\"?",
    ));
    handler.says(&refused(
        line_of(&lab, "node: there"),
        "jobs.wait.node: no node has the label \"there\"; did you mean \"here\"?",
    ));
    handler.says("this process goes on with the configuration of ");
    successful(0);
    assert!(web("readyz").contains("\"config\":\"refused\""), "{}", web("readyz"));
    let mut asked = vec![site.recheck()];
    assert_eq!(site.queued(1), asked, "by the old rules: {}", handler.log());

    // What needs a restart, together with what does not: nothing of it is applied. No password is shown.
    rewrite(&lab, |_| good.replace("url: \"amqp", "url: \"amqps").replace("^recheck", "^again"));
    let restart = "rabbitmq.url: this has changed, and a running process cannot apply it; restart the process, or undo the change";
    handler.says(&refused(line_of(&lab, "rabbitmq:"), restart));
    assert!(!handler.log().contains("amqps:"), "{}", handler.log());
    asked = vec![site.recheck()];
    assert_eq!(site.queued(1), asked, "{}", handler.log());

    // `status` shows it, which can still use this file.
    rewrite(&lab, |_| good.replace("lock_wait: 5s", "lock_wait: 6s"));
    handler.says(&refused(line_of(&lab, "lock_wait"), "store.lock_wait: this has changed"));
    until("status shows it", TIMEOUT, || {
        lab.run(&["status"]).with(0).out.contains("runs with an OLD configuration: ").then_some(())
    });

    // Undone, and asked for by a person.
    rewrite(&lab, |_| good.clone());
    handler.says("says what this process runs with already");
    successful(1);
    assert!(web("readyz").contains("\"config\":\"ok\""), "{}", web("readyz"));
    let before = handler.log().matches("runs with already").count();
    handler.signal("-HUP");
    until("the reload", TIMEOUT, || {
        (handler.log().matches("runs with already").count() > before).then_some(())
    });
    handler.ends();
}

#[test]
fn a_standby_handler_decides_by_its_new_triggers_when_it_takes_over() {
    let site = Site::new("reload-standby");
    let (here, there) = (site.lab(), site.lab());
    site.name_rabbitmq(&here);
    site.name_rabbitmq(&there);
    let mut first = Handler::start(&here);
    first.says("the event stream runs");
    let mut second = Handler::start(&there);
    second.says("standing by");
    for (lab, handler) in [(&here, &mut first), (&there, &mut second)] {
        rewrite(lab, |text| text.replace("^recheck", "^again"));
        handler.says("is reloaded; changed: triggers[0].on.comment.pattern");
    }
    // The leader opens its stream anew, and misses nothing meanwhile.
    let mut asked = vec![site.comment("again")];
    assert_eq!(site.queued(1), asked, "{}", first.log());
    first.kill9();
    second.says("the event stream runs");
    site.recheck();
    asked = vec![site.comment("again")];
    assert_eq!(site.queued(1), asked, "{}", second.log());
    second.ends();
}

/// As Kubernetes updates a ConfigMap, and a Secret that the configuration names.
#[test]
fn an_operator_claims_by_new_names_and_labels_when_a_link_or_a_named_file_is_replaced() {
    let lab = Lab::new().with_ansible();
    let old = lab.config();
    let job = "  other:\n    node: there\n    vars: {seconds: \"${file:./seconds}\"}\n    stages:\n      - name: wait\n        playbook: wait.yml\n";
    let machine = "machines:\n  - {label: there, name: there, local: true, vars: {ansible_python_interpreter: /usr/bin/python3}}\n";
    for (version, text) in [("..1", old.clone()), ("..2", old.replace("machines:\n", machine) + job)] {
        std::fs::create_dir(lab.path(version)).unwrap();
        lab.write(&format!("{version}/pushbutton.yml"), &text);
    }
    lab.write("seconds", "0");
    symlink("..1", lab.path("..data")).unwrap();
    std::fs::remove_file(lab.path("pushbutton.yml")).unwrap();
    symlink("..data/pushbutton.yml", lab.path("pushbutton.yml")).unwrap();
    let publish = |n: u64, label: &str| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let queue = Store::open(lab.path("state/pushbutton.db")).await.unwrap().queue();
            let job = samples::job_on(n, "other").with_label(Some(label.parse().unwrap()));
            queue.publish(&job).await.unwrap();
        });
    };
    let mut operator = Handler::of(&lab, lab.command(&["operator"]));
    operator.says("waiting for jobs");
    publish(7, "there");
    until("status shows it", TIMEOUT, || {
        lab.run(&["status"]).with(0).out.contains("nobody here can run other on there: 1 job").then_some(())
    });

    symlink("..2", lab.path("..tmp")).unwrap();
    std::fs::rename(lab.path("..tmp"), lab.path("..data")).unwrap();
    operator.says("is reloaded; changed: jobs.other, machines");
    operator.says("7,2/other SUCCESS in");
    let status = lab.run(&["status"]).with(0).out;
    assert!(status.starts_with("queue: 0 waiting, 0 leased, 0 dead\n"), "{status}");

    lab.write("seconds", "not-a-time");
    operator.says("is reloaded; changed: jobs.other.vars.seconds");
    publish(8, "there");
    operator.says("8,2/other FAILURE in");
    operator.ends();
}
