//! The host from outside, with real shared libraries. One binary, so that it is linked once.

mod boundary;
mod building;
mod circles;
mod compare;
mod conformance;
mod docs;
mod doctor;
mod exchange;
mod faults;
mod hearing;
mod hub_server;
mod identity;
mod loras;
mod pairs;
mod parity;
mod passes;
mod plugins;
mod pull;
mod runs;
mod same_bits;
mod support;
mod third_party;
mod tidy;
mod train;
mod versions;
