//! The servers: where their programs are, how they are started and loaded.

use crate::{Sizes, Words, core, write};
use anyhow::{Context, bail};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tieline_bench::workload::Kind;

/// All there are, in the order in which they are measured.
pub(crate) const ALL: [&str; 11] =
    ["tieline", "limit", "nats", "jetstream", "mosquitto", "nchan", "ws", "socketio", "rabbitmq", "tieline-tls", "limit-tls"];

/// How long a server may take to listen. An Erlang one takes some time.
const START: Duration = Duration::from_secs(60);

/// How long a server has to end before it is killed.
const END: Duration = Duration::from_secs(10);

/// A server that can be started.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    program: PathBuf,
    /// Where its package's other files are.
    root: PathBuf,
}

/// A folder, ports and a certificate for one server.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    ports: [u16; 5],
}

impl Place {
    pub(crate) fn new(scratch: &Path) -> anyhow::Result<Self> {
        // All at once, so that they are different ones. Somebody may take one before the server does; then it says so.
        let free = [(); 5].map(|()| TcpListener::bind(("127.0.0.1", 0)));
        let mut ports = [0; 5];
        for (port, listener) in ports.iter_mut().zip(free) {
            *port = listener?.local_addr()?.port();
        }
        let folder = scratch.canonicalize()?.join(format!("{}-{}", std::process::id(), ports[0]));
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let place = Self { folder, ports };
        place.certify()?;
        Ok(place)
    }

    fn certify(&self) -> anyhow::Result<()> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        write(&self.file("cert.pem"), &made.cert.pem())?;
        write(&self.file("key.pem"), &made.signing_key.serialize_pem())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("compare: {}: {error}", self.folder.display());
        }
    }
}

/// Processes that end when this does.
#[derive(Debug, Default)]
pub(crate) struct Running {
    children: Vec<Child>,
    log: PathBuf,
}

impl Running {
    /// Starts a program on core 0, in a group of its own, and what it starts with it.
    fn start(&mut self, command: &mut Command) -> anyhow::Result<()> {
        use std::os::unix::process::CommandExt;
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.children.push(command.spawn().with_context(|| format!("{command:?}"))?);
        Ok(())
    }

    /// The end of what they said.
    pub(crate) fn said(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(600)..]).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let signal = |name: &str, child: &Child| {
            let group = format!("-{}", child.id());
            // A group that is gone already is what is wanted.
            let _ = Command::new("kill").args(["-s", name, "--", &group]).stderr(Stdio::null()).status();
        };
        for child in &mut self.children {
            signal("TERM", child);
            let began = Instant::now();
            while matches!(child.try_wait(), Ok(None)) && began.elapsed() < END {
                std::thread::sleep(Duration::from_millis(20));
            }
            // What is left of its group, too.
            signal("KILL", child);
            if let Err(error) = child.wait() {
                eprintln!("compare: a server did not end: {error}");
            }
        }
    }
}

/// A program that is installed, or unpacked; and where its package's files are.
fn find(unpacked: &Path, programs: &[&str]) -> anyhow::Result<(PathBuf, PathBuf)> {
    for root in [Path::new("/"), unpacked] {
        if let Some(program) = programs.iter().map(|program| root.join(program)).find(|program| program.exists()) {
            return Ok((program, root.to_owned()));
        }
    }
    bail!("{} is not installed", programs[0])
}

impl Server {
    /// Looks for what a server needs.
    pub(crate) fn find(name: &'static str, words: &Words, tools: &Path) -> anyhow::Result<Self> {
        let (program, root) = match name {
            "tieline" | "tieline-tls" => {
                (words.tieline.canonicalize().with_context(|| words.tieline.display().to_string())?, PathBuf::new())
            }
            "limit" | "limit-tls" => (tools.join("limit"), PathBuf::new()),
            "nats" | "jetstream" => find(&words.unpacked, &["usr/sbin/nats-server"])?,
            "mosquitto" => find(&words.unpacked, &["usr/sbin/mosquitto"])?,
            "nchan" => find(&words.unpacked, &["usr/sbin/nginx"])?,
            // Erlang's programs know where they are installed, and cannot be unpacked elsewhere.
            "rabbitmq" => find(Path::new("/"), &["usr/lib/rabbitmq/bin/rabbitmq-server"])?,
            _ => {
                if !words.configurations.join("node_modules/ws").exists() {
                    bail!("its npm packages are not installed");
                }
                find(Path::new("/"), &["usr/bin/node", "usr/local/bin/node"])?
            }
        };
        let server = Self { name, program, root };
        if name == "nchan" && !server.modules().join("ngx_nchan_module.so").exists() {
            bail!("nginx's module nchan is not installed");
        }
        Ok(server)
    }

    fn modules(&self) -> PathBuf {
        self.root.join("usr/lib/nginx/modules")
    }

    pub(crate) fn is_tieline(&self) -> bool {
        self.name.starts_with("tieline")
    }

    fn has_tls(&self) -> bool {
        self.name.ends_with("-tls")
    }

    /// Whether a workload says something of it. nchan, ws and Socket.IO keep nothing, so that they have nothing to ack.
    pub(crate) fn takes(&self, kind: Kind) -> bool {
        match self.name {
            "jetstream" => kind == Kind::Durable,
            "tieline-tls" | "limit-tls" => matches!(kind, Kind::Fanout | Kind::Many),
            "nats" | "nchan" | "ws" | "socketio" => kind != Kind::Durable,
            _ => true,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", core(0)]).arg(&self.program);
        if self.root != Path::new("/") && !self.root.as_os_str().is_empty() {
            command.env("LD_LIBRARY_PATH", self.root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)));
        }
        command
    }

    /// Starts it, and waits until it listens.
    pub(crate) async fn start(&self, kind: Kind, place: &Place, configurations: &Path) -> anyhow::Result<Running> {
        let mut running = Running { children: Vec::new(), log: place.file("log") };
        let configuration = |name: &str| -> anyhow::Result<String> {
            let file = configurations.join(name);
            let mut text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let ports = [("@PORT@", 0), ("@PLAIN@", 1), ("@OTHER@", 2)];
            for (word, number) in ports {
                text = text.replace(word, &place.ports[number].to_string());
            }
            text = text.replace("@FOLDER@", &place.folder.display().to_string());
            write(&place.file(name), &text.replace("@MODULES@", &self.modules().display().to_string()))?;
            Ok(place.text(name))
        };
        let mut command = self.command();
        command.current_dir(&place.folder);
        match self.name {
            "tieline" => drop(command.arg("serve").env("TIELINE__SERVER__LISTEN", place.address())),
            "tieline-tls" => {
                command.arg("serve").env("TIELINE__SERVER__TLS__LISTEN", place.address());
                command.env("TIELINE__SERVER__LISTEN", format!("127.0.0.1:{}", place.ports[1]));
                command.env("TIELINE__SERVER__TLS__CERT", place.file("cert.pem"));
                command.env("TIELINE__SERVER__TLS__KEY", place.file("key.pem"));
            }
            "limit" | "limit-tls" => {
                command.args(["--listen", &place.address()]);
                if self.has_tls() {
                    command.args(["--tls", &place.text("cert.pem"), &place.text("key.pem")]);
                }
                if kind == Kind::Durable {
                    command.args(["--durable", &place.text("journal")]);
                }
            }
            "nats" | "jetstream" => drop(command.args(["-c", &configuration("nats.conf")?])),
            "mosquitto" => drop(command.args(["-c", &configuration("mosquitto.conf")?])),
            "nchan" => drop(command.args(["-p", &place.folder.display().to_string(), "-c", &configuration("nchan.conf")?])),
            "rabbitmq" => {
                configuration("rabbitmq.conf")?;
                self.erlang(&mut command, &mut running, place)?;
            }
            _ => {
                command.arg(configurations.canonicalize()?.join(format!("{}.js", self.name)));
                command.arg(place.ports[0].to_string());
            }
        }
        running.start(&mut command)?;
        let began = Instant::now();
        while tokio::net::TcpStream::connect(place.address()).await.is_err() {
            let ended = running.children.last_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || began.elapsed() > START {
                bail!("it does not listen: {}", running.said());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(running)
    }

    /// What RabbitMQ needs: a name server of its own, which it would else start as a daemon, and every path below the folder.
    fn erlang(&self, command: &mut Command, running: &mut Running, place: &Place) -> anyhow::Result<()> {
        write(&place.file("plugins"), "[rabbitmq_web_stomp].\n")?;
        let names = place.ports[3].to_string();
        running.start(Command::new("epmd").args(["-address", "127.0.0.1", "-port", &names]))?;
        command
            .env("HOME", &place.folder)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", &names)
            .env("RABBITMQ_NODENAME", "bench@localhost")
            .env("RABBITMQ_DIST_PORT", place.ports[4].to_string())
            .env("RABBITMQ_MNESIA_BASE", place.file("mnesia"))
            .env("RABBITMQ_LOG_BASE", &place.folder)
            .env("RABBITMQ_PID_FILE", place.file("pid"))
            .env("RABBITMQ_CONFIG_FILE", place.file("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", place.file("plugins"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
        Ok(())
    }

    /// The commands that load it, one after another. Tieline's begin with its program.
    pub(crate) fn load(&self, kind: Kind, place: &Place, running: &Running, sizes: &Sizes) -> Vec<Vec<String>> {
        // The last that was started is the server; what it started itself is found by the generator.
        let pid = running.children.last().map_or(0, Child::id).to_string();
        let seconds = sizes.seconds.to_string();
        if self.is_tieline() {
            let scheme = if self.has_tls() { "https" } else { "http" };
            let mut words: Vec<String> = vec![self.program.display().to_string(), "bench".into(), "--json".into()];
            let numbers = sizes.publishers.map(|publishers| publishers.to_string()).join(",");
            let options = [
                ("--url", format!("{scheme}://{}", place.address())),
                ("--pid", pid),
                ("--seconds", seconds),
                ("--workload", kind.name().to_owned()),
                ("--subscribers", sizes.subscribers.to_string()),
                ("--conversations", sizes.conversations.to_string()),
                ("--connections", sizes.connections.to_string()),
                ("--publishers", numbers),
            ];
            words.extend(options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
            if self.has_tls() {
                words.extend(["--ca".to_owned(), place.text("cert.pem")]);
            }
            return vec![words];
        }
        let adapter = match (self.name, kind) {
            ("nats", _) => "nats",
            ("jetstream", _) => "jetstream",
            ("mosquitto", _) => "mqtt",
            ("nchan", _) => "nchan",
            ("socketio", _) => "socketio",
            ("rabbitmq", Kind::Durable) => "stomp-queue",
            ("rabbitmq", _) => "stomp",
            _ => "plain",
        };
        let mut words: Vec<String> =
            ["--adapter", adapter, "--address", &place.address(), "--pid", &pid, "--seconds", &seconds].map(str::to_owned).to_vec();
        if self.has_tls() {
            words.extend(["--ca".to_owned(), place.text("cert.pem")]);
        }
        let with = |size: usize| [words.clone(), vec![kind.name().to_owned(), size.to_string()]].concat();
        match kind {
            Kind::Fanout => vec![with(sizes.subscribers)],
            Kind::Many => vec![with(sizes.conversations)],
            Kind::Idle => vec![with(sizes.connections)],
            Kind::Durable => sizes.publishers.into_iter().map(with).collect(),
        }
    }
}
