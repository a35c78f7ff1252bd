//! Ctrl-C handling: the command stops at the next step and removes its temporary files.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::error::Error;

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Time that a command has for its temporary files after a second signal.
const PATIENCE: Duration = Duration::from_secs(1);

/// Catches termination signals. A second one ends the program a moment later, whatever it does.
pub(crate) fn catch() {
    // Without a handler the program still works; it then ends as any other does.
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::thread::sleep(PATIENCE);
            exit(130);
        }
    });
}

/// Returns whether the user asked to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// # Errors
/// [`Error::Interrupted`] once the user asked to stop.
pub(crate) fn check() -> Result<(), Error> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}

/// The flag that is set when the user asks to stop.
pub(crate) fn flag() -> Arc<AtomicBool> {
    Arc::clone(&REQUESTED)
}
