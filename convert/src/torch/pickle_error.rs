//! Why a pickle was refused.

use core::fmt;

/// Why a pickle was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PickleError {
    /// The pickle ends inside an instruction.
    Truncated {
        /// Offset in bytes from the start.
        offset: u64,
    },
    /// An instruction that checkpoints do not need.
    Opcode {
        /// The instruction's byte.
        code: u8,
        /// Offset in bytes from the start.
        offset: u64,
    },
    /// A class or function that is not on the list.
    Class {
        /// Its module.
        module: String,
        /// Its name.
        name: String,
    },
    /// A protocol above 5.
    Protocol(u8),
    /// A string is not UTF-8.
    NotUtf8 {
        /// Offset in bytes from the start.
        offset: u64,
    },
    /// An instruction finds the wrong values on the stack, or too few.
    Operand {
        /// What was expected.
        wanted: &'static str,
        /// Offset in bytes from the start.
        offset: u64,
    },
    /// A reference to a memo entry that does not exist.
    Memo(u32),
    /// A limit on size or depth is exceeded.
    TooLarge(&'static str),
    /// The caller asked to stop.
    Stopped,
}

impl fmt::Display for PickleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use PickleError::*;
        match self {
            Truncated { offset } => write!(f, "the pickle ends early, at byte {offset}"),
            Opcode { code, offset } => {
                write!(f, "pickle opcode 0x{code:02x} at byte {offset} is not allowed in a checkpoint")
            }
            Class { module, name } => write!(
                f,
                "the pickle refers to {module:?}.{name:?}, which is not on the list of plain data; \
                 save the state dict alone, or as safetensors"
            ),
            Protocol(v) => write!(f, "pickle protocol {v} is not supported"),
            NotUtf8 { offset } => write!(f, "a string in the pickle at byte {offset} is not UTF-8"),
            Operand { wanted, offset } => write!(f, "damaged pickle: no {wanted} for the opcode at byte {offset}"),
            Memo(index) => write!(f, "damaged pickle: memo entry {index} does not exist"),
            Stopped => f.write_str("stopped"),
            TooLarge(what) => write!(f, "the pickle has too many {what}"),
        }
    }
}

impl core::error::Error for PickleError {}
