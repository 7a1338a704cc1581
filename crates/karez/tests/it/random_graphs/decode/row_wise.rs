//! Operators that pass rows on one by one.

use std::collections::BTreeSet;

use super::*;

impl Decoder {
    /// Adds a node that passes rows on one by one. `change` says what is different behind it.
    pub(super) fn stateless(&mut self, dice: &mut Dice<'_>, at: usize, operator: OperatorPlan, faults: Faults, change: impl FnOnce(&mut Stream)) {
        let input = self.streams[at].clone();
        let level = if input.is_tied() || (input.exact && !dice.chance(4)) { input.level } else { level(dice) };
        let exchange = if input.changelog { None } else { spread(dice, &input.columns) };
        let mut output = Stream { level, exact: input.exact && level == Level::One, used: false, ..input };
        change(&mut output);
        self.add(&[(at, exchange)], level, operator, faults, vec![("main".into(), output)]);
    }

    pub(super) fn map(&mut self, dice: &mut Dice<'_>, at: usize) {
        let input = self.streams[at].clone();
        let n = self.nodes.len();
        let mut items: Vec<(Column, Expression)> = Vec::new();
        for (i, column) in input.columns.iter().enumerate() {
            let is_time = input.event_time.as_ref() == Some(&column.name);
            let other_name = format!("m{n}_{i}");
            match (dice.roll(8), column.kind) {
                (6, _) if !is_time || dice.chance(2) => {}
                (5, kind) => items.push((Column::new(other_name, kind), Expression::column(&input.columns, i))),
                (3 | 4, Kind::Int) => items.push((column.clone(), Expression::int(dice, &input.columns, 2))),
                (3 | 4, Kind::Text) => items.push((column.clone(), Expression::text(dice, &input.columns, 2))),
                _ => items.push((column.clone(), Expression::column(&input.columns, i))),
            }
        }
        if items.is_empty() {
            items.push((Column::new(format!("m{n}"), Kind::Int), Expression::int(dice, &input.columns, 1)));
        }
        let mut faults = Faults::None;
        if dice.chance(3)
            && let Some(quotient) = Expression::quotient(dice, &input.columns)
        {
            items.push((Column::new(format!("q{n}"), Kind::Int), quotient));
            // Of a changelog each change of a row at fault would be a letter: how many changes there are hangs on the batches.
            faults = if !input.changelog && dice.chance(2) { Faults::DeadLetter } else { Faults::Skip };
        }
        let is_column = |e: &Expression, name: &str| matches!(e, Expression::Column(_, n) if n == name);
        let event_time = input.event_time.as_ref().and_then(|t| {
            let mut names = items.iter().filter(|(_, e)| is_column(e, t)).map(|(c, _)| &c.name);
            names.clone().find(|n| *n == t).or_else(|| names.next()).cloned()
        });
        let columns: Vec<Column> = items.iter().map(|(c, _)| c.clone()).collect();
        let operator = OperatorPlan::Map(items.into_iter().map(|(c, e)| (c.name, e)).collect());
        self.stateless(dice, at, operator, faults, |output| {
            output.columns = columns;
            output.event_time = event_time;
            output.key = Vec::new();
        });
        // The key may be lost: then what follows is tied, and so is this node.
        let (node, stream) = (self.nodes.len() - 1, self.streams.len() - 1);
        if input.changelog {
            (self.nodes[node].level, self.streams[stream].level) = (input.level, input.level);
        }
        if faults == Faults::DeadLetter {
            let letters = Stream {
                columns: vec![Column::new("node", Kind::Text)],
                port: Port { node: self.nodes[node].name.clone(), name: "errors".into() },
                event_time: None,
                exact: false,
                used: false,
                ..self.streams[stream].clone()
            };
            self.streams.push(letters);
            let of = self.streams.len() - 1;
            // A letter has the time of day, too.
            let node = OperatorPlan::Map(vec![("node".into(), Expression::Column(0, "node".into()))]);
            self.stateless(dice, of, node, Faults::None, |_| {});
            self.streams.remove(of);
        }
    }

    pub(super) fn split(&mut self, dice: &mut Dice<'_>, at: usize) {
        let input = self.streams[at].clone();
        let routes: Vec<(String, Predicate)> = (0..1 + dice.roll(3)).map(|i| (format!("r{i}"), Predicate::any(dice, &input.columns, 1))).collect();
        let (all, drops) = (dice.chance(2), dice.chance(3));
        let level = if input.is_tied() || input.exact { input.level } else { level(dice) };
        let mut ports: Vec<String> = routes.iter().map(|(name, _)| name.clone()).collect();
        if !drops {
            ports.push("main".into());
        }
        let output = Stream { level, used: false, ..input };
        let outputs = ports.into_iter().map(|port| (port, output.clone())).collect();
        self.add(&[(at, None)], level, OperatorPlan::Split { routes, all, drops }, Faults::None, outputs);
    }

    /// Another stream to put together with this one.
    pub(super) fn partner(&self, dice: &mut Dice<'_>, at: usize) -> Option<usize> {
        let this = &self.streams[at];
        let fits = |other: &Stream| {
            other.port != this.port
                && other.changelog == this.changelog
                && (!this.changelog || other.level == this.level)
                && !common(this, other).is_empty()
        };
        let fitting: Vec<usize> = (0..self.streams.len()).filter(|&i| fits(&self.streams[i])).collect();
        dice.pick(&fitting)
    }

    pub(super) fn union(&mut self, dice: &mut Dice<'_>, at: usize, partner: usize) {
        let columns = common(&self.streams[at], &self.streams[partner]);
        let (left, right) = (self.only(dice, at, &columns), self.only(dice, partner, &columns));
        let (this, other) = (self.streams[left].clone(), self.streams[right].clone());
        let level = if this.changelog { this.level } else { level(dice) };
        let output = Stream {
            level,
            bounded: this.bounded && other.bounded,
            key: Vec::new(),
            exact: false,
            late: this.late || other.late,
            used: false,
            ..this.clone()
        };
        let mut spread = || if this.changelog { None } else { spread(dice, &this.columns) };
        let inputs = [(left, spread()), (right, spread())];
        self.add(&inputs, level, OperatorPlan::Union, Faults::None, vec![("main".into(), output)]);
    }

    /// The stream with these of its columns alone.
    pub(super) fn only(&mut self, dice: &mut Dice<'_>, at: usize, columns: &[Column]) -> usize {
        let input = self.streams[at].clone();
        let names = |c: &[Column]| c.iter().map(|c| c.name.clone()).collect::<BTreeSet<_>>();
        if names(&input.columns) == names(columns) {
            return at;
        }
        let place = |c: &Column| input.columns.iter().position(|i| i == c).unwrap();
        let items = columns.iter().map(|c| (c.name.clone(), Expression::column(&input.columns, place(c)))).collect();
        let kept = input.event_time.filter(|t| columns.iter().any(|c| c.name == *t));
        self.stateless(dice, at, OperatorPlan::Map(items), Faults::None, |output| {
            output.columns = columns.to_vec();
            output.event_time = kept;
            output.key = Vec::new();
            output.level = if output.changelog { input.level } else { output.level };
        });
        let level = self.streams.last().unwrap().level;
        self.nodes.last_mut().unwrap().level = level;
        self.streams.len() - 1
    }

    pub(super) fn flat_map(&mut self, dice: &mut Dice<'_>, at: usize) {
        let input = self.streams[at].clone();
        let list = dice.pick(&of_kind(&input.columns, Kind::List)).unwrap();
        let alias = if dice.chance(2) { format!("e{}", self.nodes.len()) } else { input.columns[list].name.clone() };
        let column = Column::new(alias.clone(), Kind::Int);
        let operator = OperatorPlan::FlatMap { list, alias, keep_empty: dice.chance(2) };
        self.stateless(dice, at, operator, Faults::None, |output| {
            output.columns[list] = column;
            output.key = Vec::new();
        });
        if input.changelog {
            (self.nodes.last_mut().unwrap().level, self.streams.last_mut().unwrap().level) = (input.level, input.level);
        }
    }
}

/// The columns that two streams share, less the event times that are not the same.
pub(super) fn common(a: &Stream, b: &Stream) -> Vec<Column> {
    let same_time = a.event_time == b.event_time;
    let is_time = |c: &Column| [&a.event_time, &b.event_time].iter().any(|t| t.as_ref() == Some(&c.name));
    a.columns.iter().filter(|c| b.columns.contains(c) && (same_time || !is_time(c))).cloned().collect()
}

pub(super) fn spread(dice: &mut Dice<'_>, columns: &[Column]) -> Option<Spread> {
    let hash = || columns.iter().find(|c| matches!(c.kind, Kind::Int | Kind::Text)).map(|c| Spread::Hash(c.name.clone()));
    match dice.roll(8) {
        5 => Some(Spread::Rebalance),
        6 => Some(Spread::Global),
        7 => hash(),
        _ => None,
    }
}
