use denoir_core::backend::ModelFile;
use denoir_core::cpu::{pack, packed_bytes};
use memmap2::{MmapMut, MmapOptions};

use crate::{Error, Isa, Model, Pool};

/// The weights of a model, packed for an instruction set. The file's pages are released as they are copied, so the
/// weights are in memory only once.
#[derive(Debug)]
pub(crate) struct Packed(MmapMut);

impl Packed {
    pub(crate) fn new(model: &Model, isa: Isa, pool: &Pool) -> Result<Packed, Error> {
        let matrices = model.network().matrices();
        let matrices = matrices.iter().copied();
        let len = packed_bytes(matrices.clone(), isa).ok_or(Error::Memory(usize::MAX))?;
        let mut region = MmapOptions::new().len(len).map_anon().map_err(|_| Error::Memory(len))?;
        // Large pages, if available: fewer page faults now and fewer TLB misses later.
        #[cfg(target_os = "linux")]
        let _ = region.advise(memmap2::Advice::HugePage);
        pack(model.bytes(), matrices, isa, &mut region, pool, &mut |matrix| model.has_read(matrix));
        Ok(Packed(region))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
