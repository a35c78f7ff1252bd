//! Every kernel on every backend, against its reference. See `op_matrix` in this crate.

use denoir_core::ops::Op;
use denoir_tests::op_matrix::run;

macro_rules! kernels {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        #[test]
        fn every_kernel_is_here() {
            let here = [$(stringify!($name)),*];
            assert!(Op::NAMES.iter().all(|name| here.contains(name)), "{:?} are not {here:?}", Op::NAMES);
        }
    };
}

kernels! {
    linear class_condition context_tokens patchify unpatchify norm_modulate rms_norm layer_norm qk_norm_rope attention
    causal_attention swiglu quantize_rows gather_rows dequantize_blocks solver_step
}
