use std::io::Write;

use png::{BitDepth, ColorType, Encoder, EncodingError};

use crate::picture::Picture;

/// A text for a PNG file: its keyword and content.
pub(crate) type TextChunk = (&'static str, String);

/// Encodes a PNG file with texts: as `tEXt` if they fit Latin-1, as other tools expect, otherwise as `iTXt` (UTF-8).
pub(crate) fn png(picture: &Picture, texts: &[TextChunk]) -> Result<Vec<u8>, EncodingError> {
    let mut out = Vec::new();
    let mut encoder = encoder(&mut out, picture);
    for (keyword, text) in texts {
        add_text(&mut encoder, keyword, text)?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.rgb)?;
    writer.finish()?;
    Ok(out)
}

/// An encoder for 8-bit RGB pictures of this size.
pub(super) fn encoder<W: Write>(out: W, picture: &Picture) -> Encoder<'static, W> {
    let mut encoder = Encoder::new(out, picture.width as u32, picture.height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder
}

fn add_text<W: Write>(encoder: &mut Encoder<'_, W>, keyword: &str, text: &str) -> Result<(), EncodingError> {
    if text.chars().all(|c| (c as u32) < 256) {
        encoder.add_text_chunk(keyword.to_owned(), text.to_owned())
    } else {
        encoder.add_itxt_chunk(keyword.to_owned(), text.to_owned())
    }
}
