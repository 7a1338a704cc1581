//! A client of schema registries that speak Confluent's REST API: Confluent's own, Apicurio (`…/apis/ccompat/v7`), Redpanda, Karapace.
//!
//! Decoders and encoders of messages ([`karez_formats::message`]) are synchronous and know no network. Between them and the registry stand
//! [`SchemaRegistry::provide`] (a decoder needs a schema by its id) and [`SchemaRegistry::prepare`] (an encoder needs the id of its schema before the
//! first row).
//!
//! Every request goes through the layer around external calls ([`karez_external`]). Errors are on the three axes: an id that the registry does not know is
//! an answer, and makes the messages that name it bad records; a registry that is away is a connection error, retried under back-pressure; a wrong password
//! or an incompatible schema fails the job.

mod cache;
mod client;
mod http;
mod options;
mod references;

pub use client::{Latest, SchemaRegistry};
pub use options::{Part, SchemaRegistryOptions, SubjectStrategy};
