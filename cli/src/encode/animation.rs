use std::io::{Error, Result};

use crate::output::Stoppable;
use crate::picture::Picture;

/// The format of an animation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Animation {
    /// Animated GIF, 256 colours per frame.
    Gif,
    /// Animated PNG, all colours.
    Apng,
}

/// Approximate duration of a whole run, in hundredths of a second.
const RUN_TIME: usize = 400;
/// Duration of the finished picture, in hundredths of a second.
const HOLD: u16 = 200;

/// Loops over the frames for ever and holds the last one for a while. An error once the user asked to stop.
pub(crate) fn animate(kind: Animation, frames: &[Picture]) -> Result<Vec<u8>> {
    // Browsers slow down what is faster than 50 frames a second.
    let delay = (RUN_TIME / frames.len().max(1)).clamp(3, 20) as u16;
    let delays = (1..=frames.len()).map(|i| if i == frames.len() { HOLD } else { delay });
    match kind {
        Animation::Gif => gif(frames, delays),
        Animation::Apng => apng(frames, delays).map_err(Error::other),
    }
}

fn gif(frames: &[Picture], delays: impl Iterator<Item = u16>) -> Result<Vec<u8>> {
    let side = |n: usize| u16::try_from(n).map_err(|_| Error::other("too large for a GIF; use an animated .png"));
    let Some(first) = frames.first() else { return Ok(Vec::new()) };
    let (width, height) = (side(first.width)?, side(first.height)?);
    let mut out = Vec::new();
    let mut encoder = gif::Encoder::new(Stoppable(&mut out), width, height, &[]).map_err(Error::other)?;
    encoder.set_repeat(gif::Repeat::Infinite).map_err(Error::other)?;
    for (picture, delay) in frames.iter().zip(delays) {
        // 10 is the quantiser's own suggestion between the best colours (1) and the fastest (30).
        let mut frame = gif::Frame::from_rgb_speed(width, height, &picture.rgb, 10);
        frame.delay = delay;
        encoder.write_frame(&frame).map_err(Error::other)?;
    }
    drop(encoder);
    Ok(out)
}

/// Puts the finished picture first, outside the animation, for viewers that show only still pictures.
fn apng(frames: &[Picture], delays: impl Iterator<Item = u16>) -> std::result::Result<Vec<u8>, png::EncodingError> {
    let Some(last) = frames.last() else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    let mut encoder = super::png::encoder(Stoppable(&mut out), last);
    encoder.set_animated(frames.len() as u32, 0)?;
    encoder.set_sep_def_img(true)?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&last.rgb)?;
    for (picture, delay) in frames.iter().zip(delays) {
        writer.set_frame_delay(delay, 100)?;
        writer.write_image_data(&picture.rgb)?;
    }
    writer.finish()?;
    Ok(out)
}
