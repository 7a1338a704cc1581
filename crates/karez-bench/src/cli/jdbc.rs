//! `karez-bench jdbc`: how fast tables of PostgreSQL are written and read.

use std::process::ExitCode;

use clap::Args;

#[derive(Args)]
pub(crate) struct JdbcArgs {
    /// The database. A table `karez_bench` is made and dropped in it.
    #[arg(long, env = "POSTGRES_URL")]
    url: String,
    /// Rows of the table.
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// How often everything is repeated; medians are printed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[allow(clippy::print_stdout, clippy::print_stderr)] // A command line tool speaks.
pub(crate) fn run(arguments: &JdbcArgs) -> Result<ExitCode, String> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds.max(1) {
        rounds.push(runtime.block_on(karez_bench::jdbc::measure(&arguments.url, arguments.rows)).map_err(|e| e.to_string())?);
    }
    for i in 0..rounds[0].len() {
        let median = |of: &dyn Fn(&karez_bench::jdbc::Figure) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(|r| of(&r[i])).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!("{:24} {:>12.0} rows/s  {:.2} of psql", rounds[0][i].name, median(&|f| f.rows_per_second), median(&|f| f.of_psql));
    }
    Ok(ExitCode::SUCCESS)
}
