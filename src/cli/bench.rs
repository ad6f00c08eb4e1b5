//! `tieline bench`: the workloads of [`tieline_bench`] against a running gateway, in conversations of its own, which it closes.

use super::ServerArgs;
use super::client::{Client, Refused, password, text};
use super::interrupts::Interrupts;
use super::link::Place as Account;
use crate::config::Config;
use anyhow::{Context, bail};
use clap::Args;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tieline_bench::adapters::{Native, Place};
use tieline_bench::engine::PATIENCE;
use tieline_bench::meter::{Cpu, Meter, Processes};
use tieline_bench::report::{Outcome, table};
use tieline_bench::workload::{Bench, Kind, Watch, Workload};
use tokio_util::sync::CancellationToken;

/// Conversations that are opened, or closed, at a time.
const AT_A_TIME: usize = 32;

/// What the gateway's process is called.
const NAME: &str = "tieline";

/// Files that are open beside the connections.
const OTHER_FILES: usize = 64;

/// Messages in flight over many conversations.
const IN_FLIGHT: usize = 64;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// The account; not one of real customers
    #[arg(long, default_value = "demo")]
    account: String,
    /// The agent whose sockets subscribe, by login
    #[arg(long, value_name = "LOGIN", default_value = "ada")]
    agent: String,
    /// The agent's password [default: the configuration's]
    #[arg(long, env = "TIELINE_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// The application that speaks for the consumers [default: the account's first]
    #[arg(long)]
    client_id: Option<String>,
    /// What is measured
    #[arg(long, value_delimiter = ',', value_enum, default_value = "fanout,many,idle,durable")]
    workload: Vec<Kind>,
    /// Subscribers of the one publisher of `fanout`
    #[arg(long, value_name = "N", default_value = "1000", value_parser = size)]
    subscribers: usize,
    /// Deliveries a second in the open loop of `fanout`
    #[arg(long, value_name = "N", default_value = "20000", value_parser = size)]
    rate: usize,
    /// Conversations of `many`, each with one publisher and two subscribers
    #[arg(long, value_name = "N", default_value = "1000", value_parser = size)]
    conversations: usize,
    /// Connections of `idle`
    #[arg(long, value_name = "N", default_value = "1000", value_parser = size)]
    connections: usize,
    /// Publishers of `durable`, of one measurement after another
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,64,512", value_parser = size)]
    publishers: Vec<usize>,
    /// How long each measurement takes
    #[arg(long, value_name = "N", default_value = "5", value_parser = seconds)]
    seconds: f64,
    /// The gateway's process on this machine, for CPU and memory [default: looked for by its port, else what /metrics says]
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<u32>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

fn size(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|size| (1..=1_000_000).contains(size)).ok_or_else(|| "write a number from 1 to 1000000".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds)).ok_or_else(|| "write a number from 0.1 to 3600".to_owned())
}

impl BenchArgs {
    fn workloads(&self) -> Vec<Workload> {
        let mut all = Vec::new();
        for kind in &self.workload {
            match kind {
                Kind::Fanout => all.push(Workload::Fanout { subscribers: self.subscribers, rate: self.rate as f64 }),
                Kind::Many => all.push(Workload::Many { conversations: self.conversations, in_flight: IN_FLIGHT }),
                Kind::Idle => all.push(Workload::Idle { connections: self.connections }),
                Kind::Durable => {
                    let each = self.publishers.iter();
                    all.extend(each.flat_map(|publishers| [false, true].map(|keys| Workload::Durable { publishers: *publishers, keys })));
                }
            }
        }
        all
    }
}

/// Raises the limit of open files as far as it is needed.
fn allow(connections: usize) -> anyhow::Result<()> {
    let needed = (connections + OTHER_FILES) as u64;
    let limit = rlimit::increase_nofile_limit(needed)?;
    if limit < needed {
        bail!(
            "this opens {connections} connections and needs {needed} open files, but the limit is {limit}; raise it (`ulimit -Hn`), or \
             ask for less with --subscribers, --conversations, --connections or --publishers"
        );
    }
    Ok(())
}

pub(super) async fn bench(config: Config, args: BenchArgs) -> anyhow::Result<ExitCode> {
    let workloads = args.workloads();
    allow(workloads.iter().map(Workload::connections).max().unwrap_or(0))?;
    let password = password(&config, &args.account, &args.agent, args.password.as_deref())?;
    let metrics = Metrics(Client::internal(&config, &args.server)?);
    let client = Client::new(&config, &args.server)?;
    let account = Account { client, config, account: args.account.clone(), client_id: args.client_id.clone() };
    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    let mut interrupts = Interrupts::listen()?;
    let listener = tokio::spawn(async move {
        interrupts.next().await;
        interrupted.cancel();
        interrupts
    });
    let stage = stop.run_until_cancelled(Stage::enter(account, &args.agent, &password)).await;
    let Some(mut stage) = stage.transpose()? else { bail!("interrupted") };
    let target = stage.account.client.target().await?;
    let local = || target.address.ip().is_loopback().then(|| Processes::listening(NAME, target.address.port())).flatten();
    let given = (!args.pids.is_empty()).then(|| Processes(args.pids.clone()));
    let processes = given.or_else(local);
    let meter: &dyn Meter = processes.as_ref().map_or(&metrics, |processes| processes);
    let bar = Bar::new();
    let mut outcomes = Vec::new();
    let bench = |adapter| Bench {
        adapter: Arc::new(adapter),
        target: target.clone(),
        meter,
        watch: &bar,
        time: Duration::from_secs_f64(args.seconds),
        patience: PATIENCE,
    };
    let conversations = workloads.iter().map(Workload::channels).max().unwrap_or(0);
    let ended = match stage.open(conversations, &bar, &stop).await {
        Ok(()) => stage.perform(&workloads, bench, &stop, &mut outcomes).await,
        failed => failed,
    };
    listener.abort();
    bar.0.set_message("closing its conversations");
    // Another Ctrl-C leaves them open.
    let closed = tokio::select! {
        closed = stage.leave() => closed,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; conversations of consumers named {}-… stay open", stage.run),
    };
    bar.0.finish_and_clear();
    if args.json {
        println!("{}", json!({"workloads": outcomes}));
    } else if !outcomes.is_empty() {
        print!("{}", table(&outcomes));
    }
    ended?;
    closed?;
    let bad: u64 = outcomes.iter().map(Outcome::bad).sum();
    if bad > 0 {
        bail!("{bad} deliveries were out of order, repeated, behind a gap or of another conversation");
    }
    Ok(ExitCode::SUCCESS)
}

/// Who takes part, and the conversations they take part in.
struct Stage {
    account: Account,
    app: String,
    bearer: String,
    /// What the consumers' names and the idempotency keys begin with.
    run: String,
    places: Vec<Place>,
}

impl Stage {
    async fn enter(account: Account, agent: &str, password: &str) -> anyhow::Result<Self> {
        let app = account.app_token().await?;
        let login = account.client.post(&format!("/api/account/{}/login?v=1.3", account.account))?;
        let signed = account.client.json(login.json(&json!({"username": agent, "password": password}))).await;
        let signed = signed.map_err(|error| match error.downcast_ref::<Refused>() {
            Some(Refused { status, .. }) if *status == 401 => {
                error.context(format!("the agent {agent:?} is not let in with this password"))
            }
            _ => error,
        })?;
        let run = format!("bench-{}", uuid::Uuid::new_v4().simple());
        Ok(Self { bearer: text(&signed, "bearer")?, account, app, run, places: Vec::new() })
    }

    /// Runs each workload, until all is done or `stop` comes.
    async fn perform<'a>(
        &self,
        workloads: &[Workload],
        bench: impl Fn(Native) -> Bench<'a, Native>,
        stop: &CancellationToken,
        outcomes: &mut Vec<Outcome>,
    ) -> anyhow::Result<()> {
        for (number, workload) in workloads.iter().enumerate() {
            let has_keys = matches!(workload, Workload::Durable { keys: true, .. });
            let bench = bench(Native {
                account: self.account.account.clone(),
                app: self.app.clone(),
                bearer: self.bearer.clone(),
                places: self.places.clone(),
                keys: has_keys.then(|| format!("{}-{number}", self.run)),
            });
            match stop.run_until_cancelled(bench.run(workload)).await {
                Some(outcome) => outcomes.push(outcome.with_context(|| workload.name())?),
                None => bail!("interrupted"),
            }
        }
        Ok(())
    }

    /// Opens the conversations, until all are open or `stop` comes.
    async fn open(&mut self, count: usize, bar: &Bar, stop: &CancellationToken) -> anyhow::Result<()> {
        bar.doing("opening its conversations");
        // What is being opened when this ends is waited for, so that it is closed, too.
        let halt = stop.child_token();
        let begin = async |number| {
            let opened = self.begin(number).await;
            match &opened {
                Ok(_) => bar.done(number as f64 / count as f64),
                Err(_) => halt.cancel(),
            }
            opened
        };
        let opened = stream::iter(0..count).take_until(halt.cancelled()).map(begin).buffer_unordered(AT_A_TIME);
        let (mut places, mut failed) = (Vec::new(), None);
        for opened in opened.collect::<Vec<_>>().await {
            match opened {
                Ok(place) => places.push(place),
                Err(error) => failed = Some(error),
            }
        }
        self.places = places;
        match failed {
            Some(error) => Err(error.context("a conversation cannot be opened")),
            None if self.places.len() < count => bail!("interrupted"),
            None => Ok(()),
        }
    }

    async fn begin(&self, number: usize) -> anyhow::Result<Place> {
        let consumer = self.account.consumer(&self.app, &format!("{}-{number}", self.run)).await?;
        let opening = json!([
            {"kind": "req", "id": "1", "type": "userprofile.SetUserProfile", "body": {"firstName": "Bench"}},
            {"kind": "req", "id": "2", "type": "cm.ConsumerRequestConversation", "body": {"brandId": self.account.account}},
        ]);
        let answer = self.ask("conversation", &consumer, &opening).await?;
        let dialog = answer[1]["body"]["conversationId"].as_str().with_context(|| format!("the answer names no conversation: {answer}"))?;
        Ok(Place { dialog: dialog.to_owned(), consumer })
    }

    /// A request of a consumer over the Connector API.
    async fn ask(&self, call: &str, consumer: &str, body: &Value) -> anyhow::Result<Value> {
        let path = format!("/api/account/{}/messaging/consumer/{call}?v=3", self.account.account);
        let request = self.account.client.post(&path)?.header("authorization", &self.app).header("x-lp-on-behalf", consumer).json(body);
        self.account.client.json(request).await
    }

    /// Closes the conversations.
    async fn leave(&self) -> anyhow::Result<()> {
        let close = async |place: &Place| {
            let field = json!([{"field": "ConversationStateField", "conversationState": "CLOSE"}]);
            let body = json!({"conversationId": place.dialog, "conversationField": field});
            let request = json!({"kind": "req", "id": "1", "type": "cm.UpdateConversationField", "body": body});
            self.ask("conversation/send", &place.consumer, &request).await
        };
        let closing = stream::iter(&self.places).map(close).buffer_unordered(AT_A_TIME);
        let refused: Vec<_> = closing.filter_map(async |closed| closed.err()).collect().await;
        let count = refused.len();
        match refused.into_iter().next() {
            Some(error) => Err(error.context(format!("{count} conversations of consumers named {}-… stay open", self.run))),
            None => Ok(()),
        }
    }
}

/// How far it is, for somebody at a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(1000);
        // The template is right, or nothing is drawn as wished: it is still a bar.
        let style = ProgressStyle::with_template("{bar:30} {elapsed} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }
}

impl Watch for Bar {
    fn doing(&self, what: &str) {
        self.0.set_position(0);
        self.0.set_message(what.to_owned());
    }

    fn done(&self, share: f64) {
        self.0.set_position((share * 1000.0) as u64);
    }
}

/// What the gateway's own metrics say.
struct Metrics(Client);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// A metric without labels, a whole number; nothing if it cannot be had.
    async fn read(&self, name: &str) -> Option<u64> {
        let response = self.0.get("/metrics").ok()?.send().await.ok()?.error_for_status().ok()?;
        value(&response.text().await.ok()?, name)
    }
}

fn value(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

impl Meter for Metrics {
    fn cpu(&self) -> BoxFuture<'_, Option<Cpu>> {
        Box::pin(async { self.read("process_cpu_seconds_total").await.map(Cpu::seconds) })
    }

    fn memory(&self) -> BoxFuture<'_, Option<u64>> {
        Box::pin(self.read("process_resident_memory_bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total_more 2\nprocess_cpu_seconds_total 12\n";
        assert_eq!(value(text, "process_cpu_seconds_total"), Some(12));
        assert_eq!(value(text, "process_cpu_seconds"), None);
    }
}
