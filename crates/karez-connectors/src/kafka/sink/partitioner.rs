//! Which partition a row goes to: the one its column names, by the hash of its key as every Java client has it, or any, batch by batch.

use krafka::producer::murmur2;

/// The partition of a key among `partitions` (`BuiltInPartitioner.partitionForKey` of the Java client).
pub(super) fn of_key(key: &[u8], partitions: i32) -> i32 {
    let positive = i32::try_from(murmur2(key) & 0x7fff_ffff).unwrap_or(0);
    positive % partitions.max(1)
}

/// Rows without a key stay in one partition until its batch is full or due, then go on with the next: large batches, evenly spread (KIP-480).
#[derive(Debug)]
pub(super) struct Sticky {
    at: i32,
}

impl Sticky {
    /// Subtasks begin in different partitions.
    pub(super) fn new(subtask: usize) -> Self {
        Self { at: i32::try_from(subtask % 1_000_000).unwrap_or(0) }
    }

    pub(super) const fn partition(&self, partitions: i32) -> i32 {
        if partitions <= 0 { 0 } else { self.at % partitions }
    }

    /// A batch of this partition has been ended.
    pub(super) const fn ended(&mut self, partition: i32, partitions: i32) {
        if self.partition(partitions) == partition {
            self.at = (partition + 1) % if partitions <= 0 { 1 } else { partitions };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UtilsTest.testMurmur2` of Apache Kafka.
    #[test]
    fn keys_hash_as_in_the_java_client() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
            assert_eq!(of_key(key.as_bytes(), 7), (hash & 0x7fff_ffff) % 7);
        }
    }

    #[test]
    fn rows_without_a_key_change_partition_with_the_batch() {
        let mut sticky = Sticky::new(4);
        assert_eq!(sticky.partition(3), 1);
        sticky.ended(0, 3); // a batch of keyed rows
        assert_eq!(sticky.partition(3), 1);
        sticky.ended(1, 3);
        assert_eq!(sticky.partition(3), 2);
        sticky.ended(2, 3);
        assert_eq!(sticky.partition(3), 0);
    }
}
