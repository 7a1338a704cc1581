//! Tasks, queues, exchange, watermarks, state backends and the checkpoint protocol.
