//! denoir's C ABI. `include/denoir.h` is generated from this crate, with these comments.
//!
//! Three kinds of handles: a *model* is a file, opened once and shared; a *pipeline* is the memory and the device that
//! run a model; a *context* belongs to whoever calls and has callbacks, the message of the last failure, and a way to
//! cancel. There is no state outside of handles.
//!
//! | module | what it holds |
//! |---|---|
//! | `status` | results, and what failures become |
//! | `context` | the context, callbacks, the guard around every entry |
//! | `params` | structures whose first field is their size |
//! | `pointers` | from C's pointers to references and slices |
//! | `device`, `model`, `pipeline`, `request`, `generate`, `text` | the functions |
//!
//! Functions here are safe to test from Rust as they are called from C; the header is the contract.

// C has one namespace and its own habits of writing: names and comments here are those of the header, which says what
// the caller must do in its own words and, for all functions at once, at its top.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod context;
mod device;
mod generate;
mod model;
mod params;
mod pipeline;
mod pointers;
mod request;
mod status;
mod text;

pub use context::*;
pub use device::*;
pub use generate::*;
pub use model::*;
pub use pipeline::*;
pub use request::*;
pub use status::*;
pub use text::*;

use std::ffi::c_char;

/// The library's version, as `0.1.0`. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn denoir_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
