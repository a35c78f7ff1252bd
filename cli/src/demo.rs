//! The model that is built into the program.

/// Bytes at a multiple of 64, as the engine wants a model.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!("../../fixtures/demo/emoji.gguf"));

/// What it draws when no class is asked for, where it has a class of this name.
pub(crate) const DEFAULT_CLASS: &str = "cat-face";

/// The model file.
pub(crate) fn bytes() -> &'static [u8] {
    &BYTES.0
}
