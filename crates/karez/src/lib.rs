//! Karez: streaming and batch ETL in one library and one binary.
