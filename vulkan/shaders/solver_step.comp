#version 450
// Velocity, guidance and the solver's linear combinations, one value of one image an invocation. What changes from
// step to step is in the buffer `step`, so that a recorded pass can be replayed.

layout(local_size_x = 64) in;
layout(constant_id = 1) const bool GUIDED = false;

layout(set = 0, binding = 0) buffer X { float x[]; };
layout(set = 0, binding = 1) buffer XEval { float x_eval[]; };
layout(set = 0, binding = 2) buffer XHat { float x_hat[]; };
layout(set = 0, binding = 3) buffer Velocity { float velocity[]; };
layout(set = 0, binding = 4) readonly buffer Step { float step_words[]; };

layout(push_constant) uniform Args {
    uint x_at, x_stride, x_eval_at, x_eval_stride, x_hat_at, x_hat_stride, velocity_at, velocity_stride, step_at;
    uint images, pixels;
} a;

// StepValues: advance[4], look_ahead[4], remaining, guidance, slot
float word(uint i) { return step_words[a.step_at + i]; }

// Σ weights[j] · velocity[j]; a zero weight reads nothing.
float combine(uint weights, uint image, uint c, uint slot, float newest) {
    float sum = 0.0;
    for (uint j = 0u; j < 4u; ++j) {
        float w = word(weights + j);
        if (w == 0.0) continue;
        sum += w * (j == slot ? newest : velocity[a.velocity_at + (j * a.images + image) * a.velocity_stride + c]);
    }
    return sum;
}

void main() {
    uint i = (gl_WorkGroupID.y * 65535u + gl_WorkGroupID.x) * 64u + gl_LocalInvocationID.x;
    if (i >= a.images * a.pixels) return;
    uint image = i / a.pixels, c = i % a.pixels;
    uint at_x = a.x_at + image * a.x_stride + c, at_eval = a.x_eval_at + image * a.x_eval_stride + c;
    uint at_hat = a.x_hat_at + image * a.x_hat_stride + c;
    float remaining = word(8u), guidance = word(9u);
    uint slot = floatBitsToUint(word(10u)) & 3u;

    float seen = x_eval[at_eval];
    float v = (x_hat[at_hat] - seen) / remaining;
    if (GUIDED) {
        float v_null = (x_hat[at_hat + a.images * a.x_hat_stride] - seen) / remaining;
        v = v_null + guidance * (v - v_null);
    }
    velocity[a.velocity_at + (slot * a.images + image) * a.velocity_stride + c] = v;
    float moved = x[at_x] + combine(0u, image, c, slot, v);
    x[at_x] = moved;
    x_eval[at_eval] = moved + combine(4u, image, c, slot, v);
    x_hat[at_hat] = seen + remaining * v;
}
