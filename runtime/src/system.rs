//! Facts about the machine from the operating system. Linux has them in text files; elsewhere few are known.

use std::fs;

use crate::bytes::reserved;
use crate::reserve::Watch;

/// The processor's name.
pub(crate) fn cpu_name() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    // x86 has "model name"; of a Jetson, only the board has a name.
    let name = field(&cpuinfo, "model name").or_else(|| field(&cpuinfo, "Model")).map(str::to_owned);
    let board = || fs::read_to_string("/proc/device-tree/model").ok();
    let name = name.or_else(board).map(|name| name.trim_end_matches('\0').trim().to_owned());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Threads that run at once.
pub(crate) fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Looks whether the system has the memory that a thread takes as it starts: the standard library ends the process if a
/// thread cannot have its handle or the stack of its signal handlers, which it allocates past any allocator of a program.
///
/// # Errors
/// The system's, if it has not.
pub(crate) fn room_for_thread() -> std::io::Result<()> {
    /// The standard library's default stack, and more than all else.
    const BYTES: usize = (2 << 20) + (1 << 20);
    let watch = Watch::start();
    let small = reserved::<u8>(1 << 12).is_ok() && watch.check().is_ok();
    memmap2::MmapOptions::new().len(BYTES).no_reserve_swap().map_anon()?;
    if small { Ok(()) } else { Err(std::io::ErrorKind::OutOfMemory.into()) }
}

/// Memory in bytes.
pub(crate) fn memory_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes: u64 = field(&meminfo, "MemTotal")?.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The value of the first line `key : value`.
fn field<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 8\nmodel name\t: Some CPU\nMemTotal:  123 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU"));
        assert_eq!(field(text, "MemTotal"), Some("123 kB"));
        assert_eq!(field(text, "absent"), None);
    }
}
