//! Models of the published sizes with random weights, for measurements without a checkpoint.

use std::io::{self, Cursor, Seek, Write};

use denoir_core::DType;
use denoir_core::gguf::{GgmlType, keys};
use half::{bf16, f16};

use crate::arch::{NetworkSpec, jit, t2i};
use crate::config::{Config, Family};
use crate::error::ConvertError;
use crate::plan::{describe, describe_sampling, entries};
use crate::preset::{self, Preset};
use crate::tensor::Hints;
use crate::writer::{ALIGNMENT, Entry, Metadata, Writer};

/// A published network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shape {
    JitB16,
    JitL16,
    JitH16,
    PixelGenL,
    PixelGenXl,
    PixelGenXxl,
}

impl Shape {
    /// All of them.
    pub const ALL: [Shape; 6] =
        [Shape::JitB16, Shape::JitL16, Shape::JitH16, Shape::PixelGenL, Shape::PixelGenXl, Shape::PixelGenXxl];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Shape::JitB16 => "jit-b16",
            Shape::JitL16 => "jit-l16",
            Shape::JitH16 => "jit-h16",
            Shape::PixelGenL => "pixelgen-l",
            Shape::PixelGenXl => "pixelgen-xl",
            Shape::PixelGenXxl => "pixelgen-xxl",
        }
    }

    /// The shape of this name.
    pub fn from_name(name: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|shape| shape.name() == name)
    }

    fn family(self) -> Family {
        match self {
            Shape::JitB16 | Shape::JitL16 | Shape::JitH16 => Family::Jit,
            Shape::PixelGenL | Shape::PixelGenXl | Shape::PixelGenXxl => Family::PixelGen,
        }
    }

    /// Class-conditional at 256 × 256, text to image at 512 × 512.
    fn network(self) -> Result<NetworkSpec, ConvertError> {
        // (blocks, width, heads, FFN, bottleneck, first block with context tokens)
        let (depth, hidden, heads, ffn, bottleneck, start) = match self {
            Shape::JitB16 => (12, 768, 12, 2048, 128, 4),
            Shape::JitL16 | Shape::PixelGenL => (24, 1024, 16, 2730, 128, 8),
            Shape::JitH16 => (32, 1280, 16, 3413, 256, 10),
            Shape::PixelGenXl => (28, 1152, 16, 3072, 0, 8),
            Shape::PixelGenXxl => return XXL.network(24),
        };
        let sizes = jit::Sizes {
            channels: 3,
            patch: 16,
            tokens: 256,
            hidden,
            depth,
            head_dim: hidden / heads,
            ffn,
            classes: 1000,
            bottleneck,
            context: 32,
        };
        sizes.network(heads, start)
    }
}

/// PixelGen-XXL.
const XXL: t2i::Sizes = t2i::Sizes {
    channels: 3,
    patch: 16,
    tokens: 1024,
    hidden: 1536,
    depth: 16,
    text_depth: 4,
    head_dim: 64,
    ffn: 6144,
    bottleneck: 256,
    text_len: 128,
    text_width: 2048,
};

/// A model file yet to be filled with random weights.
#[derive(Debug)]
pub struct RandomModel {
    metadata: Metadata,
    entries: Vec<Entry>,
}

impl RandomModel {
    /// A model of this shape with weights of this type.
    ///
    /// # Errors
    /// [`ConvertError::WeightType`] for a type that is not a weight type.
    pub fn new(shape: Shape, dtype: DType) -> Result<RandomModel, ConvertError> {
        if dtype == DType::U32 {
            return Err(ConvertError::WeightType(dtype));
        }
        let network = shape.network()?;
        let mut metadata = Metadata::default();
        describe(&mut metadata, &network, &format!("random {}", preset::name(&network, shape.family())), dtype);
        describe_sampling(&mut metadata, &Preset::of(&network, shape.family(), Hints::default(), &Config::default()));
        Ok(RandomModel { metadata, entries: entries(&network, dtype)? })
    }

    /// Length of the file.
    pub fn len_bytes(&self) -> u64 {
        let data = self.entries.iter().map(|entry| entry.len_bytes.next_multiple_of(ALIGNMENT));
        self.header().len() as u64 + data.sum::<u64>()
    }

    /// The file's start, up to its first tensor: with zeros behind it, a model whose weights are all zero.
    pub fn header(&self) -> Vec<u8> {
        let mut header = Cursor::new(Vec::new());
        // Writing to memory fails only where an offset overflows, which no shape here does.
        let _ = Writer::start(&mut header, &self.metadata, &self.entries);
        header.into_inner()
    }

    /// Writes the file; the same bytes for the same seed.
    ///
    /// # Errors
    /// Errors of the writer.
    pub fn write(&self, seed: u64, out: &mut (impl Write + Seek)) -> io::Result<()> {
        let mut writer = Writer::start(out, &self.metadata, &self.entries)?;
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut fan_in = 1;
        for entry in &self.entries {
            if !keys::is_of_matrix(&entry.name) {
                fan_in = entry.shape.iter().skip(1).product::<u64>().max(1);
            }
            fill(&mut writer, entry, Values::of(entry, fan_in), &mut random)?;
            writer.end_tensor()?;
        }
        Ok(())
    }
}

/// The distribution of a tensor's values: weights that preserve the magnitude of their input, norms of 1, small biases.
#[derive(Clone, Copy)]
enum Values {
    Constant(f32),
    /// Uniform in ± this value.
    Uniform(f32),
}

impl Values {
    fn of(entry: &Entry, fan_in: u64) -> Values {
        let spread = (3.0 / fan_in as f32).sqrt();
        if entry.name.ends_with(keys::SCALE_SUFFIX) {
            Values::Constant(spread / 127.0)
        } else if entry.name.contains("norm") {
            Values::Constant(1.0)
        } else if entry.shape.len() == 1 {
            Values::Uniform(0.02)
        } else {
            Values::Uniform(spread)
        }
    }

    fn draw(self, random: &mut Random) -> f32 {
        match self {
            Values::Constant(value) => value,
            Values::Uniform(spread) => spread * (random.next() as i64 as f32 / i64::MAX as f32),
        }
    }
}

/// Size of the palette from which a tensor's values are picked, a power of two: picking is several times faster than
/// generating.
const PALETTE: usize = 4096;
/// Bytes generated at once.
const BLOCK: usize = 1 << 16;

fn fill<W: Write + Seek>(
    writer: &mut Writer<'_, W>,
    entry: &Entry,
    values: Values,
    random: &mut Random,
) -> io::Result<()> {
    let mut palette = || std::array::from_fn::<f32, PALETTE, _>(|_| values.draw(random));
    match entry.ty {
        // Odd bytes: every one but -128.
        GgmlType::I8 => blocks(writer, entry.len_bytes, random, |r| (r.next() | 0x0101_0101_0101_0101).to_le_bytes()),
        GgmlType::F16 => {
            let palette = palette().map(|v| f16::from_f32(v).to_le_bytes());
            blocks(writer, entry.len_bytes, random, |r| pick::<2>(&palette, r))
        }
        GgmlType::BF16 => {
            let palette = palette().map(|v| bf16::from_f32(v).to_le_bytes());
            blocks(writer, entry.len_bytes, random, |r| pick::<2>(&palette, r))
        }
        _ => {
            let palette = palette().map(f32::to_le_bytes);
            blocks(writer, entry.len_bytes, random, |r| pick::<4>(&palette, r))
        }
    }
}

/// Eight bytes of values from the palette.
fn pick<const N: usize>(palette: &[[u8; N]; PALETTE], random: &mut Random) -> [u8; 8] {
    let word = random.next();
    let mut out = [0; 8];
    for (i, value) in out.chunks_exact_mut(N).enumerate() {
        value.copy_from_slice(&palette[(word >> (12 * i)) as usize % PALETTE]);
    }
    out
}

fn blocks<W: Write + Seek>(
    writer: &mut Writer<'_, W>,
    len: u64,
    random: &mut Random,
    eight: impl Fn(&mut Random) -> [u8; 8],
) -> io::Result<()> {
    let mut block = [0u8; BLOCK];
    let mut left = len;
    while left > 0 {
        let now = left.min(BLOCK as u64) as usize;
        block[..now.next_multiple_of(8)].chunks_exact_mut(8).for_each(|to| to.copy_from_slice(&eight(random)));
        writer.write(&block[..now])?;
        left -= now as u64;
    }
    Ok(())
}

/// xorshift64*: fast, and random enough for weights.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_a_model() {
        for shape in Shape::ALL {
            assert_eq!(Shape::from_name(shape.name()), Some(shape));
            for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
                let model = RandomModel::new(shape, dtype).unwrap();
                let parameters: u64 = model.entries.iter().map(|e| e.shape.iter().product::<u64>()).sum();
                assert!(model.len_bytes() > parameters, "{shape:?} {dtype}");
            }
        }
    }

    #[test]
    fn the_length_is_known_before() {
        let model = RandomModel::new(Shape::JitB16, DType::I8).unwrap();
        let mut out = Cursor::new(Vec::new());
        model.write(1, &mut out).unwrap();
        assert_eq!(out.get_ref().len() as u64, model.len_bytes());
        let gguf = denoir_core::gguf::Gguf::parse(out.get_ref()).unwrap();
        let network = denoir_core::jit::JitModel::from_gguf(&gguf).unwrap();
        assert_eq!(network.config.context_start, 4);
        assert!(!gguf.tensor("blocks.0.mlp.w12.weight").unwrap().data.contains(&0x80));
    }
}
