//! On the testbed's RabbitMQ.

use pushbutton_testbed::{Version, rabbitmq};

use crate::lab::Lab;

fn lab(url: &str) -> Lab {
    let lab = Lab::new();
    let prefix = format!("command-{}", std::process::id());
    lab.configure(&(lab.config() + &format!("rabbitmq: {{url: {url:?}, prefix: {prefix}}}\n")));
    lab
}

#[test]
fn status_shows_the_depth_of_the_broker() {
    let lab = lab(&rabbitmq(Version::V3).url);
    assert!(lab.run(&["status"]).with(0).out.starts_with("queue: 0 waiting, 0 leased, 0 dead\n"));
}

#[test]
fn a_refused_login_ends_it_at_once_and_shows_no_password() {
    let broker = rabbitmq(Version::V3);
    let lab = lab(&format!("amqp://nobody:hush-hush@127.0.0.1:{}/%2f", broker.port));
    let refused = lab.run(&["operator", "--wait", "5m"]).with(4);
    assert!(refused.err.contains("127.0.0.1"), "{}", refused.err);
    let checked = lab.run(&["check"]).with(5);
    assert!(checked.out.contains("queue    FAIL"), "{}", checked.out);
    assert!(!(refused.err + &refused.out + &checked.out + &checked.err).contains("hush-hush"));
}
