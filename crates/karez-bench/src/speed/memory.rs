//! Whether memory stays the same however long the input is.

use std::path::Path;

use super::figure::Figure;
use super::query::Query;
use super::work::Work;

/// How many times as long the long input is.
const TIMES: u64 = 8;

/// A pass over files, and windows over a generated stream, of one length and of eight times that.
pub(super) fn flatness(file: &Path, rows: u64) -> Result<Vec<Figure>, String> {
    let folder = tempfile::tempdir_in(file.parent().unwrap_or(file)).map_err(|e| e.to_string())?;
    for n in 0..TIMES {
        let link = folder.path().join(format!("{n}.ndjson"));
        std::fs::hard_link(file, &link).map_err(|e| format!("`{}`: {e}", link.display()))?;
    }
    let files = |one: bool| Query::Q0.job(&folder.path().join(if one { "0.ndjson" } else { "*.ndjson" }), 1);
    let windows = |rows: u64| {
        format!(
            "job:
  id: bench
  name: Bench
  type: streaming
  parallelism: 1
  source:
    connector: generator
    config: {{ kind: nexmark, event: bid, rows: {rows} }}
    eventTime: {{ column: date_time, maxOutOfOrderness: 1s }}
  operators:
    - {}
  sink: {{ name: out, connector: blackhole }}
",
            Query::Tumble.operators()
        )
    };
    let peak = |job: String| Work::Karez { job, threads: 1 }.elsewhere().map(|m| m.peak_mb);
    let figure = |name: &str, short: f64, long: f64| {
        #[allow(clippy::cast_precision_loss)]
        let times = TIMES as f64;
        Figure { peak_mb: Some(long), ..Figure::new("memory") }.with(&format!("{name}_mib"), short).with(&format!("{name}_times_{times}_mib"), long)
    };
    Ok(vec![figure("files", peak(files(true))?, peak(files(false))?), figure("windows", peak(windows(rows))?, peak(windows(rows * TIMES))?)])
}
