use denoir_core::backend::ModelFile;
use denoir_core::cpu::{WeightSource, pack, pack_from, packed_bytes};
use denoir_core::{View, Weight};
use memmap2::{MmapMut, MmapOptions};

use crate::bytes::reserved;
use crate::file::Reader;
use crate::{Error, Isa, Model, Pool};

/// The weights of a model, packed for an instruction set. They are in memory only once: a mapped file's pages are
/// released as they are copied, and another file is read one matrix at a time.
#[derive(Debug)]
pub(crate) struct Packed(MmapMut);

impl Packed {
    pub(crate) fn new(model: &Model, isa: Isa, pool: &Pool) -> Result<Packed, Error> {
        let matrices = model.network().matrices()?;
        let matrices = matrices.iter().copied();
        let len = packed_bytes(matrices.clone(), isa).ok_or(Error::Memory(usize::MAX))?;
        let mut region = MmapOptions::new().len(len).map_anon().map_err(|_| Error::Memory(len))?;
        // Large pages, if available: fewer page faults now and fewer TLB misses later.
        #[cfg(target_os = "linux")]
        let _ = region.advise(memmap2::Advice::HugePage);
        match model.reader() {
            None => pack(model.bytes(), matrices, isa, &mut region, pool, &mut |matrix| model.has_read(matrix)),
            Some(reader) => {
                let mut source = OneByOne { reader, matrix: Vec::new(), residual: Vec::new(), result: Ok(()) };
                pack_from(&mut source, matrices, isa, &mut region, pool);
                source.result?;
                reader.check()?;
            }
        }
        Ok(Packed(region))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads a file's weights one at a time.
struct OneByOne<'r> {
    reader: &'r Reader,
    matrix: Vec<u8>,
    residual: Vec<u8>,
    result: Result<(), Error>,
}

impl OneByOne<'_> {
    fn fill(&mut self, weight: &Weight) -> Result<(), Error> {
        let fill = |to: &mut Vec<u8>, view: Option<View>| {
            let (at, len) = view.map_or((0, 0), |view| (view.offset, view.len_bytes().unwrap_or(0)));
            to.clear();
            if to.capacity() < len {
                // Two of them need not be in memory.
                *to = Vec::new();
                *to = reserved(len)?;
            }
            to.resize(len, 0);
            self.reader.read(at, to)
        };
        fill(&mut self.matrix, Some(weight.data))?;
        fill(&mut self.residual, weight.residual())
    }
}

impl WeightSource for OneByOne<'_> {
    fn read(&mut self, weight: &Weight) -> Option<[&[u8]; 2]> {
        if self.result.is_ok() {
            self.result = self.fill(weight);
        }
        self.result.is_ok().then_some([&self.matrix, &self.residual])
    }

    fn has_packed(&mut self, _weight: &Weight) {}
}
