//! Each benchmark runs once at a tiny size, so that none of them rots. Their figures are not judged.
#![allow(clippy::unwrap_used, reason = "in tests a failed step must fail the test")]

use std::time::Duration;

use pushbutton_testbed::{Version, rabbitmq};
use tokio::task::block_in_place;

use crate::plain_amqp::Kind;
use crate::site::{Backend, Site};
use crate::{in_flight, ingest, latency, long_log, overhead, plain_amqp, start, waiting};

fn broker() -> String {
    block_in_place(|| rabbitmq(Version::V3).url.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_takes_in_a_stream_beside_the_ssh_client() {
    let size = ingest::Size { events: 200, rounds: 1, jobs_per_1000: 20 };
    let text = ingest::run(&size, &broker()).await.unwrap();
    assert!(text.contains("handler / ssh client: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_paced_event_has_a_latency() {
    for backend in Backend::ALL {
        let size = latency::Size { events: 10, per_second: 100 };
        let measured = latency::measure(&Site::new(backend, &broker()).unwrap(), &size).await.unwrap();
        let (read, claimed) = (measured.read, measured.claimed);
        assert!(read.len() == 10 && claimed.len() == 10);
        assert!(read.iter().zip(&claimed).all(|(read, claimed)| !read.is_zero() && read < claimed));
    }
    for kind in Kind::ALL {
        let took = plain_amqp::measure(&broker(), kind, 10, Duration::from_millis(1)).await.unwrap();
        assert!(took.len() == 10 && took.iter().all(|took| !took.is_zero()), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finishes_jobs_that_do_nothing() {
    for backend in Backend::ALL {
        let site = Site::new(backend, &broker()).unwrap();
        let measured = overhead::measure(&site, 5, 2).await.unwrap();
        assert!(measured.finished == 5 && !measured.took.is_zero());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_measured_while_all_runs_are_in_flight() {
    for backend in Backend::ALL {
        let site = Site::new(backend, &broker()).unwrap();
        let measured = in_flight::measure(&site, 20).await.unwrap();
        assert!(measured.finished == 20 && measured.all.resident_kib > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_work_off_all_waiting_jobs() {
    for backend in Backend::ALL {
        let site = Site::new(backend, &broker()).unwrap();
        assert_eq!(waiting::measure(&site, 30, 3).await.unwrap().delivered, 30);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_through_a_run_into_its_console_log() {
    let text = long_log::run(&long_log::Size { mib: 1 }).await.unwrap();
    assert!(text.contains("operator / cat: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_halves_start_to_consume() {
    let text = start::run(&start::Size { rounds: 1 }, &broker()).await.unwrap();
    assert_eq!(text.lines().count(), 5, "{text}");
}
