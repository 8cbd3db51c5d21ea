//! Two handlers on a real RabbitMQ and a real Gerrit: one is the leader, the other takes over.

use jiff::Timestamp;
use pushbutton_testbed::until;

use crate::handler::{Handler, Site, TIMEOUT};

#[test]
fn a_second_handler_takes_over_and_no_job_is_lost_or_queued_twice() {
    let site = Site::new("standby");
    let (here, there) = (site.lab(), site.lab());
    site.name_rabbitmq(&here);
    site.name_rabbitmq(&there);
    let mut first = Handler::start(&here);
    first.says("the event stream runs");
    let mut second = Handler::start(&there);
    second.says("standing by");
    let mut asked = vec![site.recheck()];
    first.says("queued");
    assert!(!second.log().contains("watching"), "{}", second.log());
    // Just before the end of the first handler: either one may queue this job.
    asked.push(site.recheck());
    first.kill9();
    asked.push(site.recheck());
    second.says("the event stream runs");
    asked.push(site.recheck());
    let mut queued = site.queued(asked.len());
    queued.sort_unstable();
    assert_eq!(queued, asked, "{}", second.log());

    // A leader and a standby shut down gracefully.
    let mut third = Handler::start(&here);
    third.says("standing by");
    third.ends();
    second.ends();
    let mut third = Handler::start(&here);
    let before = third.log().matches("the event stream runs").count();
    until("the next handler is active", TIMEOUT, || {
        (third.log().matches("the event stream runs").count() > before).then_some(())
    });
    asked = vec![site.recheck()];
    assert_eq!(site.queued(1), asked, "{}", third.log());
    third.ends();
}

#[test]
fn what_was_remembered_without_rabbitmq_is_imported_once() {
    let site = Site::new("import");
    let lab = site.lab();
    let mut handler = Handler::start(&lab);
    handler.says("the event stream runs");
    let second = || Timestamp::now().as_second();
    let first = second();
    site.recheck();
    handler.says("queued");
    handler.ends();
    // Gerrit's times are whole seconds: an event in the second of the first start may seem to be older than the start.
    until("the second of the first start is over", TIMEOUT, || (second() > first).then_some(()));
    let meanwhile = site.recheck();
    site.name_rabbitmq(&lab);
    let mut handler = Handler::start(&lab);
    handler.says("importing seen events of the state folder");
    assert_eq!(site.queued(1), [meanwhile], "{}", handler.log());
    handler.ends();
    // It is imported only once.
    let mut handler = Handler::start(&lab);
    let last = site.recheck();
    assert_eq!(site.queued(1), [last], "{}", handler.log());
    handler.ends();
    assert_eq!(handler.log().matches("importing seen events").count(), 1, "{}", handler.log());
}
