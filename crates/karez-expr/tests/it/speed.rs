//! Measurements, not tests: `cargo test -p karez-expr --release --test expr -- --ignored --nocapture speed`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use karez_expr::GroupTable;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const BATCHES: usize = 400;
const ROWS: usize = 8192;

fn time(name: &str, mut f: impl FnMut(usize)) {
    let best = (0..3)
        .map(|_| {
            let start = Instant::now();
            (0..BATCHES).for_each(&mut f);
            start.elapsed().as_nanos() as f64 / (BATCHES * ROWS) as f64
        })
        .fold(f64::MAX, f64::min);
    println!("{name:40} {best:6.2} ns/row {:7.1} M rows/s", 1e3 / best);
}

#[test]
#[ignore = "a measurement"]
fn interning() {
    for distinct in [10_i64, 1_000, 100_000, 1_000_000] {
        let mut rng = SmallRng::seed_from_u64(1);
        let batches: Vec<ArrayRef> =
            (0..BATCHES).map(|_| Arc::new(Int64Array::from_iter_values((0..ROWS).map(|_| rng.random_range(0..distinct)))) as _).collect();
        let strings: Vec<ArrayRef> = (0..BATCHES)
            .map(|_| Arc::new(StringArray::from_iter_values((0..ROWS).map(|_| format!("user-{}", rng.random_range(0..distinct))))) as _)
            .collect();
        let schema = Schema::new(vec![Field::new("k", DataType::Int64, true)]);
        let mut groups = Vec::new();
        let mut ours = GroupTable::try_new(&schema).unwrap();
        time(&format!("karez      int64  {distinct} keys"), |i| {
            ours.intern(std::slice::from_ref(&batches[i]), &mut groups).unwrap();
            black_box(&groups);
        });
        let mut theirs = new_group_values(Arc::new(schema), &GroupOrdering::None).unwrap();
        time(&format!("datafusion int64  {distinct} keys"), |i| {
            theirs.intern(std::slice::from_ref(&batches[i]), &mut groups).unwrap();
            black_box(&groups);
        });
        let mut text = GroupTable::try_new(&Schema::new(vec![Field::new("k", DataType::Utf8, true)])).unwrap();
        time(&format!("karez      utf8   {distinct} keys"), |i| {
            text.intern(std::slice::from_ref(&strings[i]), &mut groups).unwrap();
            black_box(&groups);
        });
    }
}
