use denoir_core::ops::{Attention, Op};
use denoir_core::{DType, Region, TokenLayout, View};

use super::common::FLOATS;
use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

const HEAD_DIMS: [usize; 7] = [4, 16, 64, 72, 80, 104, 128];
const KEYS: [usize; 9] = [1, 5, 31, 32, 33, 63, 64, 65, 129];

/// The growth of scores over the keys, for which an online softmax must rescale.
#[derive(Clone, Copy, Debug)]
enum Scores {
    /// Near ±1.
    Small,
    /// Near ±100, in any order.
    Large,
    /// From -100 to 100: every block of keys has a new maximum.
    Rising,
    /// From 100 to -100: later blocks weigh nothing.
    Falling,
}

pub(super) fn cases(table: &mut Table) {
    let scores = [Scores::Small, Scores::Large, Scores::Rising, Scores::Falling];
    let mut i = 0;
    for head_dim in HEAD_DIMS {
        for keys in KEYS {
            for context in [0, 4] {
                for images in 1..=3 {
                    let (scores, queries) = (scores[i % 4], [1, 2, 7, 33, keys.min(65)][i % 5]);
                    let dtype = FLOATS[(i + i / 3) % 3];
                    let heads = [1, 1, 2, 3][i / 2 % 4];
                    // Rounded factors move scores near 100 by whole units: nothing to compare.
                    let rounds = matches!(scores, Scores::Small) && i / 4 % 2 == 1;
                    let products = if rounds { DType::BF16 } else { DType::F32 };
                    let name = format!(
                        "{dtype} {heads}×{head_dim} {images} images {queries} queries {keys}+{context} keys {scores:?}, \
                         {products} products"
                    );
                    let keys = TokenLayout { images, image_tokens: keys, context_tokens: context };
                    let queries = match queries {
                        33 => TokenLayout { images, image_tokens: 29, context_tokens: 4 },
                        n => TokenLayout { images, image_tokens: n, context_tokens: 0 },
                    };
                    let sizes = Sizes { heads, head_dim, queries, keys };
                    table.add(name.clone(), move |d| case(d, dtype, (products, DType::F32), sizes, scores));
                    if rounds {
                        table.add(name + " of bf16", move |d| case(d, dtype, (products, DType::BF16), sizes, scores));
                    }
                    i += 1;
                }
            }
        }
    }
    // Devices give a workgroup more where there are many of them.
    for head_dim in HEAD_DIMS {
        for (dtype, products, inputs) in [
            (DType::F32, DType::F32, DType::F32),
            (DType::F16, DType::F32, DType::F32),
            (DType::BF16, DType::BF16, DType::F32),
            (DType::BF16, DType::BF16, DType::BF16),
        ] {
            let name = format!("{dtype} 7×{head_dim} 2 images 70+4 queries and keys, {products} products of {inputs}");
            let tokens = TokenLayout { images: 2, image_tokens: 70, context_tokens: 4 };
            let sizes = Sizes { heads: 7, head_dim, queries: tokens, keys: tokens };
            table.add(name, move |d| case(d, dtype, (products, inputs), sizes, Scores::Small));
        }
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    heads: usize,
    head_dim: usize,
    queries: TokenLayout,
    keys: TokenLayout,
}

fn case(mut d: Draw, dtype: DType, (products, inputs): (DType, DType), sizes: Sizes, scores: Scores) -> Case {
    let Sizes { heads, head_dim, queries, keys } = sizes;
    let width = heads * head_dim;
    let (q, k, v) = if queries == keys {
        let qkv = d.place(Region::Arena, inputs, keys.rows(), 3 * width);
        (qkv.cols_from(0, width), qkv.cols_from(width, width), qkv.cols_from(2 * width, width))
    } else {
        let place = |d: &mut Draw, rows| d.place(Region::Arena, inputs, rows, width);
        (place(&mut d, queries.rows()), place(&mut d, keys.rows()), place(&mut d, keys.rows()))
    };
    fill(&mut d, &q, &k, &keys, scores);
    d.fill(&v, |rng, _, _| rng.normal());
    let out = d.output(dtype, queries.rows(), width);
    let tolerance = match scores {
        _ if products == DType::BF16 => Tolerance::close(1.5e-2, 0.0, "every factor is off by up to 1/512"),
        Scores::Small => Tolerance::close(2e-6, 1e-6, "f32 sums of values near 1"),
        _ => Tolerance::close(1e-4, 1e-6, "an f32 score of 100 is off by 1e-5 and more, its weight by that share"),
    };
    let op = Op::Attention(Attention { q, k, v, heads, queries, keys, products, out });
    d.finish(op, [(out, tolerance.rounded_to(dtype))])
}

/// Queries and keys whose products have these scores.
fn fill(d: &mut Draw, q: &View, k: &View, keys: &TokenLayout, scores: Scores) {
    let sizes = match scores {
        Scores::Small => (1.0, 1.0),
        Scores::Large => (5.0, 5.0),
        Scores::Rising | Scores::Falling => {
            // q · k / √head_dim is the key's height times a number near 1, for every query.
            let (tokens, image_rows) = (keys.tokens() as f64, keys.image_rows());
            let root = |cols: usize| (cols as f64).sqrt();
            let width = q.cols;
            d.fill(q, |rng, _, c| if c % 2 == 0 { 1.0 } else { -1.0 } + 0.1 * rng.normal());
            d.fill(k, |rng, r, c| {
                let token = if r < image_rows {
                    r % keys.image_tokens
                } else {
                    keys.image_tokens + (r - image_rows) % keys.context_tokens
                };
                let height = 200.0 * (token as f64 + 0.5) / tokens - 100.0;
                let height = if matches!(scores, Scores::Rising) { height } else { -height };
                height / root(width) * if c % 2 == 0 { 1.0 } else { -1.0 } + 0.1 * rng.normal()
            });
            return;
        }
    };
    d.fill(q, |rng, _, _| sizes.0 * rng.normal());
    d.fill(k, |rng, _, _| sizes.1 * rng.normal());
}
