pub mod audio;
pub mod failure;
pub mod registry;
