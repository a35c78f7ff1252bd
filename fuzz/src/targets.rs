//! The targets, each with what it promises beyond the promises of all.

pub(crate) mod capi;
pub(crate) mod config;
pub(crate) mod embeddings;
pub(crate) mod gguf;
pub(crate) mod op;
pub(crate) mod pickle;
pub(crate) mod safetensors;
pub(crate) mod tokenizer;
pub(crate) mod torch;
