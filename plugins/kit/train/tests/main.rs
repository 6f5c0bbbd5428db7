//! Training beside what a reference recorded of it.

mod goldens;
