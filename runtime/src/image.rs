use denoir_core::pixels::Pixels;

use crate::Rounding;

/// A finished image, before conversion to 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Colour channels.
    pub channels: usize,
    /// Pixels per line.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// Values of shape `(channels, height, width)`, about -1 to 1.
    pub sample: Vec<f32>,
}

impl Image {
    /// Converts the image to `(height, width, channels)`, 0 to 255.
    pub fn to_u8(&self, rounding: Rounding) -> Vec<u8> {
        let pixels = Pixels::dense(self.channels, self.height, self.width);
        let mut bytes = vec![0; pixels.len_bytes()];
        // A sample of another size than the image's makes no pixels.
        let _ = pixels.write(&self.sample, rounding, &mut bytes);
        bytes
    }
}
