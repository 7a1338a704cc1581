//! What an error of the client means: whose it is, and whether trying again may help.

use std::error::Error as StdError;
use std::io::ErrorKind;

use karez_core::Error;
use krafka::KrafkaError;
use krafka::auth::AuthConfig;
use krafka::error::ErrorCode;

use crate::causes::{any_cause, as_io};
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

/// What the listener that answered so may be, other than what `auth` takes it for.
pub(super) fn doubt(auth: Option<&AuthConfig>, error: &KrafkaError) -> Option<&'static str> {
    let tls = auth.is_some_and(AuthConfig::requires_tls);
    if tls && any_cause(error, &speaks_no_tls) {
        // One that waits for a login hangs up on other requests as well.
        let is_known = auth.is_some_and(AuthConfig::requires_sasl);
        let or_sasl = "does not seem to speak TLS (see `security.tls`), or asks for a user (see `security.sasl`)";
        return Some(if is_known { "does not seem to speak TLS (see `security.tls`)" } else { or_sasl });
    }
    if any_cause(error, &asks_for_no_user) {
        return Some("asks for no user (see `security.sasl`)");
    }
    if tls || !any_cause(error, &may_want_more) {
        return None;
    }
    Some(if auth.is_some() { "may want TLS (see `security.tls`)" } else { "may want TLS or SASL (see `security`)" })
}

/// It has no use for what a client with TLS says first, and hangs up or answers in its own words.
fn speaks_no_tls(error: &(dyn StdError + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(rustls::Error::InvalidMessage(_))) || hangs_up(error)
}

/// Its answer to a client that wants to log in.
fn asks_for_no_user(error: &(dyn StdError + 'static)) -> bool {
    let refused = |message: &str| message.contains(&format!("{:?}", ErrorCode::IllegalSaslState));
    matches!(error.downcast_ref(), Some(KrafkaError::Auth { message, .. }) if refused(message))
}

/// To a client without TLS it hangs up, answers what is no Kafka, or waits for something else.
fn may_want_more(error: &(dyn StdError + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(KrafkaError::Timeout { .. } | KrafkaError::Closed { .. } | KrafkaError::Protocol { .. })) || hangs_up(error)
}

fn hangs_up(error: &(dyn StdError + 'static)) -> bool {
    let hung_up = [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof];
    as_io(error).is_some_and(|io| hung_up.contains(&io.kind()))
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
