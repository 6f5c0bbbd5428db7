//! How much memory this process may still use, and whether a model fits into it.

use crate::{Error, Result};
use candle_core::Device;
use kernels::device;
use std::path::Path;

/// Bytes that may still be used: free memory of the machine, within the limits of the control group and of the
/// process. None if unknown.
pub fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = kilobytes(&read("/proc/meminfo"), "MemAvailable:");
    let [space, data] = left(&read("/proc/self/limits"), &read("/proc/self/status"));
    [machine, group(), space, data].into_iter().flatten().min()
}

/// Free bytes on a device.
pub fn available_on(device: &Device) -> Option<u64> {
    match device.is_cpu() {
        true => available(),
        false => device::free_bytes(device),
    }
}

/// Refuses to load what would not fit: an early error is better than being killed midway.
///
/// `weights` is the size in bytes of the weights of `what`, stored as `stored_as`; `caches` is that of one answer's
/// caches.
pub fn check(what: &Path, weights: u64, stored_as: &str, caches: u64, device: &Device) -> Result<()> {
    let place = if device.is_cpu() {
        String::new()
    } else {
        format!(" on {}", device::name(device))
    };
    check_against(what, weights, stored_as, caches, available_on(device), &place)
}

fn check_against(
    what: &Path,
    weights: u64,
    stored_as: &str,
    caches: u64,
    available: Option<u64>,
    place: &str,
) -> Result<()> {
    match available {
        Some(available) if weights.saturating_add(caches) > available => Err(Error::Memory {
            what: what.to_owned(),
            need: format!(
                "{} as {stored_as} and the caches of one answer {}, but {} are free{place}",
                device::in_words(weights),
                device::in_words(caches),
                device::in_words(available)
            ),
        }),
        _ => Ok(()),
    }
}

/// The least free memory of all control groups above this process, version 1 or 2.
fn group() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut least = None;
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (controllers, path) = (parts.nth(1)?, parts.next()?);
        let (root, limit, used) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            list if list.split(',').any(|one| one == "memory") => (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            ),
            _ => continue,
        };
        // In a container the path may be the one outside; then the root is the group's own.
        for folder in Path::new(path.trim_start_matches('/')).ancestors() {
            let number = |file: &str| {
                let text = std::fs::read_to_string(Path::new(root).join(folder).join(file)).ok()?;
                text.trim().parse::<u64>().ok()
            };
            if let (Some(limit), Some(used)) = (number(limit), number(used)) {
                // The page cache counts as used, but is given back on demand.
                let stat = std::fs::read_to_string(Path::new(root).join(folder).join("memory.stat"));
                let cached = field(&stat.unwrap_or_default(), "inactive_file").unwrap_or(0);
                let left = limit.saturating_sub(used.saturating_sub(cached));
                least = Some(least.map_or(left, |least: u64| least.min(left)));
            }
        }
    }
    least
}

/// What is left of the limits on address space and on writable memory.
fn left(limits: &str, status: &str) -> [Option<u64>; 2] {
    [("Max address space", "VmSize:"), ("Max data size", "VmData:")].map(|(limit, taken)| {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit))?;
        let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(limit.saturating_sub(kilobytes(status, taken)?))
    })
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    Some(field(text, name)?.saturating_mul(1024))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_its_numbers() {
        let check = |available| check_against(Path::new("/m"), 15_300_000_000, "fp32", 480_000_000, available, "");
        assert!(check(None).is_ok() && check(Some(15_780_000_000)).is_ok());
        let told = check(Some(12_049_000_000)).unwrap_err().into_plugin_error();
        assert_eq!(
            told.message,
            "the weights in `/m` would take 15.3 GB as fp32 and the caches of one answer 480 MB, but 12.0 GB are free"
        );
        assert_eq!(told.code, plugin_api::Code::MEMORY);
        assert!(told.help.unwrap().contains("quant=q4_k"));
    }

    #[test]
    fn limits_are_read() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax data size             unlimited  unlimited   bytes\n\
                      Max address space         8000000   unlimited   bytes\n";
        let status = "Name:\tx\nVmSize:\t    1000 kB\nVmData:\t     500 kB\n";
        assert_eq!(left(limits, status), [Some(8_000_000 - 1_024_000), None]);
        let data = limits.replace("Max data size             unlimited", "Max data size  600000");
        assert_eq!(left(&data, status)[1], Some(600_000 - 512_000));
        let unlimited = limits.replace("8000000", "unlimited");
        assert_eq!(left(&unlimited, status), [None, None]);
        assert_eq!(
            kilobytes("MemTotal: 9 kB\nMemAvailable:   12 kB\n", "MemAvailable:"),
            Some(12_288)
        );
        // Any test machine has some left, and less than a petabyte.
        assert!(available().is_none_or(|bytes| (1 << 20..1 << 50).contains(&bytes)));
    }
}
