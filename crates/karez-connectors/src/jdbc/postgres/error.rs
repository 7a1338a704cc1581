//! Errors of PostgreSQL and of the way to it, by what can be done about them.

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::super::server::failure::{Failure, Kind};

/// An error of a statement.
pub(super) fn of_statement(e: &Error, sql: &str) -> Failure {
    match e.as_db_error() {
        Some(db) if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE => Failure::new(kind(db), format!("{}{}", words(db), advice(db.message(), sql))),
        Some(db) => Failure::new(kind(db), words(db)),
        None => Failure::new(if e.is_closed() || io(e).is_some() { Kind::Connection } else { Kind::Server }, chain(e)),
    }
}

/// An error on the way to the server.
pub(super) fn of_connecting(e: &Error, place: &str) -> Failure {
    if let Some(db) = e.as_db_error() {
        return Failure::new(kind(db), format!("`{place}`: {}", words(db)));
    }
    let text = chain(e);
    let kind = match io(e) {
        // What rustls has against a certificate comes as an I/O error of this kind.
        Some(io) if io.kind() == std::io::ErrorKind::InvalidData => Kind::User,
        Some(_) => Kind::Connection,
        None if e.is_closed() || text.starts_with("error connecting") || text.starts_with("timeout") => Kind::Connection,
        None => Kind::User,
    };
    let advice = if text.contains("UnknownIssuer") {
        "; set `tls: {ca: FILE}` to the authority that signed the server's certificate"
    } else if text.contains("NotValidForName") || text.contains("not valid for") {
        "; the certificate is for another host: use the name in it, or `tls: {mode: verify-ca}`"
    } else if text.contains("server does not support TLS") {
        "; set `tls: {mode: disable}`, or enable `ssl` on the server"
    } else {
        ""
    };
    Failure::new(kind, format!("cannot connect to `{place}`: {text}{advice}"))
}

/// The server took too long to answer.
pub(super) fn too_slow(place: &str, allowed: Duration) -> Failure {
    Failure::new(Kind::Connection, format!("cannot connect to `{place}`: no answer within `connectTimeout` ({})", humantime(allowed)))
}

fn humantime(d: Duration) -> String {
    karez_core::config::Span(d).to_string()
}

fn io(e: &Error) -> Option<&std::io::Error> {
    let mut cause = e.source();
    while let Some(c) = cause {
        if let Some(io) = c.downcast_ref::<std::io::Error>() {
            return Some(io);
        }
        cause = c.source();
    }
    None
}

/// An error with its causes.
fn chain(e: &Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        let part = c.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = c.source();
    }
    text
}

fn words(db: &DbError) -> String {
    let mut text = db.message().to_owned();
    if db.message().contains("statement timeout") {
        text.push_str("; raise `statementTimeout`, or the server's `statement_timeout`, or read and write less at a time (`fetchSize`, `batchSize`)");
    }
    for part in [db.detail(), db.hint()].into_iter().flatten() {
        text.push_str(". ");
        text.push_str(part.trim_end_matches('.'));
    }
    text
}

/// Which right to give to a user who lacks it, as far as the server's message says for what.
fn advice(message: &str, sql: &str) -> String {
    let Some(of) = message.strip_prefix("permission denied for ") else { return String::new() };
    let of = of.strip_prefix("materialized ").or_else(|| of.strip_prefix("foreign ")).unwrap_or(of);
    match of.split_once(' ') {
        Some(("schema", name)) if creates(sql) => format!("; GRANT the user USAGE and CREATE ON SCHEMA {name}"),
        Some(("schema", name)) => format!("; GRANT the user USAGE ON SCHEMA {name}"),
        Some(("table" | "view", name)) => format!("; GRANT the user {} ON {name}", rights(sql)),
        _ => String::new(),
    }
}

fn creates(sql: &str) -> bool {
    sql.starts_with("CREATE ")
}

/// The rights on a table that a statement needs, one of our own: what users write is only ever read.
fn rights(sql: &str) -> &'static str {
    let sql = sql.strip_prefix("EXPLAIN ").unwrap_or(sql);
    let replaces = sql.contains(" DO UPDATE SET ");
    match sql.split(' ').next() {
        // Where rows are replaced, or are not put in twice, they are looked for.
        Some("INSERT") if replaces => "SELECT, INSERT and UPDATE",
        Some("INSERT") if sql.contains(" ON CONFLICT ") => "SELECT and INSERT",
        Some("INSERT") => "INSERT",
        Some("COPY") if !sql.starts_with("COPY (") => "INSERT",
        Some("DELETE") => "SELECT and DELETE",
        Some("UPDATE") => "SELECT and UPDATE",
        _ => "SELECT",
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn kind(db: &DbError) -> Kind {
    let code = db.code();
    let conflicts = [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED, &SqlState::LOCK_NOT_AVAILABLE];
    if conflicts.contains(&code) {
        return Kind::Conflict;
    }
    match code.code() {
        // Going down, coming up, full for the moment.
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "53300" => Kind::Connection,
        code => match &code[..2] {
            "08" => Kind::Connection,
            // Of the data, of a constraint, of a view's condition, raised by a trigger, too large for an index.
            "22" | "23" | "44" | "P0" | "54" => Kind::Row(None),
            "53" | "58" | "F0" | "XX" => Kind::Server,
            // Cancelled: by `statementTimeout` or the server's own limit, or by an administrator. Another time it may go through.
            "57" => Kind::Server,
            _ => Kind::User,
        },
    }
}
