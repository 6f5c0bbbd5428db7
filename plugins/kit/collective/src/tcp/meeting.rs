//! How processes find each other: all connect to process 0, which gives each the address of the next.

use super::frame::{Kind, receive, send};
use crate::Settings;
use plugin_api::{Code, Context, Error, Result};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How many ports are tried, the first one after the launcher's own.
const PORTS: u16 = 16;
/// How long the processes wait for each other.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a process may take to identify itself.
const GREETING: Duration = Duration::from_secs(10);
const MAGIC: &str = "host-ring-1";

pub struct Met {
    pub next: TcpStream,
    pub last: TcpStream,
    /// Connections that report a process's end: from process 0 to each other process, and back.
    pub lines: Vec<(usize, TcpStream)>,
}

/// How a process identifies itself.
struct Greeting {
    rank: usize,
    port: u16,
}

pub fn meet(settings: &Settings, rank: usize, world: usize) -> Result<Met> {
    let until = Instant::now() + PATIENCE;
    let here = is_here(&settings.address);
    let own = listen(here, 0).context("cannot open a port for the processes to meet at")?;
    let port = own.local_addr()?.port();
    let (lines, next) = match rank {
        0 => host(settings, world, port, here, until)?,
        _ => {
            let (line, next) = call(settings, rank, world, port, until)?;
            (vec![(0, line)], next)
        }
    };
    let calling = dial(next, until).context(format!("cannot reach process {}", (rank + 1) % world))?;
    greet(&calling, settings, rank, world, 0)?;
    let before = (rank + world - 1) % world;
    let last = loop {
        let stream = accept(&own, until).map_err(|why| missing(settings, world, &[before]).cause(why.to_string()))?;
        match greeting(&stream, settings, world) {
            Ok(greeting) if greeting.rank == before => break stream,
            // Another program: the port is open to all.
            _ => {}
        }
    };
    Ok(Met {
        next: calling,
        last,
        lines,
    })
}

/// Process 0: waits for all, and tells each the address of the next.
fn host(
    settings: &Settings,
    world: usize,
    own: u16,
    here: bool,
    until: Instant,
) -> Result<(Vec<(usize, TcpStream)>, SocketAddr)> {
    let ports = ports(settings);
    let listener = ports.clone().find_map(|port| listen(here, port).ok()).ok_or_else(|| {
        let message = format!("none of the ports {} to {} is free", ports.start(), ports.end());
        Error::msg(message).help("set MASTER_PORT to another number")
    })?;
    let mut callers: Vec<Option<(TcpStream, SocketAddr)>> = (0..world).map(|_| None).collect();
    while callers.iter().skip(1).any(Option::is_none) {
        let absent: Vec<usize> = (1..world).filter(|rank| callers[*rank].is_none()).collect();
        let stream =
            accept(&listener, until).map_err(|why| missing(settings, world, &absent).cause(why.to_string()))?;
        if let Ok(greeting) = greeting(&stream, settings, world)
            && let Some(place) = callers.get_mut(greeting.rank).filter(|place| place.is_none())
        {
            let address = SocketAddr::new(stream.peer_addr()?.ip(), greeting.port);
            *place = Some((stream, address));
        }
    }
    let callers: Vec<(TcpStream, SocketAddr)> = callers.into_iter().skip(1).flatten().collect();
    for (index, (stream, _)) in callers.iter().enumerate() {
        // The last one's next is process 0, whose address all know.
        let next = callers
            .get(index + 1)
            .map_or(format!("*:{own}"), |(_, address)| address.to_string());
        send(stream, Kind::Data, next.as_bytes())?;
    }
    let first = callers[0].1;
    let lines = callers
        .into_iter()
        .enumerate()
        .map(|(index, (stream, _))| (index + 1, stream));
    Ok((lines.collect(), first))
}

/// The other processes.
fn call(settings: &Settings, rank: usize, world: usize, own: u16, until: Instant) -> Result<(TcpStream, SocketAddr)> {
    let mut wait = Duration::from_millis(20);
    let stream = loop {
        let found = ports(settings).find_map(|port| {
            let address = (settings.address.as_str(), port).to_socket_addrs().ok()?.next()?;
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
            greet(&stream, settings, rank, world, own).ok()?;
            // Only process 0 of this run answers, not another program.
            stream.set_read_timeout(Some(GREETING)).ok()?;
            let (kind, bytes) = receive(&stream).ok()?;
            (kind == Kind::Goodbye && bytes == answer(settings).as_bytes()).then_some(stream)
        });
        match found {
            Some(stream) => break stream,
            None if Instant::now() > until => return Err(missing(settings, world, &[0])),
            None => std::thread::sleep(wait),
        }
        wait = (wait * 2).min(Duration::from_millis(500));
    };
    stream.set_read_timeout(Some(
        until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_secs(1)),
    ))?;
    let (_, bytes) = receive(&stream).map_err(|why| missing(settings, world, &[]).cause(why.to_string()))?;
    stream.set_read_timeout(None)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let next = match text.strip_prefix("*:") {
        Some(port) => SocketAddr::new(stream.peer_addr()?.ip(), port.parse()?),
        None => text.parse()?,
    };
    Ok((stream, next))
}

fn ports(settings: &Settings) -> std::ops::RangeInclusive<u16> {
    let first = settings.port.saturating_add(1).min(u16::MAX - PORTS);
    first..=first + PORTS - 1
}

fn is_here(address: &str) -> bool {
    matches!(address, "" | "localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Processes of one machine listen on its loopback address only.
fn listen(here: bool, port: u16) -> std::io::Result<TcpListener> {
    let ip = if here {
        Ipv4Addr::LOCALHOST
    } else {
        Ipv4Addr::UNSPECIFIED
    };
    TcpListener::bind((ip, port))
}

fn dial(address: SocketAddr, until: Instant) -> std::io::Result<TcpStream> {
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            other => return other,
        }
    }
}

fn accept(listener: &TcpListener, until: Instant) -> std::io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(why) if why.kind() == ErrorKind::WouldBlock && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(why) => return Err(why),
        }
    }
}

fn greet(stream: &TcpStream, settings: &Settings, rank: usize, world: usize, port: u16) -> Result<()> {
    let text = format!("{MAGIC}\n{}\n{rank}\n{world}\n{port}", settings.job);
    Ok(send(stream, Kind::Data, text.as_bytes())?)
}

fn answer(settings: &Settings) -> String {
    format!("{MAGIC}\n{}", settings.job)
}

/// Reads a greeting, and answers if it is from this run.
fn greeting(stream: &TcpStream, settings: &Settings, world: usize) -> Result<Greeting> {
    stream.set_read_timeout(Some(GREETING))?;
    let (_, bytes) = receive(stream)?;
    stream.set_read_timeout(None)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let parts: Vec<&str> = text.split('\n').collect();
    let [MAGIC, job, rank, of, port] = parts[..] else {
        return Err(Error::msg("the caller is not a process of `host`"));
    };
    if job != settings.job || of.parse::<usize>()? != world {
        return Err(Error::msg("a process of another run called"));
    }
    let port: u16 = port.parse()?;
    if port != 0 {
        send(stream, Kind::Goodbye, answer(settings).as_bytes())?;
    }
    Ok(Greeting {
        rank: rank.parse()?,
        port,
    })
}

fn missing(settings: &Settings, world: usize, absent: &[usize]) -> Error {
    let who: Vec<String> = absent.iter().map(ToString::to_string).collect();
    let who = if who.is_empty() {
        "others".to_owned()
    } else {
        who.join(", ")
    };
    let place = format!("{}:{}", settings.address, settings.port.saturating_add(1));
    let message = format!("gave up waiting for process {who} of {world} at `{place}`");
    Error::new(Code::SERVICE, message)
        .help("each process needs the same MASTER_ADDR and MASTER_PORT, and must have been started")
}
