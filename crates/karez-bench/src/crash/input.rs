//! What the jobs read: orders, as CSV files; for one of them some are bad.

use std::io::Write as _;
use std::path::Path;

/// How many files there are.
const FILES: u64 = 4;
/// Rows in each of them.
const ROWS_PER_FILE: u64 = 500;
/// Midnight of 1 January 2013 in milliseconds since 1970.
const BASE_MS: u64 = 1_356_998_400_000;

/// How many orders in the folder `bad` a job refuses.
pub(super) const BAD_ROWS: u64 = FILES * ROWS_PER_FILE / 5;
/// What makes a customer one that cannot be decoded, and an amount one that cannot be computed: without it the order is as in the folder `in`.
pub(super) const BAD: &str = "?";

/// Writes the files that all jobs read: orders of twenty customers, ten a second, up to a second behind the newest.
pub(super) fn write_input(folder: &Path) -> std::io::Result<()> {
    write(&folder.join("in"), |_| ("", ""))
}

/// Writes the same orders to the folder `bad`, each tenth with a bad customer, each tenth with a bad amount.
pub(super) fn write_bad_input(folder: &Path) -> std::io::Result<()> {
    write(&folder.join("bad"), |id| match id % 10 {
        3 => (BAD, ""),
        7 => ("", BAD),
        _ => ("", ""),
    })
}

/// Writes orders, with what `before` gives in front of customer and amount.
fn write(folder: &Path, before: impl Fn(u64) -> (&'static str, &'static str)) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for file in 0..FILES {
        let mut out = std::io::BufWriter::new(std::fs::File::create(folder.join(format!("orders-{file}.csv")))?);
        writeln!(out, "id,customer,amount,at")?;
        for id in file * ROWS_PER_FILE..(file + 1) * ROWS_PER_FILE {
            let at = instant(BASE_MS + 10_000 + id * 100 - id * 7_919 % 10 * 100);
            let (customer, amount) = before(id);
            writeln!(out, "{id},{customer}{},{amount}{}.{:02},{at}", id * 31 % 20, id * 131 % 977, id % 100)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Milliseconds within 1 January 2013 as text.
fn instant(at_ms: u64) -> String {
    let of_day = at_ms - BASE_MS;
    let (hour, minute, second, milli) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60, of_day % 1_000);
    format!("2013-01-01T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}
