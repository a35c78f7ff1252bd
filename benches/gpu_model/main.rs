//! What an evaluation should cost a GPU, without one: `cargo xtask gpu-model` prints it.
//!
//! The CUDA backend plans its launches as for a device. For each, the model counts products, bytes that blocks ask the
//! second-level cache for and bytes that it does not have, and from them the time and the least time possible. Linear
//! layers take what the backend itself expects, by which it chooses tiles; `measured` compares that with a card's figures.

mod cache;
mod card;
mod cost;
mod measured;
mod network;
mod report;

use anyhow::{Context, bail};
use denoir_convert::random::Shape;
use denoir_core::DType;

use card::{CARDS, Card};

const USAGE: &str = "\
gpu_model [--card CARD] [--shape SHAPE] [--type T] [--batch N] [--picture] [--measured]

  --card      one of h200, h100, a100, rtx4090, orin-agx, orin-nano, thor
  --shape     one of jit-b16, jit-l16, jit-h16, pixelgen-l, pixelgen-xl, pixelgen-xxl
  --type      f32, f16, bf16 [default] or int8
  --batch     images of an evaluation; a guided pair is 2 [default: 1]
  --picture   a whole picture by the shape's preset
  --measured  linear layers beside an H200's figures, and public ones of other cards

Without a card or a shape, a summary of what the record follows.";

/// The command line.
#[derive(Default)]
struct Args {
    card: Option<&'static Card>,
    shape: Option<Shape>,
    dtype: Option<DType>,
    batch: Option<usize>,
    picture: bool,
    measured: bool,
}

impl Args {
    fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Args> {
        let mut args = Args::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value\n\n{USAGE}"));
            match word.as_str() {
                "--card" => {
                    let key = value()?;
                    let keys = || CARDS.each_ref().map(|card| card.key).join(", ");
                    args.card = Some(Card::find(&key).with_context(|| format!("no card {key}: {}", keys()))?);
                }
                "--shape" => {
                    let name = value()?;
                    args.shape = Some(Shape::from_name(&name).with_context(|| format!("no shape {name}"))?);
                }
                "--type" => {
                    let name = value()?;
                    let types = [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16), ("int8", DType::I8)];
                    let found = types.into_iter().find(|(known, _)| *known == name);
                    args.dtype = Some(found.with_context(|| format!("no type {name}"))?.1);
                }
                "--batch" => args.batch = Some(value()?.parse().context("--batch takes a number")?),
                "--picture" => args.picture = true,
                "--measured" => args.measured = true,
                "-h" | "--help" => bail!("{USAGE}"),
                _ => bail!("unknown argument {word}\n\n{USAGE}"),
            }
        }
        Ok(args)
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse(std::env::args().skip(1))?;
    if args.measured {
        return measured::compare();
    }
    let dtype = args.dtype.unwrap_or(DType::BF16);
    let (Some(card), Some(shape)) = (args.card, args.shape) else {
        return report::summary();
    };
    if args.picture {
        return report::picture(card, shape, dtype);
    }
    report::evaluation(card, shape, dtype, args.batch.unwrap_or(1))
}
