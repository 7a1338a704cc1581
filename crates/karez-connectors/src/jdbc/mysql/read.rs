//! Rows of a statement, one after the other by the binary protocol: the server sends as fast as they are taken, and no result stands in memory.

use mysql_async::prelude::Queryable;
use mysql_async::{BinaryProtocol, Conn, Error, QueryResult};
use tokio::sync::mpsc;

use super::super::server::driver::{CHUNK_BYTES, CHUNK_ROWS, Chunk, Select};
use super::super::server::failure::{Failure, Kind};
use super::decode::Chunks;
use super::session::MySqlSession;

/// Reads rows and hands them over; ends early where nobody takes them any more.
pub(super) async fn read(session: &mut MySqlSession, select: &Select, chunks: &mpsc::Sender<Chunk>) -> Result<(), Failure> {
    let mut collected = Chunks::new(&select.columns, session.zero_dates)?;
    let conn = session.begin_work()?;
    let result = stream(conn, select, &mut collected, chunks).await;
    match session.ended("read rows", result)? {
        Ended::Whole => Ok(()),
        Ended::NotWanted => {
            // The rest of the result is still on its way: the connection is of no use any more.
            session.begin_work()?;
            Ok(())
        }
        Ended::Failed(f) => {
            session.begin_work()?;
            Err(f)
        }
    }
}

enum Ended {
    Whole,
    NotWanted,
    Failed(Failure),
}

async fn stream(conn: &mut Conn, select: &Select, collected: &mut Chunks, chunks: &mpsc::Sender<Chunk>) -> Result<Ended, Error> {
    let mut result: QueryResult<'_, '_, BinaryProtocol> = conn.exec_iter(select.sql.as_str(), ()).await?;
    loop {
        let row = result.next().await?;
        let last = row.is_none();
        if let Some(row) = row {
            collected.push(row);
        }
        let full = collected.rows() == CHUNK_ROWS || collected.bytes() >= CHUNK_BYTES;
        if full || (last && collected.rows() > 0) {
            let chunk = match collected.take() {
                Ok(chunk) => chunk,
                Err(e) => return Ok(Ended::Failed(Failure::new(Kind::Server, e.to_string()))),
            };
            if chunks.send(chunk).await.is_err() {
                return Ok(if last { Ended::Whole } else { Ended::NotWanted });
            }
        }
        if last {
            return Ok(Ended::Whole);
        }
    }
}
