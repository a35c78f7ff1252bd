// uint NAME(i, n): the bytes i to i + 3 of a buffer of words as one word, of which those from n on are 0. With ALIGNED
// the caller promises that i is a multiple of 4. Never reads a word that holds none of the n bytes.
#define DEFINE_LOAD_BYTES(NAME, WORDS, ALIGNED)                               \
    uint NAME(uint i, uint n) {                                               \
        if (n == 0u) return 0u;                                               \
        uint shift = ALIGNED ? 0u : (i & 3u) * 8u;                            \
        uint word = WORDS[i >> 2] >> shift;                                   \
        if (shift != 0u && 32u - shift < min(n, 4u) * 8u) word |= WORDS[(i >> 2) + 1u] << (32u - shift); \
        return n >= 4u ? word : word & ((1u << (n * 8u)) - 1u);               \
    }
