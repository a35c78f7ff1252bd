use denoir_core::backend::ModelFile;
use denoir_core::cpu::{pack, packed_bytes};
use memmap2::{MmapMut, MmapOptions};

use crate::{Error, Isa, Model, Pool};

/// The weights of a model in the order of an instruction set. Pages of the file that held them are given back to the
/// system as they are copied, so that the weights are in memory once.
#[derive(Debug)]
pub(crate) struct Packed(MmapMut);

impl Packed {
    pub(crate) fn new(model: &Model, isa: Isa, pool: &Pool) -> Result<Packed, Error> {
        let matrices = model.network().matrices();
        let matrices = matrices.iter().copied();
        let len = packed_bytes(matrices.clone(), isa).ok_or(Error::Memory(usize::MAX))?;
        let mut region = MmapOptions::new().len(len).map_anon().map_err(|_| Error::Memory(len))?;
        // Large pages where there are any: fewer faults now, and fewer misses later.
        #[cfg(target_os = "linux")]
        let _ = region.advise(memmap2::Advice::HugePage);
        pack(model.bytes(), matrices, isa, &mut region, pool, &mut |matrix| model.has_read(matrix));
        Ok(Packed(region))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
