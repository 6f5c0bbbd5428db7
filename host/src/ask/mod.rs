//! The one way to ask a model: a pool that every asker feeds.
//!
//! The run's own prompts, a transcriber's clips, the audio check and every `--role` model go through a [`pool::Pool`].
//! It batches what several threads ask, enforces each answer's deadline, tries prompts one by one after a crash until
//! it knows which one caused it, restarts what can be restarted, and abandons what hangs without stopping the run. A
//! [`judge_server::JudgeServer`] does the same for judges, whose questions to models go to those pools.

pub mod audio_check;
pub mod judge_server;
pub mod pool;
mod queue;
pub mod roles;
pub mod transcriber;
