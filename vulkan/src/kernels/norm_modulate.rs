use denoir_core::ops::NormModulate;

use crate::Error;
use crate::launch::{Launch, Launcher, element_type, layout_words, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &NormModulate) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::NormModulate);
    l.constant(1, element_type(op.out.dtype));
    let x = l.read(&op.x)?;
    let weight = l.read(&op.weight)?;
    let (table, rows) = l.modulation(&op.modulation)?;
    let out = l.write(&op.out)?;
    let out_scale = l.write_some(op.out_scale.as_ref())?;
    let [images, image_tokens, context_tokens] = layout_words(&op.layout);
    #[rustfmt::skip]
    let args = [
        x.at, x.stride, weight.at, table.at, table.stride, rows.at, out.at, out.stride, out_scale.at,
        word(op.out.cols), word(op.shift), word(op.scale), images, image_tokens, context_tokens,
        op.eps.to_bits(),
    ];
    l.run(&args, [op.out.rows, 1, 1], 20 * op.out.rows * op.out.cols)
}
