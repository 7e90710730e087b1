//! A system that is booted for one test: a tree of Debian as it was installed, with everything that is written to it kept in
//! memory, and systemd as its first process.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// How long anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where the tree of a release is, which `.ci/systemd-trees` makes.
///
/// # Errors
///
/// What is missing.
fn tree(release: &str) -> Result<PathBuf, String> {
    if !geteuid().is_root() {
        return Err("only root can boot a system".to_owned());
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    for program in ["systemd-nspawn", "nsenter"] {
        if !std::env::split_paths(&paths).any(|folder| folder.join(program).is_file()) {
            return Err(format!("{program} is not installed (Debian: systemd-container, util-linux)"));
        }
    }
    let tree = support::root().join("target/systemd").join(release);
    if !tree.with_extension("complete").exists() {
        return Err(format!("{} is not there: .ci/systemd-trees makes it", tree.display()));
    }
    Ok(tree)
}

/// Gives a process a control group of its own in each hierarchy that a systemd manages, and runs a program in it. Systems that
/// share one end each other's services.
const IN_A_GROUP: &str = r#"
name=$1; shift
for root in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -w "$root/cgroup.procs" ] && mkdir -p "$root/$name" && echo $$ > "$root/$name/cgroup.procs"
done
exec "$@"
"#;

/// Removes those groups, from the inside out.
const REMOVE_GROUPS: &str = r#"
for root in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -d "$root/$1" ] && find "$root/$1" -depth -type d -exec rmdir {} \;
done
true
"#;

/// A running system. Dropping it turns it off.
pub struct System {
    container: Child,
    /// The name of its machine and of its control groups.
    name: String,
    /// Its first process, as seen from here.
    first: u32,
}

impl System {
    /// Boots `release`. The project is in `/src` there, as far as a service needs it.
    ///
    /// # Errors
    ///
    /// Why no system can be booted on this machine: what is missing, or what the kernel does not allow.
    pub fn boot(release: &str) -> Result<Self, String> {
        let tree = tree(release)?;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("cs-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let mut command = Command::new("sh");
        command.args(["-c", IN_A_GROUP, "sh", &name, "systemd-nspawn"]);
        command.arg("-D").arg(tree).arg(format!("--machine={name}")).args([
            "--boot",
            "--volatile=overlay",
            "--private-network",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
        ]);
        let bind = |from: &Path, to: &str| format!("--bind-ro={}:{to}", from.display());
        command.arg(bind(&support::program(), "/src/target/release/countersign"));
        command.arg(bind(&support::root().join("config").canonicalize().unwrap(), "/src/config"));
        let mut said = tempfile::tempfile().unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone().unwrap());
        let container = command.spawn().unwrap();
        let mut system = Self { container, name, first: 0 };
        let is_there = wait_for("the first process", || match system.first_process() {
            Some(first) => Some(Ok(first)),
            // A system that has begun does not end.
            None => system.container.try_wait().unwrap().map(Err),
        });
        system.first = is_there.map_err(|ended| {
            let mut why = String::new();
            let _ = said.seek(SeekFrom::Start(0)).and_then(|_| said.read_to_string(&mut why));
            format!("systemd-nspawn cannot boot a system here ({ended}): {}", why.trim())
        })?;
        wait_for("the end of the boot", || {
            let state = system.output("systemctl is-system-running");
            matches!(String::from_utf8_lossy(&state.stdout).trim(), "running" | "degraded").then_some(())
        });
        Ok(system)
    }

    fn first_process(&self) -> Option<u32> {
        let container = self.container.id();
        let children = fs::read_to_string(format!("/proc/{container}/task/{container}/children")).ok()?;
        let mut children = children.split_whitespace().filter_map(|child| child.parse().ok());
        children.find(|child| fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name == "systemd\n"))
    }

    /// A file of the system. In `/run` and other folders of its own, too.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// Runs a script there, as root, in `/src`.
    pub fn output(&self, script: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first.to_string(), "-a", "sh", "-c", &format!("cd /src && {script}")]);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// The same, which must succeed: what it printed.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        let output = self.output(script);
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            let log = self.output("journalctl -b -u countersign --no-pager | tail -n 30");
            panic!("{script}: {}\n{said}\n{errors}\n{}", output.status, String::from_utf8_lossy(&log.stdout));
        }
        said.into_owned()
    }

    /// Writes a file there.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What the manager knows of the service.
    pub fn property(&self, name: &str) -> String {
        self.run(&format!("systemctl show countersign -p {name} --value")).trim().to_owned()
    }

    /// Waits until the service has been started again, and does its work.
    #[track_caller]
    pub fn is_back(&self) {
        wait_for("the restart", || {
            let is_back = self.property("NRestarts") != "0" && self.property("ActiveState") == "active";
            is_back.then_some(())
        });
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // It turns itself off then.
        let _ = kill_process(Pid::from_child(&self.container), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.container.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.container.kill();
        let _ = self.container.wait();
        let _ = Command::new("sh").args(["-c", REMOVE_GROUPS, "sh", &self.name]).stderr(Stdio::null()).status();
    }
}

/// Asks again and again until there is an answer.
#[track_caller]
pub fn wait_for<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
