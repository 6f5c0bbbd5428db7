//! Rings of threads over the loopback.

use super::*;
use std::net::TcpListener;

fn settings(job: &str) -> Settings {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Settings {
        address: "127.0.0.1".to_owned(),
        port: free.min(60_000),
        job: job.to_owned(),
        ..Settings::default()
    }
}

/// Runs `work` in each process of a ring of `world`.
fn ring<T: Send>(world: usize, job: &str, work: impl Fn(Ring) -> T + Sync) -> Vec<T> {
    let settings = settings(job);
    std::thread::scope(|scope| {
        let (settings, work) = (&settings, &work);
        let threads: Vec<_> = (0..world)
            .map(|rank| scope.spawn(move || work(Ring::connect(settings, rank, world).unwrap())))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn sums_are_the_same_everywhere() {
    for world in [2, 3, 5] {
        for length in [0, 1, 7, 100_000] {
            let sums = ring(world, "sums", |mut ring| {
                let mut values: Vec<f32> = (0..length)
                    .map(|index| (index % 13) as f32 + ring.rank() as f32)
                    .collect();
                ring.all_reduce(&mut values).unwrap();
                values
            });
            let ranks: usize = (0..world).sum();
            for sum in &sums {
                let expected = |index: usize| ((index % 13) * world + ranks) as f32;
                assert!(
                    sum.iter().enumerate().all(|(index, value)| *value == expected(index)),
                    "{world} {length}"
                );
            }
        }
    }
}

#[test]
fn bytes_come_in_the_order_of_ranks() {
    let gathered = ring(3, "bytes", |mut ring| {
        let mine = vec![ring.rank() as u8; ring.rank() * 40_000];
        let all = ring.gather(&mine).unwrap();
        let mut word = format!("from {}", ring.rank()).into_bytes();
        ring.broadcast(&mut word, 1).unwrap();
        ring.barrier().unwrap();
        (all, word)
    });
    for (all, word) in gathered {
        let expected: Vec<Vec<u8>> = (0..3).map(|rank| vec![rank as u8; rank * 40_000]).collect();
        assert_eq!(all, expected);
        assert_eq!(word, b"from 1");
    }
}

#[test]
fn one_that_fails_ends_the_others_with_its_message() {
    let errors = ring(3, "fails", |mut ring| {
        if ring.rank() == 1 {
            ring.abort("row `x` is broken");
            return None;
        }
        Some(ring.barrier().unwrap_err().to_string())
    });
    for error in errors.into_iter().flatten() {
        assert_eq!(error, "process 1 failed: row `x` is broken");
    }
}

#[test]
fn a_process_that_is_done_disturbs_nobody() {
    let outcomes = ring(2, "done", |mut ring| {
        ring.barrier().unwrap();
        ring.rank()
    });
    assert_eq!(outcomes, [0, 1]);
}
