//! A ring over sockets: each process sends to the next and receives from the one before.
//!
//! Besides, each process is connected to process 0, which reports if one of them ends. A thread listens on that
//! connection, so that a process notices another's end while it computes.

mod frame;
mod lifeline;
mod meeting;

use crate::{Collective, Settings};
use frame::{Kind, receive, send};
use lifeline::Lifeline;
use plugin_api::{Code, Error, Result};
use std::net::TcpStream;

/// A process in the ring.
pub struct Ring {
    rank: usize,
    world: usize,
    next: TcpStream,
    last: TcpStream,
    lifeline: Lifeline,
}

/// Shorter messages fit into the sockets' buffers, so they need no second thread to send while receiving.
const SMALL: usize = 16 << 10;

impl Ring {
    pub fn connect(settings: &Settings, rank: usize, world: usize) -> Result<Ring> {
        let met = meeting::meet(settings, rank, world)?;
        for stream in [&met.next, &met.last] {
            frame::keep_alive(stream);
        }
        let ring = [&met.next, &met.last].map(TcpStream::try_clone);
        let ring: Vec<TcpStream> = ring.into_iter().collect::<std::io::Result<_>>()?;
        Ok(Ring {
            rank,
            world,
            next: met.next,
            last: met.last,
            lifeline: Lifeline::new(met.lines, rank, ring)?,
        })
    }

    /// Sends to the next process while receiving from the previous one.
    fn pass(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let (next, last) = (&self.next, &self.last);
        let outcome = match bytes.len() <= SMALL {
            true => send(next, Kind::Data, bytes).and_then(|()| receive(last)),
            false => std::thread::scope(|scope| {
                let sending = scope.spawn(|| send(next, Kind::Data, bytes));
                let received = receive(last);
                let sent = sending
                    .join()
                    .unwrap_or_else(|_| Err(std::io::Error::other("the sender panicked")));
                sent.and(received)
            }),
        };
        match outcome {
            Ok((Kind::Data, bytes)) => Ok(bytes),
            Ok(_) => Err(self.broken("it sent something else than data".to_owned())),
            Err(why) => Err(self.broken(why.to_string())),
        }
    }

    /// Why the ring broke: the reason of the process that ended, if it arrives in time.
    fn broken(&self, why: String) -> Error {
        match self.lifeline.wait_for_reason() {
            Some(reason) => Error::msg(reason).help("the run goes on from its last checkpoint with the same command"),
            None => {
                let before = (self.rank + self.world - 1) % self.world;
                Error::new(
                    Code::DIED,
                    format!("lost the connection with process {before} of {}", self.world),
                )
                .cause(why)
            }
        }
    }
}

impl Collective for Ring {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    /// First each process sums one part of the numbers as they go round, then the sums go round.
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()> {
        let (rank, world) = (self.rank, self.world);
        let part = |number: usize| {
            let number = number % world;
            values.len() * number / world..values.len() * (number + 1) / world
        };
        let parts: Vec<_> = (0..world).map(part).collect();
        for round in 0..world - 1 {
            let (out, into) = ((rank + world - round) % world, (rank + 2 * world - round - 1) % world);
            let received = self.pass(&as_bytes(&values[parts[out].clone()]))?;
            add(&mut values[parts[into].clone()], &received).map_err(|why| self.broken(why))?;
        }
        for round in 0..world - 1 {
            let (out, into) = ((rank + 1 + world - round) % world, (rank + world - round) % world);
            let received = self.pass(&as_bytes(&values[parts[out].clone()]))?;
            copy(&mut values[parts[into].clone()], &received).map_err(|why| self.broken(why))?;
        }
        Ok(())
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut all = vec![Vec::new(); self.world];
        let mut at = self.rank;
        all[at] = bytes.to_vec();
        for _ in 1..self.world {
            let received = self.pass(&all[at])?;
            at = (at + self.world - 1) % self.world;
            all[at] = received;
        }
        Ok(all)
    }

    fn abort(&mut self, why: &str) {
        self.lifeline.abort(why);
    }
}

fn as_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn numbers(bytes: &[u8], expected: usize) -> std::result::Result<&[[u8; 4]], String> {
    match bytes.as_chunks::<4>() {
        (words, []) if words.len() == expected => Ok(words),
        _ => Err(format!(
            "{} bytes came where {} numbers were expected",
            bytes.len(),
            expected
        )),
    }
}

fn add(values: &mut [f32], bytes: &[u8]) -> std::result::Result<(), String> {
    let words = numbers(bytes, values.len())?;
    values
        .iter_mut()
        .zip(words)
        .for_each(|(value, word)| *value += f32::from_le_bytes(*word));
    Ok(())
}

fn copy(values: &mut [f32], bytes: &[u8]) -> std::result::Result<(), String> {
    let words = numbers(bytes, values.len())?;
    values
        .iter_mut()
        .zip(words)
        .for_each(|(value, word)| *value = f32::from_le_bytes(*word));
    Ok(())
}

#[cfg(test)]
mod tests;
