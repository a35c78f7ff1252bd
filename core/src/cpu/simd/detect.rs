/// A token that only detection makes.
pub(in crate::cpu) trait Detect: Sized {
    /// The token, where the machine has the instructions and the system lets this process use them.
    fn detect() -> Option<Self>;

    /// Whether there would be one. Asks the system for nothing.
    fn is_present() -> bool {
        Self::detect().is_some()
    }
}
