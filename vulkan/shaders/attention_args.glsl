// Arguments of every attention kernel. The output's type is one of them, and not a constant: a branch for each store
// spares two compilations.

layout(push_constant) uniform Args {
    uint q_at, q_stride, k_at, k_stride, v_at, v_stride, out_at, out_stride;
    uint images, q_image_tokens, q_context_tokens, k_image_tokens, k_context_tokens;
    float scale;
    uint out_type;
} a;
