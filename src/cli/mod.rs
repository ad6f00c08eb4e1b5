//! The command line. Exit codes: 0 fine, 2 usage, 78 configuration (a supervisor must not loop on it), 1 anything else.

mod admin;
mod backup;
mod bench;
mod chat;
mod client;
mod demo;
mod interrupts;
mod keys;
mod link;
mod operate;
mod send;
mod serve;
mod tail;
mod token;
mod trace;
mod webhooks;

use crate::ServeError;
use crate::config::{Config, ConfigError, LogFormat};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// A self-hosted messaging connector gateway.
#[derive(Debug, Parser)]
#[command(name = "tieline", version, about, arg_required_else_help = false)]
struct Cli {
    /// The configuration file [default: config.toml in the working directory if it is there, else built-in]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the log is written [default: as configured]
    #[arg(long, global = true, value_enum)]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (what happens without a subcommand)
    Serve {
        /// As a double for tests: the same ids everywhere, webhooks to this machine without TLS, faults on demand
        #[arg(long)]
        dev: bool,
    },
    /// Validate the configuration and print what is in effect, secrets hidden
    Check,
    /// Write a configuration file with random secrets
    Init {
        /// Where to write it
        #[arg(default_value = "config.toml")]
        file: PathBuf,
        /// Write over a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Print a token, and nothing else
    Token(token::TokenArgs),
    /// Follow the conversations of an account as an agent; reconnects and resumes
    Tail(tail::TailArgs),
    /// Send a text as a consumer
    Send(send::SendArgs),
    /// Try a gateway by hand: a consumer, an agent, or both ends of a conversation in this terminal
    Chat(chat::ChatArgs),
    /// Lively traffic of believable conversations against a running gateway, checked while it runs
    Demo(demo::DemoArgs),
    /// Measure a running gateway: what a delivery, a turn, a connection and an ack cost, each delivery checked
    Bench(bench::BenchArgs),
    /// Where is it: when an event came, and to whom it was pushed, posted and acknowledged
    Trace(trace::TraceArgs),
    /// Copy the data folder, while the gateway runs or not
    Backup(backup::BackupArgs),
    /// Put a copy in the place of the data folder
    Restore(backup::RestoreArgs),
    /// Look after the keys that sign tokens: list, rotate with overlap, revoke
    Keys(keys::KeysArgs),
    /// Look after webhooks: what is owed to whom, what was given up, deliver again, pause, test
    Webhooks(webhooks::WebhooksArgs),
    /// Look at who is connected, and close sockets
    Sessions(operate::SessionsArgs),
    /// Look at conversations, without what was said in them
    Conversations(operate::ConversationsArgs),
    /// Make a consumer's tokens worthless, or good again
    Consumers(operate::ConsumersArgs),
    /// Show the accounts with their applications, agents and queues
    Accounts(operate::AccountsArgs),
    /// Ask a running gateway whether it is ready; exit code 0 if it is
    Health {
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Which running gateway to talk to.
#[derive(Debug, Clone, Args)]
struct ServerArgs {
    /// The gateway [default: the configuration's own address]
    #[arg(long, global = true, env = "TIELINE_URL")]
    url: Option<String>,
    /// A PEM file with the CA that signed its certificate, such as data/tls/ca.pem
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tieline: {error:#}");
            let is_config = error.downcast_ref::<ConfigError>().is_some()
                || matches!(error.downcast_ref(), Some(ServeError::Config(_) | ServeError::Files(_)));
            if is_config { ExitCode::from(78) } else { ExitCode::FAILURE }
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let file = cli.config.as_deref();
    match cli.command.unwrap_or(Command::Serve { dev: false }) {
        Command::Init { file, force } => init(&file, force),
        Command::Check => {
            print!("{}", Config::show(file)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Serve { dev } => serve::serve(cli.config.clone(), dev, cli.log_format),
        Command::Backup(args) => backup::backup(&Config::load(file)?, &args),
        Command::Restore(args) => backup::restore(&Config::load(file)?, &args),
        Command::Keys(args) => keys::keys(&Config::load(file)?, args),
        Command::Token(args) => token::print(&Config::load(file)?, &args),
        Command::Tail(args) => client::block_on(tail::tail(Config::load(file)?, args)),
        Command::Send(args) => client::block_on(send::send(Config::load(file)?, args)),
        Command::Chat(args) => client::block_on(chat::chat(Config::load(file)?, args)),
        Command::Demo(args) => client::block_on(demo::demo(Config::load(file)?, args)),
        Command::Bench(args) => client::block_on(bench::bench(Config::load(file)?, args)),
        Command::Trace(args) => client::block_on(trace::trace(Config::load(file)?, args)),
        Command::Webhooks(args) => client::block_on(webhooks::webhooks(Config::load(file)?, args)),
        Command::Sessions(args) => client::block_on(operate::sessions(Config::load(file)?, args)),
        Command::Conversations(args) => client::block_on(operate::conversations(Config::load(file)?, args)),
        Command::Consumers(args) => client::block_on(operate::consumers(Config::load(file)?, args)),
        Command::Accounts(args) => client::block_on(operate::accounts(Config::load(file)?, args)),
        Command::Health { server } => client::block_on(client::health(Config::load(file)?, server)),
    }
}

/// The commented defaults, with secrets of their own.
fn init(file: &std::path::Path, force: bool) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut text = crate::config::DEFAULTS.to_owned();
    let secrets = [
        "demo-connector-secret",
        "ada-demo",
        "grace-demo",
        "demo-dixa-key",
        "demo-oncehub-key",
        "demo-ultracart-key",
        "demo-hubster-secret",
    ];
    for secret in secrets {
        text = text.replace(&format!("\"{secret}\""), &format!("\"{}\"", crate::random::secret()));
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o600);
    let options = if force { options.create(true).truncate(true) } else { options.create_new(true) };
    let mut out = options.open(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => anyhow::anyhow!("{} is there already; --force writes over it", file.display()),
        _ => anyhow::anyhow!("{}: {error}", file.display()),
    })?;
    out.write_all(text.as_bytes())?;
    println!("{} is written, with random secrets; `tieline --config {} serve` starts with it", file.display(), file.display());
    Ok(ExitCode::SUCCESS)
}
