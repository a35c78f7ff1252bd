// Rows of queries, keys and values, and where a token's row is: the last token's again where there are no more.

layout(set = 0, binding = 0) readonly buffer Q { float q[]; };
layout(set = 0, binding = 0) readonly buffer Q4 { vec4 q4[]; };
layout(set = 0, binding = 1) readonly buffer K { float k[]; };
layout(set = 0, binding = 1) readonly buffer K4 { vec4 k4[]; };
layout(set = 0, binding = 2) readonly buffer V { float v[]; };
layout(set = 0, binding = 2) readonly buffer V4 { vec4 v4[]; };

uint q_row(uint token) {
    uint last = a.q_image_tokens + a.q_context_tokens - 1u;
    return row_of(gl_WorkGroupID.z, min(token, last), a.images, a.q_image_tokens, a.q_context_tokens);
}

uint k_row(uint token) {
    uint last = a.k_image_tokens + a.k_context_tokens - 1u;
    return row_of(gl_WorkGroupID.z, min(token, last), a.images, a.k_image_tokens, a.k_context_tokens);
}

// vec4 NAME(token, c): channels c to c + 3 of the workgroup's head, zeros from its end on. With ALIGNED the caller promises
// that every row starts at a multiple of four elements, and so does every head.
#define DEFINE_CHANNELS(NAME, ONE, FOUR, AT, STRIDE, ROW)                     \
    vec4 NAME(uint token, uint c) {                                           \
        uint i = AT + ROW(token) * STRIDE + gl_WorkGroupID.y * HEAD_DIM + c;  \
        if (c >= HEAD_DIM) return vec4(0.0);                                  \
        if (ALIGNED) return FOUR[i >> 2];                                     \
        vec4 x = vec4(ONE[i], 0.0, 0.0, 0.0);                                 \
        if (c + 1u < HEAD_DIM) x.y = ONE[i + 1u];                             \
        if (c + 2u < HEAD_DIM) x.z = ONE[i + 2u];                             \
        if (c + 3u < HEAD_DIM) x.w = ONE[i + 3u];                             \
        return x;                                                             \
    }
DEFINE_CHANNELS(query, q, q4, a.q_at, a.q_stride, q_row)
DEFINE_CHANNELS(key, k, k4, a.k_at, a.k_stride, k_row)
DEFINE_CHANNELS(value, v, v4, a.v_at, a.v_stride, k_row)
