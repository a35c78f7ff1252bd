//! A pickle by grammar, in a valid zip file: bytes choose instructions, and what an instruction needs on the stack is
//! there.

use crate::input::Input;

use super::torch::{DTYPES, convert, zip};

/// What lies on the stack, as far as instructions care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mark,
    Text,
    Tuple,
    List,
    Dict,
    Class,
    Storage,
    Tensor,
    Other,
}

/// Classes that a pickle may name, those of data first.
const CLASSES: [&str; 10] = [
    "collections\nOrderedDict\n",
    "torch._utils\n_rebuild_parameter\n",
    "argparse\nNamespace\n",
    "torch._utils\n_rebuild_tensor_v2\n",
    "torch\nFloatStorage\n",
    "torch\nHalfStorage\n",
    "torch\nDoubleStorage\n",
    "torch\nLongStorage\n",
    "collections\ndefaultdict\n",
    "builtins\nset\n",
];
/// Names that the converter looks for.
const NAMES: [&str; 12] = [
    "state_dict",
    "model_ema1",
    "net.pos_embed",
    "net.x_embedder.proj1.weight",
    "net.blocks.0.attn.qkv.weight",
    "net.final_layer.linear.weight",
    "args",
    "noise_scale",
    "_metadata",
    "ema_denoiser.pos_embed",
    "denoiser._orig_mod.pos_embed",
    "",
];
/// Bytes of each of the two storages.
const STORAGE: usize = 1 << 10;

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let dtype = input.pick(&DTYPES);
    let mut writer = Writer { out: vec![0x80, 2], stack: Vec::new(), memo: Vec::new() };
    while !input.is_empty() {
        writer.step(&mut input);
    }
    let pickle = writer.finish();
    let data = [0u8; STORAGE];
    let entries: [(&str, &[u8]); 3] = [("t/data.pkl", &pickle), ("t/data/0", &data), ("t/data/1", &data)];
    convert(&zip(&entries), dtype);
}

/// Writes instructions and knows what they leave on the stack.
struct Writer {
    out: Vec<u8>,
    stack: Vec<Kind>,
    /// What the memo holds, by its number.
    memo: Vec<Kind>,
}

impl Writer {
    /// Writes one instruction, or a few that belong together.
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(26) {
            0 => self.push(Kind::Mark, b"("),
            1 => self.text(input),
            2 => self.push(Kind::Dict, b"}"),
            3 => self.push(Kind::List, b"]"),
            4 => self.push(Kind::Tuple, b")"),
            5 => self.number(input),
            6 => self.tensor(input),
            7 => self.storage(input),
            8 => self.class(input.pick(&CLASSES)),
            9 => self.call(),
            10 => self.build(),
            11 => self.fill(Kind::Dict, b"u"),
            12 => self.fill(Kind::List, b"e"),
            13 => self.gather(Kind::Tuple, b"t"),
            14 => self.gather(Kind::List, b"l"),
            15 => self.gather(Kind::Dict, b"d"),
            16 => self.set_item(),
            17 => self.append(),
            18 => self.memorize(),
            19 => self.recall(input),
            20 => self.duplicate(),
            21 => self.tuple(input),
            22 => self.drop_top(),
            23 => self.push(Kind::Other, input.pick(&[b"N", b"\x88", b"\x89", b"\x8f"])),
            24 => self.blob(input),
            // Anything at all, which most likely ends it.
            _ => self.out.push(input.byte()),
        }
    }

    fn push(&mut self, kind: Kind, code: &[u8]) {
        self.out.extend(code);
        self.stack.push(kind);
    }

    /// The values above the last mark.
    fn above_mark(&self) -> &[Kind] {
        let from = self.stack.iter().rposition(|kind| *kind == Kind::Mark).map_or(0, |mark| mark + 1);
        &self.stack[from..]
    }

    fn take(&mut self, count: usize, code: &[u8]) {
        self.out.extend(code);
        self.stack.truncate(self.stack.len() - count);
    }

    fn text(&mut self, input: &mut Input<'_>) {
        let name = NAMES[input.below(NAMES.len())];
        self.push(Kind::Text, b"X");
        self.out.extend((name.len() as u32).to_le_bytes());
        self.out.extend(name.as_bytes());
    }

    fn number(&mut self, input: &mut Input<'_>) {
        match input.below(4) {
            0 => self.push(Kind::Other, &[b'K', input.byte()]),
            1 => self.push(Kind::Other, &[b"J", input.bytes(4), &[0; 4]].concat()[..5]),
            2 => self.push(Kind::Other, &[b"G", input.bytes(8), &[0; 8]].concat()[..9]),
            _ => self.push(Kind::Other, &[&[0x8a, 8], input.bytes(8), &[0; 8]].concat()[..10]),
        }
    }

    fn storage(&mut self, input: &mut Input<'_>) {
        let class = CLASSES[4 + input.below(4)];
        let key = input.pick(&["0", "1", "none"]);
        let len = if input.flag() { input.edge() as i32 } else { 128 };
        self.push(Kind::Storage, b"(X\x07\0\0\0storagec");
        self.out.extend(class.as_bytes());
        self.out.extend([b'X', key.len() as u8, 0, 0, 0]);
        self.out.extend(key.as_bytes());
        self.out.extend(b"NJ");
        self.out.extend(len.to_le_bytes());
        self.out.extend(b"tQ");
    }

    /// `_rebuild_tensor_v2` of a storage: offset, shape, stride.
    fn tensor(&mut self, input: &mut Input<'_>) {
        self.out.extend(b"c");
        self.out.extend(CLASSES[3].as_bytes());
        self.out.push(b'(');
        self.storage(input);
        let rank = input.below(10);
        let shape: Vec<usize> = (0..rank).map(|_| if input.flag() { input.edge() } else { input.below(9) }).collect();
        let strides: Vec<usize> =
            (0..rank).map(|i| shape[i + 1..].iter().fold(1usize, |a, b| a.wrapping_mul(*b))).collect();
        self.out.extend([b'K', input.below(4) as u8]);
        for sizes in [&shape, &strides] {
            self.out.push(b'(');
            for size in sizes {
                self.out.extend(b"\x8a\x08");
                self.out.extend(size.to_le_bytes());
            }
            self.out.push(b't');
        }
        self.take(1, b"tR");
        self.stack.push(Kind::Tensor);
    }

    fn class(&mut self, class: &str) {
        self.push(Kind::Class, b"c");
        self.out.extend(class.as_bytes());
    }

    fn call(&mut self) {
        if let [.., Kind::Class, Kind::Tuple] = self.above_mark() {
            self.take(2, b"R");
            self.stack.push(Kind::Dict);
        }
    }

    fn build(&mut self) {
        if let [.., Kind::Dict | Kind::Other | Kind::Tensor, _] = self.above_mark() {
            self.take(1, b"b");
        }
    }

    /// SETITEMS or APPENDS: what is above the last mark goes into what is below it.
    fn fill(&mut self, into: Kind, code: &[u8]) {
        let values = self.above_mark().len();
        let below = self.stack.len().checked_sub(values + 2).map(|at| self.stack[at]);
        if below == Some(into) && (into == Kind::List || values.is_multiple_of(2)) {
            self.take(values + 1, code);
        }
    }

    /// TUPLE, LIST or DICT of what is above the last mark.
    fn gather(&mut self, kind: Kind, code: &[u8]) {
        let values = self.above_mark().len();
        if values < self.stack.len() && (kind != Kind::Dict || values.is_multiple_of(2)) {
            self.take(values + 1, code);
            self.stack.push(kind);
        }
    }

    fn set_item(&mut self) {
        if let [.., Kind::Dict, _, _] = self.above_mark() {
            self.take(2, b"s");
        }
    }

    fn append(&mut self) {
        if let [.., Kind::List, _] = self.above_mark() {
            self.take(1, b"a");
        }
    }

    fn memorize(&mut self) {
        if let ([.., kind], true) = (self.above_mark(), self.memo.len() < 256) {
            let (kind, number) = (*kind, self.memo.len() as u8);
            self.out.extend([b'q', number]);
            self.memo.push(kind);
        }
    }

    fn recall(&mut self, input: &mut Input<'_>) {
        if !self.memo.is_empty() {
            let number = input.below(self.memo.len());
            self.push(self.memo[number], &[b'h', number as u8]);
        }
    }

    fn duplicate(&mut self) {
        if let [.., kind] = *self.above_mark() {
            self.push(kind, b"2");
        }
    }

    fn tuple(&mut self, input: &mut Input<'_>) {
        let len = 1 + input.below(3);
        if self.above_mark().len() >= len {
            self.take(len, &[0x84 + len as u8]);
            self.stack.push(Kind::Tuple);
        }
    }

    fn drop_top(&mut self) {
        match self.stack.last() {
            Some(Kind::Mark) => self.take(1, b"1"),
            Some(_) => self.take(1, b"0"),
            None => {}
        }
    }

    fn blob(&mut self, input: &mut Input<'_>) {
        let len = input.below(9);
        let bytes = input.bytes(len);
        self.push(Kind::Other, &[b'C', bytes.len() as u8]);
        self.out.extend(bytes);
    }

    /// Closes what is open and leaves a dictionary.
    fn finish(mut self) -> Vec<u8> {
        while self.stack.contains(&Kind::Mark) {
            self.gather(Kind::Tuple, b"t");
        }
        while self.stack.last().is_some_and(|kind| *kind != Kind::Dict) {
            self.drop_top();
        }
        if self.stack.is_empty() {
            self.push(Kind::Dict, b"}");
        }
        self.out.push(b'.');
        self.out
    }
}
