//! Starts Tieline, the limit and other servers one after another on core 0, loads each from core 1, and prints medians side by
//! side. `cargo xtask bench` builds and fetches what it needs and runs it.

mod peers;
mod tables;

use anyhow::{Context, bail};
use clap::Parser;
use peers::{ALL, Place, Server};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use tieline_bench::report::Outcome;
use tieline_bench::workload::Kind;
use tokio::process::Command;

/// Compares servers.
#[derive(Debug, Parser)]
struct Words {
    /// Short measurements, one round and fewer connections: to see that it works
    #[arg(long)]
    quick: bool,
    /// Which servers [default: all that are there]
    #[arg(long, value_delimiter = ',', value_parser = ALL)]
    peers: Vec<String>,
    /// Which workloads
    #[arg(long, value_delimiter = ',', value_enum, default_value = "fanout,many,idle,durable")]
    workloads: Vec<Kind>,
    /// How often each is measured [default: 3, with --quick 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each measurement takes, in seconds [default: 4, with --quick 1]
    #[arg(long)]
    seconds: Option<f64>,
    /// Where each result is written to, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Tieline's program
    #[arg(long, value_name = "FILE")]
    tieline: PathBuf,
    /// The folder that servers' packages were unpacked to
    #[arg(long, value_name = "FOLDER")]
    unpacked: PathBuf,
    /// The folder with the servers' configurations and their npm packages
    #[arg(long, value_name = "FOLDER")]
    configurations: PathBuf,
    /// Where servers keep their data, in folders that are removed; on the disk that is to be measured
    #[arg(long, value_name = "FOLDER")]
    scratch: PathBuf,
}

/// How large it is.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sizes {
    subscribers: usize,
    conversations: usize,
    connections: usize,
    publishers: [usize; 3],
    seconds: f64,
}

/// What a server did in one round.
#[derive(Debug, Serialize)]
struct Measured {
    round: usize,
    server: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Connections and files of the largest server.
const FILES: u64 = 30_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let words = Words::parse();
    // Servers and generators inherit it.
    rlimit::increase_nofile_limit(FILES)?;
    let mut measured = Vec::new();
    let mut stopped = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // Whatever is left at an end like these is ended by the guards.
    let ended = tokio::select! {
        ended = compare(&words, &mut measured) => ended,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = stopped.recv() => Err(anyhow::anyhow!("stopped")),
    };
    print!("{}", tables::markdown(&measured));
    if let Some(file) = &words.out {
        std::fs::write(file, serde_json::to_string_pretty(&measured)?).with_context(|| file.display().to_string())?;
    }
    let failed = ended?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Measures everything; whether something failed.
async fn compare(words: &Words, measured: &mut Vec<Measured>) -> anyhow::Result<bool> {
    let seconds = words.seconds.unwrap_or(if words.quick { 1.0 } else { 4.0 });
    let (subscribers, conversations, connections) = if words.quick { (200, 200, 1000) } else { (1000, 1000, 5000) };
    let sizes = Sizes { subscribers, conversations, connections, publishers: [1, 64, 512], seconds };
    std::fs::create_dir_all(&words.scratch)?;
    if is_in_memory(&words.scratch) {
        eprintln!("compare: {} is in memory; nothing that is said of durability holds there", words.scratch.display());
    }
    let tools = std::env::current_exe()?.parent().context("this program is in no folder")?.to_owned();
    let (mut servers, mut failed) = (Vec::new(), false);
    for name in ALL.into_iter().filter(|name| words.peers.is_empty() || words.peers.iter().any(|wanted| wanted == name)) {
        match Server::find(name, words, &tools) {
            Ok(server) => servers.push(server),
            Err(error) => eprintln!("compare: {name} is left out: {error:#}"),
        }
    }
    for round in 1..=words.rounds.unwrap_or(if words.quick { 1 } else { 3 }) {
        for kind in &words.workloads {
            for server in servers.iter().filter(|server| server.takes(*kind)) {
                eprintln!("compare: round {round}, {}, {}", kind.name(), server.name);
                match measure(words, &tools, server, *kind, &sizes).await {
                    Ok(outcomes) => {
                        let each = outcomes.into_iter().map(|outcome| Measured { round, server: server.name.to_owned(), outcome });
                        measured.extend(each);
                    }
                    Err(error) => {
                        eprintln!("compare: {}, {}: {error:#}", server.name, kind.name());
                        failed = true;
                    }
                }
            }
        }
    }
    Ok(failed)
}

/// Starts a server on a folder of its own, runs a workload, and ends it.
async fn measure(words: &Words, tools: &Path, server: &Server, kind: Kind, sizes: &Sizes) -> anyhow::Result<Vec<Outcome>> {
    let place = Place::new(&words.scratch)?;
    let running = server.start(kind, &place, &words.configurations).await?;
    let mut outcomes = Vec::new();
    for words in server.load(kind, &place, &running, sizes) {
        let mut load = Command::new("taskset");
        let program = if server.is_tieline() { words_program(&words) } else { tools.join("load") };
        load.args(["-c", core(1)]).arg(program).args(&words[usize::from(server.is_tieline())..]);
        let load = load.current_dir(&place.folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = load.output().await.context("taskset")?;
        if !output.status.success() {
            bail!("{}{}", String::from_utf8_lossy(&output.stderr), running.said());
        }
        outcomes.extend(found(&output.stdout)?);
    }
    Ok(outcomes)
}

fn words_program(words: &[String]) -> PathBuf {
    words.first().map(PathBuf::from).unwrap_or_default()
}

/// What a generator printed: one outcome, or those of `tieline bench`.
fn found(output: &[u8]) -> anyhow::Result<Vec<Outcome>> {
    let value: serde_json::Value = serde_json::from_slice(output).context("the generator printed no JSON")?;
    match value.get("workloads") {
        Some(serde_json::Value::Array(all)) => all.iter().map(|one| Ok(serde_json::from_value(one.clone())?)).collect(),
        _ => Ok(vec![serde_json::from_value(value)?]),
    }
}

/// The core with this number, or the last there is.
fn core(number: usize) -> &'static str {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    if number < count { ["0", "1"][number] } else { "0" }
}

/// Whether a folder is lost when the machine is switched off.
fn is_in_memory(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let under = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?)).filter(|(at, _)| folder.starts_with(at))
    });
    under.max_by_key(|(at, _)| at.len()).is_some_and(|(_, kind)| matches!(kind, "tmpfs" | "ramfs"))
}

/// Writes a private file.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
