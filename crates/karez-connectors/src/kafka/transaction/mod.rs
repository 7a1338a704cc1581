//! Transactions that another process ends.
//!
//! A Kafka client that prepares a transaction and dies loses it: its successor's `InitProducerId` aborts what is open. Kafka's own way around that (KIP-939)
//! is in no released broker. What every broker does is to take `EndTxn` from whoever knows the transactional id, producer id and epoch. So those go into the
//! manifest, and whoever recovers commits first and asks for producers later:
//!
//! ```text
//!  writer     InitProducerId(id 0) ─ rows ─ all acknowledged ─► manifest N { id 0, producer, epoch, offsets } ─► InitProducerId(id 1) ─ rows …
//!  committer                                                    EndTxn(commit, id 0, producer, epoch)
//!  recovery   EndTxn(commit) for all that manifest N names ─► InitProducerId for every other id: aborts and fences
//! ```
//! `ledger` says which ids a writer may use: one that the newest manifest names is left alone, so that its replay finds it as it was. `EndTxn` refused as
//! fenced can then only mean that the broker has timed the transaction out, or that it was committed so long ago that its id has a new life (a savepoint): the
//! log says which (`outcome`).

mod committer;
mod coordinator;
mod fence;
mod id;
mod ledger;
mod outcome;
mod prepared;
pub(super) mod timeout;

pub(super) use committer::TransactionCommitter;
pub(super) use coordinator::{Coordinators, End, Refusal, checked, exchange};
pub(super) use fence::{UsedIds, abort, fence};
pub(super) use id::{Base, SinkName};
pub(super) use ledger::Ledger;
pub(super) use prepared::{Identity, OffsetRange, Prepared, TransactionVersion};
