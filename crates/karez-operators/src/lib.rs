//! The operators of Karez, one file each.
