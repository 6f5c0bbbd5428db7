//! What the machine has: memory, processors, a GPU, files.

use super::{Finding, State, there};
use rustix::fs::{Access, access, statvfs};
use rustix::process::{Resource, getrlimit};
use std::path::{Path, PathBuf};

/// No useful model fits into less free disk space than this.
const LITTLE_DISK: u64 = 5 << 30;
/// A run opens a few files, a plugin that maps shards some dozens.
const FEW_FILES: u64 = 256;

/// Every line about the machine.
pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![memory(), processor(), gpu(), open_files()];
    let temp = std::env::temp_dir();
    findings.push(folder(
        "temporary files",
        &temp,
        "set TMPDIR to a folder that you may write to",
    ));
    findings
}

/// A folder that must be writable, and its free space. It need not exist yet.
pub(super) fn folder(about: &str, path: &Path, hint: &str) -> Finding {
    let shown = path.display();
    let nearest = there(path);
    if access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_err() || !nearest.is_dir() {
        let says = format!("`{shown}` can't be written to");
        return Finding::new(State::Warning, about, says).hint(hint);
    }
    match statvfs(nearest) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let enough = free >= LITTLE_DISK;
            let says = format!("{shown}, {} free", gigabytes(free));
            Finding::new(if enough { State::Ok } else { State::Warning }, about, says)
        }
        Err(why) => Finding::new(State::Warning, about, format!("{shown}, free space unknown ({why})")),
    }
}

fn memory() -> Finding {
    let (Some(total), Some(available)) = (meminfo("MemTotal"), meminfo("MemAvailable")) else {
        return Finding::new(State::Warning, "memory", "unknown: /proc/meminfo can't be read");
    };
    let limit = memory_limit().filter(|limit| *limit < total);
    let limit = limit
        .map(|limit| format!(", limited to {}", gigabytes(limit)))
        .unwrap_or_default();
    let says = format!("{}, {} available{limit}", gigabytes(total), gigabytes(available));
    Finding::new(State::Ok, "memory", says)
}

fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line
        .trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .ok()?;
    Some(kilobytes << 10)
}

/// In a container the limit is what counts; without one the file says `max`.
fn memory_limit() -> Option<u64> {
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?;
    limit.trim().parse().ok()
}

/// What a model could have: what is available, within the limit of a container.
pub fn free_memory() -> Option<u64> {
    let available = meminfo("MemAvailable")?;
    Some(memory_limit().map_or(available, |limit| limit.min(available)))
}

/// The instructions that matrix products are fast with.
fn processor() -> Finding {
    const WANTED: [&str; 10] = [
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512_bf16",
        "avx512_vnni",
        "amx_bf16",
        "amx_int8",
        "asimd",
        "bf16",
    ];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text
        .lines()
        .find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let flags: Vec<&str> = flags.unwrap_or_default().split_whitespace().collect();
    let has: Vec<&str> = WANTED.into_iter().filter(|wanted| flags.contains(wanted)).collect();
    let plural = if cores == 1 { "core" } else { "cores" };
    let fast = has.contains(&"avx2") || has.contains(&"asimd");
    let shown = if has.is_empty() {
        "none".to_owned()
    } else {
        has.join(" ")
    };
    let mut says = format!("{cores} {plural}, instructions for tensors: {shown}");
    let allowed = std::env::var("HOST_KERNELS").unwrap_or_default();
    if !allowed.is_empty() {
        says += &format!("; HOST_KERNELS allows `{allowed}`");
    }
    if !["", "portable", "avx2", "avx512", "amx"].contains(&allowed.as_str()) {
        let found = Finding::new(State::Warning, "processor", format!("{says}, which says nothing"));
        return found
            .hint("HOST_KERNELS is the most that products with weights may use: portable, avx2, avx512 or amx");
    }
    let found = Finding::new(if fast { State::Ok } else { State::Warning }, "processor", says);
    if fast {
        found
    } else {
        found.hint("without AVX2 or ASIMD, models answer several times slower")
    }
}

/// Whether a driver is there. Nothing is opened: that would start it.
fn gpu() -> Finding {
    let device = Path::new("/dev/nvidia0").exists();
    let library = library_folders().into_iter().map(|folder| folder.join("libcuda.so.1"));
    let library = library.into_iter().find(|path| path.exists());
    let shown = library.as_ref().map(|path| path.display().to_string());
    match (device, shown) {
        (true, Some(path)) => {
            let says = format!("/dev/nvidia0, {path}; for plugins that are built with `--features cuda`");
            Finding::new(State::Ok, "gpu", says)
        }
        (true, None) => Finding::new(State::Warning, "gpu", "/dev/nvidia0 is there, but no libcuda.so.1")
            .hint("install the driver's user part, or name its folder in LD_LIBRARY_PATH"),
        (false, Some(path)) => Finding::new(
            State::Warning,
            "gpu",
            format!("{path} is there, but no /dev/nvidia0; models run on the CPU"),
        ),
        (false, None) => Finding::new(State::Ok, "gpu", "none; models run on the CPU"),
    }
}

fn library_folders() -> Vec<PathBuf> {
    let given = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/lib/wsl/lib",
        "/usr/local/nvidia/lib64",
        "/run/opengl-driver/lib",
    ];
    let given: Vec<PathBuf> = std::env::split_paths(&given)
        .filter(|path| path.is_absolute())
        .collect();
    given.into_iter().chain(usual.map(PathBuf::from)).collect()
}

fn open_files() -> Finding {
    let limit = getrlimit(Resource::Nofile).current;
    match limit {
        None => Finding::new(State::Ok, "open files", "no limit"),
        Some(limit) if limit < FEW_FILES => Finding::new(State::Warning, "open files", format!("at most {limit}"))
            .hint("raise it with `ulimit -n 1024`"),
        Some(limit) => Finding::new(State::Ok, "open files", format!("at most {limit}")),
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / f64::from(1 << 30))
}
