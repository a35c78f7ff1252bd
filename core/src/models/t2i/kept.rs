//! Refined texts that are kept from image to image, in the host's memory.

use super::T2iConfig;
use super::plan::TEXTS;

/// Words of a time.
const TIME: usize = size_of::<f64>() / size_of::<u32>();

/// One of a job's texts, and what it was refined to at some times. Its part of the memory, which starts as zeros, holds
/// the number of those times, the text, and for each time a slot: the time, then the refined rows.
#[derive(Debug)]
pub(super) struct KeptText<'k> {
    count: &'k mut u32,
    /// `(text length, text width)` f32.
    text: &'k mut [u32],
    slots: &'k mut [u32],
    slot_words: usize,
}

/// Words of memory for a job's texts at `times` times.
pub(super) fn words(config: &T2iConfig, times: usize) -> usize {
    let slots = times.saturating_mul(slot_words(config));
    slots.saturating_add(1 + config.text_values()).saturating_mul(TEXTS)
}

fn slot_words(config: &T2iConfig) -> usize {
    TIME + config.text_length * config.hidden
}

impl<'k> KeptText<'k> {
    /// Text number `which` of `memory`; `None` where that has no room for it.
    pub(super) fn of(config: &T2iConfig, memory: &'k mut [u32], which: usize) -> Option<KeptText<'k>> {
        let part = memory.len() / TEXTS;
        let (count, rest) = memory.get_mut(which * part..)?.get_mut(..part)?.split_first_mut()?;
        let (text, slots) = rest.split_at_mut_checked(config.text_values())?;
        Some(KeptText { count, text, slots, slot_words: slot_words(config) })
    }

    /// Forgets what was kept of another text.
    pub(super) fn begin(&mut self, text: &[f32]) {
        let words: &[u32] = bytemuck::cast_slice(text);
        if *self.text != *words {
            *self.count = 0;
            self.text.copy_from_slice(words);
        }
    }

    /// The rows at time `t`, `(text length, hidden)`.
    pub(super) fn find(&self, t: f64) -> Option<&[f32]> {
        let slots = self.slots.chunks_exact(self.slot_words).take(*self.count as usize);
        let found = slots.map(|slot| slot.split_at(TIME)).find(|(time, _)| *time == words_of(t))?;
        Some(bytemuck::cast_slice(found.1))
    }

    /// Keeps the rows that `read` gives for time `t`. A full memory holds the times of other settings, and starts anew.
    pub(super) fn keep<E>(&mut self, t: f64, read: impl FnOnce(&mut [f32]) -> Result<(), E>) -> Result<(), E> {
        let room = self.slots.len() / self.slot_words;
        let index = if (*self.count as usize) < room { *self.count } else { 0 };
        let Some(slot) = self.slots.chunks_exact_mut(self.slot_words).nth(index as usize) else { return Ok(()) };
        *self.count = index;
        let (time, rows) = slot.split_at_mut(TIME);
        read(bytemuck::cast_slice_mut(rows))?;
        time.copy_from_slice(&words_of(t));
        *self.count = index + 1;
        Ok(())
    }
}

fn words_of(t: f64) -> [u32; TIME] {
    let bits = t.to_bits();
    [bits as u32, (bits >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    const CONFIG: T2iConfig = T2iConfig {
        input_size: 4,
        patch_size: 2,
        channels: 3,
        hidden: 4,
        depth: 1,
        text_depth: 1,
        heads: 1,
        ffn_hidden: 8,
        bottleneck: 2,
        text_length: 2,
        text_width: 3,
    };

    fn keep(kept: &mut KeptText<'_>, t: f64, value: f32) {
        let fill = |rows: &mut [f32]| {
            rows.fill(value);
            Ok::<(), ()>(())
        };
        assert_eq!(kept.keep(t, fill), Ok(()));
    }

    #[test]
    fn a_text_is_kept_until_another_comes() {
        let mut memory = vec![0; words(&CONFIG, 2)];
        for which in 0..TEXTS {
            let mut kept = KeptText::of(&CONFIG, &mut memory, which).unwrap();
            kept.begin(&[1.0 + which as f32; 6]);
            assert_eq!(kept.find(0.0), None);
            keep(&mut kept, 0.0, 5.0 + which as f32);
            keep(&mut kept, 0.5, 7.0);
        }
        for which in 0..TEXTS {
            let mut kept = KeptText::of(&CONFIG, &mut memory, which).unwrap();
            kept.begin(&[1.0; 6]);
            let expected = (which == 0).then_some([5.0; 8]);
            assert_eq!(kept.find(0.0), expected.as_ref().map(<[f32; 8]>::as_slice), "text {which}");
        }
    }

    #[test]
    fn a_full_memory_starts_anew() {
        let mut memory = vec![0; words(&CONFIG, 2)];
        let mut kept = KeptText::of(&CONFIG, &mut memory, 1).unwrap();
        for (t, value) in [(0.0, 1.0), (0.25, 2.0), (0.5, 3.0)] {
            keep(&mut kept, t, value);
        }
        assert_eq!((kept.find(0.0), kept.find(0.25)), (None, None));
        assert_eq!(kept.find(0.5), Some(&[3.0; 8][..]));
    }

    #[test]
    fn what_could_not_be_read_is_not_kept() {
        let mut memory = vec![0; words(&CONFIG, 1)];
        let mut kept = KeptText::of(&CONFIG, &mut memory, 0).unwrap();
        keep(&mut kept, 0.0, 1.0);
        assert_eq!(kept.keep(0.5, |_| Err("lost")), Err("lost"));
        assert_eq!((kept.find(0.0), kept.find(0.5)), (None, None));
    }

    #[test]
    fn memory_of_any_size_will_do() {
        for len in 0..words(&CONFIG, 1) {
            let mut memory = vec![0; len];
            if let Some(mut kept) = KeptText::of(&CONFIG, &mut memory, 1) {
                kept.begin(&[1.0; 6]);
                keep(&mut kept, 0.0, 1.0);
                assert_eq!(kept.find(0.0), None, "{len} words");
            }
        }
    }
}
