//! Connectors: one module and one cargo feature per external system.
