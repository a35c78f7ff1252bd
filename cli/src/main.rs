//! Command line of denoir.
fn main() {}
