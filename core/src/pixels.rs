//! From a finished image to the bytes that displays, cameras and files hold.

use crate::sampling::sampler::Rounding;

/// Where the bytes of an image go: `(height, width, channels)`, each line `stride` bytes after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Colour channels.
    pub channels: usize,
    /// Lines.
    pub height: usize,
    /// Pixels of a line.
    pub width: usize,
    /// Bytes from one line to the next, at least `channels · width`.
    pub stride: usize,
}

/// The image or the bytes have another size than [`Pixels`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongSize {
    /// Values that the image must have.
    pub values: usize,
    /// Bytes that are needed at least.
    pub bytes: usize,
}

impl core::fmt::Display for WrongSize {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let WrongSize { values, bytes } = self;
        write!(f, "the image must have {values} values, and its bytes need room for {bytes}")
    }
}

impl core::error::Error for WrongSize {}

impl Pixels {
    /// Lines without bytes between them.
    pub const fn dense(channels: usize, height: usize, width: usize) -> Pixels {
        Pixels { channels, height, width, stride: channels.saturating_mul(width) }
    }

    /// Bytes from the first pixel to the end of the last.
    pub const fn len_bytes(&self) -> usize {
        let line = self.channels.saturating_mul(self.width);
        match self.height {
            0 => 0,
            height => (height - 1).saturating_mul(self.stride).saturating_add(line),
        }
    }

    /// Writes an image `(channels, height, width)`, about -1 to 1, as bytes. What lies between lines stays as it is.
    ///
    /// # Errors
    /// [`WrongSize`] where the image has another number of values, lines overlap, or `out` is too short.
    pub fn write(&self, image: &[f32], rounding: Rounding, out: &mut [u8]) -> Result<(), WrongSize> {
        let line = self.channels.saturating_mul(self.width);
        let wrong = WrongSize { values: line.saturating_mul(self.height), bytes: self.len_bytes() };
        if image.len() != wrong.values || self.stride < line || out.len() < wrong.bytes {
            return Err(wrong);
        }
        if image.is_empty() {
            return Ok(());
        }
        let plane = self.width * self.height;
        for (y, bytes) in out.chunks_mut(self.stride).take(self.height).enumerate() {
            for (x, pixel) in bytes[..line].chunks_mut(self.channels).enumerate() {
                for (c, byte) in pixel.iter_mut().enumerate() {
                    *byte = rounding.to_u8(image[c * plane + y * self.width + x]);
                }
            }
        }
        Ok(())
    }
}

/// What a pixel is in the memory of a device that applications show images from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// Red, green, blue and alpha, a byte each: `(images, height, width)`. Alpha is 255, or the fourth channel of networks
    /// that have one; images of one channel become grey. Other networks have no such pixels.
    Rgba8,
    /// The values before conversion to 8 bits, about -1 to 1: `(images, channels, height, width)`.
    F32,
}

/// Images in the memory of a device, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct DeviceImages {
    /// The first image's address on the device, a multiple of 4.
    pub at: u64,
    /// What a pixel is. Both kinds take 4 bytes.
    pub format: PixelFormat,
    /// The network's channels, the image's size, and bytes from one line to the next: a multiple of 4, at least 4 · width.
    /// What lies between lines stays as it is.
    pub pixels: Pixels,
    /// How values become bytes.
    pub rounding: Rounding,
}

impl DeviceImages {
    /// Bytes from one image to the next.
    ///
    /// # Errors
    /// What is wrong with the format, the address or the stride.
    pub fn image_bytes(&self) -> Result<usize, &'static str> {
        let Pixels { channels, height, width, stride } = self.pixels;
        let planes = match (self.format, channels) {
            (PixelFormat::Rgba8, 1 | 3 | 4) => 1,
            (PixelFormat::Rgba8, _) => return Err("images with so many channels are no RGBA"),
            (PixelFormat::F32, channels) => channels,
        };
        if !self.at.is_multiple_of(4) || !stride.is_multiple_of(4) {
            return Err("addresses and strides of images on a device must be multiples of 4 bytes");
        }
        if width.checked_mul(4).is_none_or(|line| stride < line) {
            return Err("the row stride is less than a line's 4 bytes a pixel");
        }
        let bytes = planes.checked_mul(height).and_then(|lines| lines.checked_mul(stride));
        bytes.filter(|_| u32::try_from(stride).is_ok()).ok_or("the row stride is larger than a device's memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_pixels_and_the_gaps_stay() {
        // Two channels, two lines of three pixels.
        let image: [f32; 12] = core::array::from_fn(|i| (i as f32 * 20.0 - 127.5) / 127.5);
        let pixels = Pixels { stride: 8, ..Pixels::dense(2, 2, 3) };
        let mut out = [7; 15];
        pixels.write(&image, Rounding::Jit, &mut out).unwrap();
        assert_eq!(out, [0, 120, 20, 140, 40, 160, 7, 7, 60, 180, 80, 200, 100, 220, 7]);
    }

    #[test]
    fn images_on_a_device_are_measured() {
        let rgb = Pixels { stride: 16, ..Pixels::dense(3, 5, 4) };
        let images = DeviceImages { at: 256, format: PixelFormat::Rgba8, pixels: rgb, rounding: Rounding::Jit };
        assert_eq!(images.image_bytes(), Ok(80));
        assert_eq!(DeviceImages { format: PixelFormat::F32, ..images }.image_bytes(), Ok(240));
        let with = |pixels| DeviceImages { pixels, ..images }.image_bytes();
        for wrong in [
            with(Pixels { channels: 2, ..rgb }),
            with(Pixels { stride: 12, ..rgb }),
            with(Pixels { stride: 18, ..rgb }),
            with(Pixels { stride: usize::MAX - 3, ..rgb }),
            with(Pixels { width: usize::MAX, ..rgb }),
            DeviceImages { at: 2, ..images }.image_bytes(),
        ] {
            assert!(wrong.is_err());
        }
    }

    #[test]
    fn other_sizes_are_refused() {
        let dense = Pixels::dense(1, 2, 2);
        let wrong = Err(WrongSize { values: 4, bytes: 4 });
        assert_eq!(dense.write(&[0.0; 3], Rounding::Jit, &mut [0; 4]), wrong);
        assert_eq!(dense.write(&[0.0; 4], Rounding::Jit, &mut [0; 3]), wrong);
        let overlapping = Pixels { stride: 1, ..dense };
        assert_eq!(overlapping.write(&[0.0; 4], Rounding::Jit, &mut [0; 4]), Err(WrongSize { values: 4, bytes: 3 }));
        assert_eq!(Pixels::dense(0, 0, 0).write(&[], Rounding::Jit, &mut []), Ok(()));
    }
}
