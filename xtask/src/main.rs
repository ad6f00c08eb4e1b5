//! `cargo xtask test [FILTER …]`: fetches what the tests need, runs every test, and repeats at the end what was skipped
//! and which figures were measured. `cargo xtask screenshots`: makes the pictures in `docs/images` anew. `cargo xtask bench`:
//! measures Tieline beside a server that does as little as one can, and beside others. `cargo xtask profile`: shows where its CPU
//! time goes.

mod profile;

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match arguments.next().as_deref() {
        Some("test") => test(&arguments.collect::<Vec<_>>()),
        Some("screenshots") => screenshots(),
        Some("bench") => bench(&arguments.collect::<Vec<_>>()),
        Some("profile") => profile::profile(&arguments.collect::<Vec<_>>()),
        _ => {
            eprintln!("usage: cargo xtask test [FILTER …] | screenshots | bench [--help] | profile [--gateway FILE]");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    // The manifest of this crate lies one below.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new(".")).to_owned()
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| shown.clone())?;
    if status.success() { Ok(()) } else { bail!("{shown}: {status}") }
}

/// Whether a program can be started.
fn has(program: &str, flag: &str) -> bool {
    Command::new(program).arg(flag).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// Programs that suites need, each with the flag that it answers and Debian's packages that bring it.
const PROGRAMS: [(&str, &str, &[&str]); 7] = [
    ("strace", "-V", &["strace"]),
    ("node", "--version", &["nodejs"]),
    ("npm", "--version", &["npm"]),
    ("python3", "--version", &["python3", "python3-venv"]),
    ("curl", "--version", &["curl"]),
    ("chromium", "--version", &["chromium"]),
    ("adduser", "--version", &["adduser"]),
];

/// Programs that packaging is tested with, each with the packages of Debian that it is unpacked from. They are not installed:
/// that would start daemons. HAProxy's libraries are seldom there.
const UNPACKED: [(&str, &[&str]); 4] = [
    ("usr/sbin/nginx", &["nginx"]),
    ("usr/sbin/haproxy", &["haproxy", "liblua5.3-0", "libopentracing1", "libopentracing-c-wrapper0"]),
    ("usr/bin/caddy", &["caddy"]),
    ("usr/bin/promtool", &["prometheus"]),
];

/// Servers that Tieline is measured beside, each with the packages of Debian that it is unpacked from where it is not installed.
/// RabbitMQ is not among them: Erlang knows where it is installed.
const PEERS: [(&str, &[&str]); 3] = [
    ("usr/sbin/nats-server", &["nats-server"]),
    ("usr/sbin/mosquitto", &["mosquitto", "libmosquitto1", "libcjson1", "libdlt2", "libwrap0"]),
    ("usr/lib/nginx/modules/ngx_nchan_module.so", &["libnginx-mod-nchan", "nginx"]),
];

/// What makes the Debian package.
const CARGO_DEB: &str = "=3.8.0";

/// Puts into `target/tools` what packaging is tested with. Whether all of it is there.
fn fetch_tools() -> bool {
    let tools = root().join("target/tools");
    let deb = tools.join("bin/cargo-deb");
    if !deb.exists() {
        let mut install = Command::new("cargo");
        install.args(["install", "cargo-deb", "--version", CARGO_DEB, "--locked", "--quiet", "--root"]).arg(&tools);
        warn(run(&mut install), "cargo-deb");
    }
    let debian = tools.join("debian");
    for (program, packages) in UNPACKED.iter().filter(|(program, _)| !debian.join(program).exists()) {
        warn(unpack(&tools.join("packages"), &debian, packages), program);
    }
    let hadolint = root().join("tests/clients/.venv/bin/hadolint");
    deb.exists()
        && hadolint.exists()
        && UNPACKED.iter().all(|(program, _)| debian.join(program).exists())
        && has("systemd-analyze", "--version")
}

/// Unpacks Debian's packages into a folder.
fn unpack(from: &Path, to: &Path, packages: &[&str]) -> anyhow::Result<()> {
    // Empty, so that what is found in it afterwards is what was asked for.
    if from.exists() {
        std::fs::remove_dir_all(from)?;
    }
    std::fs::create_dir_all(from)?;
    run(Command::new("apt-get").args(["download", "-qq"]).args(packages).current_dir(from))?;
    for package in std::fs::read_dir(from)? {
        run(Command::new("dpkg-deb").arg("--extract").arg(package?.path()).arg(to))?;
    }
    Ok(())
}

/// Fetches what is missing. What cannot be had is said here, and its suites report themselves as skipped.
/// Whether every client program is there.
fn fetch() -> bool {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, flag, _)| !has(program, flag)).collect();
    if !missing.is_empty() {
        let packages = missing.iter().flat_map(|(_, _, packages)| packages.iter());
        if is_root() && has("apt-get", "--version") {
            let installed = run(Command::new("apt-get").arg("update").arg("-qq"))
                .and_then(|()| run(Command::new("apt-get").args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages)));
            warn(installed, "packages");
        } else {
            let names: Vec<_> = packages.copied().collect();
            eprintln!("xtask: install {} to run every suite", names.join(", "));
        }
    }
    let clients = root().join("tests/clients");
    let has_npm = fetch_npm(&clients);
    // Vendors' clients want packages as old as themselves, so each has an environment of its own.
    let environments = [
        (".venv", "requirements.txt"),
        (".venv-dixa", "dixa.txt"),
        (".venv-tap-dixa", "tap_dixa.txt"),
        (".venv-ultracart", "ultracart.txt"),
    ];
    let has_python = environments.map(|(venv, requirements)| fetch_python(&clients.join(venv), &clients.join(requirements)));
    has_npm && has_python == [true; 4] && has("chromium", "--version")
}

/// Installs Python packages into an environment. Whether they are there.
fn fetch_python(venv: &Path, requirements: &Path) -> bool {
    let mark = venv.join("installed");
    if !fresh(&mark, requirements) {
        let made = run(Command::new("python3").args(["-m", "venv"]).arg(venv))
            .and_then(|()| run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(requirements)))
            .and_then(|()| Ok(std::fs::write(&mark, "")?));
        warn(made, "Python packages");
    }
    fresh(&mark, requirements)
}

/// Whether a file is at least as new as another.
fn fresh(made: &Path, from: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    time(made).is_some_and(|made| time(from).is_some_and(|from| made >= from))
}

/// Installs the npm packages of a folder. Whether they are there.
fn fetch_npm(folder: &Path) -> bool {
    let (made, lock) = (folder.join("node_modules/.package-lock.json"), folder.join("package-lock.json"));
    if !fresh(&made, &lock) {
        // The browser is Debian's; one of npm's own would be downloaded in vain.
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund"]).env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1").current_dir(folder);
        warn(run(&mut npm), "npm packages");
    }
    fresh(&made, &lock)
}

fn warn(done: anyhow::Result<()>, what: &str) {
    if let Err(error) = done {
        eprintln!("xtask: {what} cannot be fetched: {error:#}");
    }
}

/// Lines that must not be lost in the tests' output: suites that were skipped, and figures.
fn is_worth_repeating(line: &str) -> bool {
    [
        "SKIPPED ",
        "crash: ",
        "syncs: ",
        "tokens: ",
        "expiry: ",
        "ownership: ",
        "fanout: ",
        "bad input: ",
        "routing: ",
        "catalogue: ",
        "openapi: ",
        "webhooks: ",
        "backup: ",
        "demo: ",
        "package: ",
        "unit: ",
        "ok ",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

/// A process that ends when this does.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("xtask: the gateway did not end: {error}");
        }
    }
}

/// Waits for a gateway that was just started.
fn wait_until_ready(program: &Path, home: &Path, url: &str) -> anyhow::Result<()> {
    let is_ready =
        || Command::new(program).args(["health", "--url", url]).current_dir(home).output().is_ok_and(|output| output.status.success());
    let began = std::time::Instant::now();
    while !is_ready() {
        if began.elapsed().as_secs() > 30 {
            bail!("the gateway did not become ready");
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Ok(())
}

/// Starts a gateway on a folder of its own, and photographs its console.
fn screenshots() -> anyhow::Result<()> {
    if !fetch() {
        bail!("Node, its packages or Chromium are missing");
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    run(Command::new(cargo).args(["build", "--bin", "tieline"]).current_dir(root()))?;
    let home = root().join("target/screenshots");
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    std::fs::create_dir_all(&home)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let program = root().join("target/debug/tieline");
    let gateway = Command::new(&program).arg("serve").current_dir(&home).env("TIELINE__SERVER__LISTEN", &address).spawn()?;
    let _gateway = Running(gateway);
    let url = format!("http://{address}");
    wait_until_ready(&program, &home, &url)?;
    run(Command::new("node").arg("console_shots.mjs").current_dir(root().join("tests/clients")).env("TIELINE_HTTP", &url))
}

/// Builds what measures and what is measured, fetches the servers to compare with, and hands over.
fn bench(words: &[String]) -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    run(Command::new(cargo).args(["build", "--release", "-p", "tieline", "-p", "tieline-bench"]).current_dir(root()))?;
    let (tools, built, peers) = (root().join("target/tools"), root().join("target/release"), root().join("bench/peers"));
    let unpacked = tools.join("debian");
    if !words.iter().any(|word| word == "--help") {
        let is_there = |program: &str| Path::new("/").join(program).exists() || unpacked.join(program).exists();
        for (program, packages) in PEERS.iter().filter(|(program, _)| !is_there(program)) {
            warn(unpack(&tools.join("packages"), &unpacked, packages), program);
        }
        // Without them their servers say so themselves.
        fetch_npm(&peers);
    }
    let mut compare = Command::new(built.join("compare"));
    compare.arg("--tieline").arg(built.join("tieline")).arg("--unpacked").arg(&unpacked).arg("--configurations").arg(&peers);
    run(compare.arg("--scratch").arg(root().join("target/bench")).args(words))
}

fn test(filter: &[String]) -> anyhow::Result<()> {
    let has_clients = fetch();
    let has_tools = fetch_tools();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    // With every feature: what a build without one lacks, the lints before this have compiled.
    command
        .args(["test", "--workspace", "--features", "s3", "--", "--show-output"])
        .args(filter)
        .current_dir(root())
        .stdout(Stdio::piped());
    if has_clients {
        // From here on a client that is missing is a failure.
        command.env("TIELINE_CLIENTS", "1");
    }
    if has_tools && has_clients {
        command.env("TIELINE_TOOLS", "1");
    }
    let mut child = command.spawn().context("cargo test")?;
    let output = child.stdout.take().context("the tests have no output")?;
    let mut repeated = Vec::new();
    let mut stdout = std::io::stdout();
    for line in BufReader::new(output).lines() {
        let line = line?;
        writeln!(stdout, "{line}")?;
        if is_worth_repeating(&line) {
            repeated.push(line);
        }
    }
    let status = child.wait()?;
    println!("\nFigures, and what was skipped:");
    for line in repeated {
        println!("  {line}");
    }
    if status.success() { Ok(()) } else { bail!("tests failed: {status}") }
}
