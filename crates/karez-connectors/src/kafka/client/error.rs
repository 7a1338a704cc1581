//! What an error of the client means: whose it is, and whether trying again may help.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use karez_core::Error;
use krafka::KrafkaError;
use krafka::error::ErrorCode;

use crate::certificate::is_of_certificate;

/// An error of the client; `doing` says what was tried (`read the topics of …`).
pub(in crate::kafka) fn client_error(doing: &str, e: KrafkaError) -> Error {
    match e {
        KrafkaError::Broker { code, message } => broker_error(doing, code, &message),
        KrafkaError::UnknownTopic { topic } => Error::user(format!("{doing}: there is no topic `{topic}`, or the user may not describe it")),
        KrafkaError::Auth { .. } => not_let_in(doing).caused_by(e),
        e if is_of_certificate(&e) => not_let_in(doing).caused_by(e),
        KrafkaError::Network(_) | KrafkaError::Timeout { .. } | KrafkaError::DeliveryTimeout { .. } | KrafkaError::Closed { .. } => {
            Error::connection(doing).caused_by(e)
        }
        KrafkaError::Config { message } => Error::user(format!("{doing}: {message}")),
        KrafkaError::Protocol { kind, .. } if kind.is_retriable() => Error::connection(doing).caused_by(e),
        e => Error::external(doing).caused_by(e),
    }
}

/// Whether a listener may have answered a client without TLS and SASL so: it hangs up, answers what is no Kafka, or waits for something else.
pub(super) fn may_want_security(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(KrafkaError::Timeout { .. } | KrafkaError::Closed { .. } | KrafkaError::Protocol { .. }) = error.downcast_ref() {
        return true;
    }
    let io = error.downcast_ref::<io::Error>().or_else(|| error.downcast_ref::<Arc<io::Error>>().map(AsRef::as_ref));
    let hung_up = |e: &io::Error| {
        matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
    };
    // What an I/O error wraps is not its source, but that one's source is.
    let wrapped = io.and_then(io::Error::get_ref);
    io.is_some_and(hung_up) || wrapped.is_some_and(|w| may_want_security(w)) || error.source().is_some_and(may_want_security)
}

fn not_let_in(doing: &str) -> Error {
    Error::external(format!("{doing}: the broker does not let the job in (or its certificate is not trusted); check `security`"))
}

/// An error code that a broker answered with.
pub(in crate::kafka) fn broker_error(doing: &str, code: ErrorCode, message: &str) -> Error {
    let detail = match message.trim() {
        "" => String::new(),
        text => format!(" ({text})"),
    };
    let right = |right: &str| Error::external(format!("{doing}: the user lacks the right {right}{detail}"));
    match code {
        ErrorCode::TopicAuthorizationFailed => right("to the topic (`Read` for a source, `Write` for a sink, and `Describe`)"),
        ErrorCode::GroupAuthorizationFailed => right("`Read` on the consumer group"),
        ErrorCode::TransactionalIdAuthorizationFailed => right("`Write` on the transactional id"),
        ErrorCode::ClusterAuthorizationFailed => right("to the cluster (`IdempotentWrite`, or `Create` for topics)"),
        ErrorCode::SaslAuthenticationFailed => Error::external(format!("{doing}: wrong user name or password{detail}")),
        ErrorCode::UnsupportedSaslMechanism => Error::external(format!("{doing}: the broker does not offer this SASL mechanism{detail}")),
        ErrorCode::InvalidTopic => Error::user(format!("{doing}: not a name of a topic{detail}")),
        code if code.is_retriable() => Error::connection(format!("{doing}: the broker answers {code:?}{detail}")),
        code => Error::external(format!("{doing}: the broker answers {code:?}{detail}")),
    }
}
