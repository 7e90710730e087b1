//! What the system knows of this process, under the names that every client of Prometheus uses. On Linux; elsewhere they stay 0.

use std::fs;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::Level;

/// Clones share it.
#[derive(Clone, Default)]
pub struct Process {
    cpu: Counter<f64, AtomicU64>,
    open_files: Level,
    most_files: Level,
    virtual_memory: Level,
    resident_memory: Level,
    started: Level,
    threads: Level,
}

impl Process {
    pub fn register(&self, registry: &mut Registry) {
        let cpu = "Time of processors that the process has used";
        registry.register("process_cpu_seconds", cpu, self.cpu.clone());
        registry.register("process_open_fds", "Open files", self.open_files.clone());
        registry.register("process_max_fds", "Files that can be open", self.most_files.clone());
        let memory = self.virtual_memory.clone();
        registry.register("process_virtual_memory_bytes", "Size of the virtual memory", memory);
        let memory = self.resident_memory.clone();
        registry.register("process_resident_memory_bytes", "Size of the resident memory", memory);
        let started = "When the process began, in seconds since 1970";
        registry.register("process_start_time_seconds", started, self.started.clone());
        registry.register("process_threads", "Threads", self.threads.clone());
    }

    /// Reads it anew. What cannot be read stays as it was.
    pub fn read(&self) {
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            self.most_files.set(number(limit));
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is this folder.
            self.open_files.set(number(u64::try_from(files.count().saturating_sub(1)).unwrap_or_default()));
        }
        let _unknown = self.read_stat();
    }

    /// proc_pid_stat(5). What follows the name of the program, which may hold anything, begins with the third field.
    fn read_stat(&self) -> Option<()> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
        let ticks = number(clock_ticks_per_second());
        let used = number(field(14)?.saturating_add(field(15)?)) / ticks;
        self.cpu.inc_by((used - self.cpu.get()).max(0.0));
        self.threads.set(number(field(20)?));
        self.virtual_memory.set(number(field(23)?));
        let page = u64::try_from(page_size()).ok()?;
        self.resident_memory.set(number(field(24)?.saturating_mul(page)));
        let booted = fs::read_to_string("/proc/stat").ok()?;
        let booted = booted.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        self.started.set(number(booted) + number(field(22)?) / ticks);
        Some(())
    }
}

/// Sizes and times are far below 2^53.
#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a metric is a floating-point number")]
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        let process = Process::default();
        process.read();
        assert!(process.resident_memory.get() > 1e6 && process.virtual_memory.get() > process.resident_memory.get());
        assert!(process.open_files.get() >= 3.0 && process.most_files.get() >= process.open_files.get());
        assert!(process.threads.get() >= 2.0, "the tests have some");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((0.0..86_400.0).contains(&(now - process.started.get())), "{}", process.started.get());
        let before = process.cpu.get();
        process.read();
        assert!(process.cpu.get() >= before);
    }
}
