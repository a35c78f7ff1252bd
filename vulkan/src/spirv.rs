//! Reads from compiled shaders what they ask of a device, for tests.

use std::collections::HashMap;

use crate::shader::Shader;

/// Numbers of the SPIR-V specification: operations, decorations, storage classes, an execution mode and a built-in.
mod op {
    pub(super) const EXECUTION_MODE: u32 = 16;
    pub(super) const CAPABILITY: u32 = 17;
    pub(super) const TYPE_BOOL: u32 = 20;
    pub(super) const TYPE_INT: u32 = 21;
    pub(super) const TYPE_FLOAT: u32 = 22;
    pub(super) const TYPE_VECTOR: u32 = 23;
    pub(super) const TYPE_ARRAY: u32 = 28;
    pub(super) const TYPE_STRUCT: u32 = 30;
    pub(super) const TYPE_POINTER: u32 = 32;
    pub(super) const CONSTANT: u32 = 43;
    pub(super) const CONSTANTS: std::ops::RangeInclusive<u32> = 41..=52;
    pub(super) const VARIABLE: u32 = 59;
    pub(super) const DECORATE: u32 = 71;
    pub(super) const MEMBER_DECORATE: u32 = 72;
}
const SPEC_ID: u32 = 1;
const BUILT_IN: u32 = 11;
const BINDING: u32 = 33;
const OFFSET: u32 = 35;
const WORKGROUP_SIZE: u32 = 25;
const LOCAL_SIZE: u32 = 17;
const WORKGROUP: u32 = 4;
const PUSH_CONSTANT: u32 = 9;

/// A shader, with its specialisation constants set.
pub(crate) struct Module {
    /// Words of the instructions that define a type, a constant or a variable, by result.
    defined: HashMap<u32, Vec<u32>>,
    /// `[target, decoration, value]`.
    decorations: Vec<[u32; 3]>,
    /// `[struct, member, bytes from its start]`.
    offsets: Vec<[u32; 3]>,
    /// Numbers of the capabilities.
    pub(crate) capabilities: Vec<u32>,
    /// `0x00010300` is SPIR-V 1.3.
    pub(crate) version: u32,
    local_size: [u64; 3],
    constants: HashMap<u32, u64>,
}

impl Module {
    pub(crate) fn new(shader: Shader, constants: impl IntoIterator<Item = (u32, u32)>) -> Module {
        let words: Vec<u32> = shader.code().as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let mut module = Module {
            defined: HashMap::new(),
            decorations: Vec::new(),
            offsets: Vec::new(),
            capabilities: Vec::new(),
            version: words[1],
            local_size: [1; 3],
            constants: constants.into_iter().map(|(id, value)| (id, value.into())).collect(),
        };
        let mut rest = &words[5..];
        while let Some(&first) = rest.first() {
            let (instruction, after) = rest.split_at((first >> 16) as usize);
            module.note(first & 0xffff, instruction);
            rest = after;
        }
        module
    }

    fn note(&mut self, code: u32, words: &[u32]) {
        match code {
            op::CAPABILITY => self.capabilities.push(words[1]),
            op::EXECUTION_MODE if words[2] == LOCAL_SIZE => {
                self.local_size = [words[3], words[4], words[5]].map(u64::from)
            }
            op::DECORATE if words.len() > 3 => self.decorations.push([words[1], words[2], words[3]]),
            op::MEMBER_DECORATE if words[3] == OFFSET => self.offsets.push([words[1], words[2], words[4]]),
            op::TYPE_BOOL..=op::TYPE_POINTER => drop(self.defined.insert(words[1], words.to_vec())),
            op::VARIABLE => drop(self.defined.insert(words[2], words.to_vec())),
            _ if op::CONSTANTS.contains(&code) => drop(self.defined.insert(words[2], words.to_vec())),
            _ => {}
        }
    }

    /// Invocations of a workgroup, in each dimension.
    pub(crate) fn threads(&self) -> [u64; 3] {
        match self.decorations.iter().find(|&&[_, what, value]| (what, value) == (BUILT_IN, WORKGROUP_SIZE)) {
            Some([id, ..]) => {
                let parts = &self.defined[id][3..];
                [parts[0], parts[1], parts[2]].map(|part| self.value(part))
            }
            None => self.local_size,
        }
    }

    /// Bytes of shared memory.
    pub(crate) fn shared_bytes(&self) -> u64 {
        self.variables(WORKGROUP).map(|pointed| self.size(pointed)).sum()
    }

    /// Bytes of push constants.
    pub(crate) fn push_bytes(&self) -> u64 {
        self.variables(PUSH_CONSTANT).map(|pointed| self.size(pointed)).sum()
    }

    /// One more than the highest binding.
    pub(crate) fn bindings(&self) -> u32 {
        let bindings = self.decorations.iter().filter(|[_, what, _]| *what == BINDING);
        bindings.map(|[_, _, binding]| binding + 1).max().unwrap_or(0)
    }

    /// The types of the variables of a storage class.
    fn variables(&self, class: u32) -> impl Iterator<Item = u32> {
        let variables =
            self.defined.values().filter(move |words| words[0] & 0xffff == op::VARIABLE && words[3] == class);
        variables.map(|words| self.defined[&words[1]][3])
    }

    /// Bytes of a type.
    fn size(&self, of: u32) -> u64 {
        let words = &self.defined[&of];
        match words[0] & 0xffff {
            op::TYPE_BOOL => 4,
            op::TYPE_INT | op::TYPE_FLOAT => u64::from(words[2] / 8),
            op::TYPE_VECTOR => self.size(words[2]) * u64::from(words[3]),
            op::TYPE_ARRAY => self.size(words[2]) * self.value(words[3]),
            op::TYPE_STRUCT => {
                let last = self.offsets.iter().filter(|[id, ..]| *id == of).max_by_key(|[.., at]| at);
                last.map_or(0, |[_, member, at]| u64::from(*at) + self.size(words[2 + *member as usize]))
            }
            other => panic!("a type of operation {other}"),
        }
    }

    /// A constant's value.
    fn value(&self, id: u32) -> u64 {
        let (words, spec) =
            (&self.defined[&id], self.decorations.iter().find(|[of, what, _]| (*of, *what) == (id, SPEC_ID)));
        if let Some(value) = spec.and_then(|[.., number]| self.constants.get(number)) {
            return *value;
        }
        let of = |i: usize| self.value(words[i]);
        match (words[0] & 0xffff, words.get(3).copied().unwrap_or(0)) {
            (41 | 48, _) => 1,
            (42 | 49, _) => 0,
            (op::CONSTANT | 50, value) => value.into(),
            (52, 128) => of(4) + of(5),
            (52, 130) => of(4) - of(5),
            (52, 132) => of(4) * of(5),
            (52, 134) => of(4) / of(5),
            (52, 137) => of(4) % of(5),
            (52, 169) => {
                if of(4) != 0 {
                    of(5)
                } else {
                    of(6)
                }
            }
            (52, 170) => (of(4) == of(5)).into(),
            (52, 172) => (of(4) > of(5)).into(),
            (52, 176) => (of(4) < of(5)).into(),
            (52, 197) => of(4) | of(5),
            (code, operation) => panic!("a constant of operations {code} and {operation}"),
        }
    }
}
