use super::*;
use pushbutton_core::{Job, samples};

#[test]
fn a_job_is_read_as_it_was_written() {
    let job = samples::job("tempest");
    let body = encode(&job).unwrap();
    assert!(body.len() < MAX_JOB);
    assert_eq!(read(Some(1), &body), Ok(job));
}

#[test]
fn an_unreadable_message_says_why() {
    let why = |format, body: &[u8]| read::<Job>(format, body).unwrap_err().to_string();
    assert!(why(Some(FORMAT + 1), b"{}").contains("upgrade"));
    assert!(why(None, b"{}").contains("no header pushbutton-format"));
    assert!(why(Some(0), b"{}").contains("never in use"));
    assert!(why(Some(1), b"{\"id\"").contains("malformed: EOF"));
    assert!(why(Some(1), b"\xff\xfe").contains("malformed"));
}
