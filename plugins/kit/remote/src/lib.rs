//! Models behind HTTP: what the plugins `openai` and `gemini` share.
//!
//! A dialect encodes prompts into bodies and decodes bodies into replies. Everything else is here: keys, time limits,
//! errors and whether they were charged, waits, concurrency, several addresses, prices, a spending limit, and the
//! ledger.
//!
//! The decision a newcomer would question: the ledger writes a line *before* a request is sent. A process that is
//! killed at any time leaves either an answer, which is never paid for again, or a line that says that a call may have
//! been charged.
//!
//! Each call blocks a thread. A few hundred sleeping threads are cheaper than a second, asynchronous style of code.
#![forbid(unsafe_code)]

mod address;
mod attempt;
mod body;
mod budget;
mod canonical;
mod classify;
mod client;
mod clip;
mod commands;
mod date;
mod dialect;
mod events;
mod http;
mod ledger;
mod options;
mod pace;
mod pool;
mod price;
mod secret;
mod serve;
mod spending;
mod watch;

pub use address::Address;
pub use body::{lenient, said};
pub use budget::Budget;
pub use canonical::{call_key, canonical, sha256_hex};
pub use classify::{Class, Denied, Fault, classify, wait_of};
pub use client::{Answer, Client, Question};
pub use clip::{AudioFormat, base64, encode_clip};
pub use dialect::{Dialect, Digest};
pub use events::Events;
pub use http::{Body, Got, Http, Sent, Times};
pub use ledger::{Known, Ledger, Summary};
pub use options::{Common, Service};
pub use pace::{Pace, Spread};
pub use pool::Pool;
pub use price::{Price, Prices, Tokens};
pub use secret::{Secret, redact, redact_keys};
pub use serve::{Answerer, repeat_of, reply, serve};
pub use spending::{Reservation, Spending};
pub use watch::{Stop, Watch};
