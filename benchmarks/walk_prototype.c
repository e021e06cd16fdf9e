/* Algorithm 2 as docs/cachewalk.md has it, line by line: what benchmarks/walk.py measures the library
 * against, of which nothing is used here. */
#include <stdint.h>
#include <string.h>

#define K 0x9e3779b97f4a7c15
#ifndef FED /* one row in so many is fed from an earlier one */
#define FED 4
#endif

static uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }

static const uint32_t k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* SHA-256 of at most 119 bytes. */
static void sha256(uint8_t digest[32], const uint8_t *message, size_t length) {
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t blocks[128] = {0};
    size_t end = length < 56 ? 64 : 128;
    memcpy(blocks, message, length);
    blocks[length] = 0x80;
    blocks[end - 2] = (uint8_t)(length >> 5);
    blocks[end - 1] = (uint8_t)(length << 3);
    for (const uint8_t *p = blocks; p < blocks + end; p += 64) {
        uint32_t w[64], s[8];
        for (int t = 0; t < 16; t++)
            w[t] = (uint32_t)p[4 * t] << 24 | p[4 * t + 1] << 16 | p[4 * t + 2] << 8 | p[4 * t + 3];
        for (int t = 16; t < 64; t++)
            w[t] = w[t - 16] + w[t - 7] +
                   (rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3) +
                   (rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10);
        memcpy(s, h, sizeof s);
        for (int t = 0; t < 64; t++) {
            uint32_t a = s[7] + (rotr(s[4], 6) ^ rotr(s[4], 11) ^ rotr(s[4], 25)) +
                         (s[6] ^ (s[4] & (s[5] ^ s[6]))) + k[t] + w[t];
            uint32_t b = (rotr(s[0], 2) ^ rotr(s[0], 13) ^ rotr(s[0], 22)) +
                         ((s[0] & s[1]) | (s[2] & (s[0] | s[1])));
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += a;
            s[0] = a + b;
        }
        for (int i = 0; i < 8; i++)
            h[i] += s[i];
    }
    for (int i = 0; i < 32; i++)
        digest[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
}

static void stir(uint64_t x[8], const uint64_t u[8]) {
    for (int i = 0; i < 8; i++)
        x[i] = (u[i] << 32 | u[i] >> 32) + u[(i + 1) % 8];
}

static uint64_t walk(uint64_t *M, const uint8_t seed[32], uint32_t part, uint64_t nonce) {
    uint8_t block[55], hx[96], hh[32];
    uint64_t x[8] = {0}, u[8], result = 0;
    memcpy(block, seed, 32);
    memcpy(block + 32, "powfast/v2:", 11);
    for (int i = 0; i < 4; i++)
        block[43 + i] = (uint8_t)(part >> (24 - 8 * i));
    for (int i = 0; i < 8; i++)
        block[47 + i] = (uint8_t)(nonce >> (56 - 8 * i));
    sha256(hx, block, 55);
    sha256(hh, hx, 32);
    memcpy(hx + 32, hh, 32);
    for (int i = 0; i < 8; i++)
        for (int b = 0; b < 8; b++)
            x[i] = x[i] << 8 | hx[8 * i + b];
    for (uint64_t r = 0; r < 4096; r++) {
        if (r > 0 && r % FED == 0) {
            uint64_t j = (x[0] >> 32) * r >> 32;
            for (int i = 0; i < 8; i++)
                x[i] ^= M[8 * j + i];
        }
        for (int i = 0; i < 8; i++)
            u[i] = x[i] * K;
        stir(x, u);
        memcpy(M + 8 * r, x, sizeof x);
    }
    for (uint64_t s = 0; s < 2048; s++) {
        for (int i = 0; i < 8; i++)
            u[i] = ((x[i] ^ M[(x[i] >> 32) % 32768]) + M[x[i] % 32768]) * K;
        stir(x, u);
        for (int i = 0; i < 8; i++)
            M[8 * s + i] ^= x[i];
    }
    for (int i = 0; i < 64; i++)
        hx[32 + i] = (uint8_t)(x[i / 8] >> (56 - i % 8 * 8));
    sha256(hh, hx, 96);
    for (int i = 0; i < 8; i++)
        result = result << 8 | hh[i];
    return result;
}

/* The digests of successive nonces, added up. */
uint64_t sum_of_walks(uint64_t *M, const uint8_t seed[32], uint32_t part, uint64_t first,
                      uint64_t count) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += walk(M, seed, part, first + i);
    return sum;
}
