//! Figures as tables for people and as an object for machines.

use super::{Call, Figures, Run, Spread};
use crate::registry::spec::Isolation;
use crate::table::{Align, Table};
use serde_json::{Value, json};
use std::time::Duration;

/// The tables and the ratios, in Markdown.
pub fn table(figures: &Figures) -> String {
    let mut times = Table::new(&[
        ("What", Align::Left),
        ("Best", Align::Right),
        ("Median", Align::Right),
        ("p99", Align::Right),
        ("n", Align::Right),
    ]);
    let mut row = |what: String, spread: &Spread| {
        let [best, median, p99] = [spread.best, spread.median, spread.p99].map(time);
        times.row([what, best, median, p99, spread.count.to_string()]);
    };
    for call in &figures.calls {
        row(
            format!("{} call, {}", place(call.isolation), sound(call.audio)),
            &call.times,
        );
    }
    let opening = &figures.opening;
    let megabytes = bytes(opening.bytes);
    row("Load a plugin: dlopen and checks".to_owned(), &opening.load);
    row("Read a plugin's note, run nothing".to_owned(), &opening.look);
    row(format!("Hash and copy a plugin's file ({megabytes})"), &opening.admit);
    row("Start a worker and make its model".to_owned(), &opening.worker);
    row("`host ls models`".to_owned(), &figures.listing.times);
    let mut runs = Table::new(&[
        ("Run of the echo", Align::Left),
        ("Samples", Align::Right),
        ("Wall time", Align::Right),
        ("Samples/s", Align::Right),
        ("Peak memory", Align::Right),
        ("Records", Align::Right),
    ]);
    for run in &figures.runs {
        let worker = run
            .worker_bytes
            .map(|peak| format!(" + {}", bytes(peak)))
            .unwrap_or_default();
        runs.row([
            place(run.isolation).to_owned(),
            run.samples.to_string(),
            time(run.wall),
            format!("{:.0}", run.samples_per_second()),
            bytes(run.host_bytes) + &worker,
            bytes(run.record_bytes),
        ]);
    }
    let mut text = format!("{}\n{}\n", times.render(), runs.render());
    for (what, ratio) in ratios(figures) {
        text += &format!("{what}: {ratio:.2}\n");
    }
    if let Some(grown) = growth(&figures.runs) {
        // Prompts that are prepared and in flight vary by more memory than the samples of a short run leave behind.
        text += &match grown {
            grown if grown < 1.0 => "memory that each further sample takes: too little to measure\n".to_owned(),
            grown => format!("memory that each further sample takes: {grown:.0} bytes\n"),
        };
    }
    text + "\n" + &machine_line() + "\n"
}

/// The same for machines; times in microseconds.
pub fn as_json(figures: &Figures) -> Value {
    let micros = |time: Duration| (time.as_nanos() as f64) / 1e3;
    let spread = |spread: &Spread| {
        json!({ "n": spread.count, "best_us": micros(spread.best), "median_us": micros(spread.median),
            "p99_us": micros(spread.p99) })
    };
    let call = |call: &Call| json!({ "isolation": call.isolation.word(), "audio_bytes": call.audio, "times": spread(&call.times) });
    let run = |run: &Run| {
        json!({ "isolation": run.isolation.word(), "samples": run.samples, "wall_seconds": run.wall.as_secs_f64(),
            "samples_per_second": run.samples_per_second(), "peak_memory_bytes": run.host_bytes,
            "worker_peak_memory_bytes": run.worker_bytes, "record_bytes": run.record_bytes })
    };
    let opening = &figures.opening;
    json!({
        "calls": figures.calls.iter().map(call).collect::<Vec<_>>(),
        "load": spread(&opening.load),
        "note": spread(&opening.look),
        "hash": spread(&opening.admit),
        "plugin_bytes": opening.bytes,
        "worker_start": spread(&opening.worker),
        "ls_models": spread(&figures.listing.times),
        "runs": figures.runs.iter().map(run).collect::<Vec<_>>(),
        "ratios": ratios(figures).into_iter().map(|(what, ratio)| (what, json!(ratio))).collect::<serde_json::Map<_, _>>(),
        "bytes_per_further_sample": growth(&figures.runs),
        "machine": machine(),
    })
}

fn place(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::InProcess => "in-process",
        Isolation::Process => "worker",
    }
}

fn sound(audio: usize) -> String {
    match audio {
        0 => "no audio".to_owned(),
        some => format!("{} of audio", bytes(some as u64)),
    }
}

/// The ratios, which can be compared between sittings.
fn ratios(figures: &Figures) -> Vec<(String, f64)> {
    let mut ratios = Vec::new();
    let median = |isolation, audio| {
        let mut calls = figures.calls.iter();
        let call = calls.find(|call| call.isolation == isolation && call.audio == audio)?;
        Some(call.times.median.as_secs_f64())
    };
    for audio in figures
        .calls
        .iter()
        .map(|call| call.audio)
        .take(figures.calls.len() / 2)
    {
        if let (Some(here), Some(there)) = (median(Isolation::InProcess, audio), median(Isolation::Process, audio)) {
            let what = format!("worker / in-process, median call, {}", sound(audio));
            ratios.push((what, there / here));
        }
    }
    if let Some((short, long)) = two_lengths(&figures.runs) {
        let what = format!("peak memory, {} / {} samples", long.samples, short.samples);
        ratios.push((what, long.host_bytes as f64 / short.host_bytes.max(1) as f64));
    }
    ratios
}

/// The two runs that differ only in their length.
fn two_lengths(runs: &[Run]) -> Option<(&Run, &Run)> {
    let mut here = runs.iter().filter(|run| run.isolation == Isolation::InProcess);
    Some((here.next()?, here.next()?))
}

fn growth(runs: &[Run]) -> Option<f64> {
    let (short, long) = two_lengths(runs)?;
    let more = long.samples.checked_sub(short.samples).filter(|more| *more > 0)?;
    Some((long.host_bytes as f64 - short.host_bytes as f64) / more as f64)
}

pub(super) fn machine() -> Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Option<f64> = load.split(' ').next().and_then(|first| first.parse().ok());
    json!({ "cores": cores, "processor": processor, "load": load, "debug_build": cfg!(debug_assertions) })
}

/// The machine and its load, without which figures mean little.
pub(super) fn machine_line() -> String {
    let machine = machine();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!(
        "{build} build, {} cores, {}, load {:.1} at the end",
        machine["cores"],
        machine["processor"].as_str().unwrap_or("unknown processor"),
        machine["load"].as_f64().unwrap_or(f64::NAN)
    )
}

/// A time with three digits and its unit.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 1e-3 => three_digits(s * 1e6, "µs"),
        s if s < 1.0 => three_digits(s * 1e3, "ms"),
        s => three_digits(s, "s"),
    }
}

fn three_digits(value: f64, unit: &str) -> String {
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// A number of things, as people who speak of models say it.
pub(super) fn count(count: u64) -> String {
    match count as f64 {
        n if n < 1e3 => count.to_string(),
        n if n < 999_500.0 => three_digits(n / 1e3, "K"),
        n if n < 999_500_000.0 => three_digits(n / 1e6, "M"),
        n => three_digits(n / 1e9, "B"),
    }
}

pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        b if b < 1 << 20 => format!("{} KB", b.div_ceil(1 << 10)),
        b => format!("{:.1} MB", b as f64 / f64::from(1 << 20)).replace(".0 ", " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Listing, Opening};

    #[track_caller]
    fn check(nanos: u64, shown: &str) {
        assert_eq!(time(Duration::from_nanos(nanos)), shown);
    }

    #[test]
    fn times_have_three_digits_and_the_unit_that_fits() {
        check(1_234, "1.23 µs");
        check(45_678, "45.7 µs");
        check(99_960, "100 µs");
        check(456_789, "457 µs");
        check(1_234_567, "1.23 ms");
        check(12_345_678_900, "12.3 s");
    }

    #[test]
    fn counts_have_three_digits_and_the_unit_that_fits() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.00 K"),
            (68_736, "68.7 K"),
            (999_499, "999 K"),
            (999_500, "1.00 M"),
            (596_049_920, "596 M"),
            (999_500_000, "1.00 B"),
            (8_190_735_360, "8.19 B"),
            (72_706_203_648, "72.7 B"),
        ] {
            assert_eq!(count(number), shown);
        }
    }

    fn figures() -> Figures {
        let spread = |micros| {
            let time = Duration::from_micros(micros);
            Spread {
                count: 1,
                best: time,
                median: time,
                p99: time,
            }
        };
        let call = |isolation, micros| Call {
            isolation,
            audio: 1 << 20,
            times: spread(micros),
        };
        let run = |samples, megabytes: u64| Run {
            samples,
            isolation: Isolation::InProcess,
            wall: Duration::from_secs(2),
            host_bytes: megabytes << 20,
            worker_bytes: None,
            record_bytes: 0,
        };
        Figures {
            calls: vec![call(Isolation::InProcess, 10), call(Isolation::Process, 400)],
            opening: Opening {
                bytes: 1 << 20,
                admit: spread(1),
                look: spread(1),
                load: spread(1),
                worker: spread(1),
            },
            listing: Listing { times: spread(1) },
            runs: vec![run(1_024, 20), run(1_025, 21)],
        }
    }

    #[test]
    fn ratios_are_of_the_same_sitting_and_the_same_sound() {
        let text = table(&figures());
        for line in [
            "worker / in-process, median call, 1 MB of audio: 40.00",
            "peak memory, 1025 / 1024 samples: 1.05",
            "memory that each further sample takes: 1048576 bytes",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(as_json(&figures())["runs"][1]["samples_per_second"], 512.5);
    }
}
