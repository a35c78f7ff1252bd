//! denoir's C ABI. `include/denoir.h` is generated from this crate and its doc comments.
//!
//! The main handles are the *model*, an open file that threads share; the *pipeline*, the memory and the device that
//! run a model; and the *context* of one caller, which holds callbacks, the last error message and the cancellation
//! state. The library keeps no state outside of handles.
//!
//! | module | contents |
//! |---|---|
//! | `status` | statuses, and the mapping from errors to them |
//! | `context` | the context, callbacks, the guard around every entry point |
//! | `params` | structures whose first field is their size |
//! | `pointers` | conversion of C pointers to references and slices |
//! | `device`, `model`, `pipeline`, `request`, `generate`, `text` | the functions |
//!
//! Rust tests may call these functions as C does; the header is the contract.

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

/// A host must not be ended because memory is short.
#[global_allocator]
static ALLOCATOR: denoir::Reserve = denoir::Reserve::for_library();

/// Returns the library's version, such as `0.1.0`; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn denoir_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
