//! The server's CPU time and memory.

use futures::future::BoxFuture;
use std::collections::{BTreeSet, HashMap};
use std::fs;

/// Reads what a server has used.
pub trait Meter: std::fmt::Debug + Send + Sync {
    /// CPU time so far, if it is known.
    fn cpu(&self) -> BoxFuture<'_, Option<Cpu>>;

    /// Memory now, in bytes, if it is known.
    fn memory(&self) -> BoxFuture<'_, Option<u64>>;
}

/// CPU time so far, in nanoseconds, of each thread: one that ends in between takes only its own with it.
#[derive(Debug, Clone, Default)]
pub struct Cpu {
    threads: HashMap<u32, u64>,
    /// How much it may be off.
    rounding: u64,
}

/// A difference of two readings says something if it is so many times what they may be off.
const CERTAIN: u64 = 5;

impl Cpu {
    /// Of a whole process, counted in full seconds.
    #[must_use]
    pub fn seconds(seconds: u64) -> Self {
        Self { threads: HashMap::from([(0, seconds * SECOND)]), rounding: SECOND }
    }

    /// Microseconds since an earlier reading, for each of so many operations; nothing if the readings are too coarse for that.
    #[must_use]
    pub fn each(&self, since: &Self, operations: u64) -> Option<f64> {
        let of = |thread: &u32| since.threads.get(thread).copied().unwrap_or(0);
        let used: u64 = self.threads.iter().map(|(thread, now)| now.saturating_sub(of(thread))).sum();
        (used >= self.rounding * CERTAIN).then(|| used as f64 / 1e3 / operations.max(1) as f64)
    }
}

const SECOND: u64 = 1_000_000_000;

/// Processes of this machine, with their children; or none, of which nothing is known.
#[derive(Debug, Clone, Default)]
pub struct Processes(pub Vec<u32>);

impl Processes {
    /// The one of this name that listens on a port of this machine, if there is one and we may look at it. A proxy in front of
    /// it has another name.
    #[must_use]
    pub fn listening(name: &str, port: u16) -> Option<Self> {
        let sockets: Vec<String> = ["tcp", "tcp6"].into_iter().flat_map(|table| listeners(table, port)).collect();
        let processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let listens = |process: &u32| {
            let is_named = fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm.trim_end() == name);
            is_named && files(*process).any(|file| sockets.contains(&file))
        };
        let found: Vec<u32> = processes.filter(listens).collect();
        (found.len() == 1).then_some(Self(found))
    }

    fn all(&self) -> BTreeSet<u32> {
        let mut all = BTreeSet::new();
        let mut found = self.0.clone();
        while let Some(process) = found.pop() {
            if all.insert(process) {
                found.extend(threads(process).iter().flat_map(|thread| children(process, *thread)));
            }
        }
        all
    }
}

/// Sockets that listen on a port, as a descriptor's link names them.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, bound) = fields.get(1)?.rsplit_once(':')?;
        let listens = *fields.get(3)? == "0A" && u16::from_str_radix(bound, 16) == Ok(port);
        listens.then_some(format!("socket:[{}]", fields.get(9)?))
    };
    text.lines().filter_map(socket).collect()
}

/// Where a process's descriptors lead.
fn files(process: u32) -> impl Iterator<Item = String> {
    let folder = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    folder.filter_map(|entry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned))
}

fn threads(process: u32) -> Vec<u32> {
    let Ok(folder) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn children(process: u32, thread: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The proportional set size: what forked workers share counts once.
fn memory(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let kilobytes: u64 = text.lines().find_map(|line| line.strip_prefix("Pss:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

impl Meter for Processes {
    fn cpu(&self) -> BoxFuture<'_, Option<Cpu>> {
        let mut times = HashMap::new();
        for process in self.all() {
            for thread in threads(process) {
                let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")).unwrap_or_default();
                if let Some(time) = text.split_whitespace().next().and_then(|time| time.parse().ok()) {
                    times.insert(thread, time);
                }
            }
        }
        Box::pin(std::future::ready((!times.is_empty()).then_some(Cpu { threads: times, rounding: 0 })))
    }

    fn memory(&self) -> BoxFuture<'_, Option<u64>> {
        let all = self.all();
        let sum = (!all.is_empty()).then(|| all.into_iter().filter_map(memory).sum());
        Box::pin(std::future::ready(sum.filter(|sum| *sum > 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cpu, Meter, Processes};
    use futures::FutureExt;
    use futures::future::BoxFuture;

    /// What is read from `/proc` is there at once.
    fn now<T>(read: BoxFuture<'_, Option<T>>) -> Option<T> {
        read.now_or_never().flatten()
    }

    #[test]
    fn a_process_is_read_with_its_children_and_none_is_not_known() {
        let child = std::process::Command::new("sleep").arg("30").spawn();
        let mut child = child.unwrap();
        let own = Processes(vec![std::process::id()]);
        let all = own.all();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(all.contains(&child.id()), "{all:?}");
        assert!(now(own.memory()).unwrap() > 100_000);
        let before = now(own.cpu()).unwrap();
        let mut sum = 0u64;
        let after = loop {
            sum = std::hint::black_box(sum.wrapping_add(1));
            if sum.is_multiple_of(1_000_000) {
                let after = now(own.cpu()).unwrap();
                if after.each(&before, 1) > Some(0.0) {
                    break after;
                }
            }
        };
        assert!(after.each(&before, 2) < after.each(&before, 1));
        assert!(now(Processes::default().cpu()).is_none() && now(Processes::default().memory()).is_none());
    }

    #[test]
    fn a_thread_that_ended_takes_its_own_time_with_it_and_full_seconds_must_be_some() {
        let reading = |threads: &[(u32, u64)]| Cpu { threads: threads.iter().copied().collect(), rounding: 0 };
        assert_eq!(reading(&[(1, 3000), (2, 500)]).each(&reading(&[(1, 1000), (5, 9000)]), 5), Some(0.5));
        assert_eq!(Cpu::seconds(14).each(&Cpu::seconds(10), 1), None);
        assert_eq!(Cpu::seconds(15).each(&Cpu::seconds(10), 10), Some(500_000.0));
    }

    #[test]
    fn who_listens_is_found_by_name_and_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = std::fs::read_to_string("/proc/self/comm").unwrap();
        let found = Processes::listening(own.trim_end(), port).map(|found| found.0);
        assert_eq!(found, Some(vec![std::process::id()]));
        assert!(Processes::listening("another", port).is_none());
        drop(listener);
        assert!(Processes::listening(own.trim_end(), port).is_none());
    }
}
