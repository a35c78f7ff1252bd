//! The built-in demo model.

/// Bytes aligned to 64, as the engine requires.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!("../../fixtures/demo/emoji.gguf"));

/// Classes that it draws by default; several images take turns.
pub(crate) const SHOWCASE: [&str; 24] = [
    "cat-face",
    "strawberry",
    "apple",
    "rocket",
    "guitar",
    "house",
    "heart",
    "butterfly",
    "hamburger",
    "penguin",
    "clock",
    "tulip",
    "santa",
    "camera",
    "pizza",
    "octopus",
    "car",
    "mushroom",
    "astronaut",
    "rose",
    "pineapple",
    "snowman",
    "balloon",
    "key",
];

/// The model file.
pub(crate) fn bytes() -> &'static [u8] {
    &BYTES.0
}
