//! Runs one workload against a server of any kind there is an adapter for, and prints what it found as JSON.

use anyhow::Context;
use clap::{Parser, ValueEnum};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tieline_bench::adapter::Adapter;
use tieline_bench::adapters::{Mqtt, Nats, Nchan, Plain, SocketIo, Stomp};
use tieline_bench::engine::{PATIENCE, Target};
use tieline_bench::meter::Processes;
use tieline_bench::report::Outcome;
use tieline_bench::workload::{Bench, Unwatched, Workload};
use tokio_rustls::TlsConnector;

/// Runs one workload against one server.
#[derive(Debug, Parser)]
struct Words {
    /// What kind of server it is
    #[arg(long, value_enum)]
    adapter: Kind,
    /// Where it is
    #[arg(long)]
    address: SocketAddr,
    /// With TLS: a PEM file with the CA that signed its certificate for `localhost`
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Its process, for CPU and memory; children are included
    #[arg(long = "pid")]
    pids: Vec<u32>,
    /// How long each measurement takes
    #[arg(long, default_value = "5")]
    seconds: f64,
    /// What is measured
    #[command(subcommand)]
    workload: Measured,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Plain,
    Nats,
    Jetstream,
    Mqtt,
    Nchan,
    Socketio,
    Stomp,
    StompQueue,
}

#[derive(Debug, clap::Subcommand)]
enum Measured {
    /// One publisher, many subscribers
    Fanout {
        #[arg(default_value = "1000")]
        subscribers: usize,
        #[arg(default_value = "20000")]
        rate: f64,
    },
    /// Many conversations, each with one publisher and two subscribers
    Many {
        #[arg(default_value = "1000")]
        conversations: usize,
        #[arg(default_value = "64")]
        in_flight: usize,
    },
    /// Connections that are there
    Idle {
        #[arg(default_value = "5000")]
        connections: usize,
    },
    /// Publishers that wait for their acks
    Durable {
        #[arg(default_value = "64")]
        publishers: usize,
    },
}

impl Measured {
    fn workload(&self) -> Workload {
        match *self {
            Self::Fanout { subscribers, rate } => Workload::Fanout { subscribers, rate },
            Self::Many { conversations, in_flight } => Workload::Many { conversations, in_flight },
            Self::Idle { connections } => Workload::Idle { connections },
            Self::Durable { publishers } => Workload::Durable { publishers, keys: false },
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let words = Words::parse();
    // The default provider is there already if this fails.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&words))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(if outcome.bad() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(words: &Words) -> anyhow::Result<Outcome> {
    match words.adapter {
        Kind::Plain => run_with(words, Plain).await,
        Kind::Nats => run_with(words, Nats { jetstream: false }).await,
        Kind::Jetstream => run_with(words, Nats { jetstream: true }).await,
        Kind::Mqtt => run_with(words, Mqtt).await,
        Kind::Nchan => run_with(words, Nchan).await,
        Kind::Socketio => run_with(words, SocketIo).await,
        Kind::Stomp => run_with(words, Stomp { durable: false }).await,
        Kind::StompQueue => run_with(words, Stomp { durable: true }).await,
    }
}

async fn run_with(words: &Words, adapter: impl Adapter) -> anyhow::Result<Outcome> {
    let tls = words.ca.as_ref().map(|file| -> anyhow::Result<_> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file).with_context(|| file.display().to_string())?)?;
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok((TlsConnector::from(Arc::new(config)), ServerName::try_from("localhost")?))
    });
    let target = Target { address: words.address, authority: words.address.to_string(), tls: tls.transpose()? };
    let meter = Processes(words.pids.clone());
    let time = Duration::from_secs_f64(words.seconds);
    let bench = Bench { adapter: Arc::new(adapter), target, meter: &meter, watch: &Unwatched, time, patience: PATIENCE };
    Ok(bench.run(&words.workload.workload()).await?)
}
