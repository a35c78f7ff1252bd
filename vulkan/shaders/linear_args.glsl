// Arguments of every linear kernel. `period` is the table's rows with ADD_PERIODIC; the layout and `rows_at` belong to
// GATED_RESIDUAL, whose `table_at` includes the gate's first column.

layout(push_constant) uniform Args {
    uint x_at, x_stride, w_at, w_stride, bias_at, table_at, table_stride, rows_at, out_at, out_stride;
    uint x_scale_at, w_scale_at, m, n, k, period, images, image_tokens, context_tokens, epilogue, has_bias;
} a;
