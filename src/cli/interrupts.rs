//! Being told to end: Ctrl-C and SIGTERM, none of which is lost.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What tells a command to end, heard from when this is made. One that comes while something else is being done is kept:
/// waiting for `ctrl_c()` anew each time would miss it.
#[derive(Debug)]
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits until the command is told to end, unless it was since this last returned.
    pub(super) async fn next(&mut self) {
        // Neither ends before the runtime does.
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;
    use tokio::time::timeout;

    fn send(signal: &str) {
        let pid = std::process::id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    #[tokio::test]
    async fn a_signal_that_comes_while_nobody_waits_for_it_is_kept() {
        let mut interrupts = Interrupts::listen().unwrap();
        for (name, kind) in [("-INT", SignalKind::interrupt()), ("-TERM", SignalKind::terminate())] {
            let mut witness = signal(kind).unwrap();
            send(name);
            // The process has had it, and told all who listen.
            witness.recv().await;
            timeout(Duration::from_mins(1), interrupts.next()).await.expect(name);
        }
    }
}
