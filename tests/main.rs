//! The host from outside, with real shared libraries. One binary, so that it is linked once.

mod audio_changes;
mod boundary;
mod browser;
mod building;
mod circles;
mod compare;
mod conformance;
mod docs;
mod doctor;
mod exchange;
mod faithfulness;
mod faults;
mod head_to_head;
mod hearing;
mod hub_server;
mod identity;
mod judges;
mod loras;
mod pages;
mod pairs;
mod parity;
mod passes;
mod plugins;
mod pull;
mod python_engine;
mod runs;
mod same_bits;

mod services;
mod shards;
mod support;
mod third_party;
mod tidy;
mod train;
mod versions;
mod words;
