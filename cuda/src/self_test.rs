//! Compares every linear and attention kernel with the reference, because drivers have bugs.

use std::sync::Arc;

use denoir_core::DType;
use denoir_core::backend::ModelFile;
use denoir_core::ops::Bounds;
use denoir_core::self_test::{Case, PRODUCT};

use crate::backend::Cuda;
use crate::{Error, LinearTile};

/// Channels of a head, for each attention kernel.
const HEAD_DIMS: [usize; 5] = [16, 64, 72, 104, 128];

/// Makes a backend for a file and an arena of this size in bytes, with one tile for linear layers or the backend's
/// choice.
type Open<'a> = &'a dyn Fn(Option<LinearTile>, Arc<dyn ModelFile>, usize) -> Result<Cuda, Error>;

/// Returns an error that names the kernels with wrong results, or the one that crashes the device.
pub(crate) fn run(device: &str, open: Open<'_>) -> Result<(), Error> {
    let mut wrong = Vec::new();
    let [_, _, k] = PRODUCT;
    // Rows as plans have them, for the kernels with tiles.
    let padded = k.next_multiple_of(64);
    check(&Case::product(DType::F32, PRODUCT, padded), open, &[None], &mut wrong)?;
    for dtype in [DType::F16, DType::BF16, DType::I8] {
        check(&Case::product(dtype, PRODUCT, padded), open, &LinearTile::ALL.map(Some), &mut wrong)?;
        // Rows that start anywhere.
        check(&Case::product(dtype, PRODUCT, padded + 1), open, &[None], &mut wrong)?;
    }
    for (head_dim, dtype) in HEAD_DIMS.into_iter().flat_map(|n| [(n, DType::BF16), (n, DType::F32)]) {
        check(&Case::attention(head_dim, dtype, dtype), open, &[None], &mut wrong)?;
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::SelfTest { device: device.into(), kernels: wrong.join(", ") }),
    }
}

/// Runs a case with each tile; collects the kernels that disagree with the reference.
fn check(
    case: &Case,
    open: Open<'_>,
    tiles: &[Option<LinearTile>],
    wrong: &mut Vec<&'static str>,
) -> Result<(), Error> {
    let Bounds { weights, arena } = case.bounds();
    let (mut weights, mut arena) = (vec![0; weights], vec![0; arena]);
    case.fill(&mut weights, &mut arena);
    let mut first = None;
    for tile in tiles {
        let mut backend = open(*tile, Arc::new(weights.clone()), arena.len())?;
        let mut got = vec![0; case.out_bytes()];
        case.run(&mut backend, &arena, &mut got).map_err(|e| match e {
            // Other failures, such as too little memory, are not the kernel's.
            Error::DeviceLost { .. } if !backend.last_kernel().is_empty() => {
                Error::InSelfTest { kernel: backend.last_kernel(), source: Box::new(e) }
            }
            other => other,
        })?;
        // The reference is slow; most tiles give the same bytes.
        let agrees = first.as_ref() == Some(&got) || case.agrees(&weights, &mut arena.clone(), &got);
        if agrees {
            first = Some(got);
        } else {
            wrong.push(backend.last_kernel());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::attention::KERNELS;

    #[test]
    fn every_attention_kernel_is_checked() {
        let chosen = HEAD_DIMS.map(|head_dim| KERNELS.iter().position(|(width, _)| *width >= head_dim));
        assert_eq!(chosen, [0, 1, 2, 3, 4].map(Some));
    }
}
