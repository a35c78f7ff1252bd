use denoir_core::ops::QuantizeRows;

use crate::Error;
use crate::engine::Vulkan;
use crate::launch::{Launch, word};
use crate::shader::Shader;

pub(crate) fn launch(vulkan: &mut Vulkan, op: &QuantizeRows) -> Result<(), Error> {
    if op.centre.is_some() {
        return Err(Error::Form("centred activations"));
    }
    if op.rotated {
        return Err(Error::Form("rotation without SwiGLU"));
    }
    let mut l = Launch::new(vulkan, Shader::QuantizeRows);
    let x = l.read(&op.x)?;
    let out = l.write(&op.out)?;
    let scale = l.write(&op.out_scale)?;
    let args = [x.at, x.stride, out.at, out.stride, scale.at, word(op.out.cols)];
    l.run(&args, [op.out.rows, 1, 1], 10 * op.out.rows * op.out.cols)
}
