//! Two handlers on one real RabbitMQ and a real Gerrit: one is active, the other takes over.

use jiff::Timestamp;
use pushbutton_testbed::until;

use crate::handler::{Handler, IN_THE_END, Site};

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
    // Around the take-over: the first may or may not have heard of the one before its end.
    asked.push(site.recheck());
    first.kill9();
    asked.push(site.recheck());
    second.says("the event stream runs");
    asked.push(site.recheck());
    let mut queued = site.queued(asked.len());
    queued.sort_unstable();
    assert_eq!(queued, asked, "{}", second.log());

    // It ends in an orderly way, and so does one that waits.
    let mut third = Handler::start(&here);
    third.says("standing by");
    third.ends();
    second.ends();
    let mut third = Handler::start(&here);
    let before = third.log().matches("the event stream runs").count();
    until("the next handler is active", IN_THE_END, || {
        (third.log().matches("the event stream runs").count() > before).then_some(())
    });
    asked = vec![site.recheck()];
    assert_eq!(site.queued(1), asked, "{}", third.log());
    third.ends();
}

#[test]
fn what_was_remembered_without_rabbitmq_is_brought_along() {
    let site = Site::new("brought");
    let lab = site.lab();
    let mut handler = Handler::start(&lab);
    handler.says("the event stream runs");
    let second = || Timestamp::now().as_second();
    let first = second();
    site.recheck();
    handler.says("queued");
    handler.ends();
    // Gerrit's times are whole seconds, and what a query dates to that of the very first start may be older than it.
    until("the second of the first start is over", IN_THE_END, || (second() > first).then_some(()));
    let meanwhile = site.recheck();
    site.name_rabbitmq(&lab);
    let mut handler = Handler::start(&lab);
    handler.says("takes over what the state folder remembers");
    assert_eq!(site.queued(1), [meanwhile], "{}", handler.log());
    handler.ends();
    // Once is enough.
    let mut handler = Handler::start(&lab);
    let last = site.recheck();
    assert_eq!(site.queued(1), [last], "{}", handler.log());
    handler.ends();
    assert_eq!(handler.log().matches("takes over what").count(), 1, "{}", handler.log());
}
