//! `tieline demo`: lively traffic of believable conversations against a running gateway, which checks itself meanwhile.
//!
//! [`plan`] decides, as a pure function of the seed; [`run`] carries it out; [`ledger`] judges what was seen of it.

mod dice;
mod hear;
mod ledger;
mod picture;
mod plan;
mod run;
mod scripts;
mod talk;

use super::ServerArgs;
use super::client::{Client, password};
use super::link::{Peer, Place};
use crate::config::{Account, Config, ReplySequence, Span};
use anyhow::{Context, bail};
use clap::Args;
use plan::Options;
use run::{Demo, Settings};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The account
    #[arg(long, default_value = "demo")]
    account: String,
    /// Messages a second, of all conversations together; may be a fraction
    #[arg(long, default_value = "2", value_parser = rate)]
    rate: f64,
    /// How long, such as 10m [default: until Ctrl-C]
    #[arg(long = "for", value_name = "TIME")]
    time: Option<Span>,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// The same seed and options: the same conversations
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Consumers, who have one conversation at a time
    #[arg(long, default_value = "40", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    consumers: u32,
    /// Agents who answer, by login
    #[arg(long, value_delimiter = ',', default_value = "ada,grace")]
    agents: Vec<String>,
    /// Nobody answers but people at their desks
    #[arg(long, conflicts_with_all = ["agents", "answer_share"])]
    no_agents: bool,
    /// The share of what is offered to them that these agents take, from 0 to 1
    #[arg(long, default_value = "0.7", value_parser = share)]
    answer_share: f64,
    /// The application that speaks for the consumers [default: the account's first]
    #[arg(long)]
    client_id: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate| (0.001..=10_000.0).contains(rate)).ok_or_else(|| "write a number from 0.001 to 10000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "write a number from 0 to 1".to_owned())
}

/// The queue of conversations without one.
const FRONT: &str = "-1";

/// The queues to write to: all there are, or those that at least one of the simulated agents serves.
fn queues(account: &Account, agents: &[String]) -> Vec<(String, String)> {
    let serving: Vec<_> = account.agents.iter().filter(|agent| agents.contains(&agent.login)).collect();
    let named = account.queues.iter().map(|queue| (queue.id.clone(), if queue.name.is_empty() { &queue.id } else { &queue.name }.clone()));
    std::iter::once((FRONT.to_owned(), "the front desk".to_owned()))
        .chain(named.filter(|(id, _)| id != FRONT))
        .filter(|(id, _)| agents.is_empty() || serving.iter().any(|agent| agent.skills.contains(id)))
        .collect()
}

pub(super) async fn demo(config: Config, args: DemoArgs) -> anyhow::Result<ExitCode> {
    let logins = if args.no_agents { Vec::new() } else { args.agents };
    let account = config.accounts.iter().find(|known| known.id == args.account);
    let account = account.with_context(|| format!("there is no account {:?} in the configuration", args.account))?;
    let app = account.apps.iter().find(|app| args.client_id.as_ref().is_none_or(|id| app.client_id == *id));
    let app = app.with_context(|| format!("account {:?} has no such application in the configuration", args.account))?;
    let tells_positions = app.reply_sequence == ReplySequence::Position;
    let queues = queues(account, &logins);
    if queues.is_empty() {
        bail!("none of the agents {} serves a queue", logins.join(", "));
    }
    let mut peers = vec![Peer::Application];
    for login in &logins {
        peers.push(Peer::Agent { login: login.clone(), password: password(&config, &args.account, login, None)? });
    }
    let consumers = usize::try_from(args.consumers)?;
    let plan = Options { seed: args.seed, consumers, queues, share: args.answer_share };
    let settings = Settings { rate: args.rate, time: args.time.map(|time| time.0), messages: args.messages, tells_positions };
    let client = Client::new(&config, &args.server)?;
    let place = Arc::new(Place { client, config, account: args.account, client_id: args.client_id });
    Demo::new(place, plan, settings, peers).run().await
}
