//! The queries, once as a Karez job and once as SQL for DuckDB.
//!
//! The Nexmark benchmark's q0 (pass through), q1 (currency conversion) and q2 (selection) with the columns Apache Flink's version has; windows of
//! the bids per auction, and sessions per bidder.

use std::path::Path;

/// The columns of a bid and their SQL types, as the files hold them.
pub(super) const COLUMNS: [(&str, &str); 7] = [
    ("auction", "BIGINT"),
    ("bidder", "BIGINT"),
    ("price", "BIGINT"),
    ("channel", "VARCHAR"),
    ("url", "VARCHAR"),
    ("date_time", "TIMESTAMP_MS"),
    ("extra", "VARCHAR"),
];

/// A query over the bids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query {
    Q0,
    Q1,
    Q2,
    Tumble,
    Slide,
    Session,
}

impl Query {
    /// Which columns it reads.
    pub(super) const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Q0 | Self::Q1 => &["auction", "bidder", "price", "date_time", "extra"],
            Self::Q2 => &["auction", "price"],
            Self::Tumble | Self::Slide => &["auction", "price", "date_time"],
            Self::Session => &["bidder", "date_time"],
        }
    }

    /// What a job does with the bids.
    pub(super) const fn operators(self) -> &'static str {
        match self {
            Self::Q0 => "{ name: query, type: select, columns: [auction, bidder, price, date_time, extra] }",
            Self::Q1 => "{ name: query, type: select, columns: [auction, bidder, \"0.908 * CAST(price AS DOUBLE) AS price\", date_time, extra] }",
            Self::Q2 => {
                "{ name: some, type: filter, where: \"auction % 123 = 0\" }
    - { name: query, type: select, columns: [auction, price] }"
            }
            Self::Tumble => {
                "{ name: query, type: window-aggregate, keyBy: [auction], window: { type: tumbling, size: 10s }, aggregates: { bids: \"count(*)\", total: \"sum(price)\" } }"
            }
            Self::Slide => {
                "{ name: query, type: window-aggregate, keyBy: [auction], window: { type: sliding, size: 10s, slide: 2s }, aggregates: { bids: \"count(*)\", total: \"sum(price)\" } }"
            }
            Self::Session => {
                "{ name: query, type: window-aggregate, keyBy: [bidder], window: { type: session, gap: 10s }, aggregates: { bids: \"count(*)\" } }"
            }
        }
    }

    /// The job: files to `blackhole`.
    pub(super) fn job(self, files: &Path, parallelism: usize) -> String {
        format!(
            "job:
  id: bench
  name: Bench
  type: streaming
  parallelism: {parallelism}
  source:
    connector: file
    config: {{ path: {files:?}, format: ndjson }}
    schema: {{ auction: bigint, bidder: bigint, price: bigint, channel: string, url: string, date_time: timestamp(3), extra: string }}
    eventTime: {{ column: date_time, maxOutOfOrderness: 1s }}
  operators:
    - {}
  sink: {{ name: out, connector: blackhole }}
",
            self.operators()
        )
    }

    /// The same for DuckDB, over the view `bids`.
    pub(super) const fn sql(self) -> &'static str {
        match self {
            Self::Q0 => "SELECT auction, bidder, price, date_time, extra FROM bids",
            Self::Q1 => "SELECT auction, bidder, 0.908::DOUBLE * price AS price, date_time, extra FROM bids",
            Self::Q2 => "SELECT auction, price FROM bids WHERE auction % 123 = 0",
            Self::Tumble => {
                "SELECT auction, window_start, count(*) AS bids, sum(price)::BIGINT AS total
                 FROM (SELECT auction, price, time_bucket(INTERVAL 10 SECONDS, date_time) AS window_start FROM bids) GROUP BY ALL"
            }
            Self::Slide => {
                "SELECT auction, window_start, sum(bids)::BIGINT AS bids, sum(total)::BIGINT AS total
                 FROM (SELECT auction, pane - INTERVAL 2 SECONDS * offset_panes AS window_start, bids, total
                       FROM (SELECT auction, time_bucket(INTERVAL 2 SECONDS, date_time) AS pane, count(*) AS bids, sum(price) AS total FROM bids GROUP BY ALL),
                            range(5) AS offsets(offset_panes))
                 GROUP BY ALL"
            }
            Self::Session => {
                "SELECT bidder, min(date_time) AS window_start, count(*) AS bids
                 FROM (SELECT bidder, date_time, sum(begins) OVER (PARTITION BY bidder ORDER BY date_time ROWS UNBOUNDED PRECEDING) AS session
                       FROM (SELECT bidder, date_time,
                                    CASE WHEN date_time - lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time) < INTERVAL 10 SECONDS THEN 0 ELSE 1 END AS begins
                             FROM bids))
                 GROUP BY bidder, session"
            }
        }
    }
}
