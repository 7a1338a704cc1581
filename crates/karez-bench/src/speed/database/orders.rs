//! The rows that are moved: orders of some 190 bytes as text, with numbers, a decimal, an instant and texts, some of them null.

use std::path::{Path, PathBuf};

use karez_testkit::Database;

use super::super::work::run_job;

/// The same rows in two files.
pub(super) struct Orders {
    pub(super) rows: u64,
    /// What a job reads.
    pub(super) parquet: PathBuf,
    /// What the clients read: the form that `COPY` and `LOAD DATA` have by default.
    pub(super) tsv: PathBuf,
}

impl Orders {
    /// The files in this folder; writes those that are not there.
    pub(super) fn made(folder: &Path, rows: u64) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|e| format!("`{}`: {e}", folder.display()))?;
        let file = |extension: &str| folder.join(format!("orders-{rows}.{extension}"));
        let orders = Self { rows, parquet: file("parquet"), tsv: file("tsv") };
        if !orders.parquet.exists() {
            generate(&orders)?;
        }
        if !orders.tsv.exists() {
            convert(&orders)?;
        }
        Ok(orders)
    }
}

fn generate(Orders { rows, parquet, .. }: &Orders) -> Result<(), String> {
    run_job(
        &format!(
            r#"job:
  id: orders
  name: Orders
  type: batch
  parallelism: 1
  source:
    connector: generator
    config:
      kind: fields
      rows: {rows}
      fields:
        - {{ name: id, type: sequence }}
        - {{ name: customer, type: int, max: 1000000 }}
        - {{ name: pieces, type: int, min: 1, max: 40 }}
        - {{ name: cents, type: int, min: 100, max: 5000000 }}
        - {{ name: score, type: double, max: 100, nulls: 0.02 }}
        - {{ name: status, type: choice, values: [new, paid, packed, sent, returned] }}
        - {{ name: placed, type: timestamp, step: 37ms }}
        - {{ name: note, type: string, length: 120, nulls: 0.05 }}
  operators:
    - name: columns
      type: map
      columns: [id, customer, "CAST(pieces AS INT) AS pieces", "CAST(cents / 100.0 AS DECIMAL(12, 2)) AS amount", score, status, placed, note]
  sink: {{ name: out, connector: file, config: {{ path: {parquet:?}, format: parquet, ifExists: fail }} }}
"#
        ),
        1,
    )
    .map(drop)
}

fn convert(Orders { parquet, tsv, .. }: &Orders) -> Result<(), String> {
    run_job(
        &format!(
            r#"job:
  id: convert
  name: Convert
  type: batch
  parallelism: 1
  source: {{ connector: file, config: {{ path: {parquet:?}, format: parquet }} }}
  operators:
    - name: columns
      type: map
      # MySQL reads no zone and no `T`.
      columns: [id, customer, pieces, amount, score, status, "to_char(placed, '%Y-%m-%d %H:%M:%S%.3f') AS placed", note]
  sink:
    name: out
    connector: file
    config: {{ path: {tsv:?}, format: csv, delimiter: "\t", header: false, nullValue: "\\N", ifExists: fail }}
"#
        ),
        1,
    )
    .map(drop)
}

/// The columns of a table of orders.
pub(super) fn columns(database: Database, keyed: bool) -> String {
    let (double, instant) = if database == Database::Postgres { ("double precision", "timestamp(3)") } else { ("double", "datetime(3)") };
    let key = if keyed { ", PRIMARY KEY (id)" } else { "" };
    format!(
        "(id bigint NOT NULL, customer bigint NOT NULL, pieces integer NOT NULL, amount decimal(12,2) NOT NULL, score {double}, \
         status varchar(16) NOT NULL, placed {instant} NOT NULL, note varchar(200){key})"
    )
}
