//! Errors of the AMQP client, mapped to kind and retry class.

use lapin::ErrorKind as Lapin;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use pushbutton_core::{Error, ErrorKind, RetryClass};

/// Maps an error of the client.
pub(crate) fn from_lapin(error: lapin::Error) -> Error {
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
        Lapin::ProtocolError(answer) => {
            let text = answer.get_message();
            match answer.kind() {
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
        Lapin::IOError(io) if io.to_string().contains("certificate") => (
            ErrorKind::Denied,
            Permanent,
            format!(
                "the TLS handshake with the broker failed: {io}; set rabbitmq.ca to the PEM file of the authority that signed the broker's certificate, use the host name of that certificate in rabbitmq.url, and check rabbitmq.client_cert if the broker demands one"
            ),
        ),
        Lapin::IOError(io) => {
            (ErrorKind::Unreachable, Temporary, format!("the broker cannot be reached: {io}"))
        }
        Lapin::MissingHeartbeatError => {
            (ErrorKind::Unreachable, Temporary, "the broker sends no heartbeats".to_owned())
        }
        Lapin::AuthProviderError(text) => (ErrorKind::Denied, Permanent, text.clone()),
        Lapin::InvalidProtocolVersion(_) | Lapin::ParsingError(_) => (
            ErrorKind::Protocol,
            Temporary,
            "the server does not speak AMQP 0-9-1; check host and port of rabbitmq.url".to_owned(),
        ),
        _ => (ErrorKind::Unreachable, Temporary, "the connection to the broker was closed".to_owned()),
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
