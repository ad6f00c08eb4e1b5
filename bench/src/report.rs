//! What a workload finds, as JSON and as lines of one plain table.

use serde::{Deserialize, Serialize};

/// Quantiles, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of all took at most so long.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
}

/// What came of one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "workload", rename_all = "lowercase")]
pub enum Outcome {
    /// One publisher, many subscribers.
    Fanout(Fanout),
    /// Many conversations with few subscribers each.
    Many(Many),
    /// Connections that are there.
    Idle(Idle),
    /// Publishers that wait for their acks.
    Durable(Durable),
}

/// One publisher, many subscribers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fanout {
    /// How many hear each message.
    pub subscribers: usize,
    /// Closed loops: so many messages in flight until every subscriber has them.
    pub windows: Vec<Window>,
    /// The open loop.
    pub paced: Paced,
    /// Deliveries that were out of order, repeated, behind a gap or another channel's.
    pub bad: u64,
}

/// A closed loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Messages in flight.
    pub in_flight: usize,
    /// Messages that every subscriber had.
    pub messages: u64,
    /// Deliveries of them.
    pub deliveries: u64,
    /// Deliveries a second.
    pub per_second: f64,
    /// The server's CPU for a delivery, in microseconds, if it is known.
    pub cpu: Option<f64>,
}

/// An open loop: a message is due at a fixed rate, and its latency counts from then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paced {
    /// Deliveries that were due in a second.
    pub rate: f64,
    /// Messages that every subscriber had.
    pub messages: u64,
    /// Deliveries of them.
    pub deliveries: u64,
    /// From when a message was due until a subscriber had it.
    pub delivery: Latency,
    /// From when a message was due until all had it.
    pub last: Latency,
    /// The server's CPU for a delivery, in microseconds, if it is known.
    pub cpu: Option<f64>,
}

/// Many conversations with few subscribers each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Many {
    /// Conversations, each with a publisher.
    pub conversations: usize,
    /// Subscribers of each.
    pub subscribers: usize,
    /// Messages in flight over all.
    pub in_flight: usize,
    /// Messages that were acked and received by all.
    pub turns: u64,
    /// Those in a second.
    pub per_second: f64,
    /// The server's CPU for such a turn, in microseconds, if it is known.
    pub cpu: Option<f64>,
    /// From the publish to its ack; not there if there are none.
    pub ack: Option<Latency>,
    /// From the publish to each subscriber.
    pub delivery: Latency,
    /// As in [`Fanout::bad`].
    pub bad: u64,
}

/// Connections that are there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// How many, one in 500 of them a publisher.
    pub connections: usize,
    /// Connected, and subscribed, in a second.
    pub per_second: f64,
    /// The server's CPU for each, in microseconds, if it is known.
    pub cpu: Option<f64>,
    /// The server's memory for each, in bytes, when nothing was sent yet; if it is known.
    pub idle: Option<f64>,
    /// The same after ten messages to each.
    pub used: Option<f64>,
    /// Deliveries of these messages.
    pub deliveries: u64,
    /// As in [`Fanout::bad`].
    pub bad: u64,
}

/// Publishers that wait for their acks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Durable {
    /// How many.
    pub publishers: usize,
    /// Whether each request carries an idempotency key.
    pub keys: bool,
    /// Acks.
    pub acks: u64,
    /// Acks in a second.
    pub per_second: f64,
    /// The server's CPU for an ack, in microseconds, if it is known.
    pub cpu: Option<f64>,
    /// From a publish to its ack.
    pub ack: Latency,
}

impl Outcome {
    /// Deliveries that were not what was promised.
    #[must_use]
    pub fn bad(&self) -> u64 {
        match self {
            Self::Fanout(fanout) => fanout.bad,
            Self::Many(many) => many.bad,
            Self::Idle(idle) => idle.bad,
            Self::Durable(_) => 0,
        }
    }

    fn lines(&self) -> Vec<Line> {
        match self {
            Self::Fanout(it) => {
                let closed = it.windows.iter().map(|window| {
                    let what = format!("fanout to {}, {} in flight: deliveries", it.subscribers, window.in_flight);
                    Line { what, rate: Some(window.per_second), cpu: window.cpu, ..Line::default() }
                });
                let paced = &it.paced;
                let what = format!("fanout to {}, open loop: deliveries", it.subscribers);
                let open = Line { what, rate: Some(paced.rate), cpu: paced.cpu, latency: Some(paced.delivery), ..Line::default() };
                let last = Line { what: "  the last of a message".into(), latency: Some(paced.last), ..Line::default() };
                closed.chain([open, last]).collect()
            }
            Self::Many(it) => {
                let what = format!("many, {} x (1 + {}), {} in flight: turns", it.conversations, it.subscribers, it.in_flight);
                vec![
                    Line { what, rate: Some(it.per_second), cpu: it.cpu, ..Line::default() },
                    Line { what: "  acks".into(), latency: it.ack, ..Line::default() },
                    Line { what: "  deliveries".into(), latency: Some(it.delivery), ..Line::default() },
                ]
            }
            Self::Idle(it) => vec![
                Line { what: format!("idle, {}: connects", it.connections), rate: Some(it.per_second), cpu: it.cpu, ..Line::default() },
                Line { what: "  memory of one, idle".into(), memory: it.idle, ..Line::default() },
                Line { what: "  memory of one, used".into(), memory: it.used, ..Line::default() },
            ],
            Self::Durable(it) => {
                let what = format!("durable, {} publishing{}: acks", it.publishers, if it.keys { ", keys" } else { "" });
                vec![Line { what, rate: Some(it.per_second), cpu: it.cpu, latency: Some(it.ack), ..Line::default() }]
            }
        }
    }
}

#[derive(Default)]
struct Line {
    what: String,
    rate: Option<f64>,
    cpu: Option<f64>,
    latency: Option<Latency>,
    memory: Option<f64>,
}

/// A number of the size that a reader wants: with groups of three digits, or with so many behind the point.
#[must_use]
pub fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    whole(value.round() as u64)
}

/// A whole number, with groups of three digits.
#[must_use]
pub fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// One table of all that was found, in plain text.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let heads = ["", "a second", "CPU us each", "p50 us", "p99 us", "p99.9 us", "KiB each"].map(str::to_owned);
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    let rows = outcomes.iter().flat_map(Outcome::lines).map(|line| {
        let quantiles = [line.latency.map(|it| it.p50), line.latency.map(|it| it.p99), line.latency.map(|it| it.p999)];
        let [p50, p99, p999] = quantiles.map(shown);
        [line.what, shown(line.rate), shown(line.cpu), p50, p99, p999, shown(line.memory.map(|bytes| bytes / 1024.0))]
    });
    let rows: Vec<[String; 7]> = std::iter::once(heads).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        text += &format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            text += &format!("  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Durable, Latency, Outcome, number, table};

    #[test]
    fn numbers_have_the_digits_a_reader_wants() {
        let shown = [0.0, 0.123, 9.876, 12.34, 999.6, 12_345.6, 1_234_567.0].map(number);
        assert_eq!(shown, ["0.00", "0.12", "9.88", "12.3", "1,000", "12,346", "1,234,567"]);
    }

    #[test]
    fn a_table_has_a_line_for_each_and_what_is_not_known_is_a_dash() {
        let ack = Latency { p50: 250.0, p99: 1000.0, p999: 2000.0 };
        let outcome = Outcome::Durable(Durable { publishers: 64, keys: true, acks: 100, per_second: 31_000.0, cpu: None, ack });
        let text = table(std::slice::from_ref(&outcome));
        assert!(text.contains("durable, 64 publishing, keys: acks"), "{text}");
        assert!(text.lines().nth(1).unwrap().split_whitespace().skip(5).eq(["31,000", "-", "250", "1,000", "2,000", "-"]), "{text}");
        let json = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome);
    }
}
