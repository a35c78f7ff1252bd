// Element types, and how elements lie in the 32-bit words that every buffer is bound as. Reading words needs no
// feature beyond Vulkan 1.1: 16-bit and 8-bit elements are unpacked here, at any element offset.

const uint F32 = 0u;
const uint F16 = 1u;
const uint BF16 = 2u;
const uint I8 = 3u;

// float NAME(i): element i, widened.
#define DEFINE_LOAD(NAME, WORDS, TYPE)                                        \
    float NAME(uint i) {                                                      \
        if (TYPE == F32) return uintBitsToFloat(WORDS[i]);                    \
        if (TYPE == I8) return float(bitfieldExtract(int(WORDS[i >> 2]), int(i & 3u) * 8, 8)); \
        uint bits = bitfieldExtract(WORDS[i >> 1], int(i & 1u) * 16, 16);     \
        return TYPE == F16 ? unpackHalf2x16(bits).x : uintBitsToFloat(bits << 16); \
    }

// vec4 NAME(i, n): elements i to i + 3, of which those from n on are 0. VEC4 and VEC2 alias WORDS and are used where
// the caller promises, by ALIGNED, that i is a multiple of 4 and n is at least 4.
#define DEFINE_LOAD4(NAME, ONE, VEC4, VEC2, TYPE, ALIGNED)                    \
    vec4 NAME(uint i, uint n) {                                               \
        if (ALIGNED && n >= 4u) {                                             \
            if (TYPE == F32) return uintBitsToFloat(VEC4[i >> 2]);            \
            uvec2 pairs = VEC2[i >> 2];                                       \
            if (TYPE == F16) return vec4(unpackHalf2x16(pairs.x), unpackHalf2x16(pairs.y)); \
            return uintBitsToFloat(uvec4(pairs.x << 16, pairs.x & 0xffff0000u, pairs.y << 16, pairs.y & 0xffff0000u)); \
        }                                                                     \
        vec4 v = vec4(0.0);                                                   \
        if (n > 0u) v.x = ONE(i);                                             \
        if (n > 1u) v.y = ONE(i + 1u);                                        \
        if (n > 2u) v.z = ONE(i + 2u);                                        \
        if (n > 3u) v.w = ONE(i + 3u);                                        \
        return v;                                                             \
    }

// The bits of x rounded to bfloat16, ties to even.
uint bf16_bits(float x) {
    uint bits = floatBitsToUint(x);
    if (isnan(x)) return (bits >> 16) | 0x40u;
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

// Writers of TYPE. Elements that fill a word are stored as one; others are put into a word that another invocation
// may be writing to as well, by two atomic operations that leave its other bytes alone.
// void NAME(i, v, n): writes the first n of v at elements i on. int8 takes whole numbers.
#define DEFINE_STORE4(NAME, WORDS, TYPE)                                      \
    void NAME##_part(uint i, uint bits, uint size) {                          \
        uint shift = (i * size & 31u), word = i * size >> 5;                  \
        uint mask = ((1u << size) - 1u) << shift;                             \
        atomicAnd(WORDS[word], ~mask);                                        \
        atomicOr(WORDS[word], (bits << shift) & mask);                        \
    }                                                                         \
    void NAME(uint i, vec4 v, uint n) {                                       \
        if (TYPE == F32) {                                                    \
            for (uint j = 0u; j < min(n, 4u); ++j) WORDS[i + j] = floatBitsToUint(v[j]); \
        } else if (TYPE == I8) {                                              \
            uvec4 b = uvec4(ivec4(v)) & 0xffu;                                \
            if (n >= 4u && (i & 3u) == 0u) WORDS[i >> 2] = b.x | b.y << 8 | b.z << 16 | b.w << 24; \
            else for (uint j = 0u; j < min(n, 4u); ++j) NAME##_part(i + j, b[j], 8u); \
        } else {                                                              \
            uvec4 b = TYPE == F16 ? uvec4(packHalf2x16(vec2(v.x, 0.0)), packHalf2x16(vec2(v.y, 0.0)), \
                                          packHalf2x16(vec2(v.z, 0.0)), packHalf2x16(vec2(v.w, 0.0))) \
                                  : uvec4(bf16_bits(v.x), bf16_bits(v.y), bf16_bits(v.z), bf16_bits(v.w)); \
            if (n >= 4u && (i & 1u) == 0u) {                                  \
                WORDS[i >> 1] = b.x | b.y << 16;                              \
                WORDS[(i >> 1) + 1u] = b.z | b.w << 16;                       \
            } else for (uint j = 0u; j < min(n, 4u); ++j) NAME##_part(i + j, b[j], 16u); \
        }                                                                     \
    }

// void NAME_pair(i, v, n): the same for two.
#define DEFINE_STORE2(NAME, WORDS, TYPE)                                      \
    void NAME##_pair(uint i, vec2 v, uint n) {                                \
        if (TYPE != F32 && n >= 2u && (i & 1u) == 0u) {                       \
            WORDS[i >> 1] = TYPE == F16 ? packHalf2x16(v) : bf16_bits(v.x) | bf16_bits(v.y) << 16; \
        } else NAME(i, vec4(v, 0.0, 0.0), min(n, 2u));                        \
    }
