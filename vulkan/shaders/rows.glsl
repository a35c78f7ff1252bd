// Kernels that give a workgroup to each row: reductions over the row, and how a row belongs to an image.

const uint ROW_THREADS = 64u;
layout(local_size_x = 64) in;

shared float partial[ROW_THREADS];

float row_sum(float v) {
    uint t = gl_LocalInvocationID.x;
    partial[t] = v;
    barrier();
    for (uint half_way = ROW_THREADS / 2u; half_way > 0u; half_way >>= 1) {
        if (t < half_way) partial[t] += partial[t + half_way];
        barrier();
    }
    float sum = partial[0];
    barrier();
    return sum;
}

float row_max(float v) {
    uint t = gl_LocalInvocationID.x;
    partial[t] = v;
    barrier();
    for (uint half_way = ROW_THREADS / 2u; half_way > 0u; half_way >>= 1) {
        if (t < half_way) partial[t] = max(partial[t], partial[t + half_way]);
        barrier();
    }
    float most = partial[0];
    barrier();
    return most;
}

// The bits of |v|: as whole numbers they are in order, infinity and then NaN last. `max` of floats may drop a NaN.
uint magnitude(float v) { return floatBitsToUint(v) & 0x7fffffffu; }

shared uint partial_bits[ROW_THREADS];

uint row_max_magnitude(uint v) {
    uint t = gl_LocalInvocationID.x;
    partial_bits[t] = v;
    barrier();
    for (uint half_way = ROW_THREADS / 2u; half_way > 0u; half_way >>= 1) {
        if (t < half_way) partial_bits[t] = max(partial_bits[t], partial_bits[t + half_way]);
        barrier();
    }
    uint most = partial_bits[0];
    barrier();
    return most;
}

// What a row is multiplied by before it is rounded to int8, and its scale, where its largest magnitude has these bits.
// If that is not finite, the scale is NaN.
vec2 int8_factors(uint most) {
    if (most >= 0x7f800000u) return vec2(0.0, uintBitsToFloat(0x7fc00000u));
    float x = uintBitsToFloat(most);
    return vec2(x > 0.0 ? divide(127.0, x) : 0.0, divide(x, 127.0));
}
