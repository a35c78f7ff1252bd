#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef DOT
#extension GL_EXT_spirv_intrinsics : require
#endif
// The int8 rows of the linear kernel: i32 sums, then · x_scale[row] · w_scale[column]. Tiles as in linear.comp, four
// elements a word. Compiled twice: the floor multiplies bytes one by one, with -DDOT by integer dot products.
#include "types.glsl"
#include "math.glsl"
#include "layout.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint THREADS = 128u;
layout(constant_id = 1) const uint LANES = 16u;
layout(constant_id = 2) const uint TM = 8u;
layout(constant_id = 3) const uint TN = 4u;
layout(constant_id = 4) const uint BK = 64u;
layout(constant_id = 7) const bool ALIGNED = false;

const uint BM = THREADS / LANES * TM;
const uint BN = LANES * TN;
const uint KQ = BK / 4u;
const uint KS = KQ | 1u;

layout(set = 0, binding = 0) readonly buffer X { uint x_words[]; };
layout(set = 0, binding = 1) readonly buffer W { uint w_words[]; };
layout(set = 0, binding = 6) readonly buffer XScale { float x_scale[]; };
layout(set = 0, binding = 7) readonly buffer WScale { float w_scale[]; };

#include "linear_args.glsl"
#include "epilogue.glsl"
#include "bytes.glsl"

shared uint xs[BM * KS];
shared uint ws[BN * KS];

DEFINE_LOAD_BYTES(load_x, x_words, ALIGNED)
DEFINE_LOAD_BYTES(load_w, w_words, ALIGNED)

#ifdef DOT
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int s_dot(uint x, uint w, spirv_literal int packed_format);
#define DOT4(x, w) s_dot(x, w, 0)
#define OPERAND uint
#define UNPACK(word) (word)
#else
int dot_bytes(ivec4 x, ivec4 w) { return x.x * w.x + x.y * w.y + x.z * w.z + x.w * w.w; }
#define DOT4(x, w) dot_bytes(x, w)
#define OPERAND ivec4
#define UNPACK(word) (ivec4(int(word) << 24, int(word) << 16, int(word) << 8, int(word)) >> 24)
#endif

void main() {
    uint t = gl_LocalInvocationID.x, lane = t % LANES, first = t / LANES * TM;
    uint row0 = gl_WorkGroupID.y * BM, col0 = gl_WorkGroupID.x * BN;
    int acc[TM * TN];
    for (uint i = 0u; i < TM * TN; ++i) acc[i] = 0;

    for (uint k0 = 0u; k0 < a.k; k0 += BK) {
        for (uint i = t; i < BM * KQ; i += THREADS) {
            uint r = i / KQ, c = k0 + i % KQ * 4u;
            uint live = row0 + r < a.m && c < a.k ? a.k - c : 0u;
            xs[r * KS + i % KQ] = load_x(a.x_at + (row0 + r) * a.x_stride + c, live);
        }
        for (uint i = t; i < BN * KQ; i += THREADS) {
            uint r = i / KQ, c = k0 + i % KQ * 4u;
            uint live = col0 + r < a.n && c < a.k ? a.k - c : 0u;
            ws[r * KS + i % KQ] = load_w(a.w_at + (col0 + r) * a.w_stride + c, live);
        }
        barrier();
        for (uint q = 0u; q < KQ; ++q) {
            OPERAND w[TN];
            for (uint j = 0u; j < TN; ++j) w[j] = UNPACK(ws[(lane + j * LANES) * KS + q]);
            for (uint i = 0u; i < TM; ++i) {
                OPERAND x = UNPACK(xs[(first + i) * KS + q]);
                for (uint j = 0u; j < TN; ++j) acc[i * TN + j] += DOT4(x, w[j]);
            }
        }
        barrier();
    }
    for (uint i = 0u; i < TM; ++i) {
        uint row = row0 + first + i;
        if (row >= a.m) break;
        uint from = table_row(row);
        for (uint j = 0u; j < TN; ++j) {
            uint col = col0 + lane + j * LANES;
            if (col >= a.n) continue;
            float scale = x_scale[a.x_scale_at + row] * w_scale[a.w_scale_at + col];
            finish(float(acc[i * TN + j]) * scale, row, col, from);
        }
    }
}
