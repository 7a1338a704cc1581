//! Sources: random rows cut into splits and batches, and how far they are out of order.

use std::collections::BTreeSet;

use super::*;

impl Decoder {
    pub(super) fn source(&mut self, i: usize, dice: &mut Dice<'_>, raw: &[RawRow]) -> SourcePlan {
        let name = format!("in{i}");
        let exact = dice.chance(2);
        let level = if exact { Level::One } else { level(dice) };
        let count = if exact { 1 } else { 1 + dice.roll(4) };
        let one_at_a_time = dice.chance(2);
        let bounded = self.batch || dice.chance(2);
        let in_order = !dice.chance(8) && !self.batch;
        let late = exact && in_order && !dice.chance(3);
        let projects = dice.chance(2);
        let found_at_once = if one_at_a_time { count - dice.roll(count) } else { count };
        let slack = dice.int(50);

        let mut clock = 0;
        let rows: Vec<(&RawRow, i64)> = raw
            .iter()
            .map(|r| {
                clock += r.gap_ms;
                (r, clock - r.behind_ms)
            })
            .collect();
        // One at a time, the splits are parts of one sequence; together, sequences of their own.
        let per_split = rows.len().div_ceil(count).max(1);
        let split_of = |at: usize, row: &RawRow| if one_at_a_time { at / per_split } else { row.split % count };
        let parts: Vec<Vec<(&RawRow, i64)>> = (0..count)
            .map(|split| rows.iter().enumerate().filter(|(at, (row, _))| split_of(*at, row) == split).map(|(_, row)| *row).collect())
            .collect();
        let behind = |rows: &[(&RawRow, i64)]| {
            let mut newest = i64::MIN;
            rows.iter().map(|(_, t)| (newest = newest.max(*t), newest - t).1).max().unwrap_or(0)
        };
        let disorder = if one_at_a_time { behind(&rows) } else { parts.iter().map(|p| behind(p)).max().unwrap_or(0) };
        let out_of_orderness_ms = if late { disorder / 8 } else { disorder + slack };

        let (mut splits, mut pauses) = (Vec::new(), Vec::new());
        for part in parts {
            let (mut batches, mut paused, mut newest, mut watermark) = (Vec::<Vec<Row>>::new(), BTreeSet::new(), i64::MIN, i64::MIN);
            for (row, time) in part {
                if row.cut || batches.is_empty() {
                    if newest > i64::MIN && late {
                        watermark = newest - out_of_orderness_ms - 1;
                    }
                    if row.pause {
                        paused.insert(batches.len());
                    }
                    batches.push(Vec::new());
                }
                newest = newest.max(time);
                let int = |v: Option<i64>| v.map_or(Value::Null, Value::Int);
                let text = row.s.map_or(Value::Null, |s| Value::Text(["a", "b", "", "éa"][s].to_owned()));
                let values = vec![int(row.k), int(row.v), text, Value::Time(time), row.l.clone().map_or(Value::Null, Value::List)];
                batches.last_mut().unwrap().push(Row { values, watermark });
            }
            splits.push(batches);
            pauses.push(paused);
        }
        self.streams.push(Stream {
            port: Port { node: name.clone(), name: "main".into() },
            level,
            columns: source_columns(),
            event_time: Some(EVENT_TIME.into()),
            bounded,
            changelog: false,
            key: Vec::new(),
            exact,
            late,
            used: false,
        });
        SourcePlan { name, level, splits, pauses, bounded, one_at_a_time, found_at_once, projects, in_order, out_of_orderness_ms }
    }
}
