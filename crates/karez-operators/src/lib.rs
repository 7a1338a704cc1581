//! The operators of Karez, one file (or folder) each.
//!
//! An operator is three things: an options struct whose doc comments are the reference, a factory that validates the options
//! against the inputs and gives an [`OperatorSpec`](karez_core::OperatorSpec), and the running
//! [`Operator`](karez_core::Operator) that a spec makes. To add one, write its file and name it in [`register`].
//!
//! | type | does | state |
//! | --- | --- | --- |
//! | `map`, `select` | computes columns | none |
//! | `filter` | keeps rows | none |
//! | `flat-map` | one row per element of a list | none |
//! | `lookup` | adds columns of an outside table, by key | none; a cache |
//! | `union` | puts streams together | none |
//! | `split`, `route` | sends rows to several outputs | none |
//! | `window-aggregate` | aggregates per key and window | panes, keyed |
//! | `aggregate` | aggregates per key | keyed |
//! | `deduplicate` | first or last row per key | keyed |

mod aggregate;
mod aggregates;
mod deduplicate;
mod expiry;
mod expressions;
mod filter;
mod flat_map;
mod groups;
mod inputs;
mod keyed;
mod lookup;
mod map;
mod named;
mod pending;
mod rejects;
mod results;
mod split;
mod union;
mod window;

use karez_core::Registry;

/// Adds all operators to a registry.
#[must_use]
pub fn register(registry: Registry) -> Registry {
    registry
        .with_operator(map::Map("map"))
        .with_operator(map::Map("select"))
        .with_operator(filter::Filter)
        .with_operator(flat_map::FlatMap)
        .with_operator(lookup::LookupFactory)
        .with_operator(union::Union)
        .with_operator(split::Split("split"))
        .with_operator(split::Split("route"))
        .with_operator(aggregate::Aggregate)
        .with_operator(deduplicate::Deduplicate)
        .with_operator(window::WindowAggregate)
}
