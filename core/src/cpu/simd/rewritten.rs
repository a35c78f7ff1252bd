//! int8 on vectors of x86, whose products take activations in a form of their own: without signs, or widened to 16 bits in
//! two parts ([`Simd::rewrite_i8`]).

use core::mem::MaybeUninit;

use super::Simd;
use super::block::{Block, CHUNK};
use super::product::{I8, block};

/// Elements of a row that are rewritten at a time: few enough that six rows stay in the first-level cache.
const STRETCH: usize = 1024;

/// Rows of int8 as products take them, in one part or two.
#[repr(align(64))]
struct Rewritten<const R: usize>(MaybeUninit<[[[u8; STRETCH]; 2]; R]>);

/// [`block`] of int8 where products take rewritten rows. If the block's are not, they are rewritten here, a stretch at a
/// time.
///
/// # Safety
/// The block's promises.
#[cfg_attr(feature = "simd", inline(always))]
pub(super) unsafe fn rewritten<S: Simd, const R: usize, const V: usize>(s: S, b: &mut Block<'_>) {
    const { assert!(STRETCH.is_multiple_of(CHUNK) && S::I8_GROUP == 4 && 0 < S::I8_PARTS && S::I8_PARTS <= 2) };
    let mut rows = Rewritten::<R>(MaybeUninit::uninit());
    let to = rows.0.as_mut_ptr().cast::<u8>();
    let step = if b.part.is_some() { b.k } else { STRETCH };
    let (mut add, mut next, mut done) = (b.add, b.next, 0);
    loop {
        let len = step.min(b.k - done);
        let (x, stride, part) = match b.part {
            Some(part) => (b.x, b.stride, part),
            None => {
                for i in 0..b.rows {
                    // SAFETY: a stretch of a row of `x`, and one of at most R rows to write.
                    unsafe { s.rewrite_i8(b.x.add(i * b.stride + done), len, to.add(i * 2 * STRETCH), STRETCH) };
                }
                (to.cast_const(), 2 * STRETCH, STRETCH)
            }
        };
        let k = len.next_multiple_of(S::I8_GROUP);
        // SAFETY: a stretch of the panel, which is padded with zeros to whole groups, as rewritten rows are.
        unsafe {
            let w = b.w.add(done * S::PANEL);
            let first = &mut Block { x, stride, part: None, rows: b.rows, k, w, sums: b.sums, add, next };
            block::<S, I8<0>, R, V>(s, first);
            if S::I8_PARTS == 2 {
                let second = &mut Block { x: x.add(part), add: true, next: &[], ..*first };
                block::<S, I8<1>, R, V>(s, second);
            }
        }
        (add, next) = (true, &[]);
        done += len;
        if done >= b.k {
            return;
        }
    }
}
