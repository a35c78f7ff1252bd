use denoir_core::View;
use denoir_core::pixels::{DeviceImages, PixelFormat};
use denoir_core::sampler::Rounding;

use crate::Error;
use crate::args::{Matrix, arguments, word};
use crate::launch::{LINE_THREADS, Target, line};
use crate::memory::Buffer;
use crate::modules::Kernel;

arguments! { PixelsArgs, 56, {
    x: Matrix,
    out: u64,
    bad: u64,
    line: u32,
    width: u32,
    height: u32,
    channels: u32,
    format: u32,
    rounding: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<PixelsArgs>("pixels", LINE_THREADS);

/// Writes the images of a view to where they go; `bad` becomes 1 if a value is not finite.
pub(crate) fn launch(on: &mut dyn Target, x: &View, to: &DeviceImages, bad: &Buffer) -> Result<(), Error> {
    let args = PixelsArgs {
        x: on.matrix(x)?,
        out: to.at,
        bad: bad.at,
        line: word(to.pixels.stride),
        width: word(to.pixels.width),
        height: word(to.pixels.height),
        channels: word(to.pixels.channels),
        format: match to.format {
            PixelFormat::Rgba8 => 0,
            PixelFormat::F32 => 1,
        },
        rounding: match to.rounding {
            Rounding::PixelGen => 0,
            Rounding::Jit => 1,
        },
    };
    on.run(&KERNEL, line(x.rows * to.pixels.height * to.pixels.width)?, &args)
}
