//! `tieline sessions`, `conversations`, `consumers`, `accounts`: who is there, by the admin's calls.

use super::ServerArgs;
use super::admin::{Admin, table};
use super::client::Client;
use crate::config::Config;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// What every of these commands takes.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Print what the gateway answers, as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// `tieline sessions`
#[derive(Debug, Args)]
pub(super) struct SessionsArgs {
    #[command(subcommand)]
    what: Sessions,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Sessions {
    /// Show who is connected, the longest first
    List {
        /// Of one account only
        #[arg(long)]
        account: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one session, and what it is subscribed to
    Show {
        /// The number of its connection, as in the list and in the log
        connection: u64,
    },
    /// Close one session's socket
    Kick {
        /// The number of its connection
        connection: u64,
        /// 1012: it may come back at once; 4401: with another token
        #[arg(long, default_value_t = 1012)]
        code: u16,
    },
}

/// `tieline conversations`
#[derive(Debug, Args)]
pub(super) struct ConversationsArgs {
    #[command(subcommand)]
    what: Conversations,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Conversations {
    /// Show conversations, those that changed last first
    List {
        /// The account
        #[arg(long)]
        account: String,
        /// `open` or `closed` ones only
        #[arg(long)]
        state: Option<String>,
        /// Of one agent, by its number
        #[arg(long)]
        agent: Option<String>,
        /// Of one consumer, by its id
        #[arg(long)]
        consumer: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one: who takes part, and how many events it has; not what was said
    Show {
        /// The conversation
        conversation: String,
    },
}

/// `tieline consumers`
#[derive(Debug, Args)]
pub(super) struct ConsumersArgs {
    #[command(subcommand)]
    what: Consumers,
    /// The account
    #[arg(long, global = true, default_value = "")]
    account: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Consumers {
    /// Make every token of a consumer worthless, and close its sockets
    Revoke {
        /// Its id
        #[arg(required_unless_present = "ext_id")]
        consumer: Option<String>,
        /// Instead of its id: what an application calls it
        #[arg(long, requires = "client_id", conflicts_with = "consumer")]
        ext_id: Option<String>,
        /// That application
        #[arg(long)]
        client_id: Option<String>,
    },
    /// Let a consumer's tokens be good again
    Allow {
        /// Its id
        consumer: String,
    },
    /// Show who is revoked
    Revoked,
}

/// `tieline accounts`
#[derive(Debug, Args)]
pub(super) struct AccountsArgs {
    #[command(flatten)]
    common: Common,
}

/// Prints rows as a table, or what was answered as JSON.
fn show(common: &Common, answer: &Value, rows: &Value, columns: &[&str]) -> anyhow::Result<ExitCode> {
    if common.json {
        return said(answer);
    }
    table(columns, rows.as_array().map_or(&[], Vec::as_slice), "there are none");
    Ok(ExitCode::SUCCESS)
}

fn said(answer: &Value) -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(answer)?);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn sessions(config: Config, args: SessionsArgs) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(&config, &args.common.server)?;
    match args.what {
        Sessions::List { account, limit } => {
            let mut wanted = vec![("limit", limit.to_string())];
            wanted.extend(account.map(|account| ("account", account)));
            let answer = admin.get_by("/admin/v1/sessions", &wanted).await?;
            let columns = ["connection", "account", "as", "id", "connectedSeconds", "waiting", "lagging"];
            show(&args.common, &answer, &answer["sessions"], &columns)
        }
        Sessions::Show { connection } => said(&admin.get(&format!("/admin/v1/sessions/{connection}")).await?),
        Sessions::Kick { connection, code } => {
            admin.delete(&format!("/admin/v1/sessions/{connection}?code={code}")).await?;
            println!("{connection} is closed");
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub(super) async fn conversations(config: Config, args: ConversationsArgs) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(&config, &args.common.server)?;
    match args.what {
        Conversations::List { account, state, agent, consumer, limit } => {
            let mut wanted = vec![("account", account), ("limit", limit.to_string())];
            let given = [("state", state), ("agent", agent), ("consumer", consumer)];
            wanted.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
            let answer = admin.get_by("/admin/v1/conversations", &wanted).await?;
            let columns = ["id", "number", "state", "queue", "agent", "waitingSeconds", "updated"];
            show(&args.common, &answer, &answer, &columns)
        }
        Conversations::Show { conversation } => said(&admin.get(&Client::path(&["admin", "v1", "conversations", &conversation])?).await?),
    }
}

pub(super) async fn consumers(config: Config, args: ConsumersArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(!args.account.is_empty(), "name the account: --account A");
    let admin = Admin::new(&config, &args.common.server)?;
    let base = ["admin", "v1", "accounts", &args.account, "revoked-consumers"];
    match args.what {
        Consumers::Revoke { consumer, ext_id, client_id } => {
            let body = match (consumer, ext_id) {
                (Some(id), _) => json!({"consumerId": id}),
                (None, name) => json!({"clientId": client_id, "extConsumerId": name}),
            };
            said(&admin.post(&Client::path(&base)?, &body).await?)
        }
        Consumers::Allow { consumer } => said(&admin.delete(&Client::path(&[&base[..], &[consumer.as_str()]].concat())?).await?),
        Consumers::Revoked => said(&admin.get(&Client::path(&base)?).await?),
    }
}

pub(super) async fn accounts(config: Config, args: AccountsArgs) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(&config, &args.common.server)?;
    let answer = admin.get("/admin/v1/accounts").await?;
    let rows: Vec<Value> = answer
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|account| {
            let own = |kind: &str, id: &Value, name: &Value, state: String| {
                json!({"account": account["id"], "kind": kind, "id": id, "name": name, "state": state})
            };
            let apps = account["apps"].as_array().into_iter().flatten().map(move |app| {
                let state = if app["enabled"] == true { "enabled" } else { "disabled" };
                own("application", &app["clientId"], &Value::Null, state.into())
            });
            let agents = account["agents"].as_array().into_iter().flatten().map(move |agent| {
                let state = if agent["connected"] == true { "connected" } else { "away" };
                own("agent", &agent["userId"], &agent["login"], state.into())
            });
            let queues =
                account["queues"].as_object().into_iter().flatten().map(move |(id, name)| own("queue", &json!(id), name, String::new()));
            apps.chain(agents).chain(queues).collect::<Vec<_>>()
        })
        .collect();
    let columns = ["account", "kind", "id", "name", "state"];
    show(&args.common, &answer, &Value::from(rows), &columns)
}
