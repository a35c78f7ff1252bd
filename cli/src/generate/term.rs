//! Pictures in a terminal: each character shows two pixels, one above the other.

use std::fmt::Write as _;
use std::io::Write as _;

use console::Term;

use crate::picture::Picture;

/// Lines left free for the progress bar and the prompt.
const SPARE_LINES: usize = 3;

/// Draws pictures over one another.
#[derive(Default)]
pub(super) struct Screen {
    /// Number of lines of the picture now shown.
    lines: usize,
}

impl Screen {
    pub(super) fn draw(&mut self, picture: &Picture) {
        let (rows, columns) = Term::stderr().size();
        let room = usize::from(rows).saturating_sub(SPARE_LINES).max(4);
        let picture = picture.fit(usize::from(columns).max(4), 2 * room);
        let mut text = String::new();
        if self.lines > 0 {
            // Up to the start of the picture that is there.
            let _ = write!(text, "\x1b[{}F", self.lines);
        }
        let lines = half_blocks(&picture);
        self.lines = lines.len();
        lines.iter().for_each(|line| {
            text.push_str(line);
            text.push('\n');
        });
        // A terminal that has gone shows nothing; the images are written all the same.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// `▀` with the upper pixel as its colour and the lower one as its background, line by line.
fn half_blocks(picture: &Picture) -> Vec<String> {
    let pixel = |x: usize, y: usize| {
        let at = (y * picture.width + x) * 3;
        [picture.rgb[at], picture.rgb[at + 1], picture.rgb[at + 2]]
    };
    let line = |y: usize| {
        let mut line = String::new();
        for x in 0..picture.width {
            let [r, g, b] = pixel(x, y);
            let _ = write!(line, "\x1b[38;2;{r};{g};{b}m");
            if y + 1 < picture.height {
                let [r, g, b] = pixel(x, y + 1);
                let _ = write!(line, "\x1b[48;2;{r};{g};{b}m");
            }
            line.push('▀');
        }
        line.push_str("\x1b[0m");
        line
    };
    (0..picture.height).step_by(2).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pixels_share_a_character() {
        let picture = Picture { width: 1, height: 3, rgb: vec![1, 2, 3, 4, 5, 6, 7, 8, 9] };
        let lines = half_blocks(&picture);
        assert_eq!(lines, ["\x1b[38;2;1;2;3m\x1b[48;2;4;5;6m▀\x1b[0m", "\x1b[38;2;7;8;9m▀\x1b[0m"]);
    }
}
