//! qwen3
