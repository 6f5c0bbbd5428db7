//! `text` from outside, as one binary, so that it is linked once.

mod chat;
mod reading;
mod sentencepiece;
