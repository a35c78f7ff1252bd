use crate::{AlignedBytes, Error, Network, Options, Settings};

/// The most that this memory may take: 85 steps of PixelGen-XXL.
const MAX_BYTES: usize = 128 << 20;

/// Memory in which a network keeps the refined texts of a request, so that further images of them cost less. There is
/// none where the steps are too many, and none where the user wants none.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: AlignedBytes,
    max_bytes: usize,
}

impl Kept {
    pub(crate) fn new(options: &Options) -> Result<Kept, Error> {
        let max_bytes = if options.forget_texts { 0 } else { MAX_BYTES };
        Ok(Kept { bytes: AlignedBytes::zeroed(0)?, max_bytes })
    }

    /// Makes room for the time points of these settings: one for each step.
    pub(crate) fn fit(&mut self, network: &Network, settings: &Settings) -> Result<(), Error> {
        let len = network.kept_words(settings.steps as usize).saturating_mul(size_of::<u32>());
        let len = if len > self.max_bytes { 0 } else { len };
        if self.bytes.as_slice().len() != len {
            self.bytes = AlignedBytes::zeroed(len)?;
        }
        Ok(())
    }

    pub(crate) fn words(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(self.bytes.as_mut_slice())
    }
}
