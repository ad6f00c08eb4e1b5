//! `tieline keys`: the keys that sign tokens. It works on the files of the data folder, so it needs no running gateway, and
//! works when one is in trouble; one that runs is told to read them, if the admin key is in the configuration.

use super::ServerArgs;
use super::client::Client;
use crate::config::Config;
use crate::identity::{KeyInfo, Purpose, list_keys, revoke_key, rotate_key};
use clap::{Args, Subcommand, ValueEnum};
use secrecy::ExposeSecret;
use std::path::PathBuf;
use std::process::ExitCode;

/// `tieline keys`
#[derive(Debug, Args)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the keys: which sign, which only check what they signed before
    List,
    /// Sign with a new key from now on; what the old one signed stays good
    Rotate {
        /// Which tokens; all, if none is named
        #[arg(value_enum)]
        purpose: Vec<Which>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Remove a key: what it signed is worthless, and its sockets close. In the place of one that signs a new one is made
    Revoke {
        /// The key, as `list` names it
        kid: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// AppJWTs
    App,
    /// ConsumerJWSs
    Consumer,
    /// Tokens of consumers that signed up or in themselves
    Signup,
    /// Agents' bearers
    Agent,
    /// Tokens for secure forms
    Form,
    /// Tokens for other vendors' APIs
    Pass,
}

impl Which {
    fn purpose(self) -> Purpose {
        match self {
            Self::App => Purpose::App,
            Self::Consumer => Purpose::Consumer,
            Self::Signup => Purpose::SignUp,
            Self::Agent => Purpose::Agent,
            Self::Form => Purpose::Form,
            Self::Pass => Purpose::Pass,
        }
    }
}

/// For how long what a key signed may be in use after it was rotated.
fn overlap(purpose: Purpose, config: &Config) -> String {
    let minutes = |span: std::time::Duration| format!("{} min", span.as_secs().div_ceil(60));
    match purpose {
        Purpose::App => minutes(config.tokens.app.0),
        Purpose::SignUp => minutes(config.tokens.consumer.0),
        Purpose::Agent | Purpose::Pass => "30 days".into(),
        Purpose::Form => "5 min".into(),
        Purpose::Consumer => "for ever".into(),
    }
}

pub(super) fn keys(config: &Config, args: KeysArgs) -> anyhow::Result<ExitCode> {
    let folder: PathBuf = config.server.data_dir.join("keys");
    anyhow::ensure!(
        folder.is_dir(),
        "there are no keys in {}; a gateway makes them when it first starts: run this with its configuration, from its folder",
        folder.display()
    );
    match args.what {
        What::List => {
            println!("{:<26} {:<9} {:<7} {:<25} USED AT MOST", "KEY", "FOR", "STATE", "MADE");
            for key in list_keys(&folder)? {
                let made = jiff::Timestamp::try_from(key.made).map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
                let used = if key.signs { "now".to_owned() } else { format!("{} after it was rotated", overlap(key.purpose, config)) };
                let state = if key.signs { "signs" } else { "checks" };
                println!("{:<26} {:<9} {state:<7} {:<25} {used}", key.kid, key.purpose.name(), made.unwrap_or_default());
            }
            Ok(ExitCode::SUCCESS)
        }
        What::Rotate { purpose, server } => {
            let purposes = if purpose.is_empty() { Purpose::ALL.to_vec() } else { purpose.iter().map(|which| which.purpose()).collect() };
            for purpose in purposes {
                say_made(&rotate_key(&folder, purpose)?);
            }
            super::client::block_on(reload(config, server))
        }
        What::Revoke { kid, server } => {
            let fresh = revoke_key(&folder, &kid)?;
            println!("{kid} is removed");
            fresh.iter().for_each(say_made);
            super::client::block_on(reload(config, server))
        }
    }
}

fn say_made(key: &KeyInfo) {
    println!("{} signs {} tokens from the next reload on", key.kid, key.purpose.name());
}

/// Has a running gateway read the keys.
async fn reload(config: &Config, server: ServerArgs) -> anyhow::Result<ExitCode> {
    let Some(key) = config.admin_key() else {
        println!("a running gateway reads them on SIGHUP: `systemctl reload tieline`, or `kill -HUP` and its process id");
        return Ok(ExitCode::SUCCESS);
    };
    let client = Client::internal(config, &server)?;
    match client.json(client.post("/admin/v1/reload")?.bearer_auth(key.expose_secret())).await {
        Ok(answer) => println!("the gateway has read them: {}", answer["detail"].as_str().unwrap_or_default()),
        Err(error) => {
            eprintln!("tieline: the keys are changed, but no running gateway has read them: {error:#}");
            eprintln!("tieline: one that is not running reads them when it starts; else send it SIGHUP");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
