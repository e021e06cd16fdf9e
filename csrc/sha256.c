#include "powfast_impl.h"

/* Absorb the rest of a message of which `before` bytes are in the state already, and pad. */
static void finish(uint8_t digest[32], const powfast_kernel *kernel, const uint32_t start[8],
                   const uint8_t *bytes, size_t length, uint64_t before) {
    uint32_t state[8];
    uint8_t tail[128] = {0};
    size_t whole = length / 64, rest = length % 64, tail_blocks = rest < 56 ? 1 : 2;
    memcpy(state, start, sizeof state);
    kernel->compress(state, bytes, whole);
    if (rest)
        memcpy(tail, bytes + 64 * whole, rest);
    tail[rest] = 0x80;
    store_be64(tail + 64 * tail_blocks - 8, 8 * (before + length));
    kernel->compress(state, tail, tail_blocks);
    for (int i = 0; i < 8; i++)
        store_be32(digest + 4 * i, state[i]);
}

void powfast_sha256(uint8_t digest[32], const powfast_kernel *kernel, const uint8_t *bytes,
                    size_t length) {
    finish(digest, kernel, powfast_h, bytes, length, 0);
}

void powfast_hmac_key(powfast_key *key, const powfast_kernel *kernel, const uint8_t *secret,
                      size_t length) {
    uint8_t block[64] = {0};
    if (length > sizeof block)
        powfast_sha256(block, kernel, secret, length);
    else
        memcpy(block, secret, length);
    memcpy(key->inner, powfast_h, sizeof key->inner);
    memcpy(key->outer, powfast_h, sizeof key->outer);
    for (int i = 0; i < 64; i++)
        block[i] ^= 0x36;
    kernel->compress(key->inner, block, 1);
    for (int i = 0; i < 64; i++)
        block[i] ^= 0x36 ^ 0x5c;
    kernel->compress(key->outer, block, 1);
}

void powfast_hmac(uint8_t mac[32], const powfast_kernel *kernel, const powfast_key *key,
                  const uint8_t *bytes, size_t length) {
    uint8_t inner[32];
    finish(inner, kernel, key->inner, bytes, length, 64);
    finish(mac, kernel, key->outer, inner, sizeof inner, 64);
}
