//! What the benchmarks share: a gateway of their own on core 0, what it costs, its tokens, clients that cost little, and sums.
//!
//! The clients are bare on purpose. They share core 1 with nothing but themselves, and a generator that is slower than what it
//! measures measures itself. They understand what the gateway and the limits beside it answer, and no more of HTTP and WebSocket.

#![allow(dead_code, unused_imports, reason = "each benchmark uses a part of it")]
#![allow(unreachable_pub, reason = "it is a part of each benchmark")]

mod client;
mod fill;
mod gateway;
mod meter;

pub use client::{
    Http, Opened, Socket, Writer, open_conversations, pipeline, publish_in_turns, publish_request, publish_text, read_sequences, request,
};
pub use fill::fill;
pub use gateway::{ACCOUNT, ADMIN, APP, Gateway, Setup};
pub use meter::{Cpu, Memory, Spread, median, table, written};

use std::future::Future;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What was said on the command line.
pub struct Words(Vec<String>);

impl Words {
    pub fn read() -> Self {
        Self(std::env::args().collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|word| word == name)
    }

    /// The word behind another.
    pub fn after(&self, name: &str) -> Option<&str> {
        let place = self.0.iter().position(|word| word == name)?;
        self.0.get(place + 1).map(String::as_str)
    }

    pub fn number(&self, name: &str, default: usize) -> usize {
        self.after(name).map_or(default, |word| word.parse().unwrap_or_else(|_| panic!("{name} {word}: no number")))
    }
}

/// Runs a benchmark on one thread.
pub fn run(work: impl Future<Output = ()>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

/// A program on core 0.
pub fn pinned(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", program]).args(words).stdin(Stdio::null());
    command
}

/// A part of this benchmark as a program of its own, on core 0.
pub fn own(words: &[&str]) -> Command {
    pinned(std::env::current_exe().unwrap().to_str().unwrap(), words)
}

/// Waits for something that will be so; a benchmark for which it never is has failed.
pub async fn until(what: &str, passes: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !passes().await {
        assert!(began.elapsed() < Duration::from_secs(300), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Microseconds for each of so many.
pub fn micros_each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}
