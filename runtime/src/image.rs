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
        let plane = self.width * self.height;
        let value = |pixel: usize| (0..self.channels).map(move |c| rounding.to_u8(self.sample[c * plane + pixel]));
        (0..plane).flat_map(value).collect()
    }
}
