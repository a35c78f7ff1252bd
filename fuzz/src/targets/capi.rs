//! A host that calls the C ABI: bytes choose calls and arguments, also inside callbacks. The host keeps its part of the
//! contract: no handle is freed twice or in use, and every pointer is NULL or points to what the header says.

#[path = "capi/draw.rs"]
mod draw;
#[path = "capi/host.rs"]
mod host;

use crate::input::Input;

/// Calls of a sequence at most.
const CALLS: usize = 24;

pub(crate) fn run(input: &[u8]) {
    let host = host::Host::new(Input::new(input), draw::generate);
    for _ in 0..CALLS {
        if host.input.borrow().is_empty() {
            break;
        }
        host.call();
    }
}
