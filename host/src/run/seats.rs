//! Models at work: a thread and a seat at the queue for every copy, through as many deaths as get it anywhere.

use super::queue::{Queue, Seat};
use super::{Instance, Model};
use crate::failure::Failure;
use plugin_api::Error;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A model that dies this often in a row without settling a single sample is given up.
const FRUITLESS_DEATHS: u32 = 3;

/// A model at work, on a thread that may have to be left behind.
pub struct Seated {
    pub number: usize,
    thread: JoinHandle<()>,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Seated {
    pub fn ended(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn failure(&self) -> Option<Failure> {
        self.failure.lock().ok()?.clone()
    }
}

/// Gives every copy of a model a thread and a seat at the queue.
pub fn seat_all(model: &Model, queue: &Arc<Queue>) -> Vec<Seated> {
    let seat = |(number, instance): (usize, &Instance)| {
        let failure = Arc::new(Mutex::new(None));
        let (queue, client, name, said) = (
            queue.clone(),
            instance.client.clone(),
            model.name.clone(),
            failure.clone(),
        );
        let thread = std::thread::spawn(move || {
            if let Err(why) = serve(&queue, &client, number) {
                let failure = Failure::from(why.context(format!("model `{name}` can't go on")));
                *said.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(failure);
            }
        });
        Seated {
            number,
            thread,
            failure,
        }
    };
    model.instances.iter().enumerate().map(seat).collect()
}

/// Lets a model serve until there is nothing left, through as many deaths as settle at least one sample each.
fn serve(queue: &Queue, client: &plugin_api::client::ModelClient, number: usize) -> plugin_api::Result<()> {
    let mut fruitless = 0;
    loop {
        let before = queue.settled();
        let ended = client.serve(&Seat { queue, number });
        queue.left_behind(number, ended.as_ref().err());
        match ended {
            Ok(()) if queue.done() => return Ok(()),
            _ if queue.stopped() => return Ok(()),
            ended => {
                fruitless = if queue.settled() > before { 0 } else { fruitless + 1 };
                if fruitless >= FRUITLESS_DEATHS {
                    let idle = || Error::msg("it stopped serving although prompts were left");
                    return Err(ended.err().unwrap_or_else(idle));
                }
            }
        }
    }
}
