// Operands as texel buffers, for processors that run shaders: a texel is 16 bytes. There a load from a storage buffer
// is a loop over the invocations that tests each of them, and a fetched texel is a vector load for each.

// Elements i to i + 3 of f32, i a multiple of four.
vec4 fetch4(utextureBuffer from, uint i) {
    return uintBitsToFloat(texelFetch(from, int(i / 4u)));
}

// Four signed bytes.
vec4 widen_bytes(uint word) {
    return vec4(ivec4(int(word) << 24, int(word) << 16, int(word) << 8, int(word)) >> 24);
}

// Elements i to i + 7, i a multiple of eight, in two halves.
vec4[2] fetch8(utextureBuffer from, uint type, uint i) {
    if (type == F32) return vec4[2](fetch4(from, i), fetch4(from, i + 4u));
    if (type == I8) {
        uvec4 words = texelFetch(from, int(i / 16u));
        uvec2 bytes = (i & 8u) == 0u ? words.xy : words.zw;
        return vec4[2](widen_bytes(bytes.x), widen_bytes(bytes.y));
    }
    uvec4 pairs = texelFetch(from, int(i / 8u)), low = pairs << 16, high = pairs & 0xffff0000u;
    if (type == BF16)
        return vec4[2](uintBitsToFloat(uvec4(low.x, high.x, low.y, high.y)), uintBitsToFloat(uvec4(low.z, high.z, low.w, high.w)));
    return vec4[2](vec4(unpackHalf2x16(pairs.x), unpackHalf2x16(pairs.y)), vec4(unpackHalf2x16(pairs.z), unpackHalf2x16(pairs.w)));
}
