//! Medians as Markdown.

use crate::Measured;
use std::fmt::Write;
use tieline_bench::report::{Latency, Outcome, number, whole};

/// A column: its head, and its value if the outcome has one.
type Column = (&'static str, fn(&Outcome) -> Option<f64>);

/// The column that rows are sorted by and compared with the limit's, and those behind it.
struct Table {
    title: &'static str,
    unit: &'static str,
    main: fn(&Outcome) -> Option<f64>,
    columns: &'static [Column],
}

fn window(outcome: &Outcome, in_flight: usize) -> Option<&tieline_bench::report::Window> {
    let Outcome::Fanout(fanout) = outcome else { return None };
    fanout.windows.iter().find(|window| window.in_flight == in_flight)
}

fn paced(outcome: &Outcome, value: impl Fn(&tieline_bench::report::Paced) -> f64) -> Option<f64> {
    let Outcome::Fanout(fanout) = outcome else { return None };
    Some(value(&fanout.paced))
}

fn many(outcome: &Outcome) -> Option<&tieline_bench::report::Many> {
    let Outcome::Many(many) = outcome else { return None };
    Some(many)
}

fn idle(outcome: &Outcome) -> Option<&tieline_bench::report::Idle> {
    let Outcome::Idle(idle) = outcome else { return None };
    Some(idle)
}

fn durable(outcome: &Outcome) -> Option<&tieline_bench::report::Durable> {
    let Outcome::Durable(durable) = outcome else { return None };
    Some(durable)
}

fn ack(outcome: &Outcome, value: impl Fn(Latency) -> f64) -> Option<f64> {
    many(outcome)?.ack.map(value)
}

const TABLES: [Table; 4] = [
    Table {
        title: "Fan-out: one publisher, {} subscribers",
        unit: "CPU us/delivery, 1 in flight",
        main: |it| window(it, 1)?.cpu,
        columns: &[
            ("deliveries/s", |it| Some(window(it, 1)?.per_second)),
            ("CPU us/delivery, 64 in flight", |it| window(it, 64)?.cpu),
            ("deliveries/s", |it| Some(window(it, 64)?.per_second)),
            ("p50 us at 20,000/s", |it| paced(it, |paced| paced.delivery.p50)),
            ("p99", |it| paced(it, |paced| paced.delivery.p99)),
            ("last receipt p50", |it| paced(it, |paced| paced.last.p50)),
            ("last p99", |it| paced(it, |paced| paced.last.p99)),
        ],
    },
    Table {
        title: "Many conversations: {} of one publisher and two subscribers, 64 messages in flight",
        unit: "CPU us/turn",
        main: |it| many(it)?.cpu,
        columns: &[
            ("turns/s", |it| Some(many(it)?.per_second)),
            ("ack p50 us", |it| ack(it, |ack| ack.p50)),
            ("ack p99", |it| ack(it, |ack| ack.p99)),
            ("delivery p50", |it| Some(many(it)?.delivery.p50)),
            ("delivery p99", |it| Some(many(it)?.delivery.p99)),
        ],
    },
    Table {
        title: "Idle: {} connections, subscribed",
        unit: "CPU us/connect",
        main: |it| idle(it)?.cpu,
        columns: &[
            ("connects/s", |it| Some(idle(it)?.per_second)),
            ("KiB/connection, idle", |it| idle(it)?.idle.map(|bytes| bytes / 1024.0)),
            ("after 10 messages each", |it| idle(it)?.used.map(|bytes| bytes / 1024.0)),
        ],
    },
    Table {
        title: "Durable: publishers that wait for their acks, {} of them",
        unit: "CPU us/ack",
        main: |it| durable(it)?.cpu,
        columns: &[
            ("acks/s", |it| Some(durable(it)?.per_second)),
            ("p50 us", |it| Some(durable(it)?.ack.p50)),
            ("p99", |it| Some(durable(it)?.ack.p99)),
            ("p99.9", |it| Some(durable(it)?.ack.p999)),
        ],
    },
];

/// How large the workload was: outcomes of different sizes are not compared.
fn size(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Fanout(it) => it.subscribers,
        Outcome::Many(it) => it.conversations,
        Outcome::Idle(it) => it.connections,
        Outcome::Durable(it) => it.publishers,
    }
}

fn table(outcome: &Outcome) -> &'static Table {
    let place = match outcome {
        Outcome::Fanout(_) => 0,
        Outcome::Many(_) => 1,
        Outcome::Idle(_) => 2,
        Outcome::Durable(_) => 3,
    };
    &TABLES[place]
}

fn row(one: &Measured) -> String {
    let has_keys = durable(&one.outcome).is_some_and(|durable| durable.keys);
    if has_keys { format!("{}, idempotency keys", one.server) } else { one.server.clone() }
}

/// The middle one; of two, the lower.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// Every table there is something for.
pub(crate) fn markdown(all: &[Measured]) -> String {
    let mut groups: Vec<(&'static str, usize)> = all.iter().map(|one| (table(&one.outcome).title, size(&one.outcome))).collect();
    groups.sort_by_key(|(title, size)| (TABLES.iter().position(|table| table.title == *title), *size));
    groups.dedup();
    let mut text = String::new();
    for (title, wanted) in groups {
        let here: Vec<&Measured> = all.iter().filter(|one| table(&one.outcome).title == title && size(&one.outcome) == wanted).collect();
        if let Some(first) = here.first() {
            one_table(&mut text, table(&first.outcome), wanted, &here);
        }
    }
    text
}

fn one_table(text: &mut String, table: &Table, size: usize, here: &[&Measured]) {
    let mut names: Vec<String> = here.iter().map(|one| row(one)).collect();
    names.sort();
    names.dedup();
    let middle = |name: &str, value: fn(&Outcome) -> Option<f64>| {
        median(here.iter().filter(|one| row(one) == name).filter_map(|one| value(&one.outcome)).collect())
    };
    names.sort_by(|a, b| {
        let key = |name: &str| middle(name, table.main).unwrap_or(f64::INFINITY);
        key(a).total_cmp(&key(b))
    });
    // A variant with TLS is compared with the limit that has it, too.
    let limit = |name: &str| middle(if name.contains("-tls") { "limit-tls" } else { "limit" }, table.main);
    let heads: Vec<&str> = table.columns.iter().map(|(head, _)| *head).collect();
    // A string takes whatever is written.
    let _ = writeln!(text, "\n### {}\n", table.title.replace("{}", &whole(size as u64)));
    let _ = writeln!(text, "| server | {} | x limit | {} | runs |", table.unit, heads.join(" | "));
    let _ = writeln!(text, "|---|---|---|{}---|", "---|".repeat(heads.len()));
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    for name in &names {
        let main = middle(name, table.main);
        let ratio = main.zip(limit(name)).map(|(main, limit)| main / limit);
        let cells: Vec<String> = table.columns.iter().map(|(_, value)| shown(middle(name, *value))).collect();
        let runs = here.iter().filter(|one| row(one) == *name).count();
        let _ = writeln!(text, "| {name} | {} | {} | {} | {runs} |", shown(main), shown(ratio), cells.join(" | "));
    }
}
