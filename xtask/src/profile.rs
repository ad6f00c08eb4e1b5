//! `cargo xtask profile`: where the gateway's CPU time goes under load, as a table by part and as flame graphs.
//!
//! The gateway is built with frame pointers, so that `perf` sees whole call chains at little cost, runs on core 0 with a folder of
//! its own, and is loaded by `tieline bench` from core 1. Samples are taken by CPU time, so that one stands for the same in every
//! thread; with what the generator says that a delivery or a turn costs they compare over builds.

use crate::{Running, has, root, run, wait_until_ready};
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What makes flame graphs, as a tool: its licence is none that the tree of dependencies may have.
const INFERNO: &str = "=0.12.8";

/// Samples in a second of CPU time. Odd, so that nothing regular keeps in step with it.
const FREQUENCY: u32 = 1_999;

/// Deliveries after which a workload is under way.
const UNDER_WAY: u64 = 5_000;

const USAGE: &str = "usage: cargo xtask profile [--gateway FILE] [--seconds N] [--workloads fanout,many]";

/// The parts, in the order in which they are asked whether a call chain is theirs: what belongs to several is the first one's. A
/// chain is a part's if any of its functions has one of these in its name.
const PARTS: [(&str, &[&str]); 19] = [
    ("allocator", &["malloc", "_rjem_", "calloc", "realloc", "cfree", ";_int_free", "__libc_free", "unlink_chunk", ";free;", ";free "]),
    ("kernel: send", &["sys_sendto", "sys_sendmsg", "sys_writev", ";__send", ";send;", ";__libc_send", "tcp_sendmsg"]),
    ("kernel: recv", &["sys_recvfrom", "sys_recvmsg", ";recv;", ";__libc_recv", ";__recv"]),
    ("kernel: epoll", &["epoll_wait", "epoll_pwait", "epoll_ctl"]),
    ("store: sync to disk", &["fdatasync", "fsync"]),
    ("store: sweep, checkpoint", &["Sweep", "Writer::project", "Writer::carry_o", "checkpoint::", "sqlite::projection", "Checkpoint"]),
    ("store: commit", &["VdbeHalt", "vdbeCommit", "pagerWalFrames", "WalFrames", "sqlite3Wal", "Tail::append"]),
    ("store: decide", &["Writer::decide;", "Writer::transact", "Writer::commit", "domain::"]),
    ("store: answer, announce", &["Writer::publish", "Writer::step", "Writer::decide_all", "Writer::run", "gateway::announcer"]),
    ("store: read", &["sqlite::reader", "sqlite::row", "sqlite3"]),
    ("hub", &["tieline::hub::"]),
    ("parse", &["envelope::read", "::decode", "serde_json::de", "tieline_protocol::envelope"]),
    ("dialect", &["tieline::dialect::"]),
    ("session", &["tieline::session::", "tieline::gateway::"]),
    ("http, websocket", &["tieline::http::", "tungstenite", "hyper"]),
    ("runtime: wake other threads", &["futex", "eventfd", "::unpark"]),
    ("runtime", &["tokio", "std::sys", "parking_lot", "core::", "std::", "schedule"]),
    ("tieline: other", &["tieline"]),
    ("other", &[""]),
];

struct Words {
    gateway: Option<PathBuf>,
    seconds: u32,
    workloads: Vec<String>,
}

impl Words {
    fn read(words: &[String]) -> anyhow::Result<Self> {
        let mut all = Self { gateway: None, seconds: 8, workloads: vec!["fanout".into(), "many".into()] };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().context(USAGE)?;
            match word.as_str() {
                "--gateway" => all.gateway = Some(std::path::absolute(value)?),
                "--seconds" => all.seconds = value.parse().ok().filter(|seconds| (2..=600).contains(seconds)).context(USAGE)?,
                "--workloads" => all.workloads = value.split(',').map(str::to_owned).collect(),
                _ => bail!(USAGE),
            }
        }
        Ok(all)
    }
}

/// Builds, loads, samples, and prints.
pub(crate) fn profile(words: &[String]) -> anyhow::Result<()> {
    let words = Words::read(words)?;
    if !has("perf", "--version") || !has("taskset", "--version") {
        bail!("perf is missing: apt-get install linux-perf util-linux");
    }
    let built = build()?;
    let inferno = root().join("target/tools/bin");
    if !inferno.join("inferno-flamegraph").exists() {
        let mut install = Command::new(cargo());
        install.args(["install", "inferno", "--version", INFERNO, "--locked", "--quiet", "--root"]).arg(root().join("target/tools"));
        run(&mut install)?;
    }
    let out = root().join("target/bench");
    std::fs::create_dir_all(&out)?;
    let gateway = words.gateway.as_ref().unwrap_or(&built);
    for workload in &words.workloads {
        let profiled = Load { gateway, generator: &built, workload, seconds: words.seconds, out: &out, inferno: &inferno };
        profiled.profile().with_context(|| workload.clone())?;
    }
    Ok(())
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// A release build with frame pointers, in a folder of its own so that it does not replace the other.
fn build() -> anyhow::Result<PathBuf> {
    let folder = root().join("target/profile");
    let mut build = Command::new(cargo());
    build.args(["build", "--release", "-p", "tieline", "--bin", "tieline", "--target-dir"]).arg(&folder);
    // The C of SQLite, too.
    build.env("RUSTFLAGS", "-C force-frame-pointers=yes").env("CFLAGS", "-fno-omit-frame-pointer");
    run(build.current_dir(root()))?;
    Ok(folder.join("release/tieline"))
}

struct Load<'w> {
    gateway: &'w Path,
    generator: &'w Path,
    workload: &'w str,
    seconds: u32,
    out: &'w Path,
    inferno: &'w Path,
}

impl Load<'_> {
    fn profile(&self) -> anyhow::Result<()> {
        let home = self.out.join("profiled");
        if home.exists() {
            std::fs::remove_dir_all(&home)?;
        }
        std::fs::create_dir_all(&home)?;
        let address = format!("127.0.0.1:{}", std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let url = format!("http://{address}");
        let mut serve = Command::new("taskset");
        serve.args(["-c", "0"]).arg(self.gateway).arg("serve").current_dir(&home).stdout(Stdio::null()).stderr(Stdio::null());
        let serving = serve.env("TIELINE__SERVER__LISTEN", &address).env("TIELINE__LIMITS__TOKEN_CALLS_PER_MINUTE", "1000000").spawn()?;
        // What `taskset` starts takes its place.
        let pid = serving.id().to_string();
        let serving = Running(serving);
        wait_until_ready(self.generator, &home, &url)?;
        let mut load = Command::new("taskset");
        load.args(["-c", "1"]).arg(self.generator).args(["bench", "--workload", self.workload, "--url", &url, "--pid", &pid, "--json"]);
        load.args(["--seconds", &self.seconds.to_string()]).current_dir(&home).stdout(Stdio::piped());
        let mut load = load.spawn()?;
        let sampled = self.sample(&mut load, &address, &pid, &home);
        let output = load.wait_with_output()?;
        sampled?;
        drop(serving);
        if !output.status.success() {
            bail!("the load was not carried well: {}", output.status);
        }
        let said: Value = serde_json::from_slice(&output.stdout)?;
        for (place, phase) in self.phases().iter().enumerate() {
            let folded = self.fold(&home, phase)?;
            self.draw(&folded, phase)?;
            print(phase, &folded, cost(&said, place));
        }
        std::fs::remove_dir_all(&home)?;
        Ok(())
    }

    /// What is measured one after the other, each for as many seconds, and sampled by itself.
    fn phases(&self) -> &'static [&'static str] {
        match self.workload {
            "fanout" => &["fanout-1", "fanout-64"],
            "many" => &["many-64"],
            "durable" => &["durable-1"],
            _ => &["load"],
        }
    }

    /// Samples the gateway while it is under load.
    fn sample(&self, load: &mut Child, address: &str, pid: &str, home: &Path) -> anyhow::Result<()> {
        let (first, came) = (deliveries(address)?, Instant::now());
        while deliveries(address)? < first + UNDER_WAY {
            if load.try_wait()?.is_some() || came.elapsed() > Duration::from_secs(120) {
                bail!("the gateway did not come under load");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let (began, each) = (Instant::now(), Duration::from_secs(self.seconds.into()));
        for (place, phase) in (0_u32..).zip(self.phases()) {
            // Not at the edges, where one goes over into the next.
            let edge = Duration::from_millis(500);
            std::thread::sleep((each * place + edge).saturating_sub(began.elapsed()));
            let mut perf = Command::new("perf");
            perf.args(["record", "-q", "-e", "cpu-clock", "-F", &FREQUENCY.to_string(), "--call-graph", "fp", "-p", pid, "-o"]);
            let time = (each - 2 * edge).as_secs().to_string();
            run(perf.arg(home.join(phase)).args(["--", "sleep", &time]))?;
        }
        Ok(())
    }

    /// The call chains, one a line with how much time was found in it.
    fn fold(&self, home: &Path, phase: &str) -> anyhow::Result<PathBuf> {
        let folded = self.out.join(format!("profile-{phase}.folded"));
        let mut script = Command::new("perf");
        script.args(["script", "--no-inline", "-i"]).arg(home.join(phase)).stderr(Stdio::null());
        let mut script = script.stdout(Stdio::piped()).spawn()?;
        let lines = script.stdout.take().context("perf has no output")?;
        let mut collapse = Command::new(self.inferno.join("inferno-collapse-perf"));
        run(collapse.arg("--quiet").stdin(lines).stdout(File::create(&folded)?))?;
        script.wait()?;
        Ok(folded)
    }

    fn draw(&self, folded: &Path, phase: &str) -> anyhow::Result<()> {
        let graph = self.out.join(format!("profile-{phase}.svg"));
        let mut draw = Command::new(self.inferno.join("inferno-flamegraph"));
        draw.args(["--title", &format!("tieline, {phase}")]).arg(folded);
        run(draw.stdout(File::create(&graph)?))?;
        println!("\nflame graph: {}", graph.display());
        Ok(())
    }
}

/// The CPU time of one delivery, or of one turn or ack, in microseconds, as the generator found it for a phase.
fn cost(said: &Value, place: usize) -> Option<f64> {
    let outcome = said["workloads"].get(0)?;
    outcome["windows"].get(place).unwrap_or(outcome)["cpu"].as_f64()
}

/// How many deliveries the gateway has counted.
fn deliveries(address: &str) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let line = text.lines().find_map(|line| line.strip_prefix("tieline_deliveries_total "));
    Ok(line.and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Whose a call chain is, `thread;outermost;…;innermost`.
fn part_of(chain: &str) -> &'static str {
    // What a thread is called says nothing of what it does.
    let chain = format!("{};", chain.find(';').map_or("", |end| &chain[end..]));
    PARTS.iter().find(|(_, names)| names.iter().any(|name| chain.contains(name))).map_or("other", |(part, _)| part)
}

fn print(phase: &str, folded: &Path, cost: Option<f64>) {
    let mut parts = BTreeMap::<&str, u64>::new();
    let lines = File::open(folded).map(|file| BufReader::new(file).lines().map_while(Result::ok));
    for line in lines.into_iter().flatten() {
        let Some((chain, time)) = line.rsplit_once(' ') else { continue };
        *parts.entry(part_of(chain)).or_default() += time.parse::<u64>().unwrap_or(0);
    }
    let all: u64 = parts.values().sum();
    let share = |time: u64| time as f64 / all.max(1) as f64;
    let each = |time: u64| cost.map_or_else(|| "-".to_owned(), |cost| format!("{:.3}", cost * share(time)));
    // A sample of this clock weighs the nanoseconds that it stands for.
    println!("\n{phase}: {:.1} s of CPU\n\n| Part | share, % | us each |\n|---|---:|---:|", all as f64 / 1e9);
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    for (part, time) in parts {
        println!("| {part} | {:.1} | {} |", 100.0 * share(time), each(time));
    }
    println!("| all | 100 | {} |", each(all));
}

#[cfg(test)]
mod tests {
    use super::part_of;

    #[test]
    fn a_chain_is_the_first_parts_that_knows_one_of_its_functions() {
        for (chain, part) in [
            ("tieline-store;tieline::store::sqlite::writer::Writer::step;sqlite3_step;sqlite3VdbeHalt;fdatasync", "store: sync to disk"),
            (
                "tieline-store;tieline::store::sqlite::writer::Writer::decide_all;tieline::store::sqlite::writer::Writer::decide;x",
                "store: decide",
            ),
            ("tokio-rt;tieline::hub::Hub::serve;tieline::http::wire::send;__libc_send;x64_sys_sendto", "kernel: send"),
            ("tokio-rt;tieline::session::Session<C>::accept;tieline_protocol::envelope::read;malloc", "allocator"),
            ("tokio-rt;tieline::session::Session<C>::accept;tieline_protocol::envelope::read", "parse"),
            ("tokio-rt;tokio::runtime::park;epoll_wait", "kernel: epoll"),
            ("tokio-rt;free", "allocator"),
            ("tokio-rt;[unknown]", "other"),
        ] {
            assert_eq!(part_of(chain), part, "{chain}");
        }
    }
}
