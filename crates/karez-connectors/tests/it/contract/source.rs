//! What holds of every source.

use super::process::{Process, target_of};
use super::reader::{next, open, plan_source, read, read_all, splits};
use super::sink::texts;
use super::{End, as_lines, by_id, lines};

/// Rows as they are inserted.
fn owned(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|id| (id, format!("n{id}"))).collect()
}

async fn insert<E: End>(end: &E, range: std::ops::Range<i64>) {
    let rows = owned(range);
    let rows: Vec<_> = rows.iter().map(|(id, name)| (*id, Some(name.as_str()))).collect();
    end.insert(&rows).await;
}

pub async fn rows_are_read_as_they_were_written<E: End>() {
    let end = E::fresh().await;
    end.create().await;
    end.insert(&texts()).await;
    let expected: Vec<_> = texts().iter().map(|(id, text)| format!("{id}|{}", text.unwrap_or("NULL"))).collect();
    assert_eq!(read(&end).await, expected);
}

pub async fn an_empty_target_gives_nothing<E: End>() {
    let end = E::fresh().await;
    end.create().await;
    assert_eq!(read(&end).await, Vec::<String>::new());
}

/// A reader is dropped behind every batch, and another goes on where it stood.
pub async fn reading_goes_on_behind_any_position<E: End>() {
    let end = E::fresh().await;
    end.create().await;
    insert(&end, 0..23).await;
    let source = plan_source(&end, &end.source()).unwrap();
    let mut found = Vec::new();
    for mut split in splits(source.as_ref()).await.unwrap() {
        loop {
            let mut reader = open(source.as_ref(), &split).await.unwrap();
            let batch = next(reader.as_mut(), 5).await.unwrap();
            // As a manifest keeps it.
            split.position = serde_json::from_str(&reader.position().unwrap().to_string()).unwrap();
            let Some(batch) = batch else { break };
            found.extend(as_lines(&[batch]));
        }
    }
    by_id(&mut found);
    assert_eq!(found, lines(0..23));
}

pub async fn many_rows_come_in_batches_within_the_limit<E: End>() {
    let end = E::fresh().await;
    end.create().await;
    for part in 0..10 {
        insert(&end, part * 5_000..(part + 1) * 5_000).await;
    }
    let source = plan_source(&end, &end.source()).unwrap();
    let batches = read_all(source.as_ref(), 700).await.unwrap();
    assert!(batches.iter().all(|b| (1..=700).contains(&b.num_rows())), "{:?}", batches.iter().map(|b| b.num_rows()).collect::<Vec<_>>());
    assert!(as_lines(&batches) == lines(0..50_000), "the rows are not those written");
}

pub async fn what_the_sink_wrote_the_source_reads_whatever_its_type<E: End>() {
    let end = E::fresh().await;
    let batch = end.every_type();
    let mut process = Process::first(end.connector().as_ref(), &end.sink(), &batch.schema(), 1).await;
    process.write(0, batch.clone()).await.unwrap();
    let manifest = process.barrier(1).await.unwrap();
    process.commit(&manifest).await.unwrap();
    let (connector, config, schema) = (end.connector(), end.source(), batch.schema());
    let schema = end.declares_schema().then_some(&schema);
    let source = connector.source(karez_core::SourceContext { node: "in", config: &config, schema, batch: true }).unwrap_or_else(|e| panic!("{e}"));
    let found = read_all(source.as_ref(), 1_000).await.unwrap();
    assert_eq!(as_lines(&found), as_lines(&[batch]));
}

pub async fn a_missing_target_is_named<E: End>() {
    let end = E::fresh().await;
    let config = end.source();
    let name = target_of(&config);
    let name = name.trim_matches(['"', '[', ']']).rsplit(['/', '"']).find(|part| !part.starts_with('*')).unwrap().to_owned();
    let error = match plan_source(&end, &config) {
        Err(e) => e,
        Ok(source) => match source.check().await {
            Err(e) => e.to_string(),
            Ok(()) => splits(source.as_ref()).await.map(|s| format!("no error, and {} splits", s.len())).unwrap_or_else(|e| e.to_string()),
        },
    };
    assert!(error.contains(&name), "`{error}` does not name `{name}`");
}
