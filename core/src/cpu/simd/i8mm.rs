use core::arch::aarch64::*;
use core::arch::asm;

use super::block::Block;

/// Elements of `k` that an instruction takes.
const GROUP: usize = 8;
/// Columns of a panel.
const PANEL: usize = 16;
/// Rows of a block: three pairs times eight pairs of columns keep 24 registers of sums.
const ROWS: usize = 6;

/// Sums of int8 products of up to [`ROWS`] rows and a panel, two rows times two columns to an instruction. In the panel
/// eight elements of a column lie side by side.
///
/// # Safety
/// The block's promises, and the machine has the instructions.
#[inline(always)]
pub(super) unsafe fn block(b: &mut Block<'_>) {
    // SAFETY: NEON, which every aarch64 has.
    let mut sums = [[unsafe { vdupq_n_s32(0) }; PANEL / 2]; ROWS / 2];
    let mut x = [b.x; ROWS];
    for (i, x) in x.iter_mut().enumerate() {
        // SAFETY: rows past the last repeat it.
        *x = unsafe { x.add(i.min(b.rows - 1) * b.stride) };
    }
    let mut w = b.w;
    for k in 0..b.k / GROUP {
        // SAFETY: group `k` of each row, and of the panel, which then continues at least to its end.
        w = unsafe { step(&mut sums, &x, k * GROUP, w) };
    }
    let rest = b.k % GROUP;
    if rest > 0 {
        let mut tails = [[0u8; GROUP]; ROWS];
        for (tail, x) in tails.iter_mut().zip(&mut x) {
            // SAFETY: `rest` bytes are left of the row, fewer than the tail has.
            unsafe { core::ptr::copy_nonoverlapping(x.add(b.k - rest), tail.as_mut_ptr(), rest) };
            *x = tail.as_ptr();
        }
        // SAFETY: a group; panels are padded with zeros to whole ones.
        unsafe { step(&mut sums, &x, 0, w) };
    }
    // SAFETY: promised.
    unsafe { store(&sums, b) };
}

/// Adds the products of one group, at byte `at` of each row; where the panel's next group starts.
///
/// # Safety
/// The group is readable in every row and in the panel.
#[inline(always)]
unsafe fn step(
    sums: &mut [[int32x4_t; PANEL / 2]; ROWS / 2],
    x: &[*const u8; ROWS],
    at: usize,
    w: *const u8,
) -> *const u8 {
    // SAFETY: readable, as the caller promises.
    unsafe {
        let mut pairs = [vdupq_n_s8(0); ROWS / 2];
        for (pair, x) in pairs.iter_mut().zip(x.as_chunks::<2>().0) {
            *pair = vcombine_s8(vld1_s8(x[0].add(at).cast()), vld1_s8(x[1].add(at).cast()));
        }
        for v in 0..PANEL / 2 {
            let w = vld1q_s8(w.add(2 * GROUP * v).cast());
            for (sums, pair) in sums.iter_mut().zip(pairs) {
                sums[v] = multiply(sums[v], pair, w);
            }
        }
        w.add(GROUP * PANEL)
    }
}

/// `sums + x · wᵀ`: two rows of eight each, and the sums of row 0 before those of row 1.
///
/// # Safety
/// The machine has the instruction.
#[inline(always)]
unsafe fn multiply(mut sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: the caller promises that operands and sums are as large as the block says. The intrinsic is not stable
    // yet.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sums:v}.4s, {x:v}.16b, {w:v}.16b",
            sums = inout(vreg) sums,
            x = in(vreg) x,
            w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// # Safety
/// The block's promises.
#[inline(always)]
unsafe fn store(sums: &[[int32x4_t; PANEL / 2]; ROWS / 2], b: &Block<'_>) {
    for (pair, sums) in sums.iter().enumerate() {
        for (v, &sums) in sums.iter().enumerate() {
            // SAFETY: columns 2 v and 2 v + 1 of both rows.
            unsafe {
                let to: *mut i32 = b.sums.add(2 * PANEL * pair + 2 * v).cast();
                let (mut first, mut second) = (vget_low_s32(sums), vget_high_s32(sums));
                if b.add {
                    first = vadd_s32(first, vld1_s32(to));
                    second = vadd_s32(second, vld1_s32(to.add(PANEL)));
                }
                vst1_s32(to, first);
                vst1_s32(to.add(PANEL), second);
            }
        }
    }
}
