//! `denoir noise`: writes the starting noise of a seed.

use std::path::PathBuf;

use denoir::Rng;

use crate::args::{extension, parse_rng};
use crate::error::Error;
use crate::output::Output;
use crate::{encode, interrupt};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A shape of four dimensions is a batch: each image is a draw of its own, with seeds S, S+1, ...\n\
    Any other shape is one draw, torch.randn(SHAPE, generator=torch.Generator().manual_seed(S)).\n\n\
    Example: denoir noise --seed 42 --shape 1x3x256x256 -o noise.npy"
)]
pub(crate) struct Args {
    /// Seed, 0 to 2^64 - 1
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    seed: u64,
    /// Dimensions, such as 1x3x256x256
    #[arg(long, value_name = "SHAPE", value_parser = parse_shape)]
    shape: Shape,
    /// Noise generator: `torch` (bit-identical to PyTorch) or `philox`
    #[arg(long, value_name = "RNG", default_value = "torch", value_parser = parse_rng)]
    rng: Rng,
    /// File to write
    #[arg(short, long, value_name = "OUT.npy")]
    output: PathBuf,
}

#[derive(Clone, Debug)]
struct Shape(Vec<usize>);

/// Maximum number of values: 64 GB.
const MAX_VALUES: usize = 1 << 34;

fn parse_shape(text: &str) -> Result<Shape, String> {
    let dims: Option<Vec<usize>> = text.split(['x', ',']).map(|d| d.trim().parse().ok().filter(|&d| d > 0)).collect();
    let dims = dims.filter(|dims| dims.len() <= 8).ok_or("use up to 8 positive numbers, such as 1x3x256x256")?;
    match dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
        Some(n) if n <= MAX_VALUES => Ok(Shape(dims)),
        _ => Err("too many values".into()),
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    interrupt::catch();
    if extension(&args.output) != "npy" {
        return Err(Error::usage(format!("cannot write noise to {}: use a .npy file", args.output.display())));
    }
    let dims = &args.shape.0;
    let draws = if dims.len() == 4 { dims[0] } else { 1 };
    let values = dims.iter().product::<usize>() / draws;
    let mut draw = Vec::new();
    draw.try_reserve_exact(values).map_err(|_| denoir::Error::Memory(values.saturating_mul(4)))?;
    draw.resize(values, 0f32);
    let mut out = Output::create(&args.output)?;
    out.append(&encode::npy_header(dims))?;
    for i in 0..draws {
        args.rng.fill(args.seed.wrapping_add(i as u64), &mut draw);
        draw.chunks(1 << 16).try_for_each(|part| out.append(&encode::little_endian(part)))?;
    }
    out.commit()
}
