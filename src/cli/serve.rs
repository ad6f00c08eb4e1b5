//! `tieline serve`.

use crate::Server;
use crate::config::{Config, LogFormat};
use secrecy::ExposeSecret;
use std::io::IsTerminal;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// SIGXFSZ: a file over its size limit must be an error of the write, not the end of the process.
const FILE_TOO_LARGE: i32 = 25;

const TALKATIVE: [&str; 8] = ["tungstenite", "tokio_tungstenite", "hyper", "hyper_util", "h2", "rustls", "reqwest", "refinery_core"];

pub(super) fn serve(config: Config, format: Option<LogFormat>) -> anyhow::Result<ExitCode> {
    log(&config, format)?;
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::bind(config).await?;
        let stop = CancellationToken::new();
        tokio::spawn(signals(stop.clone()));
        welcome(&server);
        server.run(stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn log(config: &Config, format: Option<LogFormat>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log.level).map_err(|error| crate::config::ConfigError::Value {
        key: "log.level".into(),
        reason: format!("{error}; write info, debug or a filter"),
    })?;
    // Libraries that would log frames, heads or addresses, and with them tokens and people's words, whatever the level.
    let filter = TALKATIVE.iter().fold(filter, |filter, library| match format!("{library}=off").parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    });
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format.unwrap_or(config.log.format) {
        LogFormat::Text => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// The first SIGTERM or SIGINT drains, the second ends at once.
async fn signals(stop: CancellationToken) {
    let listen = |kind| signal(kind).map_err(|error| tracing::error!(%error, "signals cannot be heard"));
    let (Ok(mut term), Ok(mut int)) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt())) else { return };
    // Heard, it does not end the process.
    let _file_too_large = listen(SignalKind::from_raw(FILE_TOO_LARGE));
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        if stop.is_cancelled() {
            tracing::warn!("second signal: ending at once");
            std::process::exit(1);
        }
        tracing::info!("draining");
        stop.cancel();
    }
}

/// What a newcomer needs: where it is, who may enter, and a line to copy.
fn welcome(server: &Server) {
    let config = server.config();
    let data = std::path::absolute(&config.server.data_dir).unwrap_or_else(|_| config.server.data_dir.clone());
    println!("Tieline {} is serving.", env!("CARGO_PKG_VERSION"));
    if let Some(address) = server.address() {
        println!("  HTTP and WebSocket   http://{address}");
    }
    if let Some(address) = server.tls_address() {
        println!("  HTTPS and WSS        https://{address}");
        if config.server.tls.self_signed {
            println!("  CA for clients       {}", data.join("tls/ca.pem").display());
        }
    }
    if config.server.dev {
        println!("  double for tests     faults at /admin/v1/faults; never for customers");
        if config.internal.admin_key.is_empty() && config.admin_key().is_some() {
            println!("  admin key            {}", crate::config::DEV_ADMIN_KEY);
        }
    }
    println!("  data                 {} (log {})", data.display(), server.epoch());
    let demo = crate::config::Config::defaults().accounts;
    let is_demo = |secret: &secrecy::SecretString| {
        let known = demo.iter().flat_map(|account| account.apps.iter().map(|app| app.client_secret.expose_secret()));
        known
            .chain(demo.iter().flat_map(|account| account.agents.iter().filter_map(|agent| Some(agent.password.as_ref()?.expose_secret()))))
            .any(|known| known == secret.expose_secret())
    };
    for account in &config.accounts {
        for app in account.apps.iter().filter(|app| is_demo(&app.client_secret)) {
            println!(
                "  demo application     account {}, client_id {}, client_secret {}",
                account.id,
                app.client_id,
                app.client_secret.expose_secret()
            );
        }
        for agent in &account.agents {
            if let Some(password) = agent.password.as_ref().filter(|password| is_demo(password)) {
                println!("  demo agent           account {}, login {}, password {}", account.id, agent.login, password.expose_secret());
            }
        }
    }
    if let Some(account) = config.accounts.first() {
        println!("Try it: tieline send --account {} --as consumer:ann --open \"hello\"", account.id);
    }
}
