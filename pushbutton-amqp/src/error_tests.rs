use super::*;
use std::io;

fn io(text: &str) -> lapin::Error {
    io::Error::other(text.to_owned()).into()
}

fn answer(kind: AMQPErrorKind, text: &str) -> lapin::Error {
    Lapin::ProtocolError(lapin::protocol::AMQPError::new(kind, text.into())).into()
}

#[test]
fn refusals_are_permanent_and_say_what_to_do() {
    // As RabbitMQ 3.10 and 4.0 answer.
    let login = answer(
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED),
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
    );
    let vhost = answer(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED), "NOT_ALLOWED - vhost nope not found");
    let tls = io("invalid peer certificate: UnknownIssuer");
    for (error, remedy) in [(login, "password"), (vhost, "list_vhosts"), (tls, "rabbitmq.ca")] {
        let error = from_lapin(error);
        assert_eq!(
            (error.kind(), error.retry_class()),
            (ErrorKind::Denied, RetryClass::Permanent),
            "{error}"
        );
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

#[test]
fn what_a_restart_fixes_is_temporary() {
    let forced = answer(
        AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED),
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
    );
    for error in [forced, io("Connection refused (os error 111)"), Lapin::MissingHeartbeatError.into()] {
        let error = from_lapin(error);
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unreachable, true), "{error}");
    }
}
