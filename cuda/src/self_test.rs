//! Every linear and attention kernel is compared with the reference: drivers are not always right.

use std::sync::Arc;

use denoir_core::backend::{self, Backend, Program};
use denoir_core::ops::{Bounds, OpError};
use denoir_core::self_test::{Case, PRODUCT};
use denoir_core::{DType, Region, View};

use crate::Error;
use crate::engine::{Cuda, Gpu};
use crate::kernels::LinearTile;

/// Channels of a head, for each attention kernel.
const HEAD_DIMS: [usize; 5] = [16, 64, 72, 104, 128];

/// An error that names the kernels that compute wrongly, or the one that the device does not survive.
pub(crate) fn run(gpu: &Gpu) -> Result<(), Error> {
    let mut wrong = Vec::new();
    let [_, _, k] = PRODUCT;
    // Rows as plans have them, for the kernels with tiles.
    let padded = k.next_multiple_of(64);
    check(&Case::product(DType::F32, PRODUCT, padded), &[gpu], &mut wrong)?;
    let tiles = LinearTile::ALL.map(|tile| gpu.with_tile(tile));
    let tiles: Vec<&Gpu> = tiles.iter().collect();
    for dtype in [DType::F16, DType::BF16, DType::I8] {
        check(&Case::product(dtype, PRODUCT, padded), &tiles, &mut wrong)?;
        // Rows that start anywhere.
        check(&Case::product(dtype, PRODUCT, padded + 1), &[gpu], &mut wrong)?;
    }
    for head_dim in HEAD_DIMS {
        check(&Case::attention(head_dim, DType::F32), &[gpu], &mut wrong)?;
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::SelfTest { device: gpu.info().name.clone(), kernels: wrong.join(", ") }),
    }
}

/// Runs a case in every way that is asked for; adds the kernels that do not agree with the reference.
fn check(case: &Case, ways: &[&Gpu], wrong: &mut Vec<&'static str>) -> Result<(), Error> {
    let Bounds { weights, arena } = case.bounds();
    let (mut weights, mut arena) = (vec![0; weights], vec![0; arena]);
    case.fill(&mut weights, &mut arena);
    let mut first = None;
    for gpu in ways {
        let mut engine = gpu.engine(Arc::new(weights.clone()), arena.len())?;
        let got = output(&mut engine, case, &arena).map_err(|e| match e {
            // Other failures, such as too little memory, are not the kernel's.
            Error::DeviceLost { .. } if !engine.last_kernel.is_empty() => {
                Error::InSelfTest { kernel: engine.last_kernel, source: Box::new(e) }
            }
            other => other,
        })?;
        // The reference is slow; most tiles give the same bytes.
        let agrees = first.as_ref() == Some(&got) || case.agrees(&weights, &mut arena.clone(), &got);
        if agrees {
            first = Some(got);
        } else {
            wrong.push(engine.last_kernel);
        }
    }
    Ok(())
}

fn output(engine: &mut Cuda, case: &Case, arena: &[u8]) -> Result<Vec<u8>, Error> {
    engine.write(&View::dense(Region::Arena, DType::I8, 0, 1, arena.len()), arena)?;
    backend::run(engine, Program::Predict { images: 1 }, |k| case.op.record(k)).map_err(|e| match e {
        OpError::Device(e) => e,
        // The descriptor is core's own.
        _ => Error::Form("a valid case of the self-test"),
    })?;
    let mut got = vec![0; 4 * case.out.rows * case.out.cols];
    engine.read(&case.out, &mut got)?;
    Ok(got)
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
