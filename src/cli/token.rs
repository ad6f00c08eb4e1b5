//! `tieline token`: signs with the keys of the data folder; no running gateway is needed.

use crate::config::{Config, Span};
use crate::identity::Issuer;
use anyhow::Context;
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use std::time::Duration;
use tieline_protocol::ids::ClientId;

#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// What kind of token
    #[arg(value_enum)]
    kind: Kind,
    /// The account
    #[arg(long)]
    account: String,
    /// The application, for app and consumer [default: the account's first]
    #[arg(long)]
    client_id: Option<String>,
    /// What the application calls the consumer, for consumer
    #[arg(long, required_if_eq("kind", "consumer"))]
    ext_id: Option<String>,
    /// The agent's login, for agent
    #[arg(long, required_if_eq("kind", "agent"))]
    login: Option<String>,
    /// How long it holds, such as 60m; at most 60m for app; a consumer's does not expire
    #[arg(long)]
    ttl: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// An application's AppJWT
    App,
    /// A ConsumerJWS: for whom an application speaks
    Consumer,
    /// An agent's bearer
    Agent,
}

/// An hour, unless said otherwise.
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn print(config: &Config, args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let keys = config.server.data_dir.join("keys");
    anyhow::ensure!(
        keys.is_dir(),
        "there are no keys in {}; a gateway makes them when it first starts: run this with its configuration, from its folder",
        keys.display()
    );
    let issuer = Issuer::open(config, crate::wall_clock())?;
    let account = issuer
        .directory()
        .account(&args.account)
        .with_context(|| format!("there is no account {:?} in the configuration", args.account))?;
    let time = args.ttl.map_or(HOUR, |ttl| ttl.0);
    let first = || config.accounts.iter().find(|known| known.id == args.account)?.apps.first().map(|app| app.client_id.clone());
    let app = || {
        let id = args.client_id.clone().or_else(first).context("the account has no application")?;
        let id = ClientId::from(id);
        anyhow::ensure!(account.app(&id).is_some(), "account {:?} has no application {id}", args.account);
        Ok(id)
    };
    let token = match args.kind {
        Kind::App => issuer.app(&account, &app()?, time),
        Kind::Consumer => {
            let name = args.ext_id.as_deref().context("--ext-id is missing")?;
            issuer.consumer(&account.id, &app()?, name).map(|(_, token)| token)
        }
        Kind::Agent => {
            let login = args.login.as_deref().context("--login is missing")?;
            let agent =
                account.agent_by_login(login).with_context(|| format!("account {:?} has no agent with login {login:?}", args.account))?;
            issuer.agent(&account, agent, time)
        }
    };
    println!("{}", token.context("the token cannot be signed")?);
    Ok(ExitCode::SUCCESS)
}
