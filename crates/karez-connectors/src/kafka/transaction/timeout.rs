//! How long a transaction may stay open, checked when the job starts: one that the broker times out before its commit is lost rows.

use std::sync::Arc;
use std::time::Duration;

use karez_core::sink::CheckpointTiming;
use karez_core::{Error, Result};
use krafka::Kafka;
use krafka::admin::{ConfigResource, DescribeConfigsOptions};

const BROKER_LIMIT: &str = "transaction.max.timeout.ms";

/// The broker's own default limit.
pub(in crate::kafka) const DEFAULT: Duration = Duration::from_secs(900);

/// The timeout to ask for: what the user set, which the broker must allow; else 15 minutes, or less where the broker does not allow that.
pub(in crate::kafka) async fn agree(kafka: &Arc<Kafka>, set: Option<Duration>) -> Result<Duration> {
    let limit = broker_limit(kafka).await;
    let Some(limit) = limit else { return Ok(set.unwrap_or(DEFAULT)) };
    match set {
        Some(set) if set > limit => Err(Error::user(format!(
            "`transactionTimeout` is {}, but the broker allows {} ({BROKER_LIMIT}); lower the one or raise the other",
            text(set),
            text(limit)
        ))),
        Some(set) => Ok(set),
        None => Ok(DEFAULT.min(limit)),
    }
}

/// Compares with the checkpoints that have to complete within it.
pub(in crate::kafka) fn check(timeout: Duration, timing: &CheckpointTiming) -> Result<()> {
    let interval = timing.interval;
    if timeout <= interval {
        return Err(Error::user(format!(
            "a transaction stays open from one checkpoint to the next, {} (`checkpoint.interval`), but the broker aborts it after {} \
             (`transactionTimeout`): every row would be lost; checkpoint more often, or let it be longer",
            text(interval),
            text(timeout)
        )));
    }
    Ok(())
}

/// Warns where checkpoints may well not complete within it.
pub(in crate::kafka) fn advise(timeout: Duration, timing: &CheckpointTiming) {
    let interval = timing.interval;
    // From the first row behind a barrier to the commit behind the next; and a job that dies just before that must be back by then.
    let needed = interval + interval.max(timing.timeout.min(Duration::from_secs(60))) + Duration::from_secs(30);
    if timeout < needed {
        tracing::warn!(
            "transactions are aborted by the broker after {} (`transactionTimeout`): a checkpoint every {} and a restart leave little room; rows of a \
             transaction that times out before its commit are lost. {} or more is advised",
            text(timeout),
            text(interval),
            text(needed)
        );
    }
}

/// The broker's limit; none where the user may not ask for it. Then the broker itself refuses a timeout that is too long.
async fn broker_limit(kafka: &Arc<Kafka>) -> Option<Duration> {
    let metadata = krafka::__private::kafka_metadata(kafka);
    let broker = ConfigResource::broker(metadata.brokers().first()?.id());
    let options = DescribeConfigsOptions::default().config_names(vec![BROKER_LIMIT.to_owned()]);
    let described = match kafka.admin().describe_configs([broker.clone()], options).await {
        Ok(mut all) => all.remove(&broker)?,
        Err(e) => Err(e),
    };
    match described {
        Ok(entries) => {
            let ms = entries.iter().find(|e| e.name == BROKER_LIMIT)?.value.as_deref()?.parse().ok()?;
            Some(Duration::from_millis(ms))
        }
        Err(e) => {
            tracing::info!(error = %e, "the broker does not say its {BROKER_LIMIT} (right `DescribeConfigs` on the cluster): `transactionTimeout` is not compared with it");
            None
        }
    }
}

fn text(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn timing(interval_s: u64) -> CheckpointTiming {
        CheckpointTiming { interval: Duration::from_secs(interval_s), timeout: Duration::from_secs(600) }
    }

    #[test]
    fn a_timeout_below_the_checkpoint_interval_is_refused() {
        let message = check(Duration::from_secs(60), &timing(60)).unwrap_err().to_string();
        assert!(message.contains("1 min (`checkpoint.interval`)") && message.contains("1 min (`transactionTimeout`)"), "{message}");
        check(Duration::from_secs(900), &timing(10)).unwrap();
    }
}
