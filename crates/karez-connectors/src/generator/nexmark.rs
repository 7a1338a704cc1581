//! `kind: nexmark`: the events of the crate `nexmark`, as columns.
//!
//! Times are computed here, exactly: the crate does so in `f32`, whose steps grow to seconds after some hours of events. Up to there both agree.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, NullBufferBuilder, StringArray, StructArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use karez_core::{Error, Result};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::{Auction, Bid, Event, EventType, Person};

use super::options::{NexmarkEvent, NexmarkOptions, instant_ms};

/// What of the options decides on the events.
#[derive(Clone, Debug)]
pub(super) struct Nexmark {
    event: NexmarkEvent,
    config: NexmarkConfig,
    start_ms: i64,
    events_per_second: u64,
}

impl Nexmark {
    pub(super) fn new(options: &NexmarkOptions) -> Result<Self, String> {
        let start_ms = instant_ms(&options.start_time)?;
        let base_time = u64::try_from(start_ms).map_err(|_| format!("`{}` lies before 1970", options.start_time))?;
        let rate = usize::try_from(options.events_per_second).map_err(|e| e.to_string())?;
        let config = NexmarkConfig { base_time, first_rate: rate, next_rate: rate, avg_bid_byte_size: options.bid_bytes, ..NexmarkConfig::default() };
        Ok(Self { event: options.event, config, start_ms, events_per_second: options.events_per_second })
    }

    pub(super) fn fields(&self) -> Fields {
        match self.event {
            NexmarkEvent::Person => person_fields(),
            NexmarkEvent::Auction => auction_fields(),
            NexmarkEvent::Bid => bid_fields(),
            NexmarkEvent::All => Fields::from(vec![
                text("event"),
                time("date_time"),
                Field::new_struct("person", person_fields(), true),
                Field::new_struct("auction", auction_fields(), true),
                Field::new_struct("bid", bid_fields(), true),
            ]),
        }
    }

    /// Bytes of a row, about.
    pub(super) const fn row_bytes(&self) -> usize {
        match self.event {
            NexmarkEvent::Auction => 600,
            _ => 250,
        }
    }

    /// The columns of rows `first, first + step, …`.
    pub(super) fn columns(&self, first: u64, step: u64, rows: usize) -> Result<Vec<ArrayRef>> {
        let mut events = EventGenerator::new(self.config.clone()).with_offset(first).with_step(step);
        if let Some(of_type) = match self.event {
            NexmarkEvent::Person => Some(EventType::Person),
            NexmarkEvent::Auction => Some(EventType::Auction),
            NexmarkEvent::Bid => Some(EventType::Bid),
            NexmarkEvent::All => None,
        } {
            events = events.with_type_filter(of_type);
        }
        let mut out = Vec::with_capacity(rows);
        for _ in 0..rows {
            let number = events.global_offset();
            let event = events.next().ok_or_else(|| Error::internal("the Nexmark generator ended"))?;
            out.push((self.time_ms(number), event));
        }
        match self.event {
            NexmarkEvent::Person => people(out.iter().map(|(t, e)| if let Event::Person(p) = e { Some((*t, p)) } else { None })),
            NexmarkEvent::Auction => auctions(out.iter().map(|(t, e)| if let Event::Auction(a) = e { Some((*t, a)) } else { None })),
            NexmarkEvent::Bid => bids(out.iter().map(|(t, e)| if let Event::Bid(b) = e { Some((*t, b)) } else { None })),
            NexmarkEvent::All => {
                let names = out.iter().map(|(_, e)| match e {
                    Event::Person(_) => "person",
                    Event::Auction(_) => "auction",
                    Event::Bid(_) => "bid",
                });
                let structs = |fields: Fields, columns: Vec<ArrayRef>, valid: &dyn Fn(&Event) -> bool| -> Result<ArrayRef> {
                    let mut nulls = NullBufferBuilder::new(out.len());
                    out.iter().for_each(|(_, e)| nulls.append(valid(e)));
                    Ok(Arc::new(StructArray::try_new(fields, columns, nulls.finish())?))
                };
                Ok(vec![
                    Arc::new(StringArray::from_iter_values(names)),
                    Arc::new(TimestampMillisecondArray::from_iter_values(out.iter().map(|(t, _)| *t))),
                    structs(person_fields(), people(out.iter().map(|(t, e)| if let Event::Person(p) = e { Some((*t, p)) } else { None }))?, &|e| {
                        matches!(e, Event::Person(_))
                    })?,
                    structs(
                        auction_fields(),
                        auctions(out.iter().map(|(t, e)| if let Event::Auction(a) = e { Some((*t, a)) } else { None }))?,
                        &|e| matches!(e, Event::Auction(_)),
                    )?,
                    structs(bid_fields(), bids(out.iter().map(|(t, e)| if let Event::Bid(b) = e { Some((*t, b)) } else { None }))?, &|e| {
                        matches!(e, Event::Bid(_))
                    })?,
                ])
            }
        }
    }

    /// The time of an event, to the nearest millisecond.
    fn time_ms(&self, number: u64) -> i64 {
        let rate = u128::from(self.events_per_second);
        let passed_ms = (u128::from(number) * 1_000 + rate / 2) / rate;
        self.start_ms.saturating_add(i64::try_from(passed_ms).unwrap_or(i64::MAX))
    }
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

fn number(name: &str) -> Field {
    Field::new(name, DataType::Int64, false)
}

fn time(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), false)
}

fn person_fields() -> Fields {
    let names = ["name", "email_address", "credit_card", "city", "state"];
    Fields::from_iter(std::iter::once(number("id")).chain(names.map(text)).chain([time("date_time"), text("extra")]))
}

fn auction_fields() -> Fields {
    Fields::from(vec![
        number("id"),
        text("item_name"),
        text("description"),
        number("initial_bid"),
        number("reserve"),
        time("date_time"),
        time("expires"),
        number("seller"),
        number("category"),
        text("extra"),
    ])
}

fn bid_fields() -> Fields {
    Fields::from(vec![number("auction"), number("bidder"), number("price"), text("channel"), text("url"), time("date_time"), text("extra")])
}

/// One column from the events of one type; where a row has another type there is a value of no meaning, under the struct's null.
fn texts<'a, T: 'a>(rows: impl Iterator<Item = Option<(i64, &'a T)>>, value: impl Fn(&'a T) -> &'a str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.map(|r| r.map_or("", |(_, e)| value(e)))))
}

fn numbers<'a, T: 'a>(rows: impl Iterator<Item = Option<(i64, &'a T)>>, value: impl Fn(&'a T) -> usize) -> Result<ArrayRef> {
    let values = rows.map(|r| r.map_or(Ok(0), |(_, e)| i64::try_from(value(e)))).collect::<Result<Vec<_>, _>>();
    Ok(Arc::new(Int64Array::from(values.map_err(|e| Error::internal("a Nexmark number").caused_by(e))?)))
}

fn times<'a, T: 'a>(rows: impl Iterator<Item = Option<(i64, &'a T)>>, value: impl Fn(i64, &'a T) -> i64) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(rows.map(|r| r.map_or(0, |(t, e)| value(t, e)))))
}

fn people<'a>(rows: impl Iterator<Item = Option<(i64, &'a Person)>> + Clone) -> Result<Vec<ArrayRef>> {
    Ok(vec![
        numbers(rows.clone(), |p| p.id)?,
        texts(rows.clone(), |p| &p.name),
        texts(rows.clone(), |p| &p.email_address),
        texts(rows.clone(), |p| &p.credit_card),
        texts(rows.clone(), |p| &p.city),
        texts(rows.clone(), |p| &p.state),
        times(rows.clone(), |t, _| t),
        texts(rows, |p| &p.extra),
    ])
}

fn auctions<'a>(rows: impl Iterator<Item = Option<(i64, &'a Auction)>> + Clone) -> Result<Vec<ArrayRef>> {
    Ok(vec![
        numbers(rows.clone(), |a| a.id)?,
        texts(rows.clone(), |a| &a.item_name),
        texts(rows.clone(), |a| &a.description),
        numbers(rows.clone(), |a| a.initial_bid)?,
        numbers(rows.clone(), |a| a.reserve)?,
        times(rows.clone(), |t, _| t),
        // The auction's length is the crate's; it counts from the exact time.
        times(rows.clone(), |t, a| t.saturating_add_unsigned(a.expires.saturating_sub(a.date_time))),
        numbers(rows.clone(), |a| a.seller)?,
        numbers(rows.clone(), |a| a.category)?,
        texts(rows, |a| &a.extra),
    ])
}

fn bids<'a>(rows: impl Iterator<Item = Option<(i64, &'a Bid)>> + Clone) -> Result<Vec<ArrayRef>> {
    Ok(vec![
        numbers(rows.clone(), |b| b.auction)?,
        numbers(rows.clone(), |b| b.bidder)?,
        numbers(rows.clone(), |b| b.price)?,
        texts(rows.clone(), |b| &b.channel),
        texts(rows.clone(), |b| &b.url),
        times(rows.clone(), |t, _| t),
        texts(rows, |b| &b.extra),
    ])
}
