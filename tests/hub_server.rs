//! A small HTTP server on a local port, which can be slow or close connections early.
#![allow(dead_code)] // two test programs share it, and each uses a part

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The number of earlier requests for the same path, by any method.
    pub earlier: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection is closed after this many bytes of the body.
    pub cut_after: Option<usize>,
    /// The body is sent in pieces of this many bytes, with a pause after each.
    pub drip: Option<(usize, Duration)>,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Reply {
            body: body.into(),
            ..Reply::status(200)
        }
    }

    pub fn status(status: u16) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut_after: None,
            drip: None,
        }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    pub fn drip(mut self, bytes: usize, pause: Duration) -> Self {
        self.drip = Some((bytes, pause));
        self
    }

    /// The part of `content` that the request's `Range` asks for.
    pub fn part_of(content: &[u8], request: &Request) -> Self {
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        match range.and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok()) {
            Some(start) if start < content.len() => Reply {
                body: content[start..].to_vec(),
                ..Reply::status(206)
            }
            .with(
                "content-range",
                format!("bytes {start}-{}/{}", content.len() - 1, content.len()),
            ),
            Some(_) => Reply::status(416),
            None => Reply::ok(content),
        }
    }
}

pub struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<(Request, usize)>>>,
}

impl Server {
    /// Answers until the test process ends.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Server { port, seen }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|(request, _)| request.clone())
            .collect()
    }

    /// The requests for paths with this ending, each with the bytes of body that were sent.
    pub fn requests_for(&self, end: &str) -> Vec<(Request, usize)> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .filter(|(request, _)| request.path.ends_with(end))
            .cloned()
            .collect()
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Request) -> Reply, log: &Mutex<Vec<(Request, usize)>>) {
    let Some(mut request) = read_request(&stream) else {
        return;
    };
    let index = {
        let mut log = log.lock().unwrap();
        request.earlier = log.iter().filter(|(other, _)| other.path == request.path).count();
        log.push((request.clone(), 0));
        log.len() - 1
    };
    let reply = answer(&request);
    let mut head = format!("HTTP/1.1 {} Whatever\r\nconnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "content-length") {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = if request.method == "HEAD" {
        &[]
    } else {
        &reply.body[..reply.cut_after.unwrap_or(reply.body.len())]
    };
    log.lock().unwrap()[index].1 = body.len();
    // The client may have disconnected, as some tests intend.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| match reply.drip {
        None => stream.write_all(body),
        Some((bytes, pause)) => body.chunks(bytes).try_for_each(|piece| {
            thread::sleep(pause);
            stream.write_all(piece)
        }),
    });
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.split_once(':')
                .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        })
        .collect();
    Some(Request {
        method,
        path,
        headers,
        earlier: 0,
    })
}
