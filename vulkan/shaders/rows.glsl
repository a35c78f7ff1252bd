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

// The largest of four magnitudes of which n count.
float max_abs(vec4 v, uint n) {
    vec4 a = abs(v);
    return max(max(a.x, n > 1u ? a.y : 0.0), max(n > 2u ? a.z : 0.0, n > 3u ? a.w : 0.0));
}
