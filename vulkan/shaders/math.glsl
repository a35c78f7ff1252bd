// Arithmetic that Vulkan leaves loose, made as exact as the other twins'.

// The upper half of a number's digits: a product of two such halves is exact.
float upper(float x) { return uintBitsToFloat(floatBitsToUint(x) & 0xfffff000u); }

// a / b, rounded correctly but for rare cases: Vulkan allows a division to be off by 2.5 units in the last place, and
// drivers that multiply by a reciprocal are. What is left over is computed exactly, by halves: an fma may be two
// roundings here.
float divide(float a, float b) {
    float q = a / b;
    if (isinf(q) || q == 0.0) return q;
    float qh = upper(q), bh = upper(b);
    precise float ql = q - qh;
    precise float bl = b - bh;
    precise float rest = a - qh * bh - qh * bl - ql * bh - ql * bl;
    precise float better = q + rest / b;
    return better;
}

// e^(x - n · ln 2), where what is left of x is at most ln 2 / 2.
float exp_rest(float x, float n) {
    // The first constant has so few digits that its product with n is exact.
    precise float near = x - n * 0.693145751953125;
    precise float r = near - n * 1.42860682e-6;
    float p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p;
}

// e^x within two units in the last place, where Vulkan allows 3 + 2·|x|: 2^n · e^r with |r| ≤ ln 2 / 2.
float exp_exact(float x) {
    if (!(abs(x) < 104.0)) return exp(x);
    float n = roundEven(x * 1.44269504), p = exp_rest(x, n);
    // In two steps: 2^n alone may be out of range where the product is not.
    int half_n = int(n) / 2;
    return ldexp(ldexp(p, half_n), int(n) - half_n);
}

// The same for x below 88, which is all that softmax asks for: zero below e^-87, where f32 nears its smallest numbers.
float exp_below(float x) {
    float n = roundEven(x * 1.44269504);
    return x < -87.0 ? 0.0 : exp_rest(x, n) * uintBitsToFloat(uint(int(n) + 127) << 23);
}

// x / (1 + e^-x); zero far below zero.
float silu(float x) { return x / (1.0 + exp_exact(-x)); }

// The nearest value that f16 has room for. What is not finite stays so, which clamp alone does not promise.
float within_f16(float x) {
    uint size = floatBitsToUint(x) & 0x7fffffffu;
    return size > 0x477fe000u && size < 0x7f800000u ? clamp(x, -65504.0, 65504.0) : x;
}
