//! Random graphs, parallelisms, batch boundaries and restore points give the rows of a straightforward reference interpreter.
//!
//! ```text
//! seed ─► raw ─► plan ─┬─► engine: StreamGraph of the real operators, started, stopped, failed, restored ─► rows in sinks ─┐
//!                      └─► reference: a function of lists ──────────────────────────────────────────────────► rows ────────┴─► equal
//! ```
//! A failure prints the smallest plan found and its seed. `KAREZ_PROPERTY_CASES` runs more cases, `KAREZ_PROPERTY_SEED` begins with another seed.
//! What the reference knows of a row's lateness and order hangs on no scheduling: see [`decode`].

mod decode;
mod dice;
pub mod engine;
pub mod expression;
pub mod plan;
pub mod reference;
mod sink;
mod source;
pub mod value;
pub mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use self::value::Value;
use self::world::Tally;

const CASES: u64 = 300;

#[test]
fn random_graphs_parallelisms_batch_boundaries_and_restore_points_give_the_rows_of_the_reference() {
    let from_environment = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().unwrap());
    let (cases, first) = (from_environment("KAREZ_PROPERTY_CASES").unwrap_or(CASES), from_environment("KAREZ_PROPERTY_SEED").unwrap_or(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let tally = Tally::default();
    for seed in first..first + cases {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 1_000, max_shrink_time: 60_000, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let checked = runner.run(&decode::raw(), |raw| {
            let plan = Arc::new(raw.plan());
            let rows = runtime.block_on(engine::rows(&plan, &tally)).map_err(TestCaseError::fail)?;
            differences(&rows, &reference::rows(&plan)).map_err(TestCaseError::fail)
        });
        if let Err(e) = checked {
            panic!("seed {seed} (KAREZ_PROPERTY_SEED={seed} KAREZ_PROPERTY_CASES=1 runs it alone): {e}");
        }
    }
    println!("{tally:?}");
    // Restored in the middle, and with something to say.
    let at_least = |what: &std::sync::atomic::AtomicUsize, least: u64| assert!(what.load(SeqCst) as u64 >= least, "{tally:?}");
    if cases >= CASES {
        at_least(&tally.starts, 2 * cases);
        at_least(&tally.reopened, cases);
        at_least(&tally.rows, 50 * cases);
        at_least(&tally.savepoints, cases / 8);
        at_least(&tally.checkpoints, 3 * cases);
        at_least(&tally.retractions, cases / 4);
        at_least(&tally.late, cases / 4);
    }
}

type Tables = BTreeMap<String, Vec<Vec<Value>>>;

/// Rows that are missing and rows that are too many.
fn differences(engine: &Tables, reference: &Tables) -> Result<(), String> {
    let mut differences = Vec::new();
    for (sink, expected) in reference {
        let mut extra = engine[sink].clone();
        let mut missing = expected.clone();
        missing.retain(|row| extra.iter().position(|r| r == row).map(|at| extra.swap_remove(at)).is_none());
        if !missing.is_empty() || !extra.is_empty() {
            differences.push(format!("{sink}: of {} rows missing {missing:?}, too many {extra:?}", expected.len()));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) }
}
