//! `cargo bench -p karez-bench [-- NAME…]`: the measurements of `karez-bench speed` that take place in one process and compare with nothing outside it.
#![allow(clippy::print_stdout)]

use karez_bench::speed::{Bench, Speed};

fn main() -> Result<(), String> {
    let speed = Speed { rounds: 5, rows: 2_000_000, data: None, against: Vec::new(), python: "python3".into(), karez: "karez".into() };
    let names: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for bench in Bench::all().into_iter().filter(Bench::is_in_process).filter(|b| names.is_empty() || names.iter().any(|n| n == b.name())) {
        for figure in speed.measure(bench)? {
            println!("{}", figure.line());
        }
    }
    Ok(())
}
