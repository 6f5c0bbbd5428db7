//! Why a worker died, in words that help.

use plugin_api::{Code, Error};
use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// How many of the worker's last lines are kept for its error.
const MOST_LINES: usize = 5;

/// The worker's last lines, and what any of them revealed.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLines {
    lines: VecDeque<String>,
    out_of_memory: bool,
    overflowed: bool,
}

impl LastLines {
    pub(super) fn push(&mut self, line: String) {
        // The messages of allocators that run out of memory: Rust's, and C++'s.
        self.out_of_memory |= line.contains("memory allocation of ") || line.contains("std::bad_alloc");
        self.overflowed |= line.contains("has overflowed its stack");
        if !of_a_backtrace(&line) {
            if self.lines.len() == MOST_LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
    }
}

/// The log has the backtrace. In an error, its end would hide the reason.
fn of_a_backtrace(line: &str) -> bool {
    let words = line.trim_start();
    let frame = words
        .split_once(": ")
        .is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    let indented = words.len() < line.len();
    line == "stack backtrace:" || line.starts_with("note: ") || (indented && (frame || words.starts_with("at ")))
}

/// How a worker ended.
#[derive(Debug, Clone)]
pub(super) struct ExitReason {
    code: Code,
    how: String,
    help: Option<String>,
    last_lines: Vec<String>,
}

impl ExitReason {
    /// Interprets an exit status and the worker's last lines.
    pub(super) fn new(status: Option<ExitStatus>, lines: &LastLines, memory: Option<u64>) -> ExitReason {
        let signal = status.and_then(|status| status.signal());
        let (mut code, mut help) = (Code::DIED, None);
        let how = match (signal, status.and_then(|status| status.code())) {
            (Some(6), _) if lines.overflowed => "overflowed its stack".to_owned(),
            (Some(_), _) if lines.out_of_memory => {
                code = Code::MEMORY;
                match memory {
                    Some(limit) => {
                        help = Some(
                            "raise `memory` in the registry; all reserved memory counts, not only what is used"
                                .to_owned(),
                        );
                        format!("ran out of the {} of memory that it may take", in_words(limit))
                    }
                    None => "ran out of memory".to_owned(),
                }
            }
            (Some(9), _) => {
                help = Some("the system kills processes when memory runs out; its log tells whether it did".to_owned());
                "was killed (signal 9)".to_owned()
            }
            (Some(signal), _) => format!("died of signal {signal} ({})", signal_name(signal)),
            (None, Some(code)) => format!("exited with code {code}"),
            (None, None) => "stopped responding and was killed".to_owned(),
        };
        ExitReason {
            code,
            how,
            help,
            last_lines: lines.lines.iter().cloned().collect(),
        }
    }

    /// The error of a call that was pending.
    pub(super) fn error(&self, plugin: &str, method: &str) -> Error {
        let mut error = Error::new(self.code, format!("plugin `{plugin}` {} during `{method}`", self.how));
        error.causes.clone_from(&self.last_lines);
        error.help.clone_from(&self.help);
        error
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => "hangup",
        2 => "interrupt",
        4 => "illegal instruction",
        5 => "trap",
        6 => "abort",
        7 => "bus error",
        8 => "arithmetic fault",
        11 => "segmentation fault",
        13 => "broken pipe",
        15 => "terminated",
        24 => "processor time used up",
        25 => "file too large",
        31 => "forbidden system call",
        _ => "unknown",
    }
}

/// Bytes as people say them.
pub(crate) fn in_words(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{bytes} bytes"),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw_status: i32, line: &str, memory: Option<u64>, expected: &str, code: Code) {
        let mut lines = LastLines::default();
        lines.push(line.to_owned());
        let error = ExitReason::new(Some(ExitStatus::from_raw(raw_status)), &lines, memory).error("p", "reply");
        assert_eq!((error.message.as_str(), error.code), (expected, code));
        assert_eq!(error.causes, [line]);
    }

    #[test]
    fn each_end_has_its_words() {
        check(
            11,
            "",
            None,
            "plugin `p` died of signal 11 (segmentation fault) during `reply`",
            Code::DIED,
        );
        check(
            6,
            "double free",
            None,
            "plugin `p` died of signal 6 (abort) during `reply`",
            Code::DIED,
        );
        check(
            7 << 8,
            "bye",
            None,
            "plugin `p` exited with code 7 during `reply`",
            Code::DIED,
        );
        check(
            9,
            "",
            None,
            "plugin `p` was killed (signal 9) during `reply`",
            Code::DIED,
        );
        let overflow = "thread 'x' (1) has overflowed its stack";
        check(
            6,
            overflow,
            None,
            "plugin `p` overflowed its stack during `reply`",
            Code::DIED,
        );
        let refused = "memory allocation of 1048576 bytes failed";
        check(
            6,
            refused,
            None,
            "plugin `p` ran out of memory during `reply`",
            Code::MEMORY,
        );
        let limited = "plugin `p` ran out of the 512 MB of memory that it may take during `reply`";
        check(6, refused, Some(512_000_000), limited, Code::MEMORY);
    }

    #[test]
    fn a_backtrace_hides_no_reason() {
        let mut lines = LastLines::default();
        let printed = [
            "memory allocation of 9 bytes failed",
            "stack backtrace:",
            "   0: std::panicking",
            "             at ./x.rs:1:2",
            "  12: <unknown>",
            "note: Some details are omitted",
            "  indented: kept",
        ];
        printed.iter().for_each(|line| lines.push((*line).to_owned()));
        let error = ExitReason::new(Some(ExitStatus::from_raw(6)), &lines, None).error("p", "reply");
        assert_eq!(
            error.causes,
            ["memory allocation of 9 bytes failed", "  indented: kept"]
        );
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut lines = LastLines::default();
        (0..100).for_each(|number| lines.push(number.to_string()));
        let error = ExitReason::new(None, &lines, None).error("p", "card");
        assert_eq!(error.causes, ["95", "96", "97", "98", "99"]);
    }
}
