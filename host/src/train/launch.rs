//! `--processes N`: starts N processes on this machine, and ends all when one fails.

use super::environment::JOB;
use crate::failure::{Exit, Failure, Result};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the other processes may take to end by themselves after one failed.
const GRACE: Duration = Duration::from_secs(5);
/// How long a process may take to finish its step and save after it was asked to stop.
const SAVING: Duration = Duration::from_secs(600);

/// One process, and its last lines on standard error.
struct Started {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    ended: Option<ExitStatus>,
    /// This program ended it.
    killed: bool,
}

/// Runs the same command in every process.
pub fn launch(count: u32, words: &[OsString], stop: &AtomicBool) -> Result<Exit> {
    let program = std::env::current_exe().map_err(|why| Failure::missing("cannot find this program").cause(why))?;
    let port = free_port()?;
    let threads = threads_each(count);
    let token = format!("{:x}-{:x}", std::process::id(), started_at());
    let mut all = Vec::new();
    for rank in 0..count {
        let mut command = Command::new(&program);
        command
            .args(&words[1..])
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("WORLD_SIZE", count.to_string())
            .env("LOCAL_WORLD_SIZE", count.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .env(JOB, &token)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            // A terminal interrupts all of its group. Each process would be asked to stop twice, by the terminal and by
            // this program, and the second time means at once.
            .process_group(0);
        if std::env::var_os("RAYON_NUM_THREADS").is_none() {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        if rank > 0 {
            command.stdout(Stdio::null());
        }
        let started = command.spawn().map(|child| started(child, rank));
        match started {
            Ok(started) => all.push(started),
            Err(why) => {
                end(&mut all);
                return Err(Failure::missing(format!("cannot start process {rank} of {count}")).cause(why));
            }
        }
    }
    watch(&mut all, stop)
}

/// Makes the system stop this process when the program that started it is gone, so that it saves and ends as well.
///
/// Not by an interrupt: the signal may come once for each thread of that program, and a second interrupt means at once.
pub fn end_with_launcher(stop: &Arc<AtomicBool>) {
    let heard = std::env::var_os(JOB).map(|_| signal_hook::flag::register(signal_hook::consts::SIGUSR1, stop.clone()));
    if heard.is_some_and(|heard| heard.is_ok()) {
        // Where the system cannot do this, the process goes on alone.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::USR1));
    }
}

fn started(mut child: Child, rank: u32) -> Started {
    let said = Arc::new(Mutex::new(Vec::new()));
    let reader = child.stderr.take().map(|stream| {
        let said = said.clone();
        std::thread::spawn(move || listen(stream, rank, &said))
    });
    Started {
        child,
        said,
        reader,
        ended: None,
        killed: false,
    }
}

/// Keeps the last lines of a process, and prints those of the first process as they come.
fn listen(stream: impl Read, rank: u32, said: &Mutex<Vec<String>>) {
    for line in BufReader::new(stream).split(b'\n').map_while(std::result::Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if rank == 0 {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push(line);
        if said.len() > 40 {
            said.remove(0);
        }
    }
}

/// Waits for all. If one fails, the others are ended, and the error quotes its last lines.
fn watch(all: &mut [Started], stop: &AtomicBool) -> Result<Exit> {
    let (mut failed, mut asked): (Option<(usize, Instant)>, Option<Instant>) = (None, None);
    loop {
        for (rank, started) in all.iter_mut().enumerate() {
            if started.ended.is_none()
                && let Ok(Some(status)) = started.child.try_wait()
            {
                started.ended = Some(status);
                if !status.success() && failed.is_none() {
                    failed = Some((rank, Instant::now()));
                }
            }
        }
        if all.iter().all(|started| started.ended.is_some()) {
            break;
        }
        if asked.is_none() && stop.load(Ordering::Relaxed) {
            asked = Some(Instant::now());
            all.iter()
                .filter(|started| started.ended.is_none())
                .for_each(|started| interrupt(&started.child));
        }
        let patience = if asked.is_some() { SAVING } else { GRACE };
        let over = failed
            .map(|(_, since)| since)
            .or(asked)
            .is_some_and(|since| since.elapsed() > patience);
        if over {
            end(all);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for started in all.iter_mut() {
        if let Some(reader) = started.reader.take() {
            let _ = reader.join();
        }
    }
    let Some((first, _)) = failed else { return Ok(Exit::Ok) };
    let rank = culprit(all).unwrap_or(first);
    let (status, of_first) = (all[rank].ended, all[0].code());
    let exit = all[rank].code().and_then(of_code).unwrap_or(Exit::Refused);
    // The first process prints its own errors, and what ends all of them with the same code is the same error.
    let told = rank == 0 || exit != Exit::Refused && of_first == all[rank].code();
    if told && of_first.is_some() {
        return Ok(exit);
    }
    let how = status.map_or_else(String::new, |status| status.to_string());
    let failure = Failure::new(exit, format!("process {rank} of {} ended: {how}", all.len()));
    let failure = match all[rank].code() {
        Some(_) => failure,
        None => failure.help(
            "the same command resumes from the last checkpoint; the system ends processes this way when memory runs out",
        ),
    };
    if rank == 0 {
        return Err(failure); // its lines were printed as they came
    }
    let said = all[rank].said.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Err(said
        .into_iter()
        .rev()
        .take(12)
        .rev()
        .fold(failure, |failure, line| failure.cause(line)))
}

/// The process whose error ended the others: the one that a signal ended, else one that says more than that another failed.
fn culprit(all: &[Started]) -> Option<usize> {
    let failed = || {
        all.iter()
            .enumerate()
            .filter(|(_, started)| !started.killed && started.code() != Some(0))
    };
    let by_signal = failed().find(|(_, started)| started.code().is_none());
    let found = by_signal.or_else(|| failed().find(|(_, started)| started.code() != Some(Exit::Refused as i32)));
    found.map(|(rank, _)| rank)
}

impl Started {
    /// What it ended with; none if it was ended by a signal.
    fn code(&self) -> Option<i32> {
        self.ended.and_then(|status| status.code())
    }
}

fn interrupt(child: &Child) {
    if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
        // A process that has ended needs no signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    }
}

fn end(all: &mut [Started]) {
    for started in all.iter_mut().filter(|started| started.ended.is_none()) {
        started.killed = started.child.kill().is_ok();
    }
}

fn of_code(code: i32) -> Option<Exit> {
    [
        Exit::Ok,
        Exit::Threshold,
        Exit::Usage,
        Exit::Missing,
        Exit::Refused,
        Exit::Budget,
        Exit::Unwritable,
        Exit::Interrupted,
    ]
    .into_iter()
    .find(|exit| *exit as i32 == code)
}

/// A free port that is followed by free ones, as far as that can be known before they are used.
fn free_port() -> Result<u16> {
    let found = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    match found {
        Ok(address) => Ok(address.port().clamp(1_025, 65_000) - 1),
        Err(why) => Err(Failure::missing("no port is free for the processes to meet at").cause(why)),
    }
}

fn threads_each(count: u32) -> usize {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    (threads / count as usize).max(1)
}

fn started_at() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |time| time.as_nanos())
}
