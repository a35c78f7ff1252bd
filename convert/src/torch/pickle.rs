//! Reads a pickle as data: the opcodes and classes found in checkpoints, and nothing else.
//!
//! No class is ever looked up and no function is ever called. An unlisted class or an unknown opcode is an error that
//! names it. Values live in one arena and refer to each other by index, so nesting costs no recursion and a reference
//! costs four bytes. Every value, entry and copy is charged to one budget, a multiple of the pickle's length, so memory
//! and time are too.

use std::collections::HashMap;

use denoir_core::checked::{Cursor, Short};

use super::classes::Class;
use super::pickle_error::PickleError;
use super::value::{BLOCK, ENTRY, ITEM, Id, MEMO, Storage, TensorRef, VALUE, Value};

/// Largest pickle in bytes. That of a full Lightning checkpoint of PixelGen-XL is under 1 MB.
pub(super) const MAX_BYTES: u64 = 256 << 20;
/// Maximum number of values in the arena, stack slots and memo entries.
const MAX_VALUES: usize = 1 << 22;
/// Memory that values may take: so many bytes for each of the pickle, and so many more. Real pickles take 10 to 20.
const MEMORY_PER_BYTE: usize = 32;
const MORE_MEMORY: usize = 16 << 20;
/// Instructions between two questions whether to stop.
const STOP_EVERY: usize = 1 << 16;
/// Maximum number of marks open at once: the depth of nested containers under construction.
const MAX_DEPTH: usize = 1000;
/// Maximum number of dimensions of a tensor.
const MAX_RANK: usize = 8;

/// A fully read pickle.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle. `stop` is asked from time to time.
    pub(crate) fn parse(bytes: &'a [u8], stop: &dyn Fn() -> bool) -> Result<Self, PickleError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(PickleError::TooLarge("bytes"));
        }
        Machine {
            cursor: Cursor::new(bytes),
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            budget: MEMORY_PER_BYTE.saturating_mul(bytes.len()).saturating_add(MORE_MEMORY),
        }
        .run(stop)
    }

    pub(crate) fn root(&self) -> &Value<'a> {
        self.value(self.root)
    }

    pub(crate) fn value(&self, id: Id) -> &Value<'a> {
        // Every `Id` comes from `Machine::add`, so the index exists.
        self.values.get(id.0 as usize).unwrap_or(&Value::Opaque)
    }

    /// The entries of a dict whose keys are strings; empty for any other value. If a key is set twice, the last one
    /// counts.
    pub(crate) fn entries<'p>(&'p self, value: &'p Value<'a>) -> impl Iterator<Item = (&'a str, &'p Value<'a>)> {
        let pairs = match value {
            Value::Dict(pairs) => pairs.as_slice(),
            _ => &[],
        };
        pairs.iter().filter_map(|&(key, value)| match self.value(key) {
            Value::Str(key) => Some((*key, self.value(value))),
            _ => None,
        })
    }

    /// The value at `key` of a dict.
    pub(crate) fn get<'p>(&'p self, value: &'p Value<'a>, key: &str) -> Option<&'p Value<'a>> {
        self.entries(value).filter(|(k, _)| *k == key).last().map(|(_, v)| v)
    }
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    /// Offset of the current instruction.
    at: u64,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Stack heights at which a mark was set.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Bytes of memory that may still be taken.
    budget: usize,
}

impl<'a> Machine<'a> {
    fn run(mut self, stop: &dyn Fn() -> bool) -> Result<Pickle<'a>, PickleError> {
        for step in 1usize.. {
            if step % STOP_EVERY == 0 && stop() {
                return Err(PickleError::Stopped);
            }
            self.at = self.cursor.offset();
            match self.cursor.u8().map_err(truncated)? {
                b'.' => break,
                code => self.step(code)?,
            }
        }
        let root = self.pop("value")?;
        Ok(Pickle { values: self.values, root })
    }

    /// Executes one instruction. A flat table: one line per allowed opcode.
    fn step(&mut self, code: u8) -> Result<(), PickleError> {
        match code {
            0x80 => self.protocol(),                                                    // PROTO
            0x95 => self.cursor.skip(8).map_err(truncated),                             // FRAME
            b'(' => self.mark(),                                                        // MARK
            b'0' => self.pop("value").map(drop),                                        // POP
            b'1' => self.pop_mark().map(drop),                                          // POP_MARK
            b'2' => self.top().and_then(|id| self.push(id)),                            // DUP
            b'N' | 0x88 | 0x89 => self.add(Value::Opaque),                              // NONE, NEWTRUE, NEWFALSE
            b'J' => self.scalar(|c| c.array().map(|b| i32::from_le_bytes(b).into())),   // BININT
            b'K' => self.scalar(|c| c.u8().map(i64::from)),                             // BININT1
            b'M' => self.scalar(|c| c.u16().map(i64::from)),                            // BININT2
            0x8a => self.long(),                                                        // LONG1
            b'G' => self.float(),                                                       // BINFLOAT
            0x8c => self.string(|c| c.u8().map(u64::from)),                             // SHORT_BINUNICODE
            b'X' => self.string(|c| c.u32().map(u64::from)),                            // BINUNICODE
            0x8d => self.string(Cursor::u64),                                           // BINUNICODE8
            b'C' => self.blob(|c| c.u8().map(u64::from)),                               // SHORT_BINBYTES
            b'B' => self.blob(|c| c.u32().map(u64::from)),                              // BINBYTES
            0x8e => self.blob(Cursor::u64),                                             // BINBYTES8
            b')' => self.add(Value::Tuple(Box::new([]))),                               // EMPTY_TUPLE
            b't' => self.pop_mark().and_then(|ids| self.add(Value::Tuple(ids.into()))), // TUPLE
            0x85 => self.tuple(1),                                                      // TUPLE1
            0x86 => self.tuple(2),                                                      // TUPLE2
            0x87 => self.tuple(3),                                                      // TUPLE3
            b']' => self.add(Value::List(Vec::new())),                                  // EMPTY_LIST
            b'l' => self.pop_mark().and_then(|ids| self.add(Value::List(ids))),         // LIST
            b'a' => self.pop("list item").and_then(|id| self.append(&[id])),            // APPEND
            b'e' => self.pop_mark().and_then(|ids| self.append(&ids)),                  // APPENDS
            b'}' => self.add(Value::Dict(Vec::new())),                                  // EMPTY_DICT
            b'd' => self.dict(),                                                        // DICT
            b's' => self.set_item(),                                                    // SETITEM
            b'u' => self.pop_mark().and_then(|ids| self.set_items(&ids)),               // SETITEMS
            0x8f => self.add(Value::Opaque),                                            // EMPTY_SET
            0x90 => self.pop_mark().map(drop),                                          // ADDITEMS
            0x91 => self.pop_mark().and_then(|_| self.add(Value::Opaque)),              // FROZENSET
            b'c' => self.global(),                                                      // GLOBAL
            0x93 => self.stack_global(),                                                // STACK_GLOBAL
            b'R' | 0x81 => self.reduce(),                                               // REDUCE, NEWOBJ
            b'b' => self.build(),                                                       // BUILD
            b'Q' => self.persistent(),                                                  // BINPERSID
            b'h' => self.recall(|c| c.u8().map(u32::from)),                             // BINGET
            b'j' => self.recall(Cursor::u32),                                           // LONG_BINGET
            b'q' => self.memorize(|c| c.u8().map(u32::from)),                           // BINPUT
            b'r' => self.memorize(Cursor::u32),                                         // LONG_BINPUT
            0x94 => self.memoize(),                                                     // MEMOIZE
            code => Err(PickleError::Opcode { code, offset: self.at }),
        }
    }

    // ---- stack and arena ----------------------------------------------------------------------------------------

    fn wanted(&self, wanted: &'static str) -> PickleError {
        PickleError::Operand { wanted, offset: self.at }
    }

    /// Adds a new value to the arena and the stack.
    fn add(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        let id = Id(self.values.len() as u32);
        if self.values.len() >= MAX_VALUES {
            return Err(PickleError::TooLarge("values"));
        }
        self.charge(VALUE + value.heap_bytes())?;
        self.values.push(value);
        self.push(id)
    }

    fn push(&mut self, id: Id) -> Result<(), PickleError> {
        if self.stack.len() >= MAX_VALUES {
            return Err(PickleError::TooLarge("values on its stack"));
        }
        self.stack.push(id);
        Ok(())
    }

    /// Takes memory that is about to be used out of the budget.
    fn charge(&mut self, bytes: usize) -> Result<(), PickleError> {
        self.budget = self.budget.checked_sub(bytes).ok_or(PickleError::TooLarge("values for its length"))?;
        Ok(())
    }

    fn pop(&mut self, wanted: &'static str) -> Result<Id, PickleError> {
        // What lies below the last mark belongs to a container that is still being filled.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.wanted(wanted));
        }
        self.stack.pop().ok_or_else(|| self.wanted(wanted))
    }

    fn top(&self) -> Result<Id, PickleError> {
        self.stack.last().copied().ok_or_else(|| self.wanted("value"))
    }

    fn value(&self, id: Id) -> &Value<'a> {
        self.values.get(id.0 as usize).unwrap_or(&Value::Opaque)
    }

    fn mark(&mut self) -> Result<(), PickleError> {
        if self.marks.len() >= MAX_DEPTH {
            return Err(PickleError::TooLarge("nested values"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let height = self.marks.pop().ok_or_else(|| self.wanted("mark"))?;
        Ok(self.stack.split_off(height.min(self.stack.len())))
    }

    // ---- scalars ------------------------------------------------------------------------------------------------

    fn protocol(&mut self) -> Result<(), PickleError> {
        match self.cursor.u8().map_err(truncated)? {
            0..=5 => Ok(()),
            version => Err(PickleError::Protocol(version)),
        }
    }

    fn scalar(&mut self, read: impl Fn(&mut Cursor<'a>) -> Result<i64, Short>) -> Result<(), PickleError> {
        let value = read(&mut self.cursor).map_err(truncated)?;
        self.add(Value::Int(value))
    }

    /// A little-endian two's-complement integer. One beyond 64 bits is a random seed, not a size.
    fn long(&mut self) -> Result<(), PickleError> {
        let len = self.cursor.u8().map_err(truncated)?;
        let bytes = self.cursor.take(len.into()).map_err(truncated)?;
        if bytes.len() > 8 {
            return self.add(Value::Opaque);
        }
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.add(Value::Int(i64::from_le_bytes(wide)))
    }

    fn float(&mut self) -> Result<(), PickleError> {
        let value = f64::from_be_bytes(self.cursor.array().map_err(truncated)?);
        self.add(Value::Float(value))
    }

    fn text(&mut self, len: u64) -> Result<&'a str, PickleError> {
        let offset = self.at;
        let bytes = self.cursor.take(len).map_err(truncated)?;
        core::str::from_utf8(bytes).map_err(|_| PickleError::NotUtf8 { offset })
    }

    fn string(&mut self, len: impl Fn(&mut Cursor<'a>) -> Result<u64, Short>) -> Result<(), PickleError> {
        let len = len(&mut self.cursor).map_err(truncated)?;
        let text = self.text(len)?;
        self.add(Value::Str(text))
    }

    fn blob(&mut self, len: impl Fn(&mut Cursor<'a>) -> Result<u64, Short>) -> Result<(), PickleError> {
        let len = len(&mut self.cursor).map_err(truncated)?;
        self.cursor.skip(len).map_err(truncated)?;
        self.add(Value::Opaque)
    }

    // ---- containers ---------------------------------------------------------------------------------------------

    fn tuple(&mut self, len: usize) -> Result<(), PickleError> {
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.pop("tuple item")?);
        }
        items.reverse();
        self.add(Value::Tuple(items.into()))
    }

    fn append(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let target = self.top()?;
        self.charge(BLOCK + ITEM * items.len())?;
        match self.values.get_mut(target.0 as usize) {
            Some(Value::List(list)) => list.extend_from_slice(items),
            Some(Value::Opaque) => {}
            _ => return Err(self.wanted("list")),
        }
        Ok(())
    }

    fn dict(&mut self) -> Result<(), PickleError> {
        let items = self.pop_mark()?;
        self.add(Value::Dict(Vec::new()))?;
        self.set_items(&items)
    }

    fn set_item(&mut self) -> Result<(), PickleError> {
        let value = self.pop("dict value")?;
        let key = self.pop("dict key")?;
        self.set_items(&[key, value])
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.wanted("dict value"));
        }
        let target = self.top()?;
        self.charge(BLOCK + ENTRY * pairs.len())?;
        match self.values.get_mut(target.0 as usize) {
            Some(Value::Dict(dict)) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Some(Value::Opaque) => {}
            _ => return Err(self.wanted("dict")),
        }
        Ok(())
    }

    // ---- memo ---------------------------------------------------------------------------------------------------

    fn recall(&mut self, read: impl Fn(&mut Cursor<'a>) -> Result<u32, Short>) -> Result<(), PickleError> {
        let index = read(&mut self.cursor).map_err(truncated)?;
        let id = self.memo.get(&index).copied().ok_or(PickleError::Memo(index))?;
        self.push(id)
    }

    fn memorize(&mut self, read: impl Fn(&mut Cursor<'a>) -> Result<u32, Short>) -> Result<(), PickleError> {
        let index = read(&mut self.cursor).map_err(truncated)?;
        self.remember(index)
    }

    fn memoize(&mut self) -> Result<(), PickleError> {
        self.remember(self.memo.len() as u32)
    }

    fn remember(&mut self, index: u32) -> Result<(), PickleError> {
        let id = self.top()?;
        if self.memo.len() >= MAX_VALUES {
            return Err(PickleError::TooLarge("memo entries"));
        }
        if self.memo.insert(index, id).is_none() {
            self.charge(MEMO)?;
        }
        Ok(())
    }

    // ---- classes: data that looks like code ---------------------------------------------------------------------

    fn global(&mut self) -> Result<(), PickleError> {
        let module = self.line()?;
        let name = self.line()?;
        self.class(module, name)
    }

    fn stack_global(&mut self) -> Result<(), PickleError> {
        let name = self.pop("class name")?;
        let module = self.pop("module name")?;
        match (self.value(module), self.value(name)) {
            (&Value::Str(module), &Value::Str(name)) => self.class(module, name),
            _ => Err(self.wanted("class name")),
        }
    }

    fn class(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let class = Class::find(module, name);
        // The names come from the file, so an error shows no more of them than a line holds.
        let cut = |s: &str| s.chars().take(120).collect();
        self.add(Value::Class(class.ok_or_else(|| PickleError::Class { module: cut(module), name: cut(name) })?))
    }

    /// Text up to the next line feed.
    fn line(&mut self) -> Result<&'a str, PickleError> {
        let mut ahead = self.cursor;
        let mut len = 0;
        while ahead.u8().map_err(truncated)? != b'\n' {
            len += 1;
        }
        let text = self.text(len)?;
        self.cursor = ahead;
        Ok(text)
    }

    /// "Calls" a class: builds the data that it stands for.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let args = self.pop("arguments")?;
        let class = self.pop("class")?;
        let (&Value::Class(class), Value::Tuple(args)) = (self.value(class), self.value(args)) else {
            return Err(self.wanted("class and arguments"));
        };
        // No more are looked at: a tuple may have millions, and may be passed as often.
        let args: Vec<Id> = args.iter().take(4).copied().collect();
        match class {
            Class::RebuildTensor => {
                let tensor = self.tensor(&args).ok_or_else(|| self.wanted("tensor"))?;
                self.add(Value::Tensor(Box::new(tensor)))
            }
            // The first argument is the tensor itself.
            Class::RebuildParameter => {
                let inner = args.first().copied().ok_or_else(|| self.wanted("tensor"))?;
                self.push(inner)
            }
            Class::Dict => {
                let pairs = args.first().map_or(Ok(Vec::new()), |&id| self.pairs(id))?;
                self.add(Value::Dict(pairs))
            }
            Class::Storage(_) | Class::Inert => self.add(Value::Opaque),
        }
    }

    /// The items of a list of pairs, as Python 2's OrderedDict is pickled.
    fn pairs(&mut self, id: Id) -> Result<Vec<(Id, Id)>, PickleError> {
        if let Value::List(items) = self.value(id) {
            // Those that are no pairs cost time at least.
            self.charge(ITEM * items.len())?;
        }
        let Value::List(items) = self.value(id) else { return Ok(Vec::new()) };
        let pair = |&item: &Id| match self.value(item) {
            Value::Tuple(pair) => pair.first().copied().zip(pair.get(1).copied()),
            Value::List(pair) => pair.first().copied().zip(pair.get(1).copied()),
            _ => None,
        };
        Ok(items.iter().filter_map(pair).collect())
    }

    /// (storage, offset, shape, stride, ...)
    fn tensor(&self, args: &[Id]) -> Option<TensorRef<'a>> {
        let [storage, offset, shape, stride, ..] = args else { return None };
        let Value::Storage(storage) = self.value(*storage) else { return None };
        let storage = **storage;
        let &Value::Int(offset) = self.value(*offset) else { return None };
        let (shape, stride) = (self.sizes(*shape)?, self.sizes(*stride)?);
        let sound = shape.len() == stride.len() && shape.len() <= MAX_RANK;
        sound.then_some(TensorRef { storage, offset: offset.try_into().ok()?, shape, stride })
    }

    /// A tuple of numbers that are not negative.
    fn sizes(&self, id: Id) -> Option<Vec<u64>> {
        let Value::Tuple(items) = self.value(id) else { return None };
        let size = |&item: &Id| match *self.value(item) {
            Value::Int(size) => u64::try_from(size).ok(),
            _ => None,
        };
        items.iter().take(MAX_RANK + 1).map(size).collect()
    }

    /// `('storage', class, key, device, length)`.
    fn persistent(&mut self) -> Result<(), PickleError> {
        let id = self.pop("storage")?;
        let storage = match self.value(id) {
            Value::Tuple(items) => self.storage(items),
            _ => None,
        };
        let storage = storage.ok_or_else(|| self.wanted("storage"))?;
        self.add(Value::Storage(Box::new(storage)))
    }

    fn storage(&self, items: &[Id]) -> Option<Storage<'a>> {
        let [kind, class, key, _device, len] = items else { return None };
        match (self.value(*kind), self.value(*class), self.value(*key), self.value(*len)) {
            (Value::Str("storage"), &Value::Class(Class::Storage(ty)), &Value::Str(key), &Value::Int(len)) => {
                Some(Storage { ty, key, len: len.try_into().ok()? })
            }
            _ => None,
        }
    }

    /// Sets the state of an object. A Namespace keeps its attributes; those of a dict (torch's `_metadata`) and of
    /// opaque objects are dropped.
    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop("state")?;
        let target = self.top()?;
        match (self.value(target), self.value(state)) {
            (Value::Dict(dict), Value::Dict(attributes)) if dict.is_empty() => {
                let bytes = BLOCK + ENTRY * attributes.len();
                self.charge(bytes)?;
                let attributes = match self.value(state) {
                    Value::Dict(attributes) => attributes.clone(),
                    _ => Vec::new(),
                };
                if let Some(Value::Dict(dict)) = self.values.get_mut(target.0 as usize) {
                    *dict = attributes;
                }
                Ok(())
            }
            (Value::Dict(_) | Value::Opaque | Value::Tensor(_), _) => Ok(()),
            _ => Err(self.wanted("object")),
        }
    }
}

fn truncated(short: Short) -> PickleError {
    PickleError::Truncated { offset: short.offset }
}
