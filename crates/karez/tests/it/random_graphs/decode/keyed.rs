//! Windows, aggregates, deduplication.

use super::*;

impl Decoder {
    pub(super) fn keys(&self, dice: &mut Dice<'_>, columns: &[Column]) -> Vec<usize> {
        let fits = |c: &Column| matches!(c.kind, Kind::Int | Kind::Text) && !c.name.starts_with("window_");
        let mut possible: Vec<usize> = (0..columns.len()).filter(|&i| fits(&columns[i])).collect();
        let mut keys = Vec::new();
        for _ in 0..[1, 2, 0][dice.roll(3)] {
            if !possible.is_empty() {
                keys.push(possible.remove(dice.roll(possible.len())));
            }
        }
        keys
    }

    pub(super) fn aggregates(&self, dice: &mut Dice<'_>, columns: &[Column]) -> (Vec<(String, Aggregate)>, Vec<Column>) {
        let (mut aggregates, mut results) = (Vec::new(), Vec::new());
        for i in 0..1 + dice.roll(3) {
            let name = format!("a{}_{i}", self.nodes.len());
            let int = |dice: &mut Dice<'_>| Expression::int(dice, columns, 1);
            let (aggregate, kind) = match dice.roll(10) {
                0 => (Aggregate::CountAll, Kind::Int),
                1 => (Aggregate::Sum(int(dice)), Kind::Int),
                2 => (Aggregate::Count(int(dice)), Kind::Int),
                3 => (Aggregate::CountDistinct(int(dice)), Kind::Int),
                4 => (Aggregate::Min(int(dice)), Kind::Int),
                5 => (Aggregate::Max(Expression::text(dice, columns, 0)), Kind::Text),
                6 => (Aggregate::Mean(int(dice)), Kind::Float),
                7 => (Aggregate::SumWhere(int(dice), Predicate::any(dice, columns, 1)), Kind::Int),
                8 => (Aggregate::SumAndCount(int(dice)), Kind::Int),
                _ => (Aggregate::Min(Expression::text(dice, columns, 0)), Kind::Text),
            };
            results.push(Column::new(name.clone(), kind));
            aggregates.push((name, aggregate));
        }
        (aggregates, results)
    }

    /// The stream of results by key.
    pub(super) fn results(input: &Stream, keys: &[usize], more: Vec<Column>, level: Level) -> Stream {
        let columns = keys.iter().map(|&k| input.columns[k].clone()).chain(more).collect();
        Stream { level, columns, event_time: None, exact: false, late: false, used: false, ..input.clone() }
    }

    pub(super) fn window(&mut self, dice: &mut Dice<'_>, at: usize) {
        let input = self.streams[at].clone();
        let keys = self.keys(dice, &input.columns);
        let unit = 10 * (1 + dice.int(8));
        let window = match dice.roll(3) {
            0 => Window::Sliding { size_ms: 4 * unit, slide_ms: 4 * unit, offset_ms: dice.int(30) },
            1 => Window::Session { gap_ms: unit },
            _ => Window::Sliding { size_ms: 4 * unit, slide_ms: unit * (1 + dice.int(4)), offset_ms: dice.int(30) },
        };
        let lateness_ms = if dice.chance(3) { 1 + dice.int(60) } else { 0 };
        let with_time = dice.chance(2);
        let (aggregates, results) = self.aggregates(dice, &input.columns);
        let mut bounds = vec![Column::new("window_start", Kind::Time), Column::new("window_end", Kind::Time)];
        if with_time {
            bounds.push(Column::new("window_time", Kind::Time));
        }
        let level = if keys.is_empty() { Level::One } else { level(dice) };
        let mut main = Self::results(&input, &keys, bounds.into_iter().chain(results).collect(), level);
        main.event_time = with_time.then(|| "window_time".into());
        main.changelog = lateness_ms > 0 && !self.batch;
        if main.changelog {
            main.key = keys.iter().map(|&k| input.columns[k].name.clone()).chain(["window_start".into(), "window_end".into()]).collect();
        }
        let late = Stream { level, exact: false, late: true, used: false, ..input };
        let operator = OperatorPlan::Window { keys, window, lateness_ms, with_time, aggregates };
        self.add(&[(at, None)], level, operator, Faults::None, vec![("late".into(), late), ("main".into(), main)]);
    }

    pub(super) fn count_window(&mut self, dice: &mut Dice<'_>, at: usize) {
        let input = self.streams[at].clone();
        let keys = self.keys(dice, &input.columns);
        let window = Window::Count { rows: 1 + dice.roll(4) };
        let (aggregates, results) = self.aggregates(dice, &input.columns);
        let level = if keys.is_empty() { Level::One } else { level(dice) };
        let main = Self::results(&input, &keys, results, level);
        let operator = OperatorPlan::Window { keys, window, lateness_ms: 0, with_time: false, aggregates };
        self.add(&[(at, None)], level, operator, Faults::None, vec![("main".into(), main)]);
    }

    pub(super) fn aggregate(&mut self, dice: &mut Dice<'_>, at: usize) {
        let input = self.streams[at].clone();
        let keys = self.keys(dice, &input.columns);
        let (aggregates, results) = self.aggregates(dice, &input.columns);
        let level = if keys.is_empty() { Level::One } else { level(dice) };
        let mut main = Self::results(&input, &keys, results, level);
        main.changelog = !input.bounded;
        if main.changelog {
            main.key = keys.iter().map(|&k| input.columns[k].name.clone()).collect();
        }
        self.add(&[(at, None)], level, OperatorPlan::Aggregate { keys, aggregates }, Faults::None, vec![("main".into(), main)]);
    }

    pub(super) fn deduplicate(&mut self, dice: &mut Dice<'_>, at: usize) {
        let mut at = at;
        if !self.streams[at].exact {
            // Which row of a key comes first is known only where all of them are the same.
            let columns: Vec<Column> = self.streams[at].columns.iter().filter(|c| !matches!(c.kind, Kind::List | Kind::Float)).cloned().collect();
            if columns.is_empty() {
                return self.stateless(dice, at, OperatorPlan::Identity, Faults::None, |_| {});
            }
            at = self.only(dice, at, &columns);
        }
        let input = self.streams[at].clone();
        let mut keys = if input.exact { self.keys(dice, &input.columns) } else { (0..input.columns.len()).collect() };
        if keys.is_empty() {
            keys = vec![0];
        }
        if matches!(input.columns[keys[0]].kind, Kind::List) {
            return self.stateless(dice, at, OperatorPlan::Identity, Faults::None, |_| {});
        }
        let (last, level) = (dice.chance(2), level(dice));
        let mut output = Stream { level, exact: false, used: false, ..input.clone() };
        output.changelog = last && !input.bounded;
        if last && input.bounded && !self.batch {
            // Rows held until the end are behind the watermark.
            output.event_time = None;
        }
        if output.changelog {
            output.key = keys.iter().map(|&k| input.columns[k].name.clone()).collect();
        }
        self.add(&[(at, None)], level, OperatorPlan::Deduplicate { keys, last }, Faults::None, vec![("main".into(), output)]);
    }
}
