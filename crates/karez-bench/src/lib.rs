//! The measuring harness of Karez.
