//! `tieline serve`.

use crate::Pulse;
use crate::Server;
use crate::config::{Config, ConfigError, LogFormat};
use crate::reload::Reloader;
use sd_notify::NotifyState;
use secrecy::ExposeSecret;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// SIGXFSZ: a file over its size limit must be an error of the write, not the end of the process.
const FILE_TOO_LARGE: i32 = 25;

const TALKATIVE: [&str; 8] = ["tungstenite", "tokio_tungstenite", "hyper", "hyper_util", "h2", "rustls", "reqwest", "refinery_core"];

/// A change of the log's filter.
type Filtering = Box<dyn Fn(&Config) + Send + Sync>;

pub(super) fn serve(file: Option<PathBuf>, dev: bool, format: Option<LogFormat>) -> anyhow::Result<ExitCode> {
    let load = move || {
        let dev = dev.then(|| ("TIELINE__SERVER__DEV".to_owned(), "true".to_owned()));
        Config::load_with(file.as_deref(), dev)
    };
    let config = load()?;
    let filtering = log(&config, format)?;
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let reloader = Reloader::new(config.clone(), Some(Box::new(load)), filtering);
        let server = Server::bind(config).await?.with_reloader(reloader.clone()).when_ready(|| supervisor(&[NotifyState::Ready]));
        let stop = CancellationToken::new();
        tokio::spawn(signals(stop.clone()));
        tokio::spawn(reloads(reloader));
        tokio::spawn(watchdog(server.pulse()));
        welcome(&server);
        server.run(stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Tells whoever supervises the process, if somebody does.
fn supervisor(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the supervisor cannot be told");
    }
}

fn filter(config: &Config) -> Result<EnvFilter, ConfigError> {
    let filter = EnvFilter::try_new(&config.log.level)
        .map_err(|error| ConfigError::Value { key: "log.level".into(), reason: format!("{error}; write info, debug or a filter") })?;
    // Libraries that would log frames, heads or addresses, and with them tokens and people's words, whatever the level.
    Ok(TALKATIVE.iter().fold(filter, |filter, library| match format!("{library}=off").parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }))
}

/// Begins to log. What is returned changes how much.
fn log(config: &Config, format: Option<LogFormat>) -> anyhow::Result<Filtering> {
    let log = tracing_subscriber::fmt().with_env_filter(filter(config)?).with_writer(std::io::stderr);
    Ok(match format.unwrap_or(config.log.format) {
        LogFormat::Text => {
            let log = log.with_target(false).with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |config| filter_by(config, |filter| handle.reload(filter)))
        }
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |config| filter_by(config, |filter| handle.reload(filter)))
        }
    })
}

fn filter_by<E: std::fmt::Display>(config: &Config, set: impl FnOnce(EnvFilter) -> Result<(), E>) {
    // The configuration was checked, and the subscriber lives as long as the process.
    match filter(config).map(set) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the log's level stays as it was"),
        Err(error) => tracing::error!(%error, "the log's level stays as it was"),
    }
}

fn listen(kind: SignalKind) -> Result<Signal, ()> {
    signal(kind).map_err(|error| tracing::error!(%error, "signals cannot be heard"))
}

/// SIGHUP: the configuration, the keys and the certificate are read anew. What comes of it is logged.
async fn reloads(reloader: Arc<Reloader>) {
    let Ok(mut hangup) = listen(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => supervisor(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "the supervisor cannot be told"),
        }
        drop(reloader.reload().await);
        supervisor(&[NotifyState::Ready]);
    }
}

/// Tells the supervisor that the process does its work, as often as it wants to hear that, while it does: tasks run, and the
/// store's writer answers. A full disk is no reason to be restarted.
async fn watchdog(pulse: Pulse) {
    let Some(within) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(within / 3);
    loop {
        tick.tick().await;
        if pulse.beats(within / 3).await {
            supervisor(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("the store does not answer; the supervisor is not told that all is well");
        }
    }
}

/// The first SIGTERM or SIGINT drains, the second ends at once.
async fn signals(stop: CancellationToken) {
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
        supervisor(&[NotifyState::Stopping]);
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
    let known: Vec<&str> = demo
        .iter()
        .flat_map(|account| {
            let passwords = account.agents.iter().filter_map(|agent| agent.password.as_ref());
            let keys = account.api_keys.iter().map(|key| &key.key);
            account.apps.iter().map(|app| &app.client_secret).chain(passwords).chain(keys).map(ExposeSecret::expose_secret)
        })
        .collect();
    let is_demo = |secret: &secrecy::SecretString| known.contains(&secret.expose_secret());
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
        for key in account
            .api_keys
            .iter()
            .filter(|key| is_demo(&key.key) && config.server.dialects.iter().any(|dialect| dialect == key.dialect.name()))
        {
            println!("  demo API key         account {}, dialect {}, key {}", account.id, key.dialect, key.key.expose_secret());
        }
    }
    if let Some(account) = config.accounts.first() {
        println!("Try it: tieline send --account {} --as consumer:ann --open \"hello\"", account.id);
    }
}
