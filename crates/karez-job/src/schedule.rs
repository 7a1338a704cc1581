//! When a job is to run (§3.4.2, §6.2 of the design document). Kept for the scheduler; `karez run` runs a job at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostics::Diagnostic;
use crate::place;
use crate::read::{Reader, word};
use crate::yaml::Entry;

/// When a job is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "policy", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Schedule {
    /// Once, when it is submitted.
    Immediate {},
    /// At the instants of a cron expression.
    Cron {
        /// Five to seven fields: `[second] minute hour day month weekday [year]`; `0 0 * * * ?` is every full hour.
        expression: String,
        /// The time zone of the expression, such as `Asia/Shanghai`. Default: UTC.
        #[serde(default)]
        timezone: Option<String>,
        /// What happens to runs that were missed. Default: `last`.
        #[serde(default)]
        misfire: Misfire,
    },
    /// When another job has finished.
    DependsOn {
        /// That job's id.
        job: String,
    },
    /// When something outside says so.
    OnEvent {
        /// The event's name.
        event: String,
    },
}

/// What happens to runs that were missed while nothing could start them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Misfire {
    /// They are left out.
    Skip,
    /// One run makes up for all of them.
    #[default]
    Last,
    /// Each is made up for.
    All,
}

pub(crate) fn read(reader: &mut Reader, entry: &Entry) -> Option<Schedule> {
    let node = reader.mapping(entry)?;
    let mut json = node.json();
    if let Some(serde_json::Value::String(policy)) = json.get_mut("policy") {
        *policy = word(policy);
    }
    let schedule: Schedule = reader.typed(json, node, "")?;
    if let Schedule::Cron { expression, timezone, .. } = &schedule {
        if let Some(message) = cron_problem(expression) {
            let place = place::find(node, "expression").value();
            reader.error(
                Diagnostic::error(format!("`{expression}` is no cron expression: {message}"), place)
                    .help("write it like `0 0 * * * ?` (second minute hour day month weekday)"),
            );
        }
        if let Some(zone) = timezone.as_ref().filter(|z| z.parse::<chrono_tz::Tz>().is_err()) {
            let place = place::find(node, "timezone").value();
            let problem = Diagnostic::error(format!("there is no time zone `{zone}`"), place);
            let near = karez_core::error::did_you_mean(zone, chrono_tz::TZ_VARIANTS.iter().map(|z| z.name()));
            reader.error(match near {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help("use a name of the IANA database, such as `Asia/Shanghai`"),
            });
        }
    }
    reader.warnings.push(
        Diagnostic::warning("`schedule` has no effect on `karez run`: the job starts at once", entry.key_span.clone())
            .help("it is kept for the scheduler of a Karez server"),
    );
    Some(schedule)
}

/// The shape alone: the scheduler has the last word.
fn cron_problem(expression: &str) -> Option<String> {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    if !(5..=7).contains(&fields.len()) {
        return Some(format!("it has {} fields, not 5 to 7", fields.len()));
    }
    let wrong = |c: char| !(c.is_ascii_alphanumeric() || "*/,-?#".contains(c));
    fields
        .iter()
        .find_map(|f| f.find(wrong).map(|at| format!("`{}` has no place in `{f}`", &f[at..at + f[at..].chars().next().map_or(1, char::len_utf8)])))
}
