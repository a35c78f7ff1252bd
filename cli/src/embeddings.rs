//! Reads a file of prompt embeddings. Uses nothing else of the program, so that the fuzz targets can include it.

use denoir::EncodedPrompt;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// The tensor names in a file of embeddings.
pub(crate) const PROMPT: &str = "prompt_embeds";
pub(crate) const NEGATIVE: &str = "negative_prompt_embeds";

/// Reads embeddings, `(length, width)` each. The length must be the network's; rows are cut or zero-padded to its width.
/// The error says in words what is wrong.
pub(crate) fn parse(bytes: &[u8], (tokens, width): (usize, usize)) -> Result<EncodedPrompt, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| format!("damaged: {e}"))?;
    let read = |name: &str| {
        let tensor = tensors.tensor(name).map_err(|_| format!("it has no tensor {name:?}"))?;
        let values = floats(&tensor).ok_or_else(|| format!("{name} is neither f32 nor bf16 nor f16"))?;
        match tensor.shape() {
            &[rows, cols] if rows == tokens && cols > 0 => {
                let pad =
                    |row: &[f32]| row.iter().copied().chain(std::iter::repeat(0.0)).take(width).collect::<Vec<_>>();
                Ok(values.chunks(cols).flat_map(pad).collect())
            }
            shape => Err(format!("{name} is {shape:?}, and this model takes {tokens} tokens of {width}")),
        }
    };
    Ok(EncodedPrompt { prompt: read(PROMPT)?, negative: read(NEGATIVE)? })
}

fn floats(tensor: &TensorView<'_>) -> Option<Vec<f32>> {
    let (fours, twos) = (tensor.data().as_chunks().0, tensor.data().as_chunks().0);
    match tensor.dtype() {
        Dtype::F32 => Some(fours.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        Dtype::BF16 => Some(twos.iter().map(|&b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)).collect()),
        Dtype::F16 => Some(twos.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect()),
        _ => None,
    }
}
