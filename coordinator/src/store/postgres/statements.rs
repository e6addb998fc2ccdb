//! What a commit changes, as statements that are sent together.

use common::ids::TaskId;
use common::protocol::SweepNumber;
use futures_util::future::try_join_all;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::plan::Plan;
use super::{text, unix_millis};

/// Checkpoints of one statement: of the largest, half of what the server takes.
const CHECKPOINTS: usize = 8;

/// A statement with its values. A column of several rows is one array.
struct Statement<'a> {
    sql: &'static str,
    values: Vec<(Box<dyn ToSql + Sync + 'a>, Type)>,
}

impl<'a> Statement<'a> {
    fn new(sql: &'static str) -> Self {
        let values = Vec::new();
        Self { sql, values }
    }

    fn value<T: ToSql + Sync + 'a>(mut self, kind: Type, value: T) -> Self {
        self.values.push((Box::new(value), kind));
        self
    }

    /// One array with a value of each row.
    fn column<R, T>(self, kind: Type, rows: &[R], value: impl Fn(&R) -> T) -> Self
    where
        Vec<T>: ToSql + Sync + 'a,
    {
        let values: Vec<T> = rows.iter().map(value).collect();
        self.value(kind, values)
    }

    async fn run(&self, client: &Client) -> Result<u64, tokio_postgres::Error> {
        let values: Vec<(&(dyn ToSql + Sync), Type)> = self
            .values
            .iter()
            .map(|(value, kind)| (value.as_ref() as &(dyn ToSql + Sync), kind.clone()))
            .collect();
        client.execute_typed(self.sql, &values).await
    }
}

/// Sends all statements of a plan at once and waits for their answers. They
/// are sent, and so carried out, in their order.
pub(super) async fn apply(client: &Client, plan: &Plan<'_>) -> Result<(), tokio_postgres::Error> {
    let statements = statements(plan, unix_millis() as i64);
    try_join_all(statements.iter().map(|statement| statement.run(client))).await?;
    Ok(())
}

fn statements<'a>(plan: &'a Plan<'_>, now: i64) -> Vec<Statement<'a>> {
    let mut all = Vec::new();
    if !plan.workers.is_empty() {
        all.push(workers(plan, now));
    }
    if !plan.results.is_empty() {
        all.extend(results(plan, now));
    }
    if !plan.conflicts.is_empty() {
        all.push(conflicts(plan, now));
    }
    all.extend(failures(plan, now));
    all.extend(checkpoints(plan));
    all.extend(theta(plan));
    if !plan.sweeps.is_empty() {
        all.push(sweeps(plan));
    }
    all
}

fn workers<'a>(plan: &'a Plan<'_>, now: i64) -> Statement<'a> {
    let rows: Vec<_> = plan.workers.iter().collect();
    let sql = "INSERT INTO workers (worker, id, name, host, program_version, slots, \
               threads_per_slot, first_seen) \
               SELECT new.*, $8 FROM unnest($1, $2, $3, $4, $5, $6, $7) AS new \
               ON CONFLICT (worker) DO UPDATE SET name = excluded.name, host = excluded.host, \
               program_version = excluded.program_version, slots = excluded.slots, \
               threads_per_slot = excluded.threads_per_slot";
    Statement::new(sql)
        .column(Type::INT8_ARRAY, &rows, |(_, (number, _))| *number)
        .column(Type::BYTEA_ARRAY, &rows, |(id, _)| id.0.as_slice())
        .column(Type::TEXT_ARRAY, &rows, |(_, (_, profile))| {
            text(profile.map_or("", |p| &p.name))
        })
        .column(Type::TEXT_ARRAY, &rows, |(_, (_, profile))| {
            text(profile.map_or("", |p| &p.host))
        })
        .column(Type::TEXT_ARRAY, &rows, |(_, (_, profile))| {
            text(profile.map_or("", |p| &p.program_version))
        })
        .column(Type::INT8_ARRAY, &rows, |(_, (_, profile))| {
            i64::from(profile.map_or(0, |p| p.slots))
        })
        .column(Type::INT8_ARRAY, &rows, |(_, (_, profile))| {
            i64::from(profile.map_or(0, |p| p.threads_per_slot))
        })
        .value(Type::INT8, now)
}

fn results<'a>(plan: &'a Plan<'_>, now: i64) -> [Statement<'a>; 3] {
    let rows = &plan.results;
    let sql = "INSERT INTO results (result, task, sweep, position, baseline, worker, attempt, \
               evidence, seconds, cpu_seconds, peak_memory, recorded_at) \
               SELECT new.*, $12 \
               FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS new";
    let added = Statement::new(sql)
        .column(Type::INT8_ARRAY, rows, |row| row.number)
        .value(Type::BYTEA_ARRAY, tasks(rows.iter().map(|row| &row.task)))
        .column(Type::INT8_ARRAY, rows, |row| i64::from(row.place.sweep.0))
        .column(Type::INT8_ARRAY, rows, |row| row.place.position as i64)
        .column(Type::BOOL_ARRAY, rows, |row| row.place.baseline)
        .column(Type::INT8_ARRAY, rows, |row| row.worker)
        .column(Type::INT8_ARRAY, rows, |row| row.attempt.0 as i64)
        .value(
            Type::BYTEA_ARRAY,
            rows.iter()
                .map(|row| row.evidence.bytes.as_ref())
                .collect::<Vec<_>>(),
        )
        .column(Type::FLOAT8_ARRAY, rows, |row| row.telemetry.seconds)
        .column(Type::FLOAT8_ARRAY, rows, |row| row.telemetry.cpu_seconds)
        .column(Type::INT8_ARRAY, rows, |row| {
            row.telemetry.peak_memory as i64
        })
        .value(Type::INT8, now);
    let link = "INSERT INTO links (last_result, link, committed_at) VALUES ($1, $2, $3)";
    let link = Statement::new(link)
        .value(Type::INT8, plan.chain.results as i64)
        .value(Type::BYTEA, plan.chain.head.as_slice())
        .value(Type::INT8, now);
    let done = Statement::new("DELETE FROM checkpoints WHERE task = ANY($1)")
        .value(Type::BYTEA_ARRAY, tasks(rows.iter().map(|row| &row.task)));
    [added, link, done]
}

fn conflicts<'a>(plan: &'a Plan<'_>, now: i64) -> Statement<'a> {
    let rows = &plan.conflicts;
    let sql = "INSERT INTO conflicts (task, attempt, worker, evidence, found_at) \
               SELECT new.*, $5 FROM unnest($1, $2, $3, $4) AS new ON CONFLICT DO NOTHING";
    let evidence: Vec<&[u8]> = rows.values().map(|(_, e)| e.bytes.as_ref()).collect();
    let attempts: Vec<i64> = rows.keys().map(|(_, attempt)| attempt.0 as i64).collect();
    let workers: Vec<i64> = rows.values().map(|(worker, _)| *worker).collect();
    Statement::new(sql)
        .value(Type::BYTEA_ARRAY, tasks(rows.keys().map(|(task, _)| task)))
        .value(Type::INT8_ARRAY, attempts)
        .value(Type::INT8_ARRAY, workers)
        .value(Type::BYTEA_ARRAY, evidence)
        .value(Type::INT8, now)
}

fn failures<'a>(plan: &'a Plan<'_>, now: i64) -> Vec<Statement<'a>> {
    let mut all = Vec::new();
    if !plan.taken_up.is_empty() {
        for sql in [
            "DELETE FROM failures USING unnest($1, $2) AS gone (sweep, task) \
             WHERE failures.sweep = gone.sweep AND failures.task = gone.task",
            "DELETE FROM set_aside USING unnest($1, $2) AS gone (sweep, task) \
             WHERE set_aside.sweep = gone.sweep AND set_aside.task = gone.task",
        ] {
            let forgotten = &plan.taken_up;
            all.push(
                Statement::new(sql)
                    .value(Type::INT8_ARRAY, numbers(forgotten.iter().map(|key| key.0)))
                    .value(Type::BYTEA_ARRAY, tasks(forgotten.iter().map(|key| &key.1))),
            );
        }
    }
    if !plan.failures.is_empty() {
        let rows: Vec<_> = plan.failures.iter().collect();
        let sql = "INSERT INTO failures (sweep, task, attempt, position, baseline, worker, kind, \
                   message, failed_at) \
                   SELECT new.*, $9 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS new \
                   ON CONFLICT DO NOTHING";
        all.push(
            Statement::new(sql)
                .column(Type::INT8_ARRAY, &rows, |(key, _)| i64::from(key.0.0))
                .value(Type::BYTEA_ARRAY, tasks(rows.iter().map(|(key, _)| &key.1)))
                .column(Type::INT8_ARRAY, &rows, |(key, _)| key.2.0 as i64)
                .column(Type::INT8_ARRAY, &rows, |(_, row)| {
                    row.place.position as i64
                })
                .column(Type::BOOL_ARRAY, &rows, |(_, row)| row.place.baseline)
                .column(Type::INT8_ARRAY, &rows, |(_, row)| row.worker)
                .column(Type::TEXT_ARRAY, &rows, |(_, row)| row.kind.name())
                .column(Type::TEXT_ARRAY, &rows, |(_, row)| text(row.message))
                .value(Type::INT8, now),
        );
    }
    if !plan.set_aside.is_empty() {
        let rows = &plan.set_aside;
        let sql = "INSERT INTO set_aside (sweep, task) SELECT * FROM unnest($1, $2) \
                   ON CONFLICT DO NOTHING";
        all.push(
            Statement::new(sql)
                .value(Type::INT8_ARRAY, numbers(rows.iter().map(|key| key.0)))
                .value(Type::BYTEA_ARRAY, tasks(rows.iter().map(|key| &key.1))),
        );
    }
    all
}

fn checkpoints<'a>(plan: &'a Plan<'_>) -> Vec<Statement<'a>> {
    let rows: Vec<(&TaskId, &[u8], i64)> = plan
        .checkpoints
        .iter()
        .map(|(task, (state, done))| (task, state.as_ref(), *done as i64))
        .collect();
    let sql = "INSERT INTO checkpoints (task, state, evaluations) \
               SELECT * FROM unnest($1, $2, $3) AS new (task, state, evaluations) \
               WHERE NOT EXISTS (SELECT FROM results WHERE results.task = new.task) \
               ON CONFLICT (task) DO UPDATE \
               SET state = excluded.state, evaluations = excluded.evaluations";
    let some = |rows: &[(&'a TaskId, &'a [u8], i64)]| {
        Statement::new(sql)
            .column(Type::BYTEA_ARRAY, rows, |(task, ..)| task.0.as_slice())
            .column(Type::BYTEA_ARRAY, rows, |(_, state, _)| *state)
            .column(Type::INT8_ARRAY, rows, |(.., done)| *done)
    };
    rows.chunks(CHECKPOINTS).map(some).collect()
}

fn theta<'a>(plan: &'a Plan<'_>) -> Vec<Statement<'a>> {
    let mut all = Vec::new();
    if !plan.released.is_empty() {
        let rows = &plan.released;
        let wish = "DELETE FROM theta_wanted USING unnest($1, $2) AS gone (task, sweep) \
                    WHERE theta_wanted.task = gone.task AND theta_wanted.sweep = gone.sweep";
        let unwanted = "DELETE FROM theta WHERE task = ANY($1) \
                        AND NOT EXISTS (SELECT FROM theta_wanted w WHERE w.task = theta.task)";
        all.push(
            Statement::new(wish)
                .value(Type::BYTEA_ARRAY, tasks(rows.iter().map(|key| &key.0)))
                .value(Type::INT8_ARRAY, numbers(rows.iter().map(|key| key.1))),
        );
        all.push(
            Statement::new(unwanted).value(Type::BYTEA_ARRAY, tasks(rows.iter().map(|key| &key.0))),
        );
    }
    if !plan.kept.is_empty() {
        let bytes = |theta: &[f64]| theta.iter().flat_map(|x| x.to_le_bytes()).collect();
        let values: Vec<Vec<u8>> = plan.kept.values().map(|(theta, _)| bytes(theta)).collect();
        let kept = "INSERT INTO theta (task, theta) SELECT * FROM unnest($1, $2) \
                    ON CONFLICT DO NOTHING";
        all.push(
            Statement::new(kept)
                .value(Type::BYTEA_ARRAY, tasks(plan.kept.keys()))
                .value(Type::BYTEA_ARRAY, values),
        );
        let wishes = plan.kept.iter();
        let wishes: Vec<(&TaskId, SweepNumber)> = wishes
            .flat_map(|(task, (_, sweeps))| sweeps.iter().map(move |sweep| (task, *sweep)))
            .collect();
        let wish = "INSERT INTO theta_wanted (task, sweep) SELECT * FROM unnest($1, $2) \
                    ON CONFLICT DO NOTHING";
        all.push(
            Statement::new(wish)
                .value(Type::BYTEA_ARRAY, tasks(wishes.iter().map(|wish| wish.0)))
                .value(Type::INT8_ARRAY, numbers(wishes.iter().map(|wish| wish.1))),
        );
    }
    all
}

fn sweeps<'a>(plan: &'a Plan<'_>) -> Statement<'a> {
    let rows = &plan.sweeps;
    let sql = "UPDATE sweeps SET state = new.state, priority = new.priority \
               FROM unnest($1, $2, $3) AS new (sweep, state, priority) \
               WHERE sweeps.sweep = new.sweep";
    let states: Vec<&str> = rows.values().map(|(state, _)| state.name()).collect();
    let priorities: Vec<i32> = rows.values().map(|(_, priority)| *priority).collect();
    Statement::new(sql)
        .value(Type::INT8_ARRAY, numbers(rows.keys().copied()))
        .value(Type::TEXT_ARRAY, states)
        .value(Type::INT4_ARRAY, priorities)
}

fn tasks<'a>(tasks: impl Iterator<Item = &'a TaskId>) -> Vec<&'a [u8]> {
    tasks.map(|task| task.0.as_slice()).collect()
}

fn numbers(sweeps: impl Iterator<Item = SweepNumber>) -> Vec<i64> {
    sweeps.map(|sweep| i64::from(sweep.0)).collect()
}
