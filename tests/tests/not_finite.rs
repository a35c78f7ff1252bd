//! A weight that is not finite gives an error, never a picture, in every type, on every instruction set and on the
//! reference; tests/vulkan.rs and tests/cuda.rs have the devices.

use std::sync::Arc;

use anyhow::Result;
use denoir::{BackendKind, Isa, Options, Pipeline};
use denoir_core::backend::Backend;
use denoir_core::ops::Memory;
use denoir_tests::golden;
use denoir_tests::not_finite::{TYPES, VALUES, are_refused, generate, smallest};

#[test]
fn every_instruction_set_refuses_it() -> Result<()> {
    for dtype in TYPES {
        // The smallest networks are all tails; this one fills vectors too.
        let larger = golden::model("forward/pg-ctx", dtype)?.bytes().to_vec();
        for isa in Isa::available() {
            let options = Options { backend: BackendKind::Cpu, isa: Some(isa), threads: Some(1), ..Options::default() };
            for file in smallest(dtype)?.iter().chain([&larger]) {
                are_refused(&format!("{dtype} on {}", isa.name()), file, &VALUES, &|model| {
                    let mut pipeline = Pipeline::new(Arc::clone(model), &options)?;
                    Ok(pipeline.with_denoiser(|denoiser| generate(model, denoiser)))
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn the_reference_refuses_it() -> Result<()> {
    for dtype in TYPES {
        for file in smallest(dtype)? {
            are_refused(&format!("{dtype} on the reference"), &file, &VALUES, &|model| {
                let mut memory = Memory { weights: model.bytes(), arena: &mut [] };
                let mut arena = vec![0; model.network().arena_bytes(1, memory.precision())?];
                memory.arena = &mut arena;
                Ok(model.network().with_denoiser(1, memory, |denoiser| generate(model, denoiser)))
            })?;
        }
    }
    Ok(())
}
