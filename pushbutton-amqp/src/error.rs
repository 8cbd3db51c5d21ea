//! What went wrong on the wire, in the words of core.

use lapin::ErrorKind as Wire;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use pushbutton_core::{Error, ErrorKind, RetryClass};

/// Says what an error of the client means, and whether it may pass.
pub(crate) fn from_wire(error: lapin::Error) -> Error {
    let (kind, class, message) = classify(&error);
    let mapped = match class {
        RetryClass::Permanent => Error::permanent(kind, message),
        _ => Error::temporary(kind, message),
    };
    mapped.because(error)
}

fn classify(error: &lapin::Error) -> (ErrorKind, RetryClass, String) {
    use RetryClass::{Permanent, Temporary};
    match error.kind() {
        Wire::ProtocolError(said) => {
            let text = said.get_message();
            match said.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => (
                    ErrorKind::Denied,
                    Permanent,
                    format!(
                        "the broker refuses access: {text}; check user, password and permissions (rabbitmqctl list_permissions)"
                    ),
                ),
                AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => (
                    ErrorKind::Denied,
                    Permanent,
                    format!(
                        "the broker refuses the virtual host: {text}; check the path of rabbitmq.url (rabbitmqctl list_vhosts)"
                    ),
                ),
                AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => {
                    (ErrorKind::NotFound, Temporary, text.to_string())
                }
                AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED) => {
                    (ErrorKind::Unreachable, Temporary, format!("the broker closed the connection: {text}"))
                }
                _ => (ErrorKind::Remote, Temporary, format!("the broker answered: {text}")),
            }
        }
        Wire::IOError(io) if io.to_string().contains("certificate") => (
            ErrorKind::Denied,
            Permanent,
            format!(
                "the broker's certificate is not trusted: {io}; name its authority's PEM file in rabbitmq.ca, and in rabbitmq.url the host that it was made for"
            ),
        ),
        Wire::IOError(io) => {
            (ErrorKind::Unreachable, Temporary, format!("the broker cannot be reached: {io}"))
        }
        Wire::MissingHeartbeatError => {
            (ErrorKind::Unreachable, Temporary, "the broker fell silent: no heartbeat".to_owned())
        }
        Wire::AuthProviderError(text) => (ErrorKind::Denied, Permanent, text.clone()),
        Wire::InvalidProtocolVersion(_) | Wire::ParsingError(_) => (
            ErrorKind::Protocol,
            Temporary,
            "what answers there does not speak AMQP 0-9-1; check host and port of rabbitmq.url".to_owned(),
        ),
        _ => (ErrorKind::Unreachable, Temporary, "the connection to the broker is gone".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn io(text: &str) -> lapin::Error {
        io::Error::other(text.to_owned()).into()
    }

    fn said(kind: AMQPErrorKind, text: &str) -> lapin::Error {
        Wire::ProtocolError(lapin::protocol::AMQPError::new(kind, text.into())).into()
    }

    #[test]
    fn refusals_are_permanent_and_say_what_to_do() {
        // As RabbitMQ 3.10 and 4.0 say it.
        let login = said(
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED),
            "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
        );
        let vhost =
            said(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED), "NOT_ALLOWED - vhost nope not found");
        let tls = io("invalid peer certificate: UnknownIssuer");
        for (error, remedy) in [(login, "password"), (vhost, "list_vhosts"), (tls, "rabbitmq.ca")] {
            let error = from_wire(error);
            assert_eq!(
                (error.kind(), error.retry_class()),
                (ErrorKind::Denied, RetryClass::Permanent),
                "{error}"
            );
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }

    #[test]
    fn what_a_restart_mends_is_temporary() {
        let forced = said(
            AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED),
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
        );
        for error in [forced, io("Connection refused (os error 111)"), Wire::MissingHeartbeatError.into()] {
            let error = from_wire(error);
            assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unreachable, true), "{error}");
        }
    }
}
