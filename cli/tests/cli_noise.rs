//! `denoir noise` against PyTorch's own draws.

mod common;

use anyhow::{Context, Result, ensure};
use common::{fixture, npy, ok};
use safetensors::SafeTensors;

#[test]
fn every_draw_is_torchs_to_the_bit() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("n.npy");
    let bytes = std::fs::read(fixture("noise/randn.safetensors"))?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let mut draws = 0;
    for (name, tensor) in tensors.iter() {
        let (seed, count) =
            name.strip_prefix("noise.").and_then(|rest| rest.split_once('.')).context("another name")?;
        ok(folder.path(), ["noise", "--seed", seed, "--shape", count, "-o", "n.npy"])?;
        let got: Vec<u8> = npy(&out)?.1.iter().flat_map(|v| v.to_le_bytes()).collect();
        ensure!(got == tensor.data(), "{name}");
        draws += 1;
    }
    ensure!(draws >= 10, "only {draws} draws");
    Ok(())
}

#[test]
fn a_batch_is_one_draw_an_image() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let draw = |seed: &str, shape: &str| -> Result<(Vec<usize>, Vec<f32>)> {
        ok(folder.path(), ["noise", "--seed", seed, "--shape", shape, "-o", "n.npy"])?;
        npy(&folder.path().join("n.npy"))
    };
    let (shape, batch) = draw("41", "2x3x8x8")?;
    assert_eq!(shape, [2, 3, 8, 8]);
    assert!(batch[..192] == draw("41", "1x3x8x8")?.1 && batch[192..] == draw("42", "1x3x8x8")?.1);
    // Any other shape is one draw.
    assert!(draw("41", "2x96")?.1 == draw("41", "192")?.1);
    assert!(
        draw("41", "192")?.1 != {
            ok(folder.path(), ["noise", "--seed", "41", "--shape", "192", "--rng", "philox", "-o", "n.npy"])?;
            npy(&folder.path().join("n.npy"))?.1
        }
    );
    Ok(())
}
