//! What the server answers, in words, and by what can be done about it.
//!
//! Numbers: MySQL's "Server Error Message Reference" and MariaDB's "MariaDB Error Codes".

use mysql_async::{DriverError, Error, IoError, ServerError};

use super::super::server::failure::{Failure, Kind};

/// Deadlock, lock wait timeout, a row changed since it was read (MariaDB's snapshot isolation), rolled back by a cluster, `NOWAIT`.
const CONFLICTS: &[u16] = &[1020, 1205, 1213, 1637, 3101, 3572];

/// What passes by itself: too many connections, shutdown, network, killed, a server that takes no writes while another takes over.
const PASSING: &[u16] = &[
    1040, 1053, 1077, 1078, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1189, 1190, 1203, 1226, 1290, 1317, 1836, 1927, 2006, 2013, 3058, 3169,
    4031,
];

/// What the user must change: access denied, unknown or missing database, table, column; a right; a wrong statement; authentication; TLS demanded.
const USERS: &[u16] =
    &[1044, 1045, 1049, 1051, 1054, 1064, 1103, 1109, 1130, 1142, 1143, 1146, 1227, 1251, 1370, 1410, 1524, 1698, 1820, 1862, 3118, 3159, 4151];

/// Row faults whose SQLSTATE does not say so: a subquery of ours (see [`super::dialect`]), row too large, null or a wrong value, incorrect string, no
/// partition, truncated, raised by a trigger, JSON, check constraints.
const ROWS: &[u16] = &[1118, 1242, 1263, 1264, 1265, 1292, 1300, 1364, 1366, 1367, 1406, 1411, 1416, 1525, 1526, 1643, 1644, 3140, 3819, 4025];

/// Why a row was refused that would replace another than that of its key: the code of the subquery that stops it.
pub(super) const WOULD_REPLACE_ANOTHER: u16 = 1242;

/// The failure of a statement or connection. `place` is where (no password), `what` what was tried.
pub(super) fn failure(place: &str, what: &str, e: &Error) -> Failure {
    let said = |kind: Kind, why: String| Failure::new(kind, format!("{place}: cannot {what}: {why}"));
    match e {
        Error::Server(s) => match kind(s) {
            // The reason alone: the sink says which table and row.
            Kind::Row(_) => Failure::new(Kind::Row(None), row_reason(s)),
            kind => said(kind, format!("{} (error {}){}", s.message, s.code, advice(s.code))),
        },
        Error::Io(IoError::Tls(tls)) => certificate(place, what, &tls.to_string()),
        Error::Io(IoError::Io(io)) => match io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => certificate(place, what, &tls.to_string()),
            None => said(Kind::Connection, io.to_string()),
        },
        Error::Driver(DriverError::ConnectionClosed | DriverError::PacketOutOfOrder | DriverError::PoolDisconnected) => {
            said(Kind::Connection, e.to_string())
        }
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            said(Kind::User, "the server offers no TLS; set it up there, or set `tls.mode: disable` where the network can be trusted".to_owned())
        }
        Error::Driver(DriverError::UnknownAuthPlugin { name }) => said(
            Kind::User,
            format!("the user's authentication method `{name}` is not known here; caching_sha2_password, mysql_native_password and ed25519 are"),
        ),
        Error::Driver(DriverError::CleartextPluginDisabled | DriverError::MysqlOldPasswordDisabled) => said(Kind::User, e.to_string()),
        Error::Driver(DriverError::PacketTooLarge) => {
            Failure::new(Kind::Row(None), "the row is larger than the server's max_allowed_packet".to_owned())
        }
        other => said(Kind::Server, other.to_string()),
    }
}

fn kind(s: &ServerError) -> Kind {
    let class = |c: &str| s.state.starts_with(c);
    match s.code {
        code if CONFLICTS.contains(&code) => Kind::Conflict,
        code if PASSING.contains(&code) => Kind::Connection,
        code if USERS.contains(&code) => Kind::User,
        code if ROWS.contains(&code) || class("22") || class("23") || class("45") => Kind::Row(None),
        _ if class("08") => Kind::Connection,
        _ if class("42") || class("28") => Kind::User,
        _ => Kind::Server,
    }
}

fn row_reason(s: &ServerError) -> String {
    if s.code == WOULD_REPLACE_ANOTHER {
        return "another row has its values in a unique index that is not the `key`".to_owned();
    }
    s.message.clone()
}

const fn advice(code: u16) -> &'static str {
    match code {
        1045 | 1698 | 1130 | 1862 | 3118 | 1820 | 4151 => "; check `username` and `password`, and from which hosts the user may come",
        1044 | 1142 | 1143 | 1227 | 1370 => "; GRANT the user the right",
        1049 => "; check the database's name in `url`",
        3159 => "; set `tls.mode: verify-full`",
        1251 | 1524 => "; the user's authentication method is not known here",
        _ => "",
    }
}

fn certificate(place: &str, what: &str, why: &str) -> Failure {
    Failure::new(
        Kind::User,
        format!(
            "{place}: cannot {what}: TLS: {why}; name the authority of the server's certificate in `tls.ca`, and the host as the certificate does"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16, state: &str) -> Kind {
        kind(&ServerError { code, message: "m".into(), state: state.into() })
    }

    #[test]
    fn a_wrong_password_is_the_users_and_a_server_that_is_full_passes() {
        assert_eq!((of(1045, "28000"), of(1040, "08004")), (Kind::User, Kind::Connection));
        let refused = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(failure("h", "connect", &refused).kind, Kind::Connection);
    }

    #[test]
    fn a_duplicate_key_is_the_rows_and_a_deadlock_is_tried_again() {
        assert_eq!((of(1062, "23000"), of(3819, "HY000"), of(1213, "40001")), (Kind::Row(None), Kind::Row(None), Kind::Conflict));
        assert_eq!((of(1146, "42S02"), of(1021, "HY000")), (Kind::User, Kind::Server));
    }
}
