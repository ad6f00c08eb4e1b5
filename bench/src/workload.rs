//! The four workloads. Each opens its own connections, warms up, measures, and closes them.

use crate::adapter::{Adapter, Role, Said};
use crate::engine::{Engine, Event, Failure, Target, What};
use crate::histogram::Histogram;
use crate::mark::{Mark, Stream};
use crate::meter::Meter;
use crate::report::{Durable, Fanout, Idle, Many, Outcome, Paced, Window};
use clap::ValueEnum;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Subscribers of one channel among idle connections.
const GROUP: usize = 500;

/// Messages that each connection gets before its memory is looked at again.
const USED: u32 = 10;

/// How long connections rest before the server's memory is read.
const REST: Duration = Duration::from_secs(2);

/// Timers are exact to a millisecond: what is due sooner than this is waited for awake.
const AWAKE: Duration = Duration::from_millis(2);

/// A workload by its name, as command lines take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
pub enum Kind {
    /// One publisher, many subscribers
    #[value(alias = "a")]
    Fanout,
    /// Many conversations, each with one publisher and two subscribers
    #[value(alias = "b")]
    Many,
    /// Connections that are there
    #[value(alias = "c")]
    Idle,
    /// Publishers that wait for their acks, without and with idempotency keys
    #[value(alias = "d")]
    Durable,
}

impl Kind {
    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Many => "many",
            Self::Idle => "idle",
            Self::Durable => "durable",
        }
    }
}

/// What is measured, and how large.
#[derive(Debug, Clone, Copy)]
pub enum Workload {
    /// One publisher, many subscribers: closed loops with 1 and 64 messages in flight, then an open loop.
    Fanout {
        /// How many hear each message.
        subscribers: usize,
        /// Deliveries a second in the open loop, of all together.
        rate: f64,
    },
    /// Conversations of one publisher and two subscribers; one message at a time in each.
    Many {
        /// How many.
        conversations: usize,
        /// Messages in flight, over all.
        in_flight: usize,
    },
    /// Connections that are there, and what they cost.
    Idle {
        /// How many.
        connections: usize,
    },
    /// Publishers, each of which waits for its ack before it publishes again.
    Durable {
        /// How many.
        publishers: usize,
        /// Whether the adapter gives each request an idempotency key.
        keys: bool,
    },
}

/// Subscribers of each of many conversations.
const PAIR: usize = 2;

impl Workload {
    /// What is opened for it: roles and channels.
    fn seats(&self) -> Vec<(Role, u32)> {
        // Sizes are far below 2^32.
        let publisher = |channel: usize| (Role::Publisher, channel as u32);
        let subscriber = |channel: usize| (Role::Subscriber, channel as u32);
        match *self {
            Self::Fanout { subscribers, .. } => std::iter::once(publisher(0)).chain((0..subscribers).map(|_| subscriber(0))).collect(),
            Self::Many { conversations, .. } => (0..conversations)
                .flat_map(|channel| std::iter::once(publisher(channel)).chain((0..PAIR).map(move |_| (Role::Subscriber, channel as u32))))
                .collect(),
            Self::Idle { connections } => {
                let groups = self.channels();
                let subscribers = (groups..connections).map(|number| subscriber(number % groups));
                (0..groups).map(publisher).chain(subscribers).collect()
            }
            Self::Durable { publishers, .. } => (0..publishers).map(publisher).collect(),
        }
    }

    /// How many channels it needs.
    #[must_use]
    pub fn channels(&self) -> usize {
        match *self {
            Self::Fanout { .. } => 1,
            Self::Many { conversations, .. } => conversations,
            Self::Idle { connections } => (connections / GROUP).max(1),
            Self::Durable { publishers, .. } => publishers,
        }
    }

    /// How many connections it opens.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.seats().len()
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        match *self {
            Self::Fanout { subscribers, .. } => format!("fanout to {subscribers}"),
            Self::Many { conversations, .. } => format!("many, {conversations} conversations"),
            Self::Idle { connections } => format!("idle, {connections} connections"),
            Self::Durable { publishers, keys } => format!("durable, {publishers} publishing{}", if keys { ", keys" } else { "" }),
        }
    }
}

/// Told how far a run has got.
pub trait Watch: Send + Sync {
    /// What is done now.
    fn doing(&self, what: &str);

    /// How much of it is done, from 0 to 1.
    fn done(&self, share: f64);
}

/// Nobody watches.
#[derive(Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn doing(&self, _what: &str) {}
    fn done(&self, _share: f64) {}
}

/// A server, and how it is measured.
pub struct Bench<'a, A> {
    /// How it is talked to.
    pub adapter: Arc<A>,
    /// Where it is.
    pub target: Target,
    /// What it uses.
    pub meter: &'a dyn Meter,
    /// Who is told how far it is.
    pub watch: &'a dyn Watch,
    /// How long each measurement takes.
    pub time: Duration,
    /// After how long without anything what is in flight counts as lost; [`PATIENCE`](crate::engine::PATIENCE).
    pub patience: Duration,
}

impl<A: std::fmt::Debug> std::fmt::Debug for Bench<'_, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("adapter", &self.adapter).field("target", &self.target).finish_non_exhaustive()
    }
}

impl<A: Adapter> Bench<'_, A> {
    /// Runs a workload.
    ///
    /// # Errors
    ///
    /// If it cannot be run to its end.
    pub async fn run(&self, workload: &Workload) -> Result<Outcome, Failure> {
        let name = workload.name();
        self.watch.doing(&format!("{name}: connecting"));
        let memory = self.meter.memory().await;
        let mut run = Run {
            bench: self,
            engine: Engine::new(self.adapter.clone(), self.target.clone(), self.patience),
            events: Vec::new(),
            streams: workload.seats().into_iter().map(|(_, channel)| Stream::new(channel)).collect(),
            sequences: vec![0; workload.channels()],
            bad: 0,
        };
        let (seats, cpu, began) = (workload.seats(), self.meter.cpu().await, Instant::now());
        let opened = run.engine.open(&seats, |ready| self.watch.done(ready as f64 / seats.len() as f64)).await;
        let opened = opened.map(|()| began.elapsed());
        let connect = (cpu, self.meter.cpu().await);
        self.watch.doing(&name);
        let outcome = match (opened, *workload) {
            (Err(failure), _) => Err(failure),
            (_, Workload::Fanout { subscribers, rate }) => run.fanout(subscribers, rate).await.map(Outcome::Fanout),
            (_, Workload::Many { conversations, in_flight }) => run.many(conversations, in_flight).await.map(Outcome::Many),
            (Ok(took), Workload::Idle { connections }) => {
                let each = |cpu: (_, Option<_>)| per_operation(&cpu.0, cpu.1.as_ref(), connections as u64);
                run.idle(connections, took, each(connect), memory).await.map(Outcome::Idle)
            }
            (_, Workload::Durable { publishers, keys }) => run.durable(publishers, keys).await.map(Outcome::Durable),
        };
        run.engine.close().await;
        outcome
    }

    /// How long a measurement is warmed up for.
    fn warm(&self) -> Duration {
        (self.time / 4).min(Duration::from_millis(500))
    }
}

fn per_operation(before: &Option<crate::meter::Cpu>, after: Option<&crate::meter::Cpu>, operations: u64) -> Option<f64> {
    after?.each(before.as_ref()?, operations)
}

/// What a pass over many conversations counted.
struct Turns {
    count: u64,
    ack: Histogram,
    delivery: Histogram,
}

/// One workload under way.
struct Run<'a, A> {
    bench: &'a Bench<'a, A>,
    engine: Engine<A>,
    events: Vec<Event>,
    /// What each connection has got.
    streams: Vec<Stream>,
    /// The next message of each channel.
    sequences: Vec<u32>,
    bad: u64,
}

impl<A: Adapter> Run<'_, A> {
    /// Publishes the next message of a channel on a connection.
    fn publish(&mut self, number: usize, channel: usize, at: u64) {
        let sequence = self.sequences[channel];
        self.sequences[channel] += 1;
        self.engine.publish(number, Mark { channel: channel as u32, sequence, at });
    }

    async fn hear(&mut self, missing: u64) -> Result<Vec<Event>, Failure> {
        let mut events = std::mem::take(&mut self.events);
        let bad = self.bad;
        self.engine.hear(&mut events, || (missing, bad)).await?;
        Ok(events)
    }

    /// Whether a delivery is the one that should come on this connection; counts it if not.
    fn is_right(&mut self, number: usize, mark: &Mark) -> bool {
        let is_right = self.streams[number].see(mark);
        self.bad += u64::from(!is_right);
        is_right
    }

    async fn fanout(&mut self, subscribers: usize, rate: f64) -> Result<Fanout, Failure> {
        let mut windows = Vec::new();
        let steps = 3.0;
        for (step, in_flight) in [1, 64].into_iter().enumerate() {
            self.window(subscribers, in_flight, self.bench.warm()).await?;
            let cpu = self.bench.meter.cpu().await;
            let began = Instant::now();
            let messages = self.window(subscribers, in_flight, self.bench.time).await?;
            let (took, after) = (began.elapsed(), self.bench.meter.cpu().await);
            let deliveries = messages * subscribers as u64;
            let cpu = per_operation(&cpu, after.as_ref(), deliveries);
            windows.push(Window { in_flight, messages, deliveries, per_second: deliveries as f64 / took.as_secs_f64(), cpu });
            self.bench.watch.done((step + 1) as f64 / steps);
        }
        let paced = self.paced(subscribers, rate).await?;
        self.bench.watch.done(1.0);
        Ok(Fanout { subscribers, windows, paced, bad: self.bad })
    }

    /// Keeps so many messages in flight for a time, and then waits for what is left; how many every subscriber had.
    async fn window(&mut self, subscribers: usize, in_flight: usize, time: Duration) -> Result<u64, Failure> {
        let end = Instant::now() + time;
        // How many have got each message that is in flight, the oldest first.
        let mut flights: VecDeque<usize> = VecDeque::new();
        let (mut oldest, mut done) = (self.sequences[0], 0);
        loop {
            let is_over = Instant::now() >= end;
            while !is_over && flights.len() < in_flight {
                self.publish(0, 0, self.engine.now());
                flights.push_back(0);
            }
            if flights.is_empty() {
                return Ok(done);
            }
            let missing = flights.iter().map(|got| (subscribers - got) as u64).sum();
            let events = self.hear(missing).await?;
            for event in &events {
                let What::Said(Said::Message(mark)) = &event.what else { continue };
                if self.is_right(event.number, mark)
                    && let Some(got) = mark.sequence.checked_sub(oldest).and_then(|place| flights.get_mut(place as usize))
                {
                    *got += 1;
                }
            }
            self.events = events;
            while flights.front().is_some_and(|got| *got >= subscribers) {
                flights.pop_front();
                (oldest, done) = (oldest + 1, done + 1);
            }
        }
    }

    async fn paced(&mut self, subscribers: usize, rate: f64) -> Result<Paced, Failure> {
        let gap = 1e9 * subscribers as f64 / rate;
        let count = ((self.bench.time.as_nanos() as f64 / gap) as usize).max(5);
        let (first, start) = (self.sequences[0], self.engine.now());
        let due = |place: usize| start + (place as f64 * gap) as u64;
        let mut got = vec![0; count];
        let (mut sent, mut done) = (0, 0);
        let (mut delivery, mut last) = (Histogram::default(), Histogram::default());
        let cpu = self.bench.meter.cpu().await;
        while done < count {
            while sent < count && self.engine.now() >= due(sent) {
                // A message that is late has waited since it was due.
                self.publish(0, 0, due(sent));
                sent += 1;
            }
            let events = if sent < count {
                let next = self.engine.instant(due(sent));
                tokio::select! {
                    events = async {
                        let missing = (sent * subscribers) as u64 - delivery.total();
                        self.hear(missing).await
                    }, if sent > done => Some(events?),
                    () = sleep_to(next) => None,
                }
            } else {
                let missing = (sent * subscribers) as u64 - delivery.total();
                Some(self.hear(missing).await?)
            };
            for event in events.iter().flatten() {
                let What::Said(Said::Message(mark)) = &event.what else { continue };
                if !self.is_right(event.number, mark) {
                    continue;
                }
                let Some(place) = mark.sequence.checked_sub(first).map(|place| place as usize).filter(|place| *place < count) else {
                    continue;
                };
                delivery.add(event.at.saturating_sub(mark.at));
                got[place] += 1;
                if got[place] == subscribers {
                    last.add(event.at.saturating_sub(due(place)));
                    done += 1;
                }
            }
            self.events = events.unwrap_or_default();
        }
        let after = self.bench.meter.cpu().await;
        Ok(Paced {
            rate,
            messages: done as u64,
            deliveries: delivery.total(),
            delivery: delivery.latency(),
            last: last.latency(),
            cpu: per_operation(&cpu, after.as_ref(), delivery.total()),
        })
    }

    async fn many(&mut self, conversations: usize, in_flight: usize) -> Result<Many, Failure> {
        let in_flight = in_flight.min(conversations);
        self.turns(conversations, in_flight, self.bench.warm()).await?;
        let cpu = self.bench.meter.cpu().await;
        let began = Instant::now();
        let turns = self.turns(conversations, in_flight, self.bench.time).await?;
        let (took, after) = (began.elapsed(), self.bench.meter.cpu().await);
        self.bench.watch.done(1.0);
        Ok(Many {
            conversations,
            subscribers: PAIR,
            in_flight,
            turns: turns.count,
            per_second: turns.count as f64 / took.as_secs_f64(),
            cpu: per_operation(&cpu, after.as_ref(), turns.count),
            ack: (turns.ack.total() > 0).then(|| turns.ack.latency()),
            delivery: turns.delivery.latency(),
            bad: self.bad,
        })
    }

    /// Publishes for a time, one message at a time in each conversation and so many in all, and waits for what is left.
    async fn turns(&mut self, conversations: usize, in_flight: usize, time: Duration) -> Result<Turns, Failure> {
        let end = Instant::now() + time;
        let each = PAIR + usize::from(self.bench.adapter.acks());
        // What is missing of each conversation's message, and since when.
        let mut waits = vec![(0, 0); conversations];
        let mut free: VecDeque<usize> = (0..conversations).collect();
        let mut turns = Turns { count: 0, ack: Histogram::default(), delivery: Histogram::default() };
        loop {
            while Instant::now() < end && conversations - free.len() < in_flight {
                let Some(channel) = free.pop_front() else { break };
                let now = self.engine.now();
                self.publish(channel * (1 + PAIR), channel, now);
                waits[channel] = (each, now);
            }
            if free.len() == conversations {
                return Ok(turns);
            }
            let missing = waits.iter().map(|(left, _)| *left as u64).sum();
            let events = self.hear(missing).await?;
            for event in &events {
                let channel = event.number / (1 + PAIR);
                let (left, since) = waits[channel];
                match &event.what {
                    What::Said(Said::Ack) => turns.ack.add(event.at - since),
                    What::Said(Said::Message(mark)) if self.is_right(event.number, mark) => turns.delivery.add(event.at - since),
                    _ => continue,
                }
                if left == 1 {
                    turns.count += 1;
                    free.push_back(channel);
                }
                waits[channel].0 = left.saturating_sub(1);
            }
            self.events = events;
        }
    }

    async fn idle(&mut self, connections: usize, took: Duration, cpu: Option<f64>, base: Option<u64>) -> Result<Idle, Failure> {
        let groups = self.sequences.len();
        let each = |now: Option<u64>| Some(now?.saturating_sub(base?) as f64 / connections as f64);
        tokio::time::sleep(REST).await;
        let idle = each(self.bench.meter.memory().await);
        let subscribers = (connections - groups) as u64;
        let mut deliveries = 0;
        for round in 1..=USED {
            for group in 0..groups {
                self.publish(group, group, self.engine.now());
            }
            while deliveries < u64::from(round) * subscribers {
                let events = self.hear(u64::from(round) * subscribers - deliveries).await?;
                for event in &events {
                    if let What::Said(Said::Message(mark)) = &event.what {
                        deliveries += u64::from(self.is_right(event.number, mark));
                    }
                }
                self.events = events;
            }
            self.bench.watch.done(f64::from(round) / f64::from(USED));
        }
        tokio::time::sleep(REST).await;
        let used = each(self.bench.meter.memory().await);
        let per_second = connections as f64 / took.as_secs_f64();
        Ok(Idle { connections, per_second, cpu, idle, used, deliveries, bad: self.bad })
    }

    async fn durable(&mut self, publishers: usize, keys: bool) -> Result<Durable, Failure> {
        self.acks(publishers, self.bench.warm()).await?;
        let cpu = self.bench.meter.cpu().await;
        let began = Instant::now();
        let acks = self.acks(publishers, self.bench.time).await?;
        let (took, after) = (began.elapsed(), self.bench.meter.cpu().await);
        self.bench.watch.done(1.0);
        Ok(Durable {
            publishers,
            keys,
            acks: acks.total(),
            per_second: acks.total() as f64 / took.as_secs_f64(),
            cpu: per_operation(&cpu, after.as_ref(), acks.total()),
            ack: acks.latency(),
        })
    }

    /// Has each publish, and again when it is acked, for a time.
    async fn acks(&mut self, publishers: usize, time: Duration) -> Result<Histogram, Failure> {
        let end = Instant::now() + time;
        let mut since = vec![0; publishers];
        for (number, since) in since.iter_mut().enumerate() {
            *since = self.engine.now();
            self.publish(number, number, *since);
        }
        let (mut waiting, mut acks) = (publishers, Histogram::default());
        while waiting > 0 {
            let events = self.hear(waiting as u64).await?;
            let is_over = Instant::now() >= end;
            for event in &events {
                if !matches!(event.what, What::Said(Said::Ack)) {
                    continue;
                }
                acks.add(event.at.saturating_sub(since[event.number]));
                if is_over {
                    waiting -= 1;
                } else {
                    since[event.number] = self.engine.now();
                    self.publish(event.number, event.number, since[event.number]);
                }
            }
            self.events = events;
        }
        Ok(acks)
    }
}

/// Sleeps to just before a moment, and is awake until then.
async fn sleep_to(moment: Instant) {
    tokio::time::sleep_until(moment - AWAKE).await;
    while Instant::now() < moment {
        tokio::task::yield_now().await;
    }
}
