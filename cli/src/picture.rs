//! 8-bit pictures: conversion of samples, and contact sheets.

use denoir::Rounding;

/// An 8-bit RGB picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// `(height, width, 3)`.
    pub(crate) rgb: Vec<u8>,
}

impl Picture {
    /// Converts a `(channels, side, side)` sample with one (grey) or three channels.
    pub(crate) fn from_sample(sample: &[f32], side: usize, rounding: Rounding) -> Picture {
        let plane = side * side;
        let last = sample.len() / plane - 1;
        let value = |pixel: usize| [0, 1, 2].map(|c: usize| rounding.to_u8(sample[c.min(last) * plane + pixel]));
        Picture { width: side, height: side, rgb: (0..plane).flat_map(value).collect() }
    }

    /// Shrinks the picture to at most this many pixels by averaging whole boxes of pixels.
    pub(crate) fn fit(&self, width: usize, height: usize) -> Picture {
        let factor = self.width.div_ceil(width.max(1)).max(self.height.div_ceil(height.max(1))).max(1);
        let (w, h) = ((self.width / factor).max(1), (self.height / factor).max(1));
        let mut rgb = Vec::with_capacity(w * h * 3);
        for (y, x, c) in (0..h).flat_map(|y| (0..w).flat_map(move |x| (0..3).map(move |c| (y, x, c)))) {
            let box_of = |i: usize| (y * factor + i / factor, x * factor + i % factor);
            let sum: usize = (0..factor * factor)
                .map(box_of)
                .map(|(y, x)| usize::from(self.rgb[(y * self.width + x) * 3 + c]))
                .sum();
            rgb.push(((sum + factor * factor / 2) / (factor * factor)) as u8);
        }
        Picture { width: w, height: h, rgb }
    }
}

/// Number of columns of a contact sheet with `count` pictures: one that fills all rows if the sheet stays less than
/// about twice as wide as high, otherwise one that makes the sheet as square as possible.
pub(crate) fn columns(count: usize) -> usize {
    let root = (1..=count).find(|n| n * n >= count).unwrap_or(1);
    (root..=count).find(|n| count.is_multiple_of(*n)).filter(|n| *n <= root * 3 / 2).unwrap_or(root)
}

/// Arranges pictures of one size row by row; the rest of the last row is white.
pub(crate) fn contact_sheet(pictures: &[Picture]) -> Picture {
    let Some(first) = pictures.first() else { return Picture { width: 0, height: 0, rgb: Vec::new() } };
    let columns = columns(pictures.len());
    let (width, height) = (first.width * columns, first.height * pictures.len().div_ceil(columns));
    let mut rgb = vec![255; width * height * 3];
    for (i, picture) in pictures.iter().enumerate() {
        let corner = (i / columns * first.height * width + i % columns * first.width) * 3;
        for (y, line) in picture.rgb.chunks_exact(picture.width * 3).enumerate() {
            let start = corner + y * width * 3;
            rgb[start..start + line.len()].copy_from_slice(line);
        }
    }
    Picture { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheets_have_sensible_columns() {
        let of = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 20, 24, 99, 100].map(columns);
        assert_eq!(of, [1, 2, 3, 2, 3, 3, 3, 4, 3, 5, 4, 5, 4, 5, 6, 11, 10]);
    }

    #[test]
    fn a_sheet_holds_its_pictures_in_reading_order() {
        let tile = |v: u8| Picture { width: 1, height: 1, rgb: vec![v; 3] };
        let sheet = contact_sheet(&[tile(1), tile(2), tile(3), tile(4), tile(5)]);
        assert_eq!((sheet.width, sheet.height), (3, 2));
        let values: Vec<u8> = sheet.rgb.iter().step_by(3).copied().collect();
        assert_eq!(values, [1, 2, 3, 4, 5, 255]);
    }

    #[test]
    fn fitting_averages_boxes() {
        let picture = Picture { width: 4, height: 2, rgb: (0..8u8).flat_map(|v| [v * 10; 3]).collect() };
        let small = picture.fit(2, 2);
        assert_eq!((small.width, small.height), (2, 1));
        assert_eq!(small.rgb, [25, 25, 25, 45, 45, 45]);
        assert_eq!(picture.fit(80, 80), picture);
    }
}
