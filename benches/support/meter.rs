//! What a process costs, and sums.

use std::collections::HashMap;
use std::fs::read_to_string;
use std::time::Duration;

/// The CPU time that a process has had until now.
pub struct Cpu {
    pid: u32,
    threads: HashMap<String, u64>,
    all: Duration,
}

impl Cpu {
    pub fn of(pid: u32) -> Self {
        Self { pid, threads: threads(pid), all: all(pid) }
    }

    /// What it has had since: to the nanosecond, unless a thread has ended meanwhile, whose time only the process's clock knows,
    /// which goes by hundredths of a second.
    pub fn used(&self) -> Duration {
        let now = threads(self.pid);
        if self.threads.keys().any(|thread| !now.contains_key(thread)) {
            return all(self.pid).saturating_sub(self.all);
        }
        let used = now.iter().map(|(thread, time)| time - self.threads.get(thread).copied().unwrap_or(0)).sum();
        Duration::from_nanos(used)
    }
}

fn threads(pid: u32) -> HashMap<String, u64> {
    let folders = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok);
    let times = folders.filter_map(|folder| {
        let time = read_to_string(folder.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()?;
        Some((folder.file_name().into_string().ok()?, time))
    });
    times.collect()
}

fn all(pid: u32) -> Duration {
    let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

/// Bytes that a process has had written to disk.
pub fn written(pid: u32) -> u64 {
    let io = read_to_string(format!("/proc/{pid}/io")).unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}

/// The memory of a process, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Its share of what it maps.
    pub pss: u64,
    /// What of that is its own: the heap and the stacks.
    pub anonymous: u64,
}

impl Memory {
    pub fn of(pid: u32) -> Self {
        let smaps = read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let field = |name: &str| {
            let value = smaps.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            value.trim().trim_end_matches(" kB").parse().unwrap()
        };
        Self { pss: field("Pss:"), anonymous: field("Pss_Anon:") }
    }

    pub fn mebibytes(self) -> f64 {
        self.pss as f64 / 1024.0
    }
}

pub fn median(all: &[f64]) -> f64 {
    Spread::of(all.to_vec()).at(0.5)
}

/// Values in order.
pub struct Spread(Vec<f64>);

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value below which such a part of them lies.
    pub fn at(&self, part: f64) -> f64 {
        self.0[((self.0.len() as f64 * part) as usize).min(self.0.len() - 1)]
    }
}

/// Prints a table in Markdown.
pub fn table(head: &[&str], rows: &[Vec<String>]) {
    println!("\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}
