pub mod audio;
pub mod failure;
pub mod hub;
pub mod plugin;
pub mod registry;
pub mod scaffold;
