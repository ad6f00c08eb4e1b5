//! `tieline webhooks …`: a running gateway's webhooks, by its admin key.

use super::ServerArgs;
use super::admin::{Admin, cell, table};
use super::client::{Client, text};
use crate::config::Config;
use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Which webhooks, and what to do with them.
#[derive(Debug, Args)]
pub(super) struct WebhooksArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Print what the gateway answers, as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The endpoints, with what each is owed
    List {
        /// Of this account only
        #[arg(long)]
        account: Option<String>,
    },
    /// One endpoint
    Show { endpoint: u64 },
    /// What an endpoint is owed, oldest first
    Owed {
        endpoint: u64,
        #[command(flatten)]
        part: Part,
    },
    /// What was given up at an endpoint
    Dead {
        endpoint: u64,
        #[command(flatten)]
        part: Part,
    },
    /// Every attempt to deliver one event to an endpoint
    Attempts {
        endpoint: u64,
        /// Its webhook-id
        message: String,
    },
    /// Have events delivered again, behind what is owed already
    Replay {
        endpoint: u64,
        /// Every dead letter
        #[arg(long, conflicts_with_all = ["message", "from"])]
        dead: bool,
        /// This one, by its webhook-id; may be repeated
        #[arg(long, conflicts_with = "from")]
        message: Vec<String>,
        /// What happened from here: a webhook-id, or a time such as 2026-01-31T12:00:00Z
        #[arg(long)]
        from: Option<String>,
        /// Until here, included [default: now]
        #[arg(long, requires = "from")]
        to: Option<String>,
    },
    /// Let an endpoint wait; what happens is kept for it
    Pause { endpoint: u64 },
    /// Let an endpoint go on that was paused, or that answered 410
    Resume { endpoint: u64 },
    /// Post something that tells nothing; exit code 0 if the endpoint takes it
    Test { endpoint: u64 },
    /// Forget an endpoint that no application names any more, with all it is owed
    Forget { endpoint: u64 },
}

#[derive(Debug, Args)]
struct Part {
    /// Behind this turn
    #[arg(long)]
    after: Option<u64>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// `tieline webhooks …`
pub(super) async fn webhooks(config: Config, args: WebhooksArgs) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(&config, &args.server)?;
    let is_json = args.json;
    let path = |endpoint: u64, rest: &str| format!("/admin/v1/webhooks/{endpoint}{rest}");
    let part = |part: &Part| format!("?limit={}{}", part.limit, part.after.map(|after| format!("&after={after}")).unwrap_or_default());
    let answer = match &args.command {
        Command::List { account } => {
            admin.get_by("/admin/v1/webhooks", &account.iter().map(|account| ("account", account.clone())).collect::<Vec<_>>()).await?
        }
        Command::Show { endpoint } => admin.get(&path(*endpoint, "")).await?,
        Command::Owed { endpoint, part: which } => admin.get(&path(*endpoint, &format!("/owed{}", part(which)))).await?,
        Command::Dead { endpoint, part: which } => admin.get(&path(*endpoint, &format!("/dead{}", part(which)))).await?,
        Command::Attempts { endpoint, message } => {
            admin.get(&Client::path(&["admin", "v1", "webhooks", &endpoint.to_string(), "deliveries", message])?).await?
        }
        Command::Replay { endpoint, dead, message, from, to } => {
            let wanted = match (dead, message.as_slice(), from) {
                (true, ..) => json!({"dead": true}),
                (false, [_, ..], None) => json!({"messages": message}),
                (false, [], Some(from)) => json!({"from": from, "to": to}),
                _ => bail!("say what to deliver again: --dead, --message ID, or --from ID-OR-TIME"),
            };
            admin.post(&path(*endpoint, "/replay"), &wanted).await?
        }
        Command::Pause { endpoint } => admin.post(&path(*endpoint, "/pause"), &Value::Null).await?,
        Command::Resume { endpoint } => admin.post(&path(*endpoint, "/resume"), &Value::Null).await?,
        Command::Test { endpoint } => admin.post(&path(*endpoint, "/test"), &Value::Null).await?,
        Command::Forget { endpoint } => admin.delete(&path(*endpoint, "")).await?,
    };
    if is_json {
        println!("{answer}");
    } else {
        print(&args.command, &answer)?;
    }
    let failed = matches!(args.command, Command::Test { .. }) && answer["result"] != "delivered";
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(command: &Command, answer: &Value) -> anyhow::Result<()> {
    match command {
        Command::List { .. } => {
            let columns = ["id", "account", "clientId", "state", "failing", "owed", "deadLetters", "oldestOwed", "endpoint"];
            table(&columns, rows(answer, "endpoints"), "no application has webhooks");
        }
        Command::Show { .. } => members(answer),
        Command::Owed { .. } => table(&["message", "conversation", "since", "attempts", "due"], rows(answer, "owed"), "nothing is owed"),
        Command::Dead { .. } => {
            let columns = ["message", "conversation", "since", "attempts", "at", "reason", "last"];
            table(&columns, rows(answer, "deadLetters"), "nothing was given up");
        }
        Command::Attempts { .. } => {
            table(&["at", "tookMs", "result", "status", "answer"], rows(answer, "attempts"), "no attempt is remembered");
        }
        Command::Replay { .. } => match answer["replayed"].as_u64() {
            Some(count) => println!("{count} events are delivered again"),
            None => println!("there are many; they are delivered again behind this answer"),
        },
        Command::Pause { endpoint } => println!("endpoint {endpoint} waits"),
        Command::Resume { endpoint } => println!("endpoint {endpoint} goes on"),
        Command::Forget { endpoint } => println!("endpoint {endpoint} is forgotten"),
        Command::Test { .. } => {
            let took = answer["tookMs"].as_f64().unwrap_or_default();
            let why = answer["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
            println!("{} in {took} ms{why}", text(answer, "result")?);
        }
    }
    if let Some(next) = answer.get("next").and_then(Value::as_u64) {
        println!("there is more: --after {next}");
    }
    Ok(())
}

fn rows<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}

fn members(value: &Value) {
    for (name, value) in value.as_object().into_iter().flatten() {
        println!("{name:14} {}", cell(value));
    }
}
